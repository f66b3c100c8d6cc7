"""What ranges of host threads (NVTX, roctx, annotations of JAX) say about steps and their phases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._kineto_columns import Array, ordinal, outermost
from ._kineto_names import phase
from ._kineto_steps import Steps

NUMBERED = re.compile(
    r"(?:^|[\s_/:.-])(?:profiler_?step|global_?step|train(?:ing)?_?step|step_?num|step|iteration|iter)[\s_/:=#-]*(\d{1,15})"
    r"(?=$|[\s,;|)\]_/-])", re.IGNORECASE,
)  # fmt: skip
BARE = re.compile(r"(?:(?:train(?:ing)?|global)[ _-]?)?(?:step|iteration|iter)s?|train_batch", re.IGNORECASE)
NO_STEPS = 'no step marks: put a range named "step N" around each step'
COUNTED = "the ranges around steps carry no number: they are counted from 0"


@dataclass(frozen=True)
class Ranges:
    """Named spans of host threads, ns: `name` are codes into `names`, `lane` is a number per thread; all [ranges]."""

    start: Array
    end: Array
    name: Array
    lane: Array
    names: Sequence[str]


@dataclass(frozen=True)
class Marked:
    """Steps, the rows of the ranges that are phases of them, and the thread that has the steps, -1 for none.

    `phases` are names such as "forward", one per row of `rows`; `warnings` say how the steps were found.
    """

    steps: Steps
    rows: Array
    phases: Array
    main_lane: int
    warnings: tuple[str, ...]


def step_number(name: str) -> int:
    """Return the number of the step that a range of this name marks, -1 for other names.

    >>> step_number("step 12"), step_number("ProfilerStep#3"), step_number("Iteration: 7"), step_number("x step=1 r=0")
    (12, 3, 7, 1)
    >>> step_number("optimizer.step"), step_number("step"), step_number("layer 4"), step_number("steps_per_epoch 5")
    (-1, -1, -1, -1)
    """
    found = NUMBERED.search(name)
    return int(found[1]) if found else -1


def marked(ranges: Ranges) -> Marked:
    """Return the steps and phases that ranges mark; steps without numbers are counted where none has one."""
    numbers = np.array([step_number(name) for name in ranges.names] or [-1], dtype=np.int64)
    number = numbers[ranges.name]
    warnings: tuple[str, ...] = ()
    if not (number >= 0).any():
        bare = np.array([bool(BARE.fullmatch(name.strip())) for name in ranges.names] or [False])
        number = _counted(ranges, np.flatnonzero(bare[ranges.name]))
        warnings = (COUNTED,) if (number >= 0).any() else (NO_STEPS,)
    rows = np.flatnonzero(number >= 0)
    main = int(np.bincount(ranges.lane[rows]).argmax()) if len(rows) else -1
    rows = rows[ranges.lane[rows] == main]
    picked, kinds = _phases(ranges, np.flatnonzero(number < 0))
    return Marked(_united(ranges.start[rows], ranges.end[rows], number[rows]), picked, kinds, main, warnings)


def steps_table(marks: Marked, ranges: Ranges) -> dict[str, Array]:
    """Return the columns of `steps`: whole steps, then the phases inside them; ns on the clock of the ranges."""
    steps = marks.steps
    of = steps.of(ranges.start[marks.rows])
    rows, kinds, of = marks.rows[of >= 0], marks.phases[of >= 0], of[of >= 0]
    codes = np.unique(kinds.astype(str), return_inverse=True)[1] if len(kinds) else np.zeros(0, dtype=np.int64)
    turn = ordinal([codes, of], ranges.start[rows])
    several = ordinal([codes, of], -ranges.start[rows]) + turn > 0
    whole = len(steps.number)
    return {
        "step": np.concatenate([steps.number, of]),
        "phase": np.concatenate([np.full(whole, "step", dtype=object), kinds]),
        "microbatch": np.concatenate([np.full(whole, -1), np.where(several, turn, -1)]),
        "start_ns": np.concatenate([steps.start, ranges.start[rows]]),
        "end_ns": np.concatenate([steps.end, ranges.end[rows]]),
    }


def _counted(ranges: Ranges, rows: Array) -> Array:
    """Return the turn of each of `rows` on the thread that has most of them, -1 for all others."""
    number = np.full(len(ranges.start), -1, dtype=np.int64)
    if len(rows):
        rows = rows[outermost(ranges.lane[rows], ranges.start[rows], ranges.end[rows])]
        rows = rows[ranges.lane[rows] == np.bincount(ranges.lane[rows]).argmax()]
        number[rows[np.argsort(ranges.start[rows], kind="stable")]] = np.arange(len(rows))
    return number


def _phases(ranges: Ranges, rows: Array) -> tuple[Array, Array]:
    """Return the rows that are the outermost of their phase in their thread, by time, and their phases."""
    kinds = np.array([phase(name) for name in ranges.names] or [""], dtype=object)
    rows = rows[(kinds != "")[ranges.name[rows]]]
    if not len(rows):
        return rows, np.zeros(0, dtype=object)
    values = np.unique(kinds.astype(str))
    codes = np.searchsorted(values, kinds.astype(str))[ranges.name[rows]]
    rows = rows[outermost(ranges.lane[rows] * len(values) + codes, ranges.start[rows], ranges.end[rows])]
    rows = rows[np.argsort(ranges.start[rows], kind="stable")]
    return rows, kinds[ranges.name[rows]]


def _united(start: Array, end: Array, number: Array) -> Steps:
    """Return one span per step, from its first mark to its last, in order of time."""
    if not len(number):
        return Steps(number, start, end)
    found, of = np.unique(number, return_inverse=True)
    first, last = np.full(len(found), 2**62), np.full(len(found), -(2**62))
    np.minimum.at(first, of, start)
    np.maximum.at(last, of, end)
    order = np.argsort(first, kind="stable")
    return Steps(found[order], first[order], last[order])
