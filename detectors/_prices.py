"""What the rooms that read the price list share: severity by share, windows, and rows of `blame`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Evidence, Frames, Rule, Window
from skewscope.stats.robust import binomial_tail

SEVERE_SHARE = 0.20  # conditions: S2 from a fifth of the step, S3 from a twentieth
NOTABLE_SHARE = 0.05


def severity(lost_share: float) -> str:
    """Return the severity of a loss by its share of the step.

    >>> severity(0.25), severity(0.1), severity(0.01)
    ('S2', 'S3', 'S4')
    """
    if lost_share >= SEVERE_SHARE:
        return "S2"
    return "S3" if lost_share >= NOTABLE_SHARE else "S4"


@dataclass(frozen=True)
class Price:
    """One row of `blame`, typed; names as in the table."""

    rank: int
    stage: int
    cause: str
    lost_s: float
    lost_share_ratio: float
    rate_ratio: float
    steps_count: int
    hit_share_ratio: float
    confidence_ratio: float
    peers_count: int
    window: Window


def prices(tables: Frames, kind: str, *causes: str) -> list[Price]:
    """Return the rows of `blame` of one kind and any of the causes, dearest first."""
    blame = tables["blame"]
    found = blame[((blame["kind"] == kind) & blame["cause"].isin(causes)).to_numpy()]
    found = found.sort_values("lost_s", ascending=False, kind="stable")
    return [_price(row) for row in found.to_dict("records")]


def _price(row: Mapping[Hashable, Any]) -> Price:
    return Price(
        int(row["rank"]), int(row["stage"]), str(row["cause"]), float(row["lost_s"]), float(row["lost_share_ratio"]),
        float(row["rate_ratio"]), int(row["steps_count"]), float(row["hit_share_ratio"]),
        float(row["confidence_ratio"]), int(row["peers_count"]),
        Window(int(row["start_ns"]), int(row["end_ns"]), int(row["first_step"]), int(row["last_step"])),
    )  # fmt: skip


def lost(tables: Frames, kind: str, cause: str, rank: int = -1) -> float:
    """Return the seconds per step of one row of `blame`, 0 where it is not there."""
    blame = tables["blame"]
    found = blame[((blame["kind"] == kind) & (blame["cause"] == cause) & (blame["rank"] == rank)).to_numpy()]
    return float(found["lost_s"].iloc[0]) if len(found) else 0.0


def steps_of(tables: Frames) -> Window:
    """Return the window of all measured steps."""
    times = tables["step_times"]
    if not len(times):
        return Window()
    ends = times["start_ns"] + times["duration_ns"].fillna(0).astype("int64")
    return Window(int(times["start_ns"].min()), int(ends.max()), int(times["step"].min()), int(times["step"].max()))


def step_s(tables: Frames) -> float:
    """Return the mean step time in seconds, NaN where none is measured."""
    times = tables["step_times"]
    judged = times[~times["planned"].to_numpy()]
    return float(judged["duration_ns"].mean()) / 1e9 if len(judged) else float("nan")


def evidence(signal: str, value: float, baseline: float | None, threshold: float | None, unit: str) -> Evidence:
    """Return one piece of evidence with plain floats.

    >>> evidence("rate", np.float64(1.5), 1.0, 1.1, "ratio").value
    1.5
    """
    return Evidence(signal, float(value), baseline, threshold, unit)


def duration(seconds: float) -> str:
    """Return a duration as people read it.

    >>> duration(0.0468), duration(2.3216), duration(23.1)
    ('46.8 ms', '2.32 s', '23.1 s')
    """
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def lateness(tables: Frames, rank: int) -> tuple[float, float, int]:
    """Return (share of calls at which the rank arrived last, its median lateness in s, calls) over judged arrivals."""
    judged = judged_arrivals(tables)
    mine = judged[(judged["rank"] == rank).to_numpy()]
    if not len(mine):
        return float("nan"), float("nan"), 0
    return float(mine["last"].mean()), float(np.nanmedian(mine["late_ns"].to_numpy())) / 1e9, len(mine)


def judged_arrivals(tables: Frames) -> pd.DataFrame:
    """Return the arrivals at calls of three members or more, of the recorder that noted most of them."""
    arrivals = tables["arrivals"]
    judged = arrivals[(arrivals["members_count"] > 2).to_numpy()]
    if not len(judged):
        return judged
    return judged[(judged["source"] == judged["source"].value_counts().idxmax()).to_numpy()]


@dataclass(frozen=True)
class LastArriver:
    """The rank that arrives last most often: how often, in how many calls and steps, and what the others wait in all.

    `steps_count` is 0 where the recording has no steps.
    """

    rank: int
    share_ratio: float
    calls_count: int
    steps_count: int
    peers_count: int
    waited_s: float
    confidence_ratio: float


def last_arrivers(tables: Frames) -> LastArriver | None:
    """Return the rank that arrives last most often, None where nobody can be judged.

    What the others wait is their median wait, summed over the calls at which the rank was last.
    """
    judged = judged_arrivals(tables)
    if not len(judged):
        return None
    calls = judged.groupby("rank")["last"].agg(["mean", "sum", "size"])
    rank = int(str(calls["sum"].idxmax()))
    mine = judged[((judged["rank"] == rank) & judged["last"]).to_numpy()]
    others = judged[((judged["rank"] != rank) & judged["call"].isin(mine["call"])).to_numpy()]
    waited = others.groupby("call")["wait_ns"].median().sum() / 1e9
    steps = int(judged.loc[(judged["step"] >= 0).to_numpy(), "step"].nunique())
    count, hits = len(judged[(judged["rank"] == rank).to_numpy()]), len(mine)
    chance = binomial_tail(hits, count, 1.0 / len(calls)) * len(calls) if len(calls) > 1 else 1.0
    return LastArriver(rank, hits / count, count, steps, len(calls) - 1, float(waited), max(0.0, 1.0 - chance))


def lost_share_alert(condition: str, lost_share: float, for_s: int, severity: str, summary: str) -> Rule:
    """Return the alert of a room that prices its condition: the finding is active and costs at least `lost_share`.

    >>> lost_share_alert("coll-late-rank", 0.05, 240, "warning", "late").alert
    'SkewscopeCollLateRank'
    """
    name = "".join(part.capitalize() for part in condition.split("-"))
    return Rule(
        f"Skewscope{name}",
        f'skewscope_finding_lost_share_ratio{{condition="{condition}"}} >= {lost_share:g} and on (subject) '
        f'skewscope_finding_active{{condition="{condition}"}} == 1',
        for_s, severity, summary,
        "{{ $labels.subject }} costs {{ $value | humanizePercentage }} of every step",
    )  # fmt: skip
