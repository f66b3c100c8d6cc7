"""How does the host launch work: how long do the calls take, how long until the device starts, what is too short?

The delay runs from the return of the launch call to the start on the device, never below 0 (from the beginning of the
call where its end is not recorded). A *short* kernel runs for less time than its launch call took: the host cannot
keep the device busy with such. Thresholds are those of HolisticTraceAnalysis' launch statistics: calls above 50 us and
delays above 100 us count as outliers. The call that starts a graph counts once, for its first kernel. Long delays are
no fault by themselves: a full queue is what keeps a device busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import segments

from ._launched import DEVICE, Array, launched
from ._needed import largest

BINS_US = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Launches:
    """The view; calls above `runtime_cutoff_us` and delays above `delay_cutoff_us` are outliers."""

    runtime_cutoff_us: float = 50.0
    delay_cutoff_us: float = 100.0
    needs: ClassVar[tuple[str, ...]] = ("ops",)

    def show(self, tables: Frames) -> Shown:
        """Return launch statistics of each rank and kind, and the spread of delays; raises NoData without launches."""
        work = launched(tables)
        rows = work.known()
        if not len(rows):
            raise NoData("no launches in the recording; record the CUDA runtime's calls (the PyTorch profiler does)")
        order = rows[segments.ordered(work.rank[rows], work.of_kind[rows])]
        rank, kind, start, launch = (part[order] for part in (work.rank, work.of_kind, work.start, work.launch))
        told = work.launch_end[order] >= launch
        returned = np.where(told, work.launch_end[order], launch)
        call_s = np.where(told & _first(rank, launch), (returned - launch) / 1e9, np.nan)
        work_s = (work.end[order] - start) / 1e9
        delay_s = np.maximum(start - returned, 0) / 1e9
        by_rank = self._table({"rank": rank}, call_s, work_s, delay_s)
        by_kind = self._table({"rank": rank, "kind": kind}, call_s, work_s, delay_s)
        by_kind["kind"] = np.array(DEVICE)[by_kind["kind"]]
        delays = _spread(rank, delay_s)
        notes = work.notes
        if not told.any():
            notes = (*notes, "The ends of launch calls are not recorded: short kernels and slow calls are unknown, and "
                     "delays run from the beginning of the call.")  # fmt: skip
        pictures = (Picture("delays", "lines", "Delays from launch to start", "up_to_s", "launches_count", "rank"),)
        found = {"ranks": by_rank, "kinds": by_kind, "delays": delays}
        return Shown(found, _said(by_rank), notes, pictures)

    def _table(self, keys: dict[str, Array], call_s: Array, work_s: Array, delay_s: Array) -> pd.DataFrame:
        over = segments.runs(*keys.values())
        known = np.isfinite(call_s)
        unknown = segments.total(known.astype(float), over) == 0

        def counted(mask: Array) -> Array:
            return np.where(unknown, np.nan, segments.total(mask.astype(float), over))

        slow, cut_s = self.runtime_cutoff_us / 1e6, self.delay_cutoff_us / 1e6
        total = segments.total(np.where(known, call_s, 0.0), over)
        return pd.DataFrame(
            {
                **{name: key[over.first] for name, key in keys.items()},
                "launches_count": over.size,
                "launch_total_s": np.where(unknown, np.nan, total),
                "launch_median_s": segments.median(call_s, over),
                "delay_median_s": segments.median(delay_s, over),
                "delay_total_s": segments.total(delay_s, over),
                "delay_max_s": segments.maximum(delay_s, over),
                "slow_calls_count": counted(call_s > slow),
                "long_delays_count": segments.total(delay_s > cut_s + 1e-12, over),
                "short_kernels_count": counted((work_s < call_s) & (call_s <= slow)),
                "work_median_s": segments.median(work_s, over),
                "work_total_s": segments.total(work_s, over),
            }
        )


def _first(rank: Array, launch: Array) -> Array:
    """Return which rows are the first of their launch call: a call that starts a graph launches many kernels.

    >>> _first(np.array([0, 0, 1]), np.array([5, 5, 5])).tolist()
    [True, False, True]
    """
    order = segments.ordered(rank, launch)
    found = np.zeros(len(rank), dtype=bool)
    found[order[segments.runs(rank[order], launch[order]).first]] = True
    return found


def _spread(rank: Array, delay_s: Array) -> pd.DataFrame:
    """Return how many launches of each rank had a delay up to each bound."""
    bounds = np.array(BINS_US) / 1e6
    place = np.minimum(np.searchsorted(bounds, delay_s), len(bounds) - 1)
    ranks, row = np.unique(rank, return_inverse=True)
    counts = np.bincount(row * len(bounds) + place, minlength=len(ranks) * len(bounds))
    return pd.DataFrame({"rank": np.repeat(ranks, len(bounds)), "up_to_s": np.tile(bounds, len(ranks)),
                         "launches_count": counts})  # fmt: skip


def _said(rows: pd.DataFrame) -> tuple[str, ...]:
    count = int(rows["launches_count"].sum())
    said = [f"{count:,} launches; the median delay until the device starts is "
            f"{wording.seconds(float(rows['delay_median_s'].median()))}."]  # fmt: skip
    short = float(rows["short_kernels_count"].sum(min_count=1))
    if np.isfinite(short):
        said.append(f"{wording.share(short / count)} of the kernels are shorter than their launch call; "
                    f"{int(rows['slow_calls_count'].sum())} calls are outliers.")  # fmt: skip
    if len(rows) > 1:
        worst = largest(rows, "delay_median_s")
        said.append(f"The longest median delay is on rank {worst['rank']}, "
                    f"{wording.seconds(worst['delay_median_s'])}.")  # fmt: skip
    return tuple(said)
