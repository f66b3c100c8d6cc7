"""What all ranks of a job on this node have in common: distributions of durations and the bus bandwidth."""

from __future__ import annotations

from collections.abc import Sequence

from skewscope.contracts import Sample

from ._histogram import Histogram
from ._recent import RecentMedian

BANDWIDTH_FLOOR_BYTES = 1 << 20  # latency rules smaller messages
LOOKED_AT = 16


def bus_factor(op: str, ranks: int) -> float:
    """Return how many times a vector of `ranks` members crosses the slowest link at best; 0 where that says nothing.

    >>> bus_factor("all_reduce", 4), bus_factor("all_gather", 4), bus_factor("send", 2), bus_factor("barrier", 4)
    (1.5, 0.75, 1.0, 0.0)
    """
    if ranks < 2:
        return 0.0
    share = (ranks - 1) / ranks
    return {
        "all_reduce": 2 * share, "all_gather": share, "reduce_scatter": share, "all_to_all": share, "gather": share,
        "scatter": share, "broadcast": 1.0, "reduce": 1.0, "send": 1.0, "recv": 1.0,
    }.get(op, 0.0)  # fmt: skip


class JobTotals:
    """One job on this node."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._calls: dict[tuple[str, str], Histogram] = {}
        self._steps: Histogram | None = None
        self._bandwidths: dict[tuple[str, str], RecentMedian] = {}

    def calls(self, op: str, group: str) -> Histogram:
        """Return the distribution of one operation in one group."""
        found = self._calls.get((op, group))
        if found is None:
            found = Histogram("skewscope_collective_duration_seconds", (self._job, op, group))
            self._calls[op, group] = found
        return found

    def steps(self) -> Histogram:
        """Return the distribution of steps."""
        if self._steps is None:
            self._steps = Histogram("skewscope_step_duration_seconds", (self._job,))
        return self._steps

    def moved(
        self, op: str, group: str, factor: float, spent_ns: Sequence[int], sizes: Sequence[int], now_s: float
    ) -> None:
        """Add calls to the bus bandwidth: durations in ns, sizes in bytes, bytes on the wire by each byte of size."""
        every = -(-len(sizes) // LOOKED_AT)
        rates = [
            size * factor / spent * 1e9
            for size, spent in zip(sizes[::every], spent_ns[::every], strict=True)
            if size >= BANDWIDTH_FLOOR_BYTES and spent > 0
        ]
        if rates:
            self.rates(op, group, rates, now_s)

    def rates(self, op: str, group: str, rates: Sequence[float], now_s: float) -> None:
        """Add known bus bandwidths, bytes per second."""
        self._bandwidths.setdefault((op, group), RecentMedian()).add(now_s, rates)

    def samples(self, now_s: float) -> list[Sample]:
        """Return what the node exports of the job as a whole."""
        found: list[Sample] = []
        for histogram in self._calls.values():
            found += histogram.samples(now_s)
        if self._steps is not None:
            found += self._steps.samples(now_s)
        for (op, group), recent in self._bandwidths.items():
            rate = recent.value(now_s)
            if rate is not None:
                labels = (self._job, op, group)
                found.append(("skewscope_collective_bus_bandwidth_bytes_per_second", labels, rate))
        return found
