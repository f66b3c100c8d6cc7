"""Entries of a flight recorder dump to columns of `collectives` and `groups`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import msgspec
import numpy as np

from ..contracts import Coded, Columns

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


class Entry(msgspec.Struct, gc=False):
    """One recorded call; what older formats lack has a default."""

    time_created_ns: int = -1
    process_group: tuple[str, ...] | None = None
    profiling_name: str = ""
    collective_seq_id: int = -1
    seq_id: int = -1
    p2p_seq_id: int = -1
    record_id: int = -1
    is_p2p: bool = False
    state: str | None = None
    retired: bool | None = None
    time_discovered_started_ns: int | None = None
    time_discovered_completed_ns: int | None = None
    duration_ms: float | None = None
    input_sizes: list[list[int]] = []
    input_dtypes: list[str] = []
    output_sizes: list[list[int]] = []
    output_dtypes: list[str] = []
    frames: Any = None  # list of {name, filename, line}, kept as it is because entries share it


class Group(msgspec.Struct, gc=False):
    """One communicator of `pg_config`; `ranks` is text such as "[0, 1]"."""

    name: str = ""
    desc: str = ""
    ranks: str | list[int] = ""

    @property
    def members(self) -> list[int]:
        """Global ranks, or none where the backend left them out."""
        return self.ranks if isinstance(self.ranks, list) else [int(part) for part in re.findall(r"\d+", self.ranks)]


def collectives(entries: Sequence[Entry], rank: int, members: Members) -> dict[str, Any]:
    """Return the columns of `collectives` for the `entries` of one rank; `members` maps group to its ranks.

    Raises OverflowError where a number does not fit.
    """
    name = coded([entry.profiling_name for entry in entries])
    named = [_operation(text) for text in name.values]
    state = _states(entries, name, [backend in GPU_BACKENDS for backend, *_ in named])
    group, op_class, seq, peer = _keys(entries, name, named, rank, members)
    started = np.array([text in ("started", "completed") for text in state.values], dtype=bool)[state.codes]
    done = np.array([text == "completed" for text in state.values], dtype=bool)[state.codes]
    begin = _numbers([entry.time_discovered_started_ns or -1 for entry in entries])
    end = _numbers([entry.time_discovered_completed_ns or -1 for entry in entries])
    spent = np.array([entry.duration_ms or -1e-6 for entry in entries], dtype=float)
    declared = _numbers([len(members.get(text, ())) or -1 for text in group.values])
    return {
        "job": "job", "rank": rank, "group": group, "group_size": declared[group.codes], "op_class": op_class,
        "seq": seq, "peer": peer, "op": Coded(name.codes, [op for _, op, *_ in named]),
        "dtype": coded([(entry.input_dtypes or entry.output_dtypes or ("",))[0] for entry in entries]),
        "message_bytes": _numbers(_sizes(entries)),
        "ready_ns": _numbers([entry.time_created_ns or -1 for entry in entries]),
        "start_ns": np.where(started & (begin > 0), begin, -1), "end_ns": np.where(done & (end > 0), end, -1),
        "duration_ns": np.where((spent > 0) & (spent < 1e12), np.rint(spent * 1e6), -1).astype(np.int64),
        "blocking": False, "state": state, "stack": stacks(entries), "source": "flight-recorder",
    }  # fmt: skip


def groups(entries: Sequence[Entry], rank: int, configured: Mapping[str, Group]) -> Columns:
    """Return the columns of `groups`: this rank's membership, and all members where the dump lists them."""
    told = {group.name: (group.desc, group.members) for group in configured.values() if group.name}
    told = {name: one for name, one in told.items() if one[1]}
    used = {entry.process_group: None for entry in entries if entry.process_group}
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


def coded(values: Sequence[str]) -> Coded:
    """Return `values` as codes into their distinct strings.

    >>> coded(["a", "b", "a"]).codes.tolist()
    [0, 1, 0]
    """
    # Half a letter (a lone surrogate, as JSON and pickles can hold) would end the writing of any table.
    written = {value: value.encode("utf-8", "replace").decode() for value in dict.fromkeys(values)}
    place = {text: code for code, text in enumerate(dict.fromkeys(written.values()))}
    codes = {value: place[text] for value, text in written.items()}
    return Coded(np.fromiter(map(codes.__getitem__, values), dtype=np.int64, count=len(values)), list(place))


@lru_cache(maxsize=4096)
def _operation(profiling_name: str) -> Operation:
    """Return (backend, op, sender, receiver) of names such as "nccl:_allgather_base" or "nccl:send 0->1"."""
    backend, _, rest = profiling_name.rpartition(":")
    word, _, pair = rest.strip().partition(" ")
    ends = re.fullmatch(r"(\d+)(->|<-)(\d+)", pair.strip())
    plain = word.lower().lstrip("_")
    op = OP_NAMES.get(plain, plain)
    if ends is None:
        return backend, op, -1, -1
    first, second = int(ends.group(1)), int(ends.group(3))
    return (backend, op, first, second) if ends.group(2) == "->" else (backend, op, second, first)


def _numbers(values: Sequence[int]) -> Array:
    return np.array(values, dtype=np.int64)


def _states(entries: Sequence[Entry], name: Coded, watched: Sequence[bool]) -> Coded:
    """Return the state of each entry; `watched` tells per distinct name whether a watchdog keeps its states."""
    found = coded([entry.state or "" for entry in entries])
    retired = np.array([bool(entry.retired) for entry in entries], dtype=bool)
    over = retired & (np.array([text != "completed" for text in found.values], dtype=bool)[found.codes])
    known = np.array(watched, dtype=bool)[name.codes]
    values = [*found.values, "completed", "timed-out"]
    last = len(values) - 1
    return Coded(np.where(over, np.where(known, last, last - 1), found.codes), values)


def _keys(
    entries: Sequence[Entry], name: Coded, named: Sequence[Operation], rank: int, members: Members
) -> tuple[Coded, Coded, Array, Array]:
    """Return group, op_class, seq and peer of each entry, so that they are unique and join the ranks."""
    group = coded([entry.process_group[0] if entry.process_group else "?" for entry in entries])
    seq = _numbers([entry.collective_seq_id if entry.collective_seq_id >= 0 else entry.seq_id for entry in entries])
    single = np.array([sender >= 0 for *_, sender, _ in named], dtype=bool)[name.codes]
    single |= np.array([entry.is_p2p for entry in entries], dtype=bool)
    order = np.lexsort((seq, group.codes))
    again = (np.diff(seq[order]) == 0) & (np.diff(group.codes[order]) == 0)
    if not single.any() and not again.any():
        return group, coded([""] * len(entries)), seq, np.full(len(entries), -1)
    rows = _Rows(rank, members, wrapped=entries[0].record_id > 0)
    for entry, text, number in zip(entries, group.codes, seq, strict=True):
        rows.add(entry, group.values[text], int(number), _operation(entry.profiling_name))
    return coded(rows.group), coded(rows.op_class), _numbers(rows.seq), _numbers(rows.peer)


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

    def add(self, entry: Entry, group: str, seq: int, operation: Operation) -> None:
        _, _, sender, receiver = operation
        kind, peer = f"p2p@{self.rank}", -1
        if sender >= 0:
            group, peer = _channel(group, sender, receiver, self.rank, self.members)
        if sender >= 0 and not self.wrapped:
            kind, seq = "p2p", self._place(group, -1)
        elif sender >= 0 or entry.is_p2p:
            seq = entry.record_id
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


def _sizes(entries: Sequence[Entry]) -> list[int]:
    """Return the bytes of each entry's message, -1 unknown; a job repeats its few shapes: each is worked out once."""
    pairs = [
        (entry.input_sizes, entry.input_dtypes) if entry.input_sizes else (entry.output_sizes, entry.output_dtypes)
        for entry in entries
    ]
    shapes = [(kinds[0], *sizes[0]) if len(sizes) == 1 and kinds else None for sizes, kinds in pairs]
    known = {shape: _bytes(*pair) for shape, pair in dict(zip(shapes, pairs, strict=True)).items()}
    return [known[shape] if shape is not None else _bytes(*pair) for shape, pair in zip(shapes, pairs, strict=True)]


def _bytes(sizes: list[list[int]], kinds: list[str]) -> int:
    if not kinds:
        return -1
    widths = [_width(kind) for kind in kinds]
    return sum(prod(size) * width for size, width in zip(sizes, widths, strict=False)) if all(widths) else -1


def _width(kind: str) -> int:
    return ELEMENT_BYTES.get(kind) or (1 if kind.startswith("Float8") else 0)


def stacks(entries: Sequence[Entry]) -> Coded:
    """Return the innermost user frames of each entry; a dump shares the frames, so each stack is put in words once."""
    if not any(entry.frames for entry in entries):
        return Coded(np.zeros(len(entries), dtype=np.int64), [""])
    text: dict[tuple[int, ...], str] = {}
    found = []
    for entry in entries:
        frames = entry.frames
        key = tuple(map(id, frames)) if isinstance(frames, list) else ()
        if key not in text:
            text[key] = _stack(frames) if key else ""
        found.append(text[key])
    return coded(found)


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
