"""A histogram of durations that is filled in batches and names an example in each bucket."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from skewscope.contracts import Sample
from skewscope.metrics import metric

EXEMPLAR_S = 60.0  # an example older than this is of another time


class Histogram:
    """One series of a declared histogram; values are nanoseconds."""

    def __init__(self, name: str, labels: tuple[str, ...]) -> None:
        bounds = metric(name).buckets
        self._bounds_ns = [round(bound * 1e9) for bound in bounds]
        self._buckets = [(f"{name}_bucket", (*labels, repr(bound))) for bound in bounds]
        self._buckets.append((f"{name}_bucket", (*labels, "+Inf")))
        self._totals = (f"{name}_sum", labels), (f"{name}_count", labels)
        self._counts = [0] * len(self._buckets)
        self._examples: dict[int, tuple[float, str]] = {}
        self._sum_ns = 0

    def add(self, ordered_ns: Sequence[int], sum_ns: int) -> None:
        """Add durations in rising order, and their sum."""
        counts = self._counts
        for at, bound_ns in enumerate(self._bounds_ns):
            counts[at] += bisect_right(ordered_ns, bound_ns)
        counts[-1] += len(ordered_ns)
        self._sum_ns += sum_ns

    def exemplify(self, now_s: float, value_ns: int, time_s: float, labels: str) -> None:
        """Keep one value as the example of its bucket; `labels` is text such as `rank="3",seq="17"`."""
        at = bisect_left(self._bounds_ns, value_ns)
        self._examples[at] = now_s, f"{{{labels}}} {value_ns / 1e9!r} {time_s:.3f}"

    def samples(self, now_s: float) -> list[Sample]:
        """Return all series of the histogram."""
        found: list[Sample] = [(name, labels, count) for (name, labels), count in zip(self._buckets, self._counts)]  # noqa: B905 - equal by construction, and this is the hot path
        for at, (seen_s, text) in list(self._examples.items()):
            if seen_s < now_s - EXEMPLAR_S:
                del self._examples[at]
            else:
                found[at] = (*self._buckets[at], self._counts[at], text)
        (sums, labels), (counts, _) = self._totals
        found.append((sums, labels, self._sum_ns / 1e9))
        found.append((counts, labels, self._counts[-1]))
        return found
