"""Rows of the canonical tables out of the debug logs of a job's processes, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Coded, Columns
from ..stats import segments
from ._flight_rows import coded
from ._kernel_log_times import with_years
from ._nccl_log import CALL_NUMBERS, STANDS, Log
from ._nccl_log_places import FORMAT, Places, events, group_of, links, our_name, places
from ._nccl_names import operation

Array = np.ndarray[Any, Any]
# ncclDataType_t of nccl.h: name and bytes per element
TYPES = (("int8", 1), ("uint8", 1), ("int32", 4), ("uint32", 4), ("int64", 8), ("uint64", 8), ("float16", 2),
         ("float32", 4), ("float64", 8), ("bfloat16", 2), ("float8e4m3", 1), ("float8e5m2", 1))  # fmt: skip
PER_RANK = ("reduce_scatter", "all_to_all", "scatter")  # their count is one rank's share of the input
POINT = ("send", "recv")


def batches(logs: Sequence[Log]) -> list[list[tuple[str, Columns]]]:
    """Return the batches of each log; which calls all ranks have reached needs all logs at once."""
    where = places(logs)
    stands = any(event.event in STANDS for log in logs for event in log.events.values())
    stands = stands or any(log.watches for log in logs)
    calls = [_calls(log, ranks, where) for log, ranks in zip(logs, where.ranks, strict=True)]
    _settle(calls, stands=stands)
    made: list[list[tuple[str, Columns]]] = []
    for log, ranks, call in zip(logs, where.ranks, calls, strict=True):
        watched, seen = _watched(log)
        rows = [("collectives", call.columns), ("collectives", watched), ("groups", _groups(log, ranks)),
                ("ranks", _ranks(log, ranks)), ("links", links(log, where)),
                ("events", events(log, ranks, seen))]  # fmt: skip
        made.append([(table, columns) for table, columns in rows if columns])
    return made


@dataclass
class _Calls:
    """The calls of one log, and what `_settle` needs: their group, op count, and whether the communicator ended."""

    columns: dict[str, Any]
    group: Coded
    number: Array
    ended: Array


def _calls(log: Log, ranks: Array, where: Places) -> _Calls:
    table = np.array(log.calls, dtype=np.int64).reshape(-1, CALL_NUMBERS)
    if len(table):
        table = table[ranks[table[:, 0]] >= 0]
    names = [operation(name) for name in log.ops]
    point, sends, shares = (_is_one_of(table[:, 1], names, wanted) for wanted in (POINT, ("send",), PER_RANK))
    own = np.array([one.rank for one in log.comms] or [-1], dtype=np.int64)[table[:, 0]]
    kept = ~(point & (table[:, 5] == own))  # what a rank sends to itself has two ends that are one
    table, point, sends, shares, own = (part[kept] for part in (table, point, sends, shares, own))
    comm, op, number, count, kind, root, t_ns, choice = table.T
    if not len(comm):
        return _Calls({}, Coded(comm, []), comm, comm)
    sizes = np.array([one.size for one in log.comms])[comm]
    width = np.array([size for _, size in TYPES] + [0])[np.clip(kind, 0, len(TYPES))]
    group, values = _channels(
        log, where, np.stack([comm, np.where(sends, own, root), np.where(sends, root, own)]), point
    )
    columns = {
        "job": "job", "rank": ranks[comm], "group": _merged(group, values), "group_size": np.where(point, 2, sizes),
        "op": Coded(op, names), "op_class": Coded(point.astype(np.int64), ["", "p2p"]),
        "dtype": Coded(np.clip(kind, 0, len(TYPES)), [*(name for name, _ in TYPES), ""]),
        "message_bytes": np.where(width > 0, count * width * np.where(shares, sizes, 1), -1),
        "algo": Coded(choice, [algo for algo, _ in log.choices]),
        "proto": Coded(choice, [proto for _, proto in log.choices]),
        "ready_ns": t_ns, "peer": _peers(log, where, comm, root, point), "blocking": False, "source": FORMAT,
    }  # fmt: skip
    if point.any():
        number = number.copy()
        number[point] = _turns(group[point])
    return _Calls(columns, columns["group"], number, np.array([one.ended for one in log.comms])[comm])


def _is_one_of(codes: Array, names: Sequence[str], wanted: Sequence[str]) -> Array:
    return np.isin(codes, [code for code, name in enumerate(names) if name in wanted])


def _channels(log: Log, where: Places, ends: Array, point: Array) -> tuple[Array, list[str]]:
    """Return group codes and names of calls; `ends` [3, calls] are communicator, sender and receiver of messages."""
    group, values = ends[0].copy(), [one.name for one in log.comms]
    if point.any():
        channels, channel = np.unique(ends[:, point], axis=1, return_inverse=True)
        group[point] = len(values) + channel.reshape(-1)
        for at, src, dst in channels.T.tolist():
            inside = "" if log.comms[at].size == where.world else f"{log.comms[at].name}:"
            values.append(f"p2p:{inside}{src}-{dst}")
    return group, values


def _peers(log: Log, where: Places, comm: Array, root: Array, point: Array) -> Array:
    """Return the global rank of the other end of messages, -1 where it is not known."""
    found = np.full(len(comm), -1)
    for row in np.flatnonzero(point).tolist():
        found[row] = where.members.get((log.comms[comm[row]].name, int(root[row])), -1)
    return found


def _merged(codes: Array, values: list[str]) -> Coded:
    """Return codes into distinct names: two handles may be of one communicator."""
    at = {name: place for place, name in enumerate(dict.fromkeys(values))}
    return Coded(np.array([at[name] for name in values], dtype=np.int64)[codes], list(at))


def _turns(*keys: Array) -> Array:
    """Return how many rows with equal keys stand before each row.

    >>> _turns(np.array([5, 7, 5, 5])).tolist()
    [0, 0, 1, 2]
    """
    rows = len(keys[0])
    order = np.lexsort((np.arange(rows), *keys))
    over = segments.runs(*(key[order] for key in keys))
    turn = np.empty(rows, dtype=np.int64)
    turn[order] = segments.ordinal(over)
    return turn


def _settle(calls: Sequence[_Calls], *, stands: bool) -> None:
    """Fill `seq` and `state`.

    A call that all members of its communicator made is taken for completed; one that some never made is open, where
    anything in the logs says that the job stood still, else its state is not known.
    """
    filled = [part for part in calls if part.columns]
    if not filled:
        return
    names = {name: at for at, name in enumerate(dict.fromkeys(name for part in filled for name in part.group.values))}
    group = np.concatenate([np.array([names[name] for name in part.group.values])[part.group.codes] for part in filled])
    rank = np.concatenate([part.columns["rank"] for part in filled])
    number, ended = (np.concatenate([getattr(part, name) for part in filled]) for name in ("number", "ended"))
    seq = _numbered(group, rank, number)
    span = int(rank.max()) + 1
    pairs, at = np.unique(group * span + rank, return_inverse=True)
    reached = np.full(len(pairs), -1)
    np.maximum.at(reached, at, seq)
    floor = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(floor, pairs // span, reached)
    state = np.where(ended | (seq <= floor[group]), 0, 1 if stands else 2)
    begin = 0
    for part in filled:
        end = begin + len(part.number)
        part.columns["seq"] = seq[begin:end]
        part.columns["state"] = Coded(state[begin:end], ["completed", "scheduled", ""])
        begin = end


def _numbered(group: Array, rank: Array, number: Array) -> Array:
    """Return the number of each call in its group: its op count, or its place among all where several share one.

    Calls that NCCL grouped share an op count; each rank makes them in the same order.
    """
    seq = number.copy()
    turn = _turns(group, rank, number)
    for one in np.unique(group[turn > 0]).tolist():
        mine = np.flatnonzero(group == one)
        _, seq[mine] = np.unique(np.stack([number[mine], turn[mine]]), axis=1, return_inverse=True)
    return seq


def _watched(log: Log) -> tuple[Columns, list[int]]:
    """Return the calls that watchdogs gave up, and when each was seen, ns (-1 unknown)."""
    known = log.given_up()
    if not known:
        return {}, []
    dated = [watch.moment for watch in known if watch.moment is not None]
    times = iter(with_years(dated, log.written_ns)) if dated else iter(())
    seen = [next(times) if watch.moment is not None else -1 for watch in known]
    begun = [
        t_ns - watch.ran_ms * 10**6 if min(t_ns, watch.ran_ms) >= 0 else -1
        for t_ns, watch in zip(seen, known, strict=True)
    ]
    return {
        "job": "job", "rank": np.array([watch.rank for watch in known]), "group": [group_of(watch) for watch in known],
        "seq": np.array([watch.seq for watch in known]), "op": [our_name(watch.op) for watch in known],
        "ready_ns": np.array(begun), "blocking": False, "state": "timed-out", "source": "nccl-watchdog",
    }, seen  # fmt: skip


def _groups(log: Log, ranks: Array) -> Columns:
    rows = {(comm.name, rank): (comm.size, "") for comm, rank in zip(log.comms, ranks.tolist(), strict=True)
            if rank >= 0 and comm.name}  # fmt: skip
    rows |= {(group_of(watch), watch.rank): (-1, watch.description) for watch in log.given_up()}
    if not rows:
        return {}
    return {
        "job": "job", "group": coded([name for name, _ in rows]), "rank": np.array([rank for _, rank in rows]),
        "description": [description for _, description in rows.values()],
        "group_size": np.array([size for size, _ in rows.values()]), "source": FORMAT,
    }  # fmt: skip


def _ranks(log: Log, ranks: Array) -> Columns:
    found = {rank: comm for comm, rank in zip(log.comms, ranks.tolist(), strict=True) if rank >= 0}
    if not found:
        return {}
    return {"job": "job", "rank": np.array(list(found)), "node": [comm.process[0] for comm in found.values()],
            "gpu": np.array([comm.device for comm in found.values()])}  # fmt: skip
