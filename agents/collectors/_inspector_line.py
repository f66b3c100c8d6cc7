"""One line of NCCL Inspector's log: one finished call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ._nccl_names import operation


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call. `rank` counts within the communicator; bandwidth is bytes per second, 0 where it is unknown."""

    communicator: str
    name: str
    rank: int
    ranks: int
    op: str
    seq: int
    size_bytes: int
    spent_ns: int
    bus_bytes_per_s: float
    pid: int


def parse(line: bytes) -> Call | None:
    """Return the call of a line, None where it holds none; raises ValueError for what is no whole line.

    >>> parse(b'{"header":{"id":"0xa","rank":1,"n_ranks":8},"coll_perf":{"coll":"AllReduce","coll_sn":7,'
    ...       b'"coll_msg_size_bytes":4096,"coll_exec_time_us":12.5,"coll_busbw_gbs":0.5}}').spent_ns
    12500
    """
    if not line.lstrip().startswith(b"{"):
        raise ValueError("no object")
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    for kind, prefix in (("coll_perf", "coll"), ("p2p_perf", "p2p")):
        call = record.get(kind)
        if isinstance(call, dict):
            return _call(record, call, prefix)
    return None


def _call(record: dict[str, Any], call: dict[str, Any], prefix: str) -> Call:
    header = record.get("header")
    head = header if isinstance(header, dict) else record  # older output has no header: its fields stand above
    metadata = record.get("metadata")
    spent_us = float(call[f"{prefix}_exec_time_us"]) if f"{prefix}_exec_time_us" in call else -1.0
    if not 0 <= spent_us < 1e12:
        raise ValueError("no duration")
    bus_bytes_per_s = float(call.get(f"{prefix}_busbw_gbs") or 0.0) * 1e9
    return Call(
        _word(head.get("id")), _word(head.get("comm_name")), _whole(head.get("rank"), -1),
        _whole(head.get("n_ranks"), 0), operation(_word(call.get(prefix))), _whole(call.get(f"{prefix}_sn"), 0),
        max(_whole(call.get(f"{prefix}_msg_size_bytes"), 0), 0), round(spent_us * 1e3),
        bus_bytes_per_s if isfinite(bus_bytes_per_s) else 0.0,
        _whole(metadata.get("pid"), -1) if isinstance(metadata, dict) else -1,
    )  # fmt: skip


def _whole(found: object, otherwise: int) -> int:
    """Return a whole number that 64 bits hold: a longer one would be a value that no server reads."""
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 63:
        return found
    return otherwise


def _word(found: object) -> str:
    return str(found)[:64] if isinstance(found, str | int | float) else ""
