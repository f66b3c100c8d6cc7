"""Who is late at collectives: the spread of each rank's lateness."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording

from ._chart import BLUE, Chart, Tables, empty, layout, main_job, scale

MOST_RANKS = 40
TITLE = "Arrival at collectives, against the other members"
FAR = 0.2  # share of calls beyond an even one from which a rank is named
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def arrivals(tables: Tables) -> Chart:
    """Return a box per rank of its lateness over all collectives (5, 25, 50, 75 and 95 % points)."""
    rows = tables.get("arrivals", pd.DataFrame())
    if len(rows):
        rows = rows[np.isfinite(rows["late_ns"])]
    if not len(rows):
        return empty("arrivals", TITLE, "no collective was matched over several ranks")
    rows, note = main_job(rows)
    groups = rows.assign(fair=1 / rows["members_count"].clip(lower=1)).groupby("rank")
    spread = groups["late_ns"].quantile(np.array(QUANTILES)).unstack() / 1e9
    spread["last"], spread["calls"], spread["late"] = groups["last"].mean(), groups.size(), spread[0.5]
    spread["fair"] = groups["fair"].mean()
    shown, said = _shown(spread)
    if rows["by_wait"].any():
        note += " No common clock: lateness of some calls is derived from their shortest duration."
    unit, factor = scale(float(np.abs(shown[list(QUANTILES)].to_numpy()).max()))
    low, first, middle, third, high = (list(shown[point] * factor) for point in QUANTILES)
    figure = go.Figure(
        go.Box(
            x=[str(rank) for rank in shown.index], lowerfence=low, q1=first, median=middle, q3=third, upperfence=high,
            name="lateness", marker={"color": BLUE}, showlegend=False,
        )
    )  # fmt: skip
    layout(figure, "rank", f"lateness ({unit}), above 0 = late").update_xaxes(type="category")
    return Chart("arrivals", TITLE, _verdict(spread), figure, *_table(spread), f"{said} {note}".strip())


def _shown(spread: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if len(spread) <= MOST_RANKS:
        return spread, ""
    latest = spread.sort_values(["late", "last"], ascending=False)
    kept = pd.concat([latest.head(MOST_RANKS - 8), latest.tail(8)])
    return kept, f"The {MOST_RANKS - 8} latest and the 8 earliest of {len(spread)} ranks are drawn."


def _verdict(spread: pd.DataFrame) -> str:
    if len(spread) < 2:
        return "Only one rank was recorded: nobody to compare with."
    beyond = (spread["last"] - spread["fair"]).to_numpy()
    place = int(np.argmax(beyond))
    rank, share, late = spread.index[place], _value(spread, "last", place), _value(spread, 0.5, place)
    fair = wording.share(_value(spread, "fair", place))
    if beyond[place] < FAR:
        return (
            f"Arrivals are even: rank {rank} is last in {wording.share(share)} of its calls, an even share is {fair}."
        )
    alike = (beyond > beyond[place] - FAR / 4) & (spread["late"].to_numpy() > late / 2)
    like = int(alike.sum()) - 1
    others = f" So are {like} other ranks: look at what they share (stage, host)." if like else ""
    return (
        f"Rank {rank} is last in {wording.share(share)} of its calls (an even share is {fair}), "
        f"at the median {wording.seconds(late)} after the others.{others}"
    )


def _value(spread: pd.DataFrame, column: object, place: int) -> float:
    return float(spread[column].to_numpy(dtype=float)[place])


def _table(spread: pd.DataFrame) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    worst = spread.sort_values(["last", "late"], ascending=False).head(10)
    rows = tuple(
        (
            str(rank), f"{int(_value(worst, 'calls', place)):,}", wording.share(_value(worst, "last", place)),
            wording.share(_value(worst, "fair", place)),
            wording.seconds(_value(worst, 0.5, place)), wording.seconds(_value(worst, 0.95, place)),
        )
        for place, rank in enumerate(worst.index)
    )  # fmt: skip
    return ("rank", "calls", "last in", "even share", "median late", "95 % late"), rows
