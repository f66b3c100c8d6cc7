"""One shard of a tensor-parallel group is late in nearly every layer.

Why it hurts
    Tensor parallelism meets several times in each layer. A shard that is a little late each time delays the group
    hundreds of times per step, and through it every group that it feeds.

How it is seen
    In groups that meet many times per step, the same rank arrives last at half of the calls or more, in at least 80 %
    of the positions within the step, and its lateness adds up to a notable share of the step. Not to be confused with
    `coll-late-rank`, the same rule for whole steps: where both hold, that room names the rank and this one says that
    the delay arises inside the tensor-parallel group.

What to do
    Look at the GPU of the shard and its NVLink or PCIe path; swap the rank to another device, or exclude the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World
from skewscope.frames import frame

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class TpStraggler:
    """Thresholds: meetings per step that make a group tensor-parallel-like, how often last, where, and the cost."""

    category: ClassVar[str] = "tensor"
    needs: ClassVar[tuple[str, ...]] = ("arrivals", "groups", "step_times")

    calls_per_step_count: float = 4.0
    largest_group_count: int = 64
    last_share_ratio: float = 0.5
    pair_last_share_ratio: float = 0.9
    positions_share_ratio: float = 0.8
    lost_share_ratio: float = 0.05

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per group whose calls wait for one and the same rank."""
        step_s = _prices.step_s(tables)
        calls = tables["arrivals"]
        tensor = _tensor_groups(tables, self.calls_per_step_count, self.largest_group_count)
        calls = calls[(calls["group"].isin(tensor) & (calls["members_count"] > 1) & (calls["step"] >= 0)).to_numpy()]
        if not len(calls) or not step_s > 0:
            return
        for group, part in calls.groupby("group", observed=True):
            yield from self._in_group(str(group), part, step_s, tables)

    def _in_group(self, group: str, part: pd.DataFrame, step_s: float, tables: Frames) -> Iterable[Finding]:
        share = part.groupby("rank")["last"].mean()
        rank = int(str(share.idxmax()))
        mine = part[(part["rank"] == rank).to_numpy()]
        position = mine.sort_values("ready_ns").groupby("step").cumcount()
        spread = float((mine["last"].groupby(position).mean() >= self.last_share_ratio).mean())
        others_wait = part[(part["rank"] != rank).to_numpy()].groupby("call")["wait_ns"].max()
        late = others_wait[mine.loc[mine["last"].to_numpy(), "call"]].sum() / max(mine["step"].nunique(), 1) / 1e9
        lost = float(late) / step_s
        least = self.last_share_ratio if len(share) > 2 else self.pair_last_share_ratio
        if share.max() < least or spread < self.positions_share_ratio or lost < self.lost_share_ratio:
            return
        yield Finding(
            condition="tp-straggler", subject=subjects.rank("job", rank),
            role="culprit" if len(share) > 2 else "context", severity=_prices.severity(lost), confidence=0.9,
            window=_prices.steps_of(tables), lost_s=float(late), lost_share=lost,
            evidence=(
                _prices.evidence("last_arriver_share", share.max(), 1.0 / len(share), self.last_share_ratio, "ratio"),
                _prices.evidence("positions_where_last", spread, 0.0, self.positions_share_ratio, "ratio"),
            ),
            summary=f"rank {rank} arrives last at {share.max():.0%} of the calls of group {group}, "
            f"{_prices.duration(float(late))} per step",
            advice=f"check the GPU and NVLink or PCIe path of rank {rank}; swap or exclude it",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "tp-straggler", self.lost_share_ratio, 240, "warning", "{{ $labels.subject }} is late in every layer"
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: nobody late, late in a few layers only, late in every layer."""
        yield World("quiet", _layers(late_ns=0, layers=0))
        yield World("near-miss", _layers(late_ns=20_000_000, layers=5))
        yield World("late", _layers(late_ns=20_000_000, layers=12), frozenset({"job/rank2"}))


def _tensor_groups(tables: Frames, calls_per_step: float, largest: int) -> list[str]:
    """Return groups that are tensor-parallel by name, or by meeting often in a group smaller than the job."""
    groups = tables["groups"]
    named = groups.loc[groups["description"].astype(str).str.contains(r"(?:^|_)tp|tensor", case=False), "group"]
    if len(named):
        return sorted({str(name) for name in named})
    calls = tables["arrivals"]
    judged = calls[((calls["step"] >= 0) & (calls["members_count"] > 2)).to_numpy()]
    if not len(judged):
        return []
    per_step = (
        judged.groupby("group", observed=True)["call"].nunique()
        / judged.groupby("group", observed=True)["step"].nunique()
    )
    size = judged.groupby("group", observed=True)["members_count"].max()
    world = calls["rank"].nunique()
    return [
        str(name) for name in per_step.index if per_step[name] >= calls_per_step and size[name] < min(world, largest)
    ]


def _layers(late_ns: int, layers: int) -> dict[str, pd.DataFrame]:
    """Return a world in which rank 2 of a group of 4 is late in the first `layers` of 12 layers of each step."""
    tables = _priced_worlds.priced()
    calls = np.arange(12 * _priced_worlds.STEPS)
    call, rank = np.repeat(calls, 4), np.tile(np.arange(4), len(calls))
    is_late = (rank == 2) & (call % 12 < layers) & (late_ns > 0)
    anybody = np.repeat((calls % 12 < layers) & (late_ns > 0), 4)
    start = call * (_priced_worlds.STEP_NS // 12)
    arrivals = frame("arrivals", {
        "job": "job", "step": call // 12, "rank": rank, "group": "tp0", "group_size": 4, "seq": call,
        "op": "all_reduce", "call": call, "members_count": 4, "ready_ns": start + is_late * late_ns,
        "late_ns": is_late * float(late_ns), "wait_ns": np.where(anybody & ~is_late, late_ns, 0).astype(float),
        "transfer_ns": 1e6, "last": is_late, "by_wait": False,
    })  # fmt: skip
    groups = frame(
        "groups", {"job": "job", "group": "tp0", "rank": range(4), "description": "mesh_tp", "group_size": 4}
    )
    return {**tables, "arrivals": arrivals, "groups": groups}
