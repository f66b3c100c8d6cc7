"""The last seconds of a value: its minimum and its median."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

WINDOW_S = 15.0
KEPT_AT_ONCE = 16


class RecentMin:
    """The smallest value of the window.

    >>> lowest = RecentMin(); lowest.add(0.0, 5); lowest.add(10.0, 7); lowest.value(14.0), lowest.value(20.0)
    (5, 7)
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, value: float) -> None:
        """Add the smallest value of this look; what is older and not smaller can never be the minimum again."""
        while self._seen and self._seen[-1][1] >= value:
            self._seen.pop()
        self._seen.append((now_s, value))

    def value(self, now_s: float) -> float | None:
        """Return the minimum, None where the window is empty."""
        while self._seen and self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()
        return self._seen[0][1] if self._seen else None


class RecentMedian:
    """The median of the window, from at most 16 evenly chosen values of each look; what one look adds is one set.

    >>> middle = RecentMedian(); middle.add(0.0, [1.0, 9.0]); middle.add(1.0, [5.0]); middle.value(2.0)
    5.0
    """

    __slots__ = ("_fresh", "_looks", "_newest", "_value")

    def __init__(self) -> None:
        self._looks: deque[tuple[float, list[float]]] = deque()
        self._newest: tuple[float, list[float]] = (0.0, [])
        self._value: float | None = None
        self._fresh = True

    def add(self, now_s: float, values: Sequence[float]) -> None:
        """Add the values of this look."""
        if now_s != self._newest[0]:
            self._close()
            self._newest = now_s, []
        self._newest[1].extend(values)

    def _close(self) -> None:
        now_s, values = self._newest
        if values:
            values.sort()
            self._looks.append((now_s, values[:: -(-len(values) // KEPT_AT_ONCE)]))
            self._newest = now_s, []
            self._fresh = False

    def value(self, now_s: float) -> float | None:
        """Return the median, None where the window is empty."""
        self._close()
        while self._looks and self._looks[0][0] < now_s - WINDOW_S:
            self._looks.popleft()
            self._fresh = False
        if not self._fresh:
            self._value, self._fresh = _median(value for _, values in self._looks for value in values), True
        return self._value


def _median(values: Iterable[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
