"""The steps of a rank, and which of its numbers are steps at all.

A process begins to count before it trains and goes on after: the first number also holds what comes before the loop
(building the model, the first compilation), the last what comes after it. Neither is a step that ranks are judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts import Coded, Columns
from ..spool import KINDS, PHASES, UNITS

Array = np.ndarray[Any, Any]
Span = tuple[int, int]  # first and last step that count

PHASE_NAMES = {"h2d": "other", "comm_wait": "sync"}  # where `steps` has another word
WARM_UP_RATIO = 3.0  # a leading step so many times the usual one is start-up
WARM_UP_STEPS = 5  # at most so many
FEWEST_STEPS = 6  # with fewer nobody knows what is usual
STEP = KINDS.index("step")
TIMED = (STEP, KINDS.index("collective"), KINDS.index("phase"))
EVERY_STEP = (-1, 2**31 - 1)


def counted(records: Sequence[Array]) -> Span:
    """Return the first and the last step of a job that count; `records` are those of each rank.

    Where no step was recorded all numbers count.
    """
    ranks = [rows for rows in records if (rows["kind"] == STEP).any()]
    if not ranks:
        return EVERY_STEP
    whole = np.concatenate([rows[rows["kind"] == STEP] for rows in ranks])
    last = int(whole["step"].max())
    if all(int(rows["number"][0]) == 1 for rows in ranks):
        return _after_start_up(whole), last
    # A ring that went round begins in the midst of a step.
    begins = max(int(rows["step"][rows["step"] >= 0].min()) + 1 for rows in ranks if rows["number"][0] > 1)
    shortest = min(int(rows["step"][rows["kind"] == STEP].max()) for rows in ranks)
    return (begins if begins <= shortest else int(whole["step"].min())), last


def _after_start_up(whole: Array) -> int:
    """Return the first step whose length, the median over ranks, is usual; the first of all where that is late."""
    steps, place = np.unique(whole["step"], return_inverse=True)
    length = (whole["end_ns"] - whole["start_ns"]).astype(float)
    order = np.lexsort((length, place))
    middle = np.searchsorted(place[order], np.arange(len(steps))) + (np.bincount(place) - 1) // 2
    typical = length[order][middle]
    usual = typical <= WARM_UP_RATIO * np.median(typical)
    first = int(np.argmax(usual))
    return int(steps[first if len(steps) >= FEWEST_STEPS and first <= WARM_UP_STEPS else 0])


def life_ns(records: Array, span: Span) -> tuple[int, int]:
    """Return when a rank's first step that counts began and its last one ended; all of its time where it has none."""
    whole = records[(records["kind"] == STEP) & (records["step"] >= span[0]) & (records["step"] <= span[1])]
    timed = whole if len(whole) else records[np.isin(records["kind"], TIMED)]
    if not len(timed):
        return 0, 0
    first = int(timed["start_ns"].min())
    return first, max(first, int(timed["end_ns"].max()))


def numbers(rows: Array, span: Span) -> Array:
    """Return the step of each record, -1 where that is none that counts."""
    step = rows["step"].astype(np.int64)
    return np.where((step >= span[0]) & (step <= span[1]), step, -1)


def table(rank: int, rows: dict[str, Array], offset_ns: int, span: Span, source: str) -> Columns:
    """Return the whole steps that count and all phases, with the tokens of the step on each."""
    whole, phase = rows["step"], rows["phase"]
    both = np.concatenate([whole[numbers(whole, span) >= 0], phase[phase["step"] >= 0]])
    code = np.where(both["kind"] == STEP, 0, 1 + np.minimum(both["op"], len(PHASES) - 1))
    part = np.where(code > 0, both["extra"].astype(np.int64) - 1, -1)
    names = ["step", *(PHASE_NAMES.get(name, name) for name in PHASES)]
    return {
        "job": "job", "step": both["step"], "rank": rank, "phase": Coded(code, names), "microbatch": part,
        "start_ns": both["start_ns"] + offset_ns, "end_ns": both["end_ns"] + offset_ns,
        "work_tokens": _tokens(rows["work"], both["step"]), "source": source,
    }  # fmt: skip


def _tokens(work: Array, step: Array) -> Array:
    """Return the tokens recorded for each step, -1 for none."""
    mine = work[(work["op"] == UNITS.index("tokens")) & (work["step"] >= 0)]
    steps, place = np.unique(mine["step"], return_inverse=True)
    if not len(steps):
        return np.full(len(step), -1)
    total = np.bincount(place, mine["size"]).astype(np.int64)
    found = np.minimum(np.searchsorted(steps, step), len(steps) - 1)
    return np.where(steps[found] == step, total[found], -1)
