"""Builders of small worlds of calls and steps for `cases()`: dumps of a stopped job, sibling groups, step times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from skewscope.frames import all_tables, concat, frame

EPOCH_NS = 1_700_000_000_000_000_000
CALL_NS = 100_000_000
TABLES = dict[str, pd.DataFrame]
Array = np.ndarray[Any, Any]
Front = Mapping[str, Mapping[int, tuple[int, int]]]  # group -> rank -> (calls enqueued, calls completed)


def dumps(
    front: Front,
    *,
    members: Mapping[str, Sequence[int]] | None = None,
    watchdog_s: float = -1.0,
    pending: str = "started",
) -> TABLES:
    """Return flight recorder dumps of a job: each rank's calls 1..enqueued in each group, the first ones completed.

    `members` are told as `groups` where given, else a group's ranks are those that carry it. With `watchdog_s` a
    watchdog fired so long after the last arrival.
    """
    parts = [_calls(group, place, rank, *reached, pending)
             for place, (group, ranks) in enumerate(front.items()) for rank, reached in ranks.items()]  # fmt: skip
    calls = concat("collectives", parts)
    told = {group: list(ranks) for group, ranks in (members or front).items()}
    rows = [(group, rank, len(ranks) if members else -1) for group, ranks in told.items() for rank in ranks]
    tables = {"collectives": calls, "groups": frame("groups", {
        "job": "job", "group": [row[0] for row in rows], "rank": [row[1] for row in rows],
        "group_size": [row[2] for row in rows], "source": "flight-recorder",
    })}  # fmt: skip
    if watchdog_s >= 0:
        fired = int(calls["ready_ns"].max()) + int(watchdog_s * 1e9)
        tables["events"] = frame("events", {"t_ns": [fired], "event": "no-progress", "device": "rank0"})
    return all_tables(tables)


def changed(tables: TABLES, rank: int, seq: int, **columns: object) -> TABLES:
    """Return `tables` in which the calls number `seq` of `rank` have other values in some columns."""
    calls = tables["collectives"].copy()
    rows = ((calls["rank"] == rank) & (calls["seq"] == seq)).to_numpy()
    for name, value in columns.items():
        values = calls[name].astype(object).to_numpy().copy()
        values[rows] = value
        calls[name] = values
    return {**tables, "collectives": frame("collectives", {name: calls[name] for name in calls.columns})}


def lockstep(ranks: int, calls: int, *, completed: int | None = None) -> Front:
    """Return the front of one group in which everybody enqueued `calls` and completed `completed` of them.

    >>> lockstep(2, 3)
    {'0': {0: (3, 3), 1: (3, 3)}}
    """
    return {"0": {rank: (calls, calls if completed is None else completed) for rank in range(ranks)}}


def siblings(
    transfer_ms: Sequence[float], *, calls: int = 20, step_s: float = 0.1, description: str = "mesh_dp"
) -> TABLES:
    """Return arrivals of one call a step in groups of two ranks that are alike, each with its own transfer time."""
    parts, members = [], []
    for place, length_ms in enumerate(transfer_ms):
        jitter = 1.0 + 0.01 * ((np.arange(calls) * 7) % 5 - 2)
        for rank in (2 * place, 2 * place + 1):
            parts.append(frame("arrivals", {
                "job": "job", "step": np.arange(calls), "rank": rank, "group": str(place), "group_size": 2,
                "op_class": "", "seq": np.arange(calls), "op": "all_reduce", "call": np.arange(calls) + place * calls,
                "members_count": 2, "message_bytes": 1 << 20, "late_ns": 0.0, "wait_ns": 0.0,
                "transfer_ns": length_ms * 1e6 * jitter, "last": False, "by_wait": False,
            }))  # fmt: skip
            members.append((str(place), rank))
    groups = frame("groups", {
        "job": "job", "group": [row[0] for row in members], "rank": [row[1] for row in members],
        "description": description, "group_size": 2,
    })  # fmt: skip
    return all_tables({**steps([step_s] * calls), "arrivals": concat("arrivals", parts), "groups": groups})


def steps(
    durations_s: Sequence[float] | Array, *, planned: Sequence[int] = (), transfer_ratio: float = 0.0, ranks: int = 4
) -> TABLES:
    """Return `step_times` of steps 0, 1, ... and `rank_steps` in which every rank transfers that share of each step."""
    length = np.asarray(durations_s, dtype=float) * 1e9
    number = np.arange(len(length))
    start = EPOCH_NS + (np.cumsum(length) - length).astype(np.int64)
    step, lane = np.repeat(number, ranks), np.tile(np.arange(ranks), len(length))
    whole = np.repeat(length, ranks)
    nothing = dict.fromkeys(("input_ns", "gc_ns", "checkpoint_ns", "wait_ns", "idle_ns"), 0.0)
    own = whole * (1 - transfer_ratio)
    return all_tables({
        "step_times": frame("step_times", {
            "job": "job", "step": number, "start_ns": start, "duration_ns": length,
            "planned": np.isin(number, planned), "ranks_count": ranks,
        }),
        "rank_steps": frame("rank_steps", {
            "job": "job", "step": step, "rank": lane, "start_ns": np.repeat(start, ranks),
            "end_ns": np.repeat(start + length.astype(np.int64), ranks), "work_ns": own, "own_ns": own,
            "compute_ns": own, "transfer_ns": whole - own, "comm_ns": whole - own, **nothing,
        }),
    })  # fmt: skip


def _calls(group: str, place: int, rank: int, enqueued: int, completed: int, pending: str) -> pd.DataFrame:
    seq = np.arange(1, enqueued + 1)
    arrived = EPOCH_NS + seq * CALL_NS + place * 10_000_000 + rank * 1000
    return frame("collectives", {
        "job": "job", "rank": rank, "group": group, "seq": seq, "op": "all_reduce", "dtype": "Float",
        "message_bytes": 4096, "ready_ns": arrived, "blocking": False,
        "state": ["completed" if number <= completed else pending for number in seq],
        "stack": "/app/train.py:10 step", "source": "flight-recorder",
    })  # fmt: skip
