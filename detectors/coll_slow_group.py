"""One communicator transfers more slowly than its siblings that do the same work.

Why it hurts
    Groups of one kind (all data-parallel groups, say) move the same bytes in the same step. The step ends when the
    slowest group has: one bad link or host inside it holds up all others, at every call.

How it is seen
    Groups with the same description and size are siblings. For the same operation and size the time from the last
    arrival to the end, without any waiting for late members, is compared by medians: 1.2 times the siblings' median or
    more, beyond the noise, and worth a few per cent of the step. Needs at least three siblings; with only two it cannot
    be told which one is unusual. Not to be confused with `coll-late-rank`: waiting is not transfer.

What to do
    Validate the group's links pair by pair and its NICs and GPUs; `coll-slow-link` and `coll-slow-endpoint` name the
    place where pair measurements exist. Move the group's members under one switch if they are spread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World
from skewscope.stats.robust import leave_one_out_median, mad

from . import _prices, _worlds

ALIKE = ["description", "size", "op", "message_bytes", "source"]


@dataclass(frozen=True)
class CollSlowGroup:
    """Thresholds: times the siblings' median, share of the step it costs, calls and siblings needed, certainty."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("arrivals", "groups", "step_times")

    slow_ratio: float = 1.2
    lost_share_ratio: float = 0.03
    fewest_calls_count: int = 8
    fewest_siblings_count: int = 3
    sure_sigma_ratio: float = 4.0

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per slow group."""
        whole_s = _prices.step_s(tables)
        kinds = self._kinds(tables)
        if not len(kinds) or not whole_s > 0:
            return
        for group, rows in kinds.groupby("group", sort=True, observed=True):
            usual, own = float((rows["usual"] * rows["per_step"]).sum()), float((rows["own"] * rows["per_step"]).sum())
            noise = float(np.sqrt((rows["error"] ** 2 * rows["per_step"] ** 2).sum()))
            lost_s = (own - usual) / 1e9
            clear = own - usual > self.sure_sigma_ratio * noise
            if own >= self.slow_ratio * usual and lost_s >= self.lost_share_ratio * whole_s and clear:
                siblings = int(rows["siblings"].min())
                yield self._finding(tables, str(group), own / max(usual, 1.0), lost_s, lost_s / whole_s, siblings)

    def _kinds(self, tables: Frames) -> pd.DataFrame:
        """Return per group and kind of call: median transfer `own`, siblings' median `usual`, `error`, calls a step."""
        calls = _calls(tables["arrivals"], tables["groups"])
        keys = [*ALIKE, "group"]
        of_kind = calls.groupby(keys, observed=True, dropna=False)["transfer_ns"]
        kinds = pd.DataFrame({"own": of_kind.median(), "calls": of_kind.size(), "error": of_kind.agg(_error)})
        kinds = kinds[(kinds["calls"] >= self.fewest_calls_count).to_numpy()].reset_index()
        if not len(kinds):
            return kinds
        steps = max(int(calls["step"].nunique()), 1) if (calls["step"] >= 0).any() else len(tables["step_times"])
        same = kinds.groupby(ALIKE, observed=True, dropna=False)["own"]
        kinds["siblings"] = same.transform("size")
        kinds["usual"] = same.transform(lambda own: leave_one_out_median(own.to_numpy()))
        kinds["per_step"] = kinds["calls"] / max(steps, 1)
        related: pd.DataFrame = kinds[(kinds["siblings"] > 1).to_numpy()]
        return related

    def _finding(self, tables: Frames, group: str, ratio: float, lost_s: float, share: float, siblings: int) -> Finding:
        decided = siblings >= self.fewest_siblings_count
        doubt = "" if decided else "; with one sibling it cannot be told which of the two is unusual"
        return Finding(
            "coll-slow-group", subjects.group("job", group), "culprit" if decided else "context",
            _prices.severity(share) if decided else "S4", 0.9 if decided else 0.5, _prices.steps_of(tables),
            lost_s, share,
            (
                _prices.evidence("transfer_over_siblings", ratio, 1.0, self.slow_ratio, "ratio"),
                _prices.evidence("lost_over_step", share, 0.0, self.lost_share_ratio, "ratio"),
            ),
            f"group {group} transfers {ratio:.2f}x as long as its {siblings - 1} sibling(s) for the same calls, "
            f"{_prices.duration(lost_s)} per step{doubt}",
            "validate the links, NICs and GPUs inside the group pair by pair",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return Rule(
            "SkewscopeSlowGroup",
            f'skewscope_finding_lost_share_ratio{{condition="coll-slow-group"}} >= {self.lost_share_ratio:g} '
            'and on (subject) skewscope_finding_active{condition="coll-slow-group"} == 1',
            240, "warning", "{{ $labels.subject }} is slower than its siblings",
            "{{ $labels.subject }} costs {{ $value | humanizePercentage }} of every step",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal groups, a little slower, slow but cheap, one slow of four, one slow of two."""
        slow = frozenset({"job/group:2"})
        yield World("quiet", _worlds.siblings([10, 10, 10, 10]))
        yield World("near-miss", _worlds.siblings([10, 10, 11.5, 10]))
        yield World("cheap", _worlds.siblings([10, 10, 15, 10], step_s=1.0))
        yield World("slow", _worlds.siblings([10, 10, 20, 10]), slow)
        yield World("two", _worlds.siblings([10, 20]), frozenset({"job/group:1"}))
        yield World("unrelated", _worlds.siblings([10, 10, 20, 10], description=""))


def _calls(arrivals: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Return one row per call of a described group: its kind, step and transfer (median of its members), ns."""
    told = groups[(groups["description"] != "").to_numpy()]
    size = told.groupby("group", observed=True)["rank"].nunique()
    size = size.where(size > 0, told.groupby("group", observed=True)["group_size"].max())
    name = told.groupby("group", observed=True)["description"].first().astype(str)
    rows = arrivals[(arrivals["group"].isin(name.index) & (arrivals["members_count"] > 1)).to_numpy()]
    rows = rows[np.isfinite(rows["transfer_ns"].to_numpy()) & ~rows["by_wait"].to_numpy()]
    calls: pd.DataFrame = rows.groupby("call").agg(
        group=("group", "first"), op=("op", "first"), message_bytes=("message_bytes", "max"), step=("step", "max"),
        source=("source", "first"), transfer_ns=("transfer_ns", "median"),
    )  # fmt: skip
    group = calls["group"].astype(str)
    text = {"op": calls["op"].astype(str), "source": calls["source"].astype(str)}
    described: pd.DataFrame = calls.assign(group=group, description=group.map(name), size=group.map(size), **text)
    return described


def _error(values: pd.Series) -> float:
    """Return the standard error of the median of `values`, ns."""
    return float(1.25 * mad(values.to_numpy()) / np.sqrt(len(values)))
