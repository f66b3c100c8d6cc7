"""How ranks are judged on a map: medians, the worst third of the run, and what the map says in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope.reports import wording

from ._chart import main_job
from ._heat import said
from ._kept import Kept
from ._rank_kinds import Kind
from ._rank_maps import RankMap, kinds, rank_map
from ._selection import Selection
from ._view import View

Array = np.ndarray[Any, Any]
SMALL_RATIO = 0.05  # of a step: less than this names nobody, as in the severities
AT_ONCE = 1_000_000  # cells
CLEAR_RATIO = 2.0  # beyond the next: a rank that stands out


@dataclass(frozen=True, eq=False)
class Scores:
    """What is said of each row of a map, [ranks].

    The median, the median of its worst third of the run (the score), the largest value, and the share of columns above
    half of the score; `worst_first` are row numbers.
    """

    median: Array
    score: Array
    most: Array
    hit: Array
    worst_first: list[int]


SCORES = Kept[Scores](24)


def scores(view: View, made: RankMap, selection: Selection) -> Scores:
    """Return the scores of the selected columns; steps that are planned to be long do not count."""
    key = (view.id, made.kind.key, made.job, selection.begin, selection.end, selection.since_ns, selection.until_ns)
    return SCORES.get(key, lambda: _in_pieces(made.values, _judged(view, made, selection)))


def _in_pieces(values: Array, columns: Array) -> Scores:
    """Return the scores of some columns, worked out for a few rows at a time: medians copy what they sort."""
    whole = len(columns) == values.shape[1]
    cut: Any = slice(None) if whole else columns
    high = max(1, AT_ONCE // max(1, len(columns)))
    pieces = [judge(values[at : at + high, cut]) for at in range(0, len(values), high)]
    median, score, most, hit = (
        np.concatenate([getattr(one, name) for one in pieces]) for name in ("median", "score", "most", "hit")
    )
    return Scores(median, score, most, hit, _worst_first(score))


def _judged(view: View, made: RankMap, selection: Selection) -> Array:
    first, last = (selection.since_ns, selection.until_ns) if made.axis == "time" else (selection.begin, selection.end)
    within = (made.columns >= first) & ((made.columns <= last) | (last < 0))
    within = within if within.any() else np.ones(len(made.columns), dtype=bool)
    times = view.tables.get("step_times")
    if made.axis != "step" or times is None or not len(times):
        return np.flatnonzero(within)
    planned = times.loc[times["planned"].to_numpy() & (times["job"].astype(str) == made.job).to_numpy(), "step"]
    judged = within & ~np.isin(made.columns, planned.to_numpy())
    return np.flatnonzero(judged if judged.any() else within)


def judge(values: Array) -> Scores:
    """Return the scores of a matrix [ranks, columns].

    >>> judge(np.array([[0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])).score.tolist()
    [3.0, 1.0]
    """
    median = _medians(values)
    thirds = [part for part in np.array_split(np.arange(values.shape[1]), 3) if len(part)]
    parts = [_medians(values[:, part[0] : part[-1] + 1]) for part in thirds]
    score = np.fmax.reduce(parts) if parts else median
    most = np.fmax.reduce(values, axis=1)
    hit = (values > np.maximum(score / 2, 0)[:, None]).mean(axis=1)
    return Scores(median, score, most, hit, _worst_first(score))


def _worst_first(score: Array) -> list[int]:
    order: list[int] = np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable").tolist()
    return order


def _medians(values: Array) -> Array:
    if np.isfinite(values.sum()):
        return np.median(values, axis=1)
    some = np.isfinite(values).any(axis=1)
    found = np.full(len(values), np.nan)
    found[some] = np.nanmedian(values[some], axis=1)
    return found


def order(view: View, made: RankMap, judged: Scores, selection: Selection) -> Array:
    """Return the rows to draw, in the selected order; only those of a host that is selected without a rank."""
    other = next((kind for kind in kinds(view) if kind.unit and kind.key == selection.order), None)
    if other is not None:
        rows = np.lexsort((made.rank, -_told_by(view, other, made, selection)))
    elif selection.order == "score":
        rows = np.array(judged.worst_first, dtype=np.int64)
    elif selection.order == "rank":
        rows = np.arange(len(made.rank))
    elif selection.order == "stage":
        rows = np.lexsort((made.rank, made.stage))
    else:
        rows = np.lexsort((made.rank, made.node.astype(str)))
    if selection.node and selection.rank < 0:
        rows = rows[made.node[rows] == selection.node]
    return rows


def _told_by(view: View, kind: Kind, made: RankMap, selection: Selection) -> Array:
    """Return the score of each row's rank by another quantity, the least for those that it does not tell of."""
    found = np.full(len(made.rank), -np.inf)
    other = rank_map(view, kind, made.job)
    if other is not None:
        place = {int(rank): at for at, rank in enumerate(other.rank.tolist())}
        by = scores(view, other, selection).score
        for row, rank in enumerate(made.rank.tolist()):
            if rank in place and np.isfinite(by[place[rank]]):
                found[row] = by[place[rank]]
    return found


def verdict(view: View, made: RankMap, judged: Scores, selection: Selection) -> tuple[str, list[int]]:
    """Return what the map says, and the rows to point at: the selected rank, and the worst where one stands out."""
    chosen = np.flatnonzero(made.rank == selection.rank).tolist() if selection.rank >= 0 else []
    worst = judged.worst_first[0]
    score = float(judged.score[worst])
    text, clear = _words(view, made, judged, worst, score)
    if chosen:
        at = chosen[0]
        text = (
            f"Rank {selection.rank}: {said(float(judged.score[at]), made.unit)} {made.kind.means}, place "
            f"{judged.worst_first.index(at) + 1} of {len(made.rank)}. {text}"
        )
    return text, [*chosen, *([worst] if clear and worst not in chosen else [])]


def _words(view: View, made: RankMap, judged: Scores, worst: int, score: float) -> tuple[str, bool]:
    rank = int(made.rank[worst])
    if len(made.rank) < 2:
        return f"Only rank {rank} was recorded, so it cannot be compared with peers.", False
    if not np.isfinite(score):
        return "No rank has a known value in this range.", False
    if made.kind.unit and score < made.kind.small:
        return f"No rank stands out: the most is rank {rank}, {said(score, made.unit)} {made.kind.means}.", False
    usual = 1.0 if made.unit == "share" else (0.0 if made.kind.unit else step_s(view, made.job))
    if usual > 0 and score < SMALL_RATIO * usual and made.kind.judges:
        what = "its time" if made.unit == "share" else "a step"
        return f"No rank stands out: the most is rank {rank} with {wording.share(score / usual)} of {what}.", False
    second = judged.worst_first[1]
    if not made.kind.judges:
        least = judged.worst_first[-1]
        return (
            f"Rank {rank} has the most, {said(score, made.unit)}, and rank {made.rank[least]} the least, "
            f"{said(float(judged.score[least]), made.unit)} {made.kind.means}.",
            False,
        )
    part = f", {wording.share(score / usual)} of a step" if usual > 0 and made.unit == "s" else ""
    text = (
        f"Rank {rank}: {said(score, made.unit)} {made.kind.means}{part}, in {wording.share(float(judged.hit[worst]))} "
        f"of its {'windows' if made.axis == 'time' else made.axis + 's'}; the next, rank {made.rank[second]}, has "
        f"{said(float(judged.score[second]), made.unit)}."
    )
    return text, score > CLEAR_RATIO * max(float(np.nanmedian(judged.score)), 0.0)


def step_s(view: View, job: str = "") -> float:
    """Return the usual length of a step in s; 0 where it is not known."""
    times = view.tables.get("step_times")
    if times is None or not len(times):
        return 0.0
    rows = times[(times["job"].astype(str) == job).to_numpy()] if job else main_job(times)[0]
    usual = float(rows["duration_ns"].median()) / 1e9 if len(rows) else 0.0
    return usual if np.isfinite(usual) else 0.0
