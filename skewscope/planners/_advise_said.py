"""What people read of a ranking of remedies, and its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..plans import Picture
from ._advise_ranking import LEAST_GAIN_RATIO, NOTHING, Ranked, Ranking

Array = np.ndarray[Any, Any]

MOST_WORKERS_DRAWN = 512


def verdict(ranking: Ranking) -> str:
    """Return the best remedy in one sentence, or that nothing is to be done and what came nearest."""
    best = ranking.best
    if best is None:
        open_to = (row for row in ranking.rows if not row.option.refused and row.saved_s > 0)
        near = max(open_to, key=lambda row: row.saved_s, default=None)
        text = f"Do nothing: no remedy saves {LEAST_GAIN_RATIO:.0%} of the step of {ranking.step_s:.4g} s"
        return f"{text}; the best, {near.option.remedy}, would save {_span(near)}." if near else f"{text}."
    title = best.option.remedy
    return (f"{title[0].upper()}{title[1:]}: {_span(best)} saved of a step of {ranking.step_s:.4g} s "
            f"({best.share:.1%}), if {best.option.needs}.")  # fmt: skip


def _span(row: Ranked) -> str:
    return f"{row.saved_s:.3g} s ({row.low_s:.3g} to {row.high_s:.3g} s)"


def steps(ranking: Ranking) -> Iterator[str]:
    """Yield the ranking line by line: the remedy, seconds saved, and what must hold or why it is not to be had."""
    told = False
    for row in ranking.rows:
        if not told and (row.saved_s <= 0 or row.option.refused or (ranking.best is None and not row.pays)):
            told = True
            yield f"{NOTHING}: 0 s"
        if row.option.refused:
            yield f"{row.option.remedy}: {_span(row)}, but {row.option.refused}"
        else:
            how = f" (`skewscope plan {row.option.planner}`)" if row.option.planner != "none" else ""
            yield f"{row.option.remedy}: {_span(row)}{how}; needs: {row.option.needs}"
    if not told:
        yield f"{NOTHING}: 0 s"


def pictures(ranking: Ranking, work_s: Array, names: Sequence[str], unit: str) -> Sequence[Picture]:
    """Return the savings side by side, own work of every worker and round, and the rounds now and with the best."""
    rows = ranking.rows
    titles = [NOTHING, *(row.option.remedy + (" (refused)" if row.option.refused else "") for row in rows)]
    bars = {name: (titles, [0.0, *values]) for name, values in (
        ("saved", [row.saved_s for row in rows]), ("at least", [row.low_s for row in rows]),
        ("at most", [row.high_s for row in rows]))}  # fmt: skip
    lines = {"now": (list(range(len(ranking.today_s))), ranking.today_s.tolist())}
    said = "Nothing to be done."
    if ranking.best is not None:
        then = ranking.best.option.step_s
        lines[ranking.best.option.remedy] = (list(range(len(then))), then.tolist())
        said = f"Mean {ranking.step_s:.3g} s now, {float(then.mean()):.3g} s with {ranking.best.option.remedy}."
    drawn = [
        Picture("bars", "What each remedy saves", verdict(ranking), "remedy", "saved per step, s", bars),
        Picture("lines", "Every recorded round, now and with the best remedy", said, "recorded round", "step time, s",
                lines),
    ]  # fmt: skip
    if len(names) <= MOST_WORKERS_DRAWN:
        middle = float(np.median(work_s))
        drawn.append(Picture(
            "heatmap", "Own work", f"Median {middle:.3g} s, most {float(work_s.max()):.3g} s.", "recorded round", unit,
            {"own work": work_s.T.tolist()}, z="own work, s", middle=middle,
        ))  # fmt: skip
    return tuple(drawn)
