"""Families of which one value holds, or several, and running totals of a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from skewscope.contracts import Sample


class States:
    """Samples of one GPU that say of each value of a label whether it holds; made once for each answer."""

    def __init__(self, metric: str, labels: tuple[str, ...], values: Sequence[str]) -> None:
        self._metric, self._values = metric, values
        self._labels = [(*labels, value) for value in values]
        self._made: dict[int, list[Sample]] = {}

    def only(self, value: str) -> list[Sample]:
        """Return 1 for this value and 0 for the others.

        >>> States("m", ("0",), ("on", "off")).only("off")
        [('m', ('0', 'on'), 0), ('m', ('0', 'off'), 1)]
        """
        return self.bits(1 << self._values.index(value))

    def bits(self, mask: int) -> list[Sample]:
        """Return 1 for the values whose bit is set, the first value being bit 0."""
        made = self._made.get(mask)
        if made is None:
            if len(self._made) > 64:
                self._made.clear()
            made = self._made[mask] = [(self._metric, one, mask >> bit & 1) for bit, one in enumerate(self._labels)]
        return made


class Widened:
    """A driver's counter that starts again: at 32 bits by wrapping, otherwise because the driver was loaded anew.

    >>> narrow = Widened(32)
    >>> [narrow.grow(4294967290), narrow.grow(4)]
    [4294967290, 4294967300]
    >>> wide = Widened(64)
    >>> [wide.grow(100), wide.grow(7)]
    [100, 107]
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._last = self.total = 0

    def grow(self, value: int) -> int:
        """Take the counter's next value and return what it would be without the wraps."""
        step = value - self._last
        if step < 0:
            step = step + (1 << self._bits) if self._bits == 32 else value
        self._last = value
        self.total += step
        return self.total
