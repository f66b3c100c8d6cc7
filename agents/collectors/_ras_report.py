"""What NCCL RAS answers, as JSON or as text, and what it means."""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from skewscope.errors import Unreadable

from ._nccl_names import operation

LARGEST_BYTES = 8 << 20
MOST_BEHIND = 8
# A row of the text: group, communicators in it, nodes, ranks per node, per communicator, in group, status, errors
_ROW = re.compile(r"^\s*\d+\s+(\d+)\s+\d+\s+\S+\s+\S+\s+\d+\s+[A-Z]\S*\s+([A-Z]\S*)", re.M)


@dataclass
class Report:
    """Communicators by state, missed ranks by status, and per operation how far ranks are apart and who is behind."""

    states: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    spreads: dict[str, int] = field(default_factory=dict)
    behind: dict[tuple[str, str], int] = field(default_factory=dict)  # (op, rank) -> calls
    pids: set[int] = field(default_factory=set)


def ask(host: str, port: int, timeout_s: float) -> str:
    """Return the report as text; JSON where NCCL has it (2.28.7 and later).

    Raises OSError where nobody answers in time, Unreadable where the answer is too large or none.
    """
    deadline_s = time.monotonic() + timeout_s
    with socket.create_connection((host, port), timeout=timeout_s) as connection, connection.makefile("rb") as lines:
        for command in (b"CLIENT PROTOCOL 2\n", b"TIMEOUT 1\n", b"SET FORMAT json\n"):
            connection.sendall(command)
            if not lines.readline(4096):  # OK, ERROR for what an older one does not know: both will do
                raise Unreadable("NCCL RAS hung up")
        connection.sendall(b"VERBOSE STATUS\n")
        found = bytearray()
        while chunk := lines.read1(1 << 16):
            found += chunk
            if len(found) > LARGEST_BYTES:
                raise Unreadable(f"the report of NCCL RAS is larger than {LARGEST_BYTES} bytes")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"NCCL RAS did not finish its report within {timeout_s} s")
            connection.settimeout(left_s)
    return found.decode("utf-8", "replace")


def read(text: str) -> Report:
    """Return what a report says; raises Unreadable where it says nothing."""
    start = text.find("{")
    if start >= 0:
        try:
            loaded, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"the report of NCCL RAS is damaged: {error}") from None
        return _from_json(loaded)
    rows = _ROW.findall(text)
    if not rows and "Communicators" not in text:
        raise Unreadable("what answers is not NCCL RAS")
    report = Report()
    for count, errors in rows:
        state = {"OK": "healthy", "MISMATCH": "mismatch", "INCOMPLETE": "incomplete"}.get(errors.strip(","), "mismatch")
        report.states["incomplete" if "INCOMPLETE" in errors else state] += int(count)
    return report


def _from_json(loaded: Any) -> Report:  # noqa: ANN401 - JSON of any shape
    if not isinstance(loaded, dict) or not isinstance(loaded.get("communicators"), list):
        raise Unreadable("JSON, but no report of NCCL RAS: it has no list of communicators")
    report = Report()
    found = [one for one in loaded["communicators"] if isinstance(one, dict)]
    for communicator in sorted(found, key=lambda one: _number(one.get("size")), reverse=True):
        counts = _counts(communicator)
        missing = [rank for rank in _dicts(communicator.get("missing_ranks"))]
        absent = max(len(missing), _number(communicator.get("missing_ranks_count")))
        for rank in missing:
            report.missed[_status(rank)] += 1
        report.missed["missing"] += absent - len(missing)
        spreads = {op: max(told.values()) - min(told.values()) for op, told in counts.items() if told}
        uneven = any(spreads.values())
        report.states["incomplete" if absent else "mismatch" if uneven else "healthy"] += 1
        for op, spread in spreads.items():
            report.spreads[op] = max(report.spreads.get(op, 0), spread)
        if communicator is found[0] or not report.behind:
            _add_behind(report, counts)
        report.pids |= {_number(rank.get("pid")) for rank in _dicts(communicator.get("ranks"))}
    return report


def _add_behind(report: Report, counts: dict[str, dict[str, int]]) -> None:
    lags = sorted(
        ((max(told.values()) - calls, op, rank) for op, told in counts.items() for rank, calls in told.items()),
        reverse=True,
    )
    for lag, op, rank in lags[:MOST_BEHIND]:
        if lag:
            report.behind[op, rank] = lag


def _counts(communicator: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return op -> rank -> calls."""
    found: dict[str, dict[str, int]] = {}
    for rank in _dicts(communicator.get("ranks")):
        counts = rank.get("collective_counts")
        for name, calls in counts.items() if isinstance(counts, dict) else ():
            if isinstance(calls, int):
                found.setdefault(operation(str(name)), {})[str(_number(rank.get("rank")))] = calls
    return found


def _status(rank: dict[str, Any]) -> str:
    status = rank.get("status")
    told = {str(key) for key, value in status.items() if value is True} if isinstance(status, dict) else {str(status)}
    if any("dead" in word.lower() for word in told):
        return "dead"
    return "unresponsive" if any("unresponsive" in word.lower() for word in told) else "missing"


def _dicts(found: object) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _number(found: object) -> int:
    return found if isinstance(found, int) else 0
