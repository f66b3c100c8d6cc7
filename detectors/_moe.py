"""What the rooms about experts share: the diagnosis of recorded loads, and ranks that hold the same experts, live."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope.contracts import Evidence, Frames, Window
from skewscope.errors import UsageError
from skewscope.moe import times
from skewscope.moe.advice import advise
from skewscope.moe.diagnosis import TOLD_BY, Diagnosis, apart, diagnose, key
from skewscope.signals.impact import JobCost, costs
from skewscope.signals.view import remembered

from . import _own_work

Array = np.ndarray[Any, Any]
TABLES = TOLD_BY
RATIO = "skewscope_moe_expert_max_mean_ratio"
TOKENS, DROPPED = "skewscope_moe_tokens_total", "skewscope_moe_dropped_tokens_total"
SLOW_RATIO = 1.05  # of the others' time, where a cost is measured
LEAST_REPLICAS = 2  # of the same experts: with one, a slow rank may be slow for any reason


def diagnoses(tables: Frames) -> list[Diagnosis]:
    """Return the diagnosis of each job and phase of the recorded loads, worked out once a table; [] for none."""
    rows = tables["expert_loads"]
    if not len(rows):
        return []
    try:
        return remembered(rows, key(tables), lambda: diagnose(tables))
    except UsageError:
        return []  # loads beyond all sense: the report says so


def by_job(tables: Frames) -> dict[str, list[Diagnosis]]:
    """Return the diagnoses of each job, those of its phases together."""
    found: dict[str, list[Diagnosis]] = {}
    for one in diagnoses(tables):
        found.setdefault(one.loads.job, []).append(one)
    return found


def window(found: Diagnosis, tables: Frames) -> Window:
    """Return the steps that were judged, and their time where steps are timed."""
    steps = found.loads.steps[-len(found.judged) :]
    first, last = int(steps[0]), int(steps[-1])
    rows = tables["step_times"]
    mine = rows[((rows["job"].astype(str) == found.loads.job) & rows["step"].between(first, last)).to_numpy()]
    if not len(mine):
        return Window(-1, -1, first, last)
    ends = mine["start_ns"] + mine["duration_ns"].fillna(0).astype("int64")
    return Window(int(mine["start_ns"].min()), int(ends.max()), first, last)


def cost(found: Diagnosis, tables: Frames) -> tuple[float, float, str]:
    """Return what the imbalance costs: seconds a step, share of the step, and a phrase that says so or why not.

    Measured where live metrics show ranks that hold the same experts; else from the model's shapes and the GPUs' peaks,
    and so the least that it can be.
    """
    for held in holders(tables):
        slow = held.hot(SLOW_RATIO)
        if held.cost.job == found.loads.job and slow.any():
            ranks = held.ranks(np.unique(held.of)[slow.any(axis=0)])
            lost_s, share = held.cost.lost(ranks, np.asarray(slow.any(axis=1)))
            if lost_s > 0:
                return lost_s, share, f"the job loses {lost_s * 1e3:.1f} ms of each step"
    lost_s = found.cost_s or 0.0
    if found.cost_s is None:
        return 0.0, 0.0, f"its cost in seconds is unknown: {_missing(found)}"
    share = min(1.0, lost_s / found.step_s) if found.step_s > 0 else 0.0
    return lost_s, share, f"it costs at least {lost_s * 1e3:.1f} ms of each step at peak speed"


def _missing(found: Diagnosis) -> str:
    """Return why no cost can be told, with what it would be on a usual GPU."""
    if found.gpus == 0:
        return "where experts live is not recorded"
    if found.model is None:
        return "the model is none of known shape"
    guess_s = found.cost_on(times.HARDWARE["h100"])
    return "the kind of GPU is not recorded" + (
        f" (H100 at peak: {guess_s * 1e3:.1f} ms of each step)" if guess_s else ""
    )


def rungs(found: Diagnosis, threshold: float | None = None) -> tuple[Evidence, ...]:
    """Return the ladder as evidence, means over layers; nothing where there is none."""
    ladder = found.ladder
    if ladder is None:
        return ()
    values = {
        "balance_now": ladder.now, "noise_ceiling": ladder.ceiling, "replication_bound": ladder.bound,
        "group_bound": ladder.group_bound, "plan": ladder.plan, "plan_held_out": ladder.held_out,
    }  # fmt: skip
    return tuple(
        Evidence(name, float(one.mean()), None if name != "balance_now" else float(ladder.ceiling.mean()),
                 threshold if name == "balance_now" else None, "ratio")
        for name, one in values.items() if np.isfinite(one.mean())
    )  # fmt: skip


def advice(found: Diagnosis, phases: list[Diagnosis], rules: Collection[str]) -> str:
    """Return what to do by those of the rules that hold, in one text."""
    return "; ".join(one.text for one in advise(found, apart(phases)) if one.rule in rules)


def said_phase(found: Diagnosis) -> str:
    """Return " in prefill" where a phase is told."""
    return f" in {found.loads.phase}" if found.loads.phase and found.loads.phase != "train" else ""


@dataclass(frozen=True)
class Holders:
    """The ranks of one job by the experts that they hold: `cost` is the job, `of` [ranks] the coordinate of each.

    `ratio` [windows, coordinates] is the own work of the ranks with the same experts over that of all others, the
    least of their replicas: above 1 all of them are slower.
    """

    cost: JobCost
    of: Array
    ratio: Array

    def hot(self, slow_ratio: float) -> Array:
        """Return [windows, coordinates]: where ranks with the same experts all need so many times the others' time."""
        found: Array = self.ratio >= slow_ratio
        return found

    def ranks(self, coordinates: Array) -> list[int]:
        """Return the ranks with these coordinates."""
        return sorted(int(rank) for rank in self.cost.rank[np.isin(self.of, coordinates)])


def holders(tables: Frames) -> Iterator[Holders]:
    """Yield the jobs whose ranks hold the same experts in two replicas or more, as live metrics show them."""
    known = costs(tables).jobs if len(tables["windows"]) else {}
    for cost_ in known.values():
        of = _own_work.experts(_own_work.seconds(cost_), tables)
        if (of >= 0).all() and len(np.unique(of)) > 1:
            found = _of_job(cost_, of, _own_work.stages(_own_work.seconds(cost_), tables))
            if found is not None:
                yield found


def _of_job(cost_: JobCost, of: Array, stage: Array) -> Holders | None:
    own = _own_work.seconds(cost_).values
    coordinates = np.unique(of)
    ratios = []
    for one in coordinates:
        parts = []
        for part in np.unique(stage):
            mine, others = (of == one) & (stage == part), (of != one) & (stage == part)
            if mine.sum() < LEAST_REPLICAS or not others.any():
                return None
            parts.append(_least(own[:, mine]) / _middle(own[:, others]))
        ratios.append(np.fmax.reduce(parts))
    return Holders(cost_, of, np.stack(ratios, axis=1))


def _least(values: Array) -> Array:
    return np.asarray(np.where(np.isfinite(values).all(axis=1), values.min(axis=1), np.nan))


def _middle(values: Array) -> Array:
    found = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    found[known] = np.nanmedian(values[known], axis=1)
    return found
