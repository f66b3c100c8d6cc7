"""Counters that are 32 bits wide where they are made, and go round."""

from __future__ import annotations

SPAN = 1 << 32
LATE, EARLY = 3 << 30, 1 << 30  # the last and the first quarter: no counter runs through half of its span in a tick


def carried(base: int, last: int, now: int) -> int:
    """Return what to add to a counter that went down from `last` to `now`, so far `base`.

    From the last quarter of 32 bits into the first it has wrapped. Everything else is a reset, and so is a start from
    the very end, where counters that do not wrap stand still.

    >>> carried(0, 4294967000, 12), carried(0, 5000, 12), carried(SPAN, SPAN - 1, 12)
    (4294967296, 0, 0)
    """
    return base + SPAN if LATE <= last < SPAN - 1 and now < EARLY else 0
