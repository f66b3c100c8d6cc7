"""Why do the devices idle: does the host launch too late, or does one kernel wait for another?

A gap between two pieces of work of a stream is *host wait* where the later one was launched only after the earlier had
ended, *kernel wait* where it was launched in time and the gap is short (the device's own distance between two kernels),
else *other*: the stream waited for an event, a copy or another stream. `other_streams_s` is the part of the other gaps
in which another stream of the rank was busy. Work whose launch was not recorded makes *unknown* gaps.

The causes are HolisticTraceAnalysis' (its documented 30 ns for kernel wait are 30 us in effect). It takes the end of
the previous kernel by order of start, so that kernels which overlap on a stream give gaps below zero; here a gap begins
where everything before it has ended. The table `ranks` counts only gaps in which no stream of the rank was busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.reports import wording
from skewscope.stats import intervals, segments

from ._launched import Launched, launched
from ._needed import largest

Array = np.ndarray[Any, Any]
CAUSES = ("host_wait_s", "kernel_wait_s", "other_s", "unknown_s")
SAID = (
    "because the host launched late",
    "between kernels in a row",
    "for other reasons",
    "after launches not recorded",
)


@dataclass(frozen=True)
class IdleCauses:
    """The view; gaps of less than `kernel_gap_us` microseconds are kernel wait."""

    kernel_gap_us: float = 30.0
    needs: ClassVar[tuple[str, ...]] = ("ops",)

    def show(self, tables: Frames) -> Shown:
        """Return idle time by cause of each rank and of each stream; raises NoData without device work."""
        work = launched(tables)
        wide = int(work.stream.max()) + 1
        lanes = work.rank.astype(np.int64) * wide + work.stream
        busy = intervals.union(work.rank, work.start, work.end)
        streams = self._causes(work, lanes, busy)
        ranks = self._causes(work, work.rank.astype(np.int64), None)
        streams.insert(0, "rank", streams["lane"] // wide)
        streams["stream"] = streams["lane"] % wide
        streams = streams[["rank", "stream", *(name for name in streams.columns if name not in ("rank", "stream"))]]
        ranks = ranks.rename(columns={"lane": "rank"})
        pictures = (
            Picture("ranks", "stacked", "Idle time of each rank by cause", "rank", parts=CAUSES),
            Picture("streams", "bars", "Time that each stream waits for the host", "rank", "host_wait_s", "stream"),
        )
        found = {"ranks": ranks, "streams": streams.drop(columns=["lane"])}
        return Shown(found, _said(ranks), work.notes, pictures)

    def _causes(self, work: Launched, lane: Array, busy: intervals.Spans | None) -> pd.DataFrame:
        """Return one row per lane: its span, and the time of its gaps by cause, in s; `busy` are the ranks' spans."""
        order = segments.ordered(lane, work.start, work.end)
        lanes, starts = lane[order], work.start[order]
        spans = intervals.union(lane, work.start, work.end)
        over = segments.runs(spans.lane)
        gap = intervals.gaps(spans)
        ends = order[intervals.position(lanes, starts, gap.lane, gap.end)]  # the work that ends each gap
        launch, length = work.launch[ends], gap.end - gap.start
        cause = np.select([launch < 0, launch > gap.start, length < self.kernel_gap_us * 1e3], [3, 0, 1], 2)
        place = np.searchsorted(spans.lane[over.first], gap.lane)
        seconds = length / 1e9

        def summed(values: Array) -> Array:
            return np.bincount(place, values, len(over.first))

        last = over.first + over.size - 1
        made = {"lane": spans.lane[over.first], "span_s": (spans.end[last] - spans.start[over.first]) / 1e9}
        made["idle_s"] = summed(seconds)
        made |= {name: summed(np.where(cause == number, seconds, 0.0)) for number, name in enumerate(CAUSES)}
        if busy is not None:
            other = np.flatnonzero(cause == 2)
            elsewhere = intervals.covered(busy, work.rank[ends[other]], gap.start[other], gap.end[other]) / 1e9
            made["other_streams_s"] = np.bincount(place[other], elsewhere, len(over.first))
        made["host_wait_percent"] = 100 * made["host_wait_s"] / np.where(made["idle_s"] > 0, made["idle_s"], np.nan)
        return pd.DataFrame(made)


def _said(ranks: pd.DataFrame) -> tuple[str, ...]:
    idle, span = float(ranks["idle_s"].sum()), float(ranks["span_s"].sum())
    if not idle or not span:
        return ("The devices never idle.",)
    parts = ", ".join(
        f"{wording.share(float(ranks[name].sum()) / idle)} {word}"
        for name, word in zip(CAUSES, SAID, strict=True)
        if ranks[name].sum() > 0
    )
    said = [f"The devices idle {wording.share(idle / span)} of the time: {parts}."]
    if len(ranks) > 1:
        worst = largest(ranks, "host_wait_s")
        usual = float(ranks["host_wait_s"].median())
        said.append(
            f"Rank {worst['rank']} waits longest for its host, {wording.seconds(worst['host_wait_s'])}"
            f"; the median is {wording.seconds(usual)}."
        )
    return tuple(said)
