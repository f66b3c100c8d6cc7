"""Output of NCCL profiler plugins: a recorder of the callbacks as JSON lines, and NCCL's own example plugin.

A collective's own stop is when it was enqueued. It is complete with its last child: the kernel where the recorder has
CUPTI's times, else the last channel or proxy operation. The example plugin writes Chrome trace text that older versions
left invalid (unquoted types, hexadecimal streams, no end) and with begin times of 0 for what it did not see.
One process may drive several GPUs: then a file holds several ranks.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..contracts import Columns, Reading
from ..errors import Unreadable
from . import _plugin_chrome, _plugin_recorder
from ._bytes import whole
from ._flight_rows import coded
from ._nccl_names import element_bytes
from ._plugin_call import Call, nanoseconds

RECORDER = (b'"ProfilerLifecycle"', b'"ncclProfile')
EXAMPLE = (b'"GROUP_API"', b'"COLL_API"', b'"P2P_API"', b'"KERNEL_LAUNCH"', b'"CommHash"', b'"cat": "PROXY"')


class NcclProfilerPlugin:
    """Reads recorder files (JSON lines) and the example plugin's text."""

    format: ClassVar[str] = "nccl-profiler-plugin"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a plugin's output."""
        if head.lstrip().startswith(b"{") and any(sign in head for sign in RECORDER):
            return 0.96
        found = sum(sign in head for sign in EXAMPLE) if b'"traceEvents"' not in head else 0
        return (0.0, 0.85, 0.95)[min(found, 2)]

    def read(self, path: Path) -> Reading:
        """Return `collectives` and `groups` of all ranks in the file; raises Unreadable where it holds no call."""
        content, damage = whole(path)
        parse = _plugin_recorder.calls if content.lstrip().startswith(b"{") else _plugin_chrome.calls
        calls, bad = parse(content)
        if not calls:
            raise Unreadable("no collective or transfer in the plugin's output", "set NCCL_PROFILE_EVENT_MASK")
        ranks = sorted({call.rank for call in calls})
        reading = Reading(str(path), self.format, rank=ranks[0] if len(ranks) == 1 else -1, events=len(calls))
        reading.world_size = max(call.group_size for call in calls)
        if damage or bad:
            reading.status = "partial"
            reading.error = "; ".join(filter(None, [damage, f"{bad} lines do not parse" if bad else ""]))
        reading.batches = [("collectives", _collectives(calls)), ("groups", _groups(calls))]
        return reading


def _collectives(calls: list[Call]) -> Columns:
    seen: dict[tuple[str, int], int] = {}
    keys = [_key(call, seen) for call in calls]
    known = nanoseconds(np.array([(call.ready_us, call.start_us, call.end_us) for call in calls], dtype=float))
    known[:, 2] = np.where(known[:, 2] >= known[:, 0], known[:, 2], -1)
    moved = [call.count * element_bytes(call.dtype) or -1 for call in calls]
    return {
        "job": "job", "rank": np.array([call.rank for call in calls], dtype=np.int64),
        "group": coded([key[0] for key in keys]), "op_class": coded([key[1] for key in keys]),
        "seq": np.array([key[2] for key in keys], dtype=np.int64), "op": coded([call.op for call in calls]),
        "group_size": np.array([call.group_size if call.peer < 0 else 2 for call in calls], dtype=np.int64),
        "dtype": coded([call.dtype for call in calls]), "algo": coded([call.algo for call in calls]),
        "proto": coded([call.proto for call in calls]), "message_bytes": np.array(moved, dtype=np.int64),
        "peer": np.array([call.peer for call in calls], dtype=np.int64), "ready_ns": known[:, 0],
        "start_ns": known[:, 1], "end_ns": known[:, 2], "blocking": False,
        "state": coded(["completed" if end >= 0 else "" for end in known[:, 2]]), "source": NcclProfilerPlugin.format,
    }  # fmt: skip


def _key(call: Call, seen: dict[tuple[str, int], int]) -> tuple[str, str, int]:
    """Return group, op_class and seq; transfers have no number: they are counted per channel and rank."""
    if call.peer < 0:
        return call.group, call.op, call.seq
    ends = (call.rank, call.peer) if call.op == "send" else (call.peer, call.rank)
    channel = f"p2p:{ends[0]}-{ends[1]}"
    seen[channel, call.rank] = seen.get((channel, call.rank), -1) + 1
    return channel, "p2p", seen[channel, call.rank]


def _groups(calls: list[Call]) -> Columns:
    members = sorted({(call.group, call.rank, call.group_size) for call in calls})
    return {
        "job": "job", "group": coded([member[0] for member in members]),
        "rank": np.array([member[1] for member in members], dtype=np.int64),
        "group_size": np.array([member[2] for member in members], dtype=np.int64),
        "source": NcclProfilerPlugin.format,
    }  # fmt: skip
