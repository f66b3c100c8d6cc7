"""How much work is too short for its launch, and what could merging kernels or CUDA graphs save at most?

A kernel is short below `short_below_s`. It is *launch-bound* when the device was free before it and waited for its
launch call: that idle time is the most that launching faster (CUDA graphs, fewer and larger kernels) can save.
Between kernels that were queued in time there is a gap as well, a microsecond or two, which merging saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..stats import intervals
from . import _device_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ShortKernels:
    """View of short kernels, those below `short_below_s` (10 us: two to three times what a launch costs the host).

    Idle time of more than `gap_below_s` before a kernel has another cause than launching and is not counted.
    """

    needs: ClassVar[tuple[str, ...]] = ("device_work",)
    short_below_s: float = 10e-6
    gap_below_s: float = 100e-6
    rows_count: int = 500

    def show(self, tables: Frames) -> Shown:
        """Return how much is short and launch-bound by rank and by kernel, and how lengths are spread."""
        work = _device_rows.work(tables, ("kernel",))
        every = _device_rows.work(tables)
        made = self._made(work, every)
        by_rank, by_name = _grouped(made, "rank"), _grouped(made, "name")
        by_rank["device_span_s"] = [_span(every, rank) for rank in by_rank["rank"]]
        by_rank["savable_ratio"] = (by_rank["launch_gap_s"] + by_rank["queued_gap_s"]) / by_rank["device_span_s"]
        found = {
            "by_rank": by_rank.sort_values("rank", ignore_index=True),
            "by_name": by_name.head(self.rows_count),
            "lengths": _lengths(made),
        }
        return Shown(
            found,
            self._said(by_rank, by_name),
            _notes(work),
            (
                Picture("lengths", "bars", "Kernels by length", "below_s", "kernels_count"),
                Picture("by_name", "bars", "Idle time before short kernels", "name", "launch_gap_s"),
            ),
        )

    def _made(self, work: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
        """Return one row per kernel: its length, the idle time before it, and whether its launch was late."""
        rank, start = work["rank"].to_numpy().astype(np.int64), work["start_ns"].to_numpy()
        holes = intervals.gaps(_device_rows.busy(every))
        place = intervals.position(holes.lane, holes.end, rank, start)
        safe = np.minimum(place, max(len(holes.lane) - 1, 0))
        hit = (
            (place < len(holes.lane)) & (holes.lane[safe] == rank) & (holes.end[safe] == start)
            if len(holes.lane)
            else False
        )
        begin = np.where(hit, holes.start[safe], start) if len(holes.lane) else start
        gap = start - begin
        launch = work["launch_ns"].to_numpy()
        late = (gap > 0) & (launch >= begin)
        counted = np.where(gap <= self.gap_below_s * 1e9, gap, 0) / 1e9
        call = work["launch_end_ns"].to_numpy() - launch
        length = work["length_ns"].to_numpy() / 1e9
        return pd.DataFrame(
            {
                "rank": rank,
                "name": work["name"].astype(object).to_numpy(),
                "length_s": length,
                "short": length < self.short_below_s,
                "late": late,
                "launch_gap_s": np.where(late, counted, 0.0),
                "queued_gap_s": np.where(late, 0.0, counted),
                "below_launch": (launch >= 0) & (call > 0) & (length * 1e9 < call),
            }
        )

    def _said(self, by_rank: pd.DataFrame, by_name: pd.DataFrame) -> tuple[str, ...]:
        count, short, late = (int(by_rank[key].sum()) for key in ("kernels_count", "short_count", "launch_bound_count"))
        time, gap, queued = (float(by_rank[key].sum()) for key in ("short_s", "launch_gap_s", "queued_gap_s"))
        whole, span = float(by_rank["device_s"].sum()), float(by_rank["device_span_s"].sum())
        told = [
            f"{_device_rows.share(short, count):.0%} of {count} kernels take less than "
            f"{self.short_below_s * 1e6:g} us, in all {_device_rows.share(time, whole):.0%} of kernel time.",
            f"{_device_rows.share(late, count):.0%} of kernels found the device free and waited for their launch: "
            f"CUDA graphs or fewer launches save at most {gap * 1e3:.4g} ms, {_device_rows.share(gap, span):.1%} of "
            f"the devices' span; merging queued kernels at most {queued * 1e3:.4g} ms more.",
        ]
        top = by_name[by_name["launch_gap_s"] > 0].sort_values("launch_gap_s", ascending=False, kind="stable").head(1)
        for name, lost, calls in zip(top["name"], top["launch_gap_s"], top["launch_bound_count"], strict=True):
            told.append(f"Most is lost before {_device_rows.short(name)}: {lost * 1e3:.4g} ms before {calls} launches.")
        return tuple(told)


def _grouped(made: pd.DataFrame, key: str) -> pd.DataFrame:
    made = made.assign(short_s=made["length_s"].where(made["short"], 0.0))
    groups = made.groupby(key, sort=False)
    found = groups.agg(
        kernels_count=("length_s", "size"),
        device_s=("length_s", "sum"),
        short_count=("short", "sum"),
        short_s=("short_s", "sum"),
        below_launch_count=("below_launch", "sum"),
        launch_bound_count=("late", "sum"),
        launch_gap_s=("launch_gap_s", "sum"),
        queued_gap_s=("queued_gap_s", "sum"),
        median_s=("length_s", "median"),
    ).reset_index()
    found["short_ratio"] = found["short_count"] / found["kernels_count"]
    found["launch_bound_ratio"] = found["launch_bound_count"] / found["kernels_count"]
    return found.sort_values(
        ["launch_gap_s", "short_s", key], ascending=[False, False, True], kind="stable", ignore_index=True
    )


def _span(work: pd.DataFrame, rank: int) -> float:
    mine = work[(work["rank"] == rank).to_numpy()]
    return float(mine["end_ns"].max() - mine["start_ns"].min()) / 1e9


def _lengths(made: pd.DataFrame) -> pd.DataFrame:
    """Return how many kernels, and how much of their time, lie below each length (two steps per decade)."""
    edges = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, np.inf]) * 1e-6
    place = np.searchsorted(edges, made["length_s"].to_numpy(), side="right")
    count = np.bincount(place, minlength=len(edges))
    time = np.bincount(place, weights=made["length_s"].to_numpy(), minlength=len(edges))
    return pd.DataFrame({"below_s": edges, "kernels_count": count, "device_s": time})


def _notes(work: pd.DataFrame) -> tuple[str, ...]:
    unknown = float((work["launch_ns"] < 0).mean())
    return (
        (f"{unknown:.0%} of the kernels have no recorded launch: whether they were launch-bound is not known.",)
        if unknown
        else ()
    )
