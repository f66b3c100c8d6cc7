"""Nodes of execution traces, whatever their form, to `collectives`, `groups` and `ops`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts import Columns
from ._flight_rows import coded
from ._kineto_columns import Array
from ._kineto_names import algorithm, is_communication

SOURCE = "chakra-et"
CANNOT = "without times an execution trace tells neither how long steps took nor who waited for whom"
LARGEST_NS = 2**62
HOST_STREAM = 0


@dataclass
class Node:
    """One operation; times in ns on the trace's clock, -1 unknown. `op` is a collective's name, "" for other work."""

    name: str
    op: str = ""
    start_ns: int = -1
    duration_ns: int = -1
    on_host: bool = True
    stream: int = -1
    group: str = ""
    group_size: int = -1
    seq: int = -1
    message_bytes: int = -1
    dtype: str = ""
    src: int = -1
    dst: int = -1


@dataclass
class Trace:
    """Nodes in the order of the file, members of groups, and what the file tells of its rank and job."""

    nodes: list[Node] = field(default_factory=list)
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    rank: int = -1
    world_size: int = -1
    damage: str = ""


def tables(trace: Trace, rank: int) -> tuple[list[tuple[str, Columns]], list[str]]:
    """Return batches and warnings; device work is taken where the trace has any, else the outermost host work."""
    device = [node for node in trace.nodes if not node.on_host]
    calls = [node for node in device if node.op] or [node for node in trace.nodes if node.op]
    timed = [node for node in device or trace.nodes if node.start_ns >= 0 <= node.duration_ns and not node.op]
    batches: list[tuple[str, Columns]] = []
    warnings = []
    if calls:
        batches.append(("collectives", _collectives(calls, rank)))
        if not any(node.start_ns >= 0 for node in calls):
            have = any(node.duration_ns >= 0 for node in calls)
            warnings.append(f"collectives have {'durations but no times of day' if have else 'no times'}: {CANNOT}")
    if timed:
        batches.append(("ops", _ops(timed, rank)))
    untimed = len(trace.nodes) - len(timed) - len(calls)
    if untimed:
        what = "have no start, or only stand for others: they are left out"
        warnings.append(f"{untimed} of {len(trace.nodes)} nodes {what}")
    batches += _groups(trace, calls, rank)
    return (batches if calls or timed else []), warnings


def _collectives(calls: Sequence[Node], rank: int) -> Columns:
    seen: dict[tuple[str, str], int] = {}
    seq, kind, group, peer = [], [], [], []
    for node in calls:
        ends = _ends(node, rank)
        group.append(f"p2p:{ends[0]}-{ends[1]}" if ends else node.group)
        kind.append("p2p" if ends else "seq" if node.seq >= 0 else node.op)
        peer.append(ends[ends[0] == rank] if ends else -1)
        key = (group[-1], kind[-1])
        seen[key] = seen.get(key, -1) + 1
        seq.append(node.seq if kind[-1] == "seq" else seen[key])
    start, length = (_numbers([getattr(node, name) for node in calls]) for name in ("start_ns", "duration_ns"))
    known = (start >= 0) & (length >= 0)
    return {
        "job": "job", "rank": rank, "group": coded(group), "op": coded([node.op for node in calls]),
        "op_class": coded(kind), "seq": _numbers(seq), "peer": _numbers(peer),
        "group_size": _numbers([node.group_size for node in calls]), "dtype": coded([node.dtype for node in calls]),
        "message_bytes": _numbers([node.message_bytes for node in calls]), "ready_ns": start, "start_ns": start,
        "end_ns": np.where(known, start + length, -1), "duration_ns": np.where(known, -1, length), "blocking": False,
        "algo": coded([algorithm(node.name)[0] for node in calls]),
        "proto": coded([algorithm(node.name)[1] for node in calls]),
        "state": coded(["completed" if one else "" for one in (length >= 0).tolist()]),
        "stream": _numbers([node.stream for node in calls]), "source": SOURCE,
    }  # fmt: skip


def _ends(node: Node, rank: int) -> tuple[int, int] | None:
    """Return sender and receiver of a transfer, None for a collective or where an end is not known."""
    if node.op not in ("send", "recv"):
        return None
    src = node.src if node.src >= 0 else rank if node.op == "send" else -1
    dst = node.dst if node.dst >= 0 else rank if node.op == "recv" else -1
    return (src, dst) if src >= 0 and dst >= 0 else None


def _ops(timed: Sequence[Node], rank: int) -> Columns:
    """Return compute and copies; host work that lies in other host work is left out."""
    nodes = sorted(timed, key=lambda node: (node.start_ns, -node.duration_ns))
    if nodes[0].on_host:
        reach, kept = -1, []
        for node in nodes:
            if node.start_ns + node.duration_ns > reach:
                kept.append(node)
                reach = node.start_ns + node.duration_ns
        nodes = kept
    start = _numbers([node.start_ns for node in nodes])
    return {
        "job": "job", "rank": rank, "op": coded([_kind(node) for node in nodes]),
        "stream": np.maximum(_numbers([node.stream for node in nodes]), HOST_STREAM),
        "name": coded([node.name for node in nodes]), "start_ns": start,
        "end_ns": start + _numbers([node.duration_ns for node in nodes]), "source": SOURCE,
    }  # fmt: skip


def _kind(node: Node) -> str:
    if node.on_host:
        return "cpu"
    lowered = node.name.lower()
    return "memcpy" if lowered.startswith("memcpy") else "memset" if lowered.startswith("memset") else "kernel"


def _groups(trace: Trace, calls: Sequence[Node], rank: int) -> list[tuple[str, Columns]]:
    used = {node.group for node in calls if node.group}
    told = [(name, members) for name, members in trace.groups.items() if name in used]
    rows = [(name, member, len(members)) for name, members in told for member in members]
    if not rows and rank >= 0:
        rows = [(name, rank, -1) for name in sorted(used)]
    if not rows:
        return []
    columns: dict[str, Any] = {
        "job": "job", "group": coded([row[0] for row in rows]), "rank": _numbers([row[1] for row in rows]),
        "description": coded([trace.descriptions.get(row[0], "") for row in rows]),
        "group_size": _numbers([row[2] for row in rows]), "source": SOURCE,
    }  # fmt: skip
    return [("groups", columns)]


def collective(name: str) -> bool:
    """Return whether a node of this name is a communication kernel or a call of a process group."""
    return is_communication(name) or name.startswith(("c10d::", "nccl:", "gloo:"))


def _numbers(values: Sequence[int]) -> Array:
    return np.array([value if -1 <= value < LARGEST_NS else -1 for value in values], dtype=np.int64)
