"""Small laws that several faults share: how much clock a slowdown means, how errors come."""

from __future__ import annotations

from . import noise
from .noise import Array


def clock_for(slowdown: Array) -> Array:
    """Return the clock ratio that makes device work longer by `slowdown` (0.25 = a quarter longer).

    >>> import numpy as np
    >>> clock_for(np.array([0.0, 0.25])).round(3).tolist()
    [1.0, 0.75]
    """
    return noise.CLOCK_SHARE / (noise.CLOCK_SHARE + slowdown)


def throttled_share(slowdown: Array, clock: float) -> Array:
    """Return the share of time at a low clock (ratio of the usual) that makes device work longer by `slowdown`.

    >>> import numpy as np
    >>> throttled_share(np.array([0.25]), 0.5).round(3).tolist()
    [0.5]
    """
    return (1.0 - clock_for(slowdown)) / (1.0 - clock)
