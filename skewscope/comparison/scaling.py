"""How a job scales over runs with different numbers of ranks: efficiency, what grows, and the laws that fit.

Strong scaling shares one amount of work among more ranks, weak scaling gives every rank the same amount. Efficiency is
work per rank and second against the run with the fewest ranks. Serial shares: G. Amdahl, 1967 (strong);
J. Gustafson, 1988 (weak); contention and coherency: N. Gunther's Universal Scalability Law, 2007.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from ..plans import plain
from ..reports import wording
from ..stats.bootstrap import interval
from . import laws, parts, samples
from .run import Run

Array = np.ndarray[Any, Any]
Document = dict[str, Any]
Record = dict[str, Any]

SCHEMA = "skewscope.scaling/1"
MODES = ("strong", "weak")
EQUAL_RATIO = 0.1  # so much may the work of two runs differ and still be called the same
POINTS_FOR_INTERVAL = 4
GROWN_RATIO = 0.01  # of the step: parts that grow by less are not named


@dataclass(frozen=True)
class Point:
    """One run: ranks, its steps, tokens of a step of the whole job (NaN: unknown), mean seconds of each part."""

    name: str
    ranks: int
    step_s: Array
    tokens: float
    parts_s: Mapping[str, float]

    @property
    def median_s(self) -> float:
        """The median step in s."""
        return float(np.median(self.step_s))


def point(run: Run) -> Point:
    """Return what scaling asks of a run; raises UsageError where it tells no steps."""
    if not len(run.step_s):
        raise UsageError(f"{run.name} tells no steps, so nothing can be said of how it scales; record step marks")
    world = max(int(run.report["job"]["ranks"] or 0), run.ranks)
    split = parts.seconds_per_step(run)
    seconds = {name: float(split[name].mean()) for name in parts.PARTS if len(split) and split[name].notna().any()}
    return Point(run.name, world, run.step_s, _tokens(run, world), seconds)


def _tokens(run: Run, world: int) -> float:
    """Return the tokens of one step of the whole job, by the ranks that were recorded; NaN where none tells."""
    rows = run.table("steps")
    if not len(rows):
        return float("nan")
    whole = rows[(rows["phase"] == "step").to_numpy() & (rows["work_tokens"] > 0).to_numpy()]
    if not len(whole):
        return float("nan")
    each = whole.groupby(["step", "rank"])["work_tokens"].sum()
    return float(each.groupby("step").mean().median()) * world


def scaling(runs: Sequence[Run], mode: str = "", seed: int = 0) -> Document:
    """Return the `skewscope.scaling/1` document of two or more runs; `mode` "" finds out whether weak or strong.

    Raises UsageError for fewer than two sizes, for runs without steps, and where nothing tells the mode.
    """
    points = sorted((point(run) for run in runs), key=lambda one: (one.ranks, one.name))
    if len({one.ranks for one in points}) < 2:
        raise UsageError(f"all runs have {points[0].ranks} ranks; scaling wants runs of different sizes "
                         "(`skewscope compare` is for two of the same)")  # fmt: skip
    told, why = (mode, "as asked") if mode else found_mode(points)
    if not told:
        raise UsageError(f"{why}: say --mode strong (one amount of work for all) or weak (the same for every rank)")
    work = _work(points, told)
    efficiency = _efficiency(points, work)
    fits = _fits(points, work, told, seed)
    grown = growth(points, work)
    made: Document = {
        "schema": SCHEMA, "mode": told, "mode_from": why,
        "unit": "tokens" if np.isfinite([one.tokens for one in points]).all() else "work of the smallest run",
        "runs": [_record(one, amount, share) for one, amount, share in zip(points, work, efficiency, strict=True)],
        "fits": fits, "growth": grown, "verdict": _verdict(points, efficiency, told, fits, grown),
        "notes": _notes(points),
    }  # fmt: skip
    document: Document = plain(made)
    return document


def found_mode(points: Sequence[Point]) -> tuple[str, str]:
    """Return "strong", "weak" or "" and by what it was told: tokens of a step, else the compute of a rank."""
    ranks = np.array([one.ranks for one in points], dtype=float)
    tokens = np.array([one.tokens for one in points])
    if np.isfinite(tokens).all():
        if np.ptp(tokens) <= EQUAL_RATIO * tokens.min():
            return "strong", "every run computes as many tokens in a step"
        each = tokens / ranks
        if np.ptp(each) <= EQUAL_RATIO * each.min():
            return "weak", "every rank computes as many tokens in a step"
        return "weak", "tokens differ in the whole and per rank: efficiency is tokens per rank and second"
    compute = np.array([one.parts_s.get("compute", np.nan) for one in points])
    if not np.isfinite(compute).all() or not (compute > 0).all():
        return "", "no run tells its tokens, and not all their compute"
    span = np.log(ranks[-1] / ranks[0])
    slope = float(np.log(compute[-1] / compute[0]) / span)
    if slope < -0.6:
        return "strong", f"compute per rank falls with the ranks (to the power {slope:.2f})"
    if abs(slope) < 0.25:
        return "weak", f"compute per rank stays as it is (power {slope:.2f})"
    return (
        "",
        f"compute per rank goes with the ranks to the power {slope:.2f}, neither strong (-1) nor weak (0) scaling",
    )


def _work(points: Sequence[Point], mode: str) -> Array:
    """Return the work of a step of each run, in tokens, else in units of the smallest run's."""
    tokens = np.array([one.tokens for one in points])
    if np.isfinite(tokens).all():
        return tokens
    if mode == "strong":
        return np.ones(len(points))
    return np.array([one.ranks / points[0].ranks for one in points])


def _efficiency(points: Sequence[Point], work: Array) -> Array:
    rate = work / np.array([one.median_s * one.ranks for one in points])
    return np.asarray(rate / rate[0])


def _record(one: Point, work: float, efficiency: float) -> Record:
    low, high = interval(samples.drawn_medians(one.step_s, seed=one.ranks), samples.LEVEL_RATIO)
    return {
        "name": one.name, "ranks": one.ranks, "steps": len(one.step_s), "step_s": one.median_s, "step_low_s": low,
        "step_high_s": high, "tokens": one.tokens, "throughput_per_s": work / one.median_s,
        "throughput_per_rank_per_s": work / one.median_s / one.ranks, "efficiency": efficiency,
        "parts_s": dict(one.parts_s),
    }  # fmt: skip


def _fits(points: Sequence[Point], work: Array, mode: str, seed: int) -> list[Record]:
    """Return a record for each law: its parameters with intervals (None below four sizes) and how far it is off."""
    ranks = np.array([one.ranks for one in points], dtype=float)
    step_s = np.array([one.median_s for one in points])
    drawn = np.array(
        [samples.drawn_medians(one.step_s, laws.DRAWS, seed + place) for place, one in enumerate(points)]
    ).T
    sizes = len(np.unique(ranks))
    made = []
    for law in laws.LAWS[mode]:
        if sizes < law.least_points:
            continue
        best = law.fit(ranks, work / step_s)
        ends = laws.intervals(law, ranks, work[None, :] / drawn, seed) if sizes >= POINTS_FOR_INTERVAL else {}
        made.append({
            "law": law.name,
            "parameters": {
                name: {"value": value, "low": ends.get(name, (None, None))[0], "high": ends.get(name, (None, None))[1]}
                for name, value in best.items()
            },
            "error": laws.error(law, best, ranks, work / step_s), "limit": law.limit(best),
        })  # fmt: skip
    return made


def growth(points: Sequence[Point], work: Array) -> list[Record]:
    """Return what the largest run spends beyond perfect scaling, by part, in s per step and rank; most first.

    Perfect is the smallest run's part for the same work per rank.
    """
    first, last = points[0], points[-1]
    if not first.parts_s or not last.parts_s:
        return []
    ideal = (work[-1] / last.ranks) / (work[0] / first.ranks)
    made = [
        {"part": name, "first_s": first.parts_s.get(name, 0.0), "last_s": seconds,
         "beyond_s": seconds - ideal * first.parts_s.get(name, 0.0)}
        for name, seconds in last.parts_s.items()
    ]  # fmt: skip
    return sorted(made, key=lambda one: -one["beyond_s"])


def _verdict(
    points: Sequence[Point], efficiency: Array, mode: str, fits: Sequence[Record], grown: Sequence[Record]
) -> str:
    first, last = points[0], points[-1]
    said = (f"{mode.capitalize()} scaling from {first.ranks} to {last.ranks} ranks keeps "
            f"{wording.share(efficiency[-1])} of the throughput per rank (step {wording.seconds(first.median_s)} to "
            f"{wording.seconds(last.median_s)}).")  # fmt: skip
    if grown and grown[0]["beyond_s"] > GROWN_RATIO * last.median_s:
        most = grown[0]
        said += (f" What grows most is {parts.SAID[most['part']]}: {wording.seconds(most['beyond_s'])} per step beyond "
                 "perfect scaling.")  # fmt: skip
    serial = next((fit["parameters"]["serial_share"] for fit in fits if "serial_share" in fit["parameters"]), None)
    if serial is not None:
        ends = "" if serial["low"] is None else f" ({wording.share(serial['low'])} to {wording.share(serial['high'])})"
        said += f" The serial share is {wording.share(serial['value'])}{ends}."
    return said


def _notes(points: Sequence[Point]) -> list[str]:
    said = []
    if len({one.ranks for one in points}) < POINTS_FOR_INTERVAL:
        said.append(
            f"Fewer than {POINTS_FOR_INTERVAL} sizes: laws are fitted as far as they can be, without intervals."
        )
    if not np.isfinite([one.tokens for one in points]).all():
        said.append("Not all runs tell their tokens, so efficiency is by step time alone.")
    few = [one.name for one in points if len(one.step_s) < 4]
    if few:
        said.append(f"Fewer than 4 steps in {', '.join(few)}: their medians are not sure.")
    return said
