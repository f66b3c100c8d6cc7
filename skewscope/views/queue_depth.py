"""How many launches wait on each stream, and is the queue ever full (or empty)?

The queue grows by one when the host launches work on a stream and shrinks by one when the device starts it. The device
driver holds about a thousand launches: a full queue blocks the host, an empty one lets the device idle. Depth is
weighted by time; `depth_of_changes_count` is the mean over the moments of change, which is what
HolisticTraceAnalysis' summary gives. Its table of time at a full queue keeps only the last stream of each rank; here
every stream has its row.
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

from ._launched import Array, launched
from ._needed import largest

POINTS = 200  # of the series of each stream


@dataclass(frozen=True)
class QueueDepth:
    """The view; a queue of `full_count` launches is full."""

    full_count: int = 1024
    needs: ClassVar[tuple[str, ...]] = ("ops",)

    def show(self, tables: Frames) -> Shown:
        """Return the queue of each stream and its course; raises NoData without launches."""
        work = launched(tables)
        rows = work.known()
        if not len(rows):
            raise NoData("no launches in the recording; record the CUDA runtime's calls (the PyTorch profiler does)")
        wide = int(work.stream.max()) + 1
        lane = np.tile(work.rank[rows].astype(np.int64) * wide + work.stream[rows], 2)
        time = np.concatenate([work.launch[rows], np.maximum(work.start[rows], work.launch[rows])])
        grows = np.repeat([1, -1], len(rows))
        order = segments.ordered(lane, time, -grows)
        lane, time, grows = lane[order], time[order], grows[order]
        over = segments.runs(lane)
        depth = np.cumsum(grows)  # each lane ends at 0, so the next one begins there
        streams = self._streams(lane, time, depth, over, wide)
        course = _course(lane, time, depth, over, wide)
        pictures = (Picture("course", "steps", "Launches that wait", "time_s", "depth_count", "lane"),)
        return Shown({"streams": streams, "course": course}, self._said(streams), work.notes, pictures)

    def _streams(self, lane: Array, time: Array, depth: Array, over: segments.Runs, wide: int) -> pd.DataFrame:
        until = np.append(time[1:], time[-1])
        last = over.first + over.size - 1
        until[last] = time[last]
        held = (until - time) / 1e9
        span = segments.total(held, over)
        known = np.where(span > 0, span, np.nan)
        full, empty = (
            segments.total(np.where(mask, held, 0.0), over) for mask in (depth >= self.full_count, depth == 0)
        )
        return pd.DataFrame(
            {
                "rank": lane[over.first] // wide,
                "stream": lane[over.first] % wide,
                "launches_count": over.size // 2,
                "mean_depth_count": segments.total(depth * held, over) / known,
                "median_depth_count": _weighted_median(depth, held, over),
                "max_depth_count": segments.maximum(depth, over),
                "full_s": full,
                "full_percent": 100 * full / known,
                "empty_s": empty,
                "empty_percent": 100 * empty / known,
                "span_s": span,
                "depth_of_changes_count": segments.total(depth.astype(float), over) / over.size,
            }
        )

    def _said(self, rows: pd.DataFrame) -> tuple[str, ...]:
        main = largest(rows, "launches_count")
        said = [
            f"The busiest stream (rank {int(main['rank'])}, stream {int(main['stream'])}) has "
            f"{main['mean_depth_count']:.3g} launches waiting on average and {int(main['max_depth_count'])} at most; "
            f"its queue is empty {wording.share(main['empty_percent'] / 100)} of the time."
        ]
        full = rows[rows["full_s"] > 0]
        if len(full):
            worst = largest(full, "full_s")
            said.append(f"The queue is full on {len(full)} streams, longest on rank {int(worst['rank'])} stream "
                        f"{int(worst['stream'])}: {wording.seconds(worst['full_s'])}.")  # fmt: skip
        else:
            said.append(f"No queue is ever full ({self.full_count} launches).")
        return tuple(said)


def _weighted_median(depth: Array, held: Array, over: segments.Runs) -> Array:
    """Return the depth at or below which each lane is for half of its time."""
    order = np.lexsort((depth, over.of))
    total = np.cumsum(held[order])
    before = np.append(0.0, total)[over.first]
    half = before + segments.total(held, over) / 2
    place = np.minimum(np.searchsorted(total, half), over.first + over.size - 1)
    return np.asarray(depth[order][np.maximum(place, over.first)])


def _course(lane: Array, time: Array, depth: Array, over: segments.Runs, wide: int) -> pd.DataFrame:
    """Return the greatest depth of each stream in equal parts of the recording."""
    first, last = int(time.min()), int(time.max())
    bin_ns = max(1, -(-(last - first + 1) // POINTS))
    place = (time - first) // bin_ns
    key = over.of * POINTS + place
    parts = segments.runs(key)
    lanes = lane[parts.first]
    return pd.DataFrame({
        "time_s": place[parts.first] * bin_ns / 1e9, "rank": lanes // wide, "stream": lanes % wide,
        "lane": [f"rank {one // wide} stream {one % wide}" for one in lanes.tolist()],
        "depth_count": segments.maximum(depth, parts),
    })  # fmt: skip
