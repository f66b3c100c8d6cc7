"""Delay profiles: what every worker needed in every round, as a matrix, from tables and files.

A profile is `[rounds, workers]` seconds measured at one load. Long tables may hold several loads and give several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
NS = 1e9
EQUAL_RATIO = 1e-3
WHOLE_SHARE = 0.5  # of the steps must be there for every rank, else the recording is no profile
LEAVE_OUT = "leave out rounds that not every worker has finished, and workers that left"


@dataclass(frozen=True)
class Profile:
    """Delays `seconds` [rounds, workers] at normalised `load` (share of the whole batch per worker and round).

    `workers` and `rounds` are the names of the axes; `fixed_s` is the part of a round that no load changes, NaN where
    nobody measured it; `warnings` say what was left out or looks wrong.
    """

    seconds: Array
    load: float
    workers: tuple[str, ...] = ()
    rounds: tuple[int | str, ...] = ()
    fixed_s: float = float("nan")
    warnings: tuple[str, ...] = ()


def of_array(seconds: Any, load: float | None = None, name: str = "the delay profile") -> Profile:  # noqa: ANN401
    """Return the profile of an array [rounds, workers] in seconds; `load` None is 1 / workers, as without coding.

    Raises UsageError that names the round and worker of a value that is missing, not finite, zero or negative.

    >>> of_array([[1.0, 2.0], [1.5, 1.0]]).load
    0.5
    """
    try:
        matrix = np.asarray(seconds, dtype=float)
    except (TypeError, ValueError):
        lengths = sorted({len(row) for row in seconds if isinstance(row, Sequence)})
        why = f"rows have {lengths[0]} to {lengths[-1]} workers" if len(lengths) > 1 else "it holds no numbers"
        raise UsageError(f"{name} is no matrix of rounds and workers: {why}; {LEAVE_OUT}") from None
    if matrix.ndim != 2 or not matrix.size:
        shape = "x".join(map(str, matrix.shape)) or "one number"
        raise UsageError(f"{name} has the shape {shape}; wanted is [rounds, workers] in seconds")
    for wrong, what in ((~np.isfinite(matrix), "not a finite number"), (matrix <= 0, "not more than 0 s")):
        if wrong.any():
            round_, worker = np.argwhere(wrong)[0]
            raise UsageError(f"{name}: round {round_}, worker {worker} is {matrix[round_, worker]:g}, {what} "
                             f"({int(wrong.sum())} such values); {LEAVE_OUT}")  # fmt: skip
    share = 1 / matrix.shape[1] if load is None else float(load)
    if not 0 <= share <= 1:
        raise UsageError(f"{name}: load {share:g} is no share of the batch; it lies between 0 and 1")
    names = tuple(str(worker) for worker in range(matrix.shape[1]))
    return Profile(matrix, share, names, tuple(range(len(matrix))), warnings=_doubts(matrix))


def of_long(round_: Array, worker: Array, seconds: Array, load: float | None = None, name: str = "table") -> Profile:
    """Return the profile of rows (round, worker, seconds), each array [rows].

    Raises UsageError where a worker's round is missing or there twice.

    >>> of_long(np.array([0, 0, 1, 1]), np.array([7, 9, 9, 7]), np.array([1.0, 2.0, 4.0, 3.0])).seconds.tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    rounds, row = np.unique(np.asarray(round_), return_inverse=True)
    workers, column = np.unique(np.asarray(worker), return_inverse=True)
    count = np.zeros((len(rounds), len(workers)), dtype=np.int64)
    np.add.at(count, (row, column), 1)
    if (count != 1).any():
        at = np.argwhere(count != 1)[0]
        what = "is missing" if count[tuple(at)] == 0 else f"is there {count[tuple(at)]} times"
        raise UsageError(f"{name}: round {rounds[at[0]]} of worker {workers[at[1]]} {what}; {LEAVE_OUT}")
    matrix = np.empty(count.shape)
    matrix[row, column] = seconds
    made = of_array(matrix, load, name)
    return Profile(made.seconds, made.load, tuple(map(str, workers)), tuple(rounds.tolist()), warnings=made.warnings)


def of_tables(tables: Mapping[str, pd.DataFrame], load: float | None = None) -> Profile:
    """Return the profile of a recording's canonical tables.

    With `rank_steps` a worker's delay is its own work plus the part of the step that is nobody's work (communication
    after the last arrival), which becomes `fixed_s`; without it, the rows of phase "step" in `steps`. Steps that are
    planned (checkpoints, warm-up) or that a rank lacks are left out. Raises UsageError where too little is left.
    """
    work = tables.get("rank_steps")
    if work is not None and len(work):
        return _of_rank_steps(work, tables.get("step_times"), load)
    steps = tables.get("steps")
    if steps is None or not len(steps):
        raise UsageError("the recording has no steps of ranks; a delay profile wants the time of each rank and step")
    whole = steps[(steps["phase"] == "step").to_numpy()]
    took = (whole["end_ns"] - whole["start_ns"]).to_numpy() / NS
    return _complete(whole["step"].to_numpy(), whole["rank"].to_numpy(), took, load)


def _of_rank_steps(work: pd.DataFrame, times: pd.DataFrame | None, load: float | None) -> Profile:
    if times is not None and len(times) and not times["planned"].all():
        planned = set(times.loc[times["planned"].to_numpy(), "step"])
        work = work[~work["step"].isin(planned).to_numpy()]
    own = work["work_ns"].to_numpy() / NS
    length = (work["end_ns"] - work["start_ns"]).to_numpy() / NS
    by_step = work.assign(own=own, length=length).groupby("step")[["own", "length"]].max()
    fixed = max(0.0, float((by_step["length"] - by_step["own"]).median()))
    made = _complete(work["step"].to_numpy(), work["rank"].to_numpy(), own + fixed, load)
    return Profile(made.seconds, made.load, made.workers, made.rounds, fixed, made.warnings)


def _complete(step: Array, rank: Array, seconds: Array, load: float | None) -> Profile:
    """Return the profile of the steps that every rank has with a positive time."""
    sound = np.isfinite(seconds) & (seconds > 0)
    steps, place, count = np.unique(step[sound], return_inverse=True, return_counts=True)
    ranks = len(np.unique(rank))
    kept = count == ranks
    if not len(steps) or kept.mean() < WHOLE_SHARE:
        few = f"only {int(kept.sum())} of {len(steps)} steps have a time for each of {ranks} ranks"
        raise UsageError(f"{few}; {LEAVE_OUT}")
    rows = np.flatnonzero(sound)[kept[place]]
    made = of_long(step[rows], rank[rows], seconds[rows], load, "the recording")
    left_out = len(np.unique(step)) - int(kept.sum())
    said = (f"{left_out} steps that some rank lacks are left out",) if left_out else ()
    return Profile(made.seconds, made.load, made.workers, made.rounds, warnings=(*said, *made.warnings))


def _doubts(matrix: Array) -> tuple[str, ...]:
    """Return what makes a profile a weak basis for a decision."""
    said = []
    spread = (matrix.max(axis=1) - matrix.min(axis=1)) / matrix.max(axis=1)
    if matrix.shape[1] > 1 and matrix.std() > EQUAL_RATIO * matrix.mean() and spread.max() < EQUAL_RATIO:
        said.append("in every round all workers took the same time: these are steps of the job, which end together, "
                    "and not what each worker needed for its own work")  # fmt: skip
    if len(matrix) < 20:
        said.append(f"only {len(matrix)} rounds were measured: rare delays are not in them; 80 or more are better")
    return tuple(said)
