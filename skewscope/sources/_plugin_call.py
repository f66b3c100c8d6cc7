"""One collective or transfer of one rank, as a profiler plugin saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LARGEST = 2**56  # of a number: bytes are up to 16 times an element count


@dataclass
class Call:
    """Times are microseconds of the plugin's own clock, 0 where it did not see them; `peer` -1 for collectives.

    Numbers that cannot be meant count as not told.
    """

    group: str
    group_size: int
    rank: int
    op: str
    seq: int
    count: int
    dtype: str
    algo: str = ""
    proto: str = ""
    peer: int = -1
    ready_us: float = 0.0
    start_us: float = 0.0
    end_us: float = 0.0

    def __post_init__(self) -> None:
        """Forget absurd numbers."""
        for name in ("group_size", "rank", "seq", "peer"):
            if not -1 <= getattr(self, name) < LARGEST:
                setattr(self, name, -1)
        self.count = self.count if 0 <= self.count < LARGEST else 0

    def child(self, start_us: float, end_us: float) -> None:
        """Take a child's times into account: the call starts with its first child and ends with its last."""
        if start_us > 0:
            self.start_us = min(self.start_us or start_us, start_us)
        self.end_us = max(self.end_us, end_us)


def nanoseconds(times_us: Array) -> Array:
    """Return microseconds as int64 nanoseconds, -1 where they are not above 0; epoch times keep their last digit.

    >>> nanoseconds(np.array([1752867229235179.0, 0.25, 0.0])).tolist()
    [1752867229235179000, 250, -1]
    """
    whole = np.floor(times_us)
    exact = whole.astype(np.int64) * 1000 + np.rint((times_us - whole) * 1000).astype(np.int64)
    return np.where(times_us > 0, exact, -1)
