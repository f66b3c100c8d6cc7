"""Entries of a flight recorder dump to columns of `collectives` and `groups`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from math import prod
from typing import Any

import numpy as np

from ..contracts import Coded, Columns
from ._flight_entries import Calls, Group, Kind, Kinds, Sizes

Array = np.ndarray[Any, Any]
Members = Mapping[str, Sequence[int]]
Operation = tuple[str, str, int, int]  # backend, op, sender, receiver; -1 where no pair is named

# Bytes per element, by the names that c10 prints.
ELEMENT_BYTES = {
    "Double": 8, "Long": 8, "ComplexFloat": 8, "ComplexDouble": 16, "UInt64": 8, "Float": 4, "Int": 4, "UInt32": 4,
    "Half": 2, "BFloat16": 2, "Short": 2, "UInt16": 2, "Char": 1, "Byte": 1, "Bool": 1, "QInt8": 1, "QUInt8": 1,
}  # fmt: skip
OP_NAMES = {
    "allreduce": "all_reduce", "allreduce_coalesced": "all_reduce", "all_reduce_coalesced": "all_reduce",
    "allreduce_sparse": "all_reduce", "allgather": "all_gather", "allgather_base": "all_gather",
    "all_gather_base": "all_gather", "allgather_coalesced": "all_gather", "all_gather_into_tensor": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather", "allgather_into_tensor_coalesced": "all_gather",
    "reduce_scatter_base": "reduce_scatter", "reduce_scatter_tensor": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter", "alltoall": "all_to_all", "alltoall_base": "all_to_all",
    "all_to_all_base": "all_to_all", "broadcast_oop": "broadcast", "reduce_oop": "reduce",
}  # fmt: skip
GPU_BACKENDS = ("nccl", "xccl", "hccl", "rccl", "mccl", "cncl")  # states are kept by the watchdog
LIBRARY = (
    "site-packages", "dist-packages", "/lib/python3", "<string>", "<frozen", "/torch/nn/", "/torch/distributed/",
    "/torch/autograd/", "/torch/utils/", "/torch/_",
)  # fmt: skip
STACK_FRAMES = 3
STACK_LENGTH, PATH_LENGTH = 2000, 600
FULL_LISTS = 8  # so many of a group's first ranks list all its members; more would be quadratic in ranks


def collectives(calls: Calls, rank: int, members: Members) -> dict[str, Any]:
    """Return the columns of `collectives` for the `calls` of one rank; `members` maps group to its ranks.

    Raises OverflowError where a number does not fit.
    """
    name = coded(kind.profiling_name for kind in calls.kinds)
    named = [_operation(text) for text in name.values]
    state = _states(calls.kinds, name, [backend in GPU_BACKENDS for backend, *_ in named])
    group, op_class, seq, peer = _keys(calls, name, named, rank, members)
    started = np.array([text in ("started", "completed") for text in state.values], dtype=bool)[state.codes]
    done = np.array([text == "completed" for text in state.values], dtype=bool)[state.codes]
    begin, end = (_known(calls.numbers[f"time_discovered_{one}_ns"]) for one in ("started", "completed"))
    created = _numbers(calls.numbers["time_created_ns"])
    declared = _numbers([len(members.get(text, ())) or -1 for text in group.values])
    dtype, message_bytes = _messages(calls.kinds)
    op = Coded(name.codes, [op for _, op, *_ in named])
    return {
        "job": "job", "rank": rank, "group": _small(group), "group_size": declared[group.codes], "op_class": op_class,
        "seq": seq, "peer": peer, "op": _each(op, calls), "dtype": _each(dtype, calls),
        "message_bytes": message_bytes[calls.kind], "ready_ns": np.where(created, created, -1),
        "start_ns": np.where(started[calls.kind] & (begin > 0), begin, -1),
        "end_ns": np.where(done[calls.kind] & (end > 0), end, -1),
        "duration_ns": _durations(calls.numbers["duration_ms"]), "blocking": False, "state": _each(state, calls),
        "stack": _each(stacks([kind.frames for kind in calls.kinds]), calls), "source": "flight-recorder",
    }  # fmt: skip


def groups(calls: Calls, rank: int, configured: Mapping[str, Group]) -> Columns:
    """Return the columns of `groups`: this rank's membership, and all members where the dump lists them."""
    told = {group.name: (group.desc, group.members) for group in configured.values() if group.name}
    told = {name: one for name, one in told.items() if one[1]}
    used = dict.fromkeys(filter(None, (kind.process_group for kind in calls.kinds)))
    names = {key[0]: key[1] if len(key) > 1 else "" for key in used} | {
        name: description for name, (description, _) in told.items()
    }
    rows: list[tuple[str, int, str, int]] = []
    for name, description in names.items():
        members = told[name][1] if name in told else []
        listed = members if rank in members[:FULL_LISTS] else [rank]
        text = "" if description == "undefined" else description
        rows += [(name, member, text, len(members) or -1) for member in listed]
    return {
        "job": "job", "group": coded([row[0] for row in rows]), "rank": _numbers([row[1] for row in rows]),
        "description": coded([row[2] for row in rows]), "group_size": _numbers([row[3] for row in rows]),
        "source": "flight-recorder",
    }  # fmt: skip


def coded(values: Iterable[str]) -> Coded:
    """Return `values` as codes into their distinct strings.

    >>> coded(["a", "b", "a"]).codes.tolist()
    [0, 1, 0]
    """
    return _texts(*_numbered(values))


def _numbered(values: Iterable[Any]) -> tuple[Array, list[Any]]:
    """Return the number of each value among the distinct ones, and these."""
    place: defaultdict[Any, int] = defaultdict(count().__next__)
    return np.fromiter(map(place.__getitem__, values), dtype=np.int64), list(place)


def _texts(numbers: Array, texts: Sequence[str]) -> Coded:
    """Return the text of each number as codes."""
    # Half a letter (a lone surrogate, as JSON and pickles can hold) would end the writing of any table.
    codes, values = _numbered(text.encode("utf-8", "replace").decode() for text in texts)
    return Coded(codes[numbers], values)


@lru_cache(maxsize=4096)
def _operation(profiling_name: str) -> Operation:
    """Return (backend, op, sender, receiver) of names such as "nccl:_allgather_base" or "nccl:send 0->1"."""
    backend, _, rest = profiling_name.rpartition(":")
    word, _, pair = rest.strip().partition(" ")
    ends = re.fullmatch(r"(\d{1,9})(->|<-)(\d{1,9})", pair.strip())
    plain = word.lower().lstrip("_")
    op = OP_NAMES.get(plain, plain)
    if ends is None:
        return backend, op, -1, -1
    first, second = int(ends.group(1)), int(ends.group(3))
    return (backend, op, first, second) if ends.group(2) == "->" else (backend, op, second, first)


def _numbers(values: Sequence[Any] | Array) -> Array:
    return np.asarray(values, dtype=np.int64)


def _known(values: Sequence[int | None] | Array) -> Array:
    """Return numbers, -1 for those not told."""
    if isinstance(values, np.ndarray) or None not in values:
        return _numbers(values)
    return _numbers([-1 if value is None else value for value in values])


def _durations(spent_ms: Sequence[float | None] | Array) -> Array | int:
    """Return durations in ns, -1 for those not told or absurd."""
    if isinstance(spent_ms, np.ndarray):
        spent = np.where(spent_ms == 0, -1e-6, spent_ms)
    else:
        spent = np.array([spent or -1e-6 for spent in spent_ms], dtype=float)
    known = (spent > 0) & (spent < 1e12)
    return np.where(known, np.rint(spent * 1e6), -1).astype(np.int64) if known.any() else -1


def _small(column: Coded) -> Coded:
    """Return the same text with its codes in as few bytes as they need: processes hand them over."""
    return Coded(column.codes.astype(np.min_scalar_type(-len(column.values)), copy=False), column.values)


def _each(column: Coded, calls: Calls) -> Coded:
    """Return for each call the text of its kind."""
    small = _small(column)
    return Coded(small.codes[calls.kind], small.values)


def _states(kinds: Sequence[Kind], name: Coded, watched: Sequence[bool]) -> Coded:
    """Return the state of each kind; `watched` tells per distinct name whether a watchdog keeps its states."""
    found = coded(kind.state or "" for kind in kinds)
    retired = np.array([kind.retired for kind in kinds], dtype=bool)
    over = retired & (np.array([text != "completed" for text in found.values], dtype=bool)[found.codes])
    known = np.array(watched, dtype=bool)[name.codes]
    values = [*found.values, "completed", "timed-out"]
    last = len(values) - 1
    return Coded(np.where(over, np.where(known, last, last - 1), found.codes), values)


def _keys(
    calls: Calls, name: Coded, named: Sequence[Operation], rank: int, members: Members
) -> tuple[Coded, Coded | str, Array, Array | int]:
    """Return group, op_class, seq and peer of each entry, so that they are unique and join the ranks."""
    group = _each(coded(kind.process_group[0] if kind.process_group else "?" for kind in calls.kinds), calls)
    seq = _numbers(calls.numbers["collective_seq_id"])
    if (seq < 0).any():
        seq = np.where(seq < 0, _numbers(calls.numbers["seq_id"]), seq)
    single = any(sender >= 0 for *_, sender, _ in named) or any(kind.is_p2p for kind in calls.kinds)
    if not single and not _again(group.codes, seq):
        return group, "", seq, -1
    record = calls.numbers["record_id"]
    rows = _Rows(rank, members, wrapped=bool(record[0] > 0))
    columns = (group.codes.tolist(), seq.tolist(), name.codes[calls.kind].tolist(), record, calls.kind.tolist())
    for code, number, named_code, mine, kind in zip(*columns, strict=True):
        rows.add(group.values[code], number, named[named_code], mine, is_p2p=calls.kinds[kind].is_p2p)
    return coded(rows.group), coded(rows.op_class), _numbers(rows.seq), _numbers(rows.peer)


def _again(group: Array, seq: Array) -> bool:
    """Return whether two calls of one group have the same number."""
    order = np.argsort(group, kind="stable")
    if (np.diff(seq[order]) > 0)[np.diff(group[order]) == 0].all():  # as they were called
        return False
    order = np.lexsort((seq, group))
    return bool(((np.diff(seq[order]) == 0) & (np.diff(group[order]) == 0)).any())


class _Rows:
    """Keys of entries among which are point-to-point calls or operations inside a coalesced call.

    p2p_seq_id counts the calls of a rank to all its peers. The two ends of a channel agree on a number only by counting
    its calls from the beginning, which a wrapped buffer has lost: then its rows join no other rank.
    """

    def __init__(self, rank: int, members: Members, *, wrapped: bool) -> None:
        self.rank, self.members, self.wrapped = rank, members, wrapped
        self.group: list[str] = []
        self.op_class: list[str] = []
        self.seq: list[int] = []
        self.peer: list[int] = []
        self.seen: dict[tuple[str, int], int] = {}

    def add(self, group: str, seq: int, operation: Operation, record: int, *, is_p2p: bool) -> None:
        _, _, sender, receiver = operation
        kind, peer = f"p2p@{self.rank}", -1
        if sender >= 0:
            group, peer = _channel(group, sender, receiver, self.rank, self.members)
        if sender >= 0 and not self.wrapped:
            kind, seq = "p2p", self._place(group, -1)
        elif sender >= 0 or is_p2p:
            seq = record
        else:
            part = self._place(group, seq)  # operations inside one coalesced call share its number
            kind = f"part{part}" if part else ""
        self.group.append(group)
        self.op_class.append(kind)
        self.seq.append(seq)
        self.peer.append(peer)

    def _place(self, group: str, seq: int) -> int:
        place = self.seen.get((group, seq), 0)
        self.seen[group, seq] = place + 1
        return place


def _channel(name: str, sender: int, receiver: int, rank: int, members: Members) -> tuple[str, int]:
    """Return (channel, peer); names count ranks within the group, so its members turn them into global ranks."""
    listed = members.get(name, ())
    if max(sender, receiver) < len(listed):
        sender, receiver = listed[sender], listed[receiver]
    elif name != "0":
        return f"p2p:{name}:{sender}-{receiver}", -1
    return f"p2p:{sender}-{receiver}", receiver if sender == rank else sender


def _messages(kinds: Sequence[Kind]) -> tuple[Coded, Array]:
    """Return element type and bytes of each kind's message, "" and -1 unknown."""
    dtype = coded((kind.input_dtypes or kind.output_dtypes or ("",))[0] for kind in kinds)
    size = [
        _bytes(kind.input_sizes, kind.input_dtypes)
        if kind.input_sizes
        else _bytes(kind.output_sizes, kind.output_dtypes)
        for kind in kinds
    ]
    return dtype, _numbers(size)


def _bytes(sizes: Sizes, kinds: Kinds) -> int:
    if not kinds:
        return -1
    widths = [_width(kind) for kind in kinds]
    return sum(prod(size) * width for size, width in zip(sizes, widths, strict=False)) if all(widths) else -1


def _width(kind: str) -> int:
    return ELEMENT_BYTES.get(kind) or (1 if kind.startswith("Float8") else 0)


def stacks(frames: Sequence[Sequence[object]]) -> Coded:
    """Return the innermost user frames of each kind; a dump shares the frames, so each stack is put in words once."""
    told = {tuple(map(id, one)): one for one in frames}
    words = {ids: _stack(one) for ids, one in told.items()}
    return coded(words[tuple(map(id, one))] for one in frames)


def _stack(frames: Sequence[object]) -> str:
    kept = []
    for frame in frames:
        if isinstance(frame, dict) and not _in_library(str(frame.get("filename", ""))[:PATH_LENGTH]):
            kept.append(frame)
            if len(kept) == STACK_FRAMES:
                break
    return " < ".join([f"{f.get('filename')}:{f.get('line')} {f.get('name')}" for f in kept])[:STACK_LENGTH]


@lru_cache(maxsize=4096)
def _in_library(filename: str) -> bool:
    return any(part in filename for part in LIBRARY)
