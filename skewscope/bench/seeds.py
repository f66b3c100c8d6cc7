"""Which seeds are for setting thresholds and which are for judging them: two ranges that never meet."""

from __future__ import annotations

from ..errors import UsageError

TUNING = range(0, 1_000)
# Seeds that were looked at while thresholds still changed are worn out, and the range moves on
# (so far: from 1,000,000, 2,000,000, 3,000,000, 3,002,000, 3,003,000, 3,004,000 and 3,005,000).
JUDGING = range(3_006_000, 3_016_000)


def seeds(count: int, *, judge: bool = False) -> range:
    """Return the first `count` seeds for tuning, or for judging; raises UsageError where there are not so many.

    >>> seeds(3), seeds(2, judge=True)
    (range(0, 3), range(3006000, 3006002))
    """
    pool = JUDGING if judge else TUNING
    if not 1 <= count <= len(pool):
        raise UsageError(f"there are {len(pool)} {name(judge)} seeds, so --seeds wants 1 to {len(pool)}, not {count}")
    return pool[:count]


def name(judge: bool) -> str:
    """Return what a set of seeds is called in reports.

    >>> name(True)
    'judging'
    """
    return "judging" if judge else "tuning"
