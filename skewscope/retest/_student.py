"""Student's distribution for whole degrees of freedom, exact and without further packages."""

from __future__ import annotations

import math

HALVINGS = 50
FARTHEST = 1e5


def below(t: float, degrees: int) -> float:
    """Return the probability of a value below `t` (Abramowitz and Stegun 26.7.3 and 26.7.4).

    >>> round(below(2.353, 3), 3), round(below(-1.0, 1), 3)
    (0.95, 0.25)
    """
    angle = math.atan2(abs(t), math.sqrt(degrees))
    cosine = math.cos(angle)
    term = 1.0 if degrees % 2 == 0 else cosine
    total, first = (0.0, 1) if degrees % 2 else (0.0, 0)
    for step in range(first, degrees - 1, 2):
        total += term
        term *= cosine**2 * (step + 1) / (step + 2)
    inside = math.sin(angle) * total
    if degrees % 2:
        inside = 2 / math.pi * (angle + inside)
    return 0.5 + math.copysign(inside / 2, t)


def quantile(share: float, degrees: int) -> float:
    """Return the value that `share` (0.5..1) of the distribution lies below.

    >>> round(quantile(0.95, 3), 3), round(quantile(0.9975, 2), 2)
    (2.353, 14.09)
    """
    low, high = 0.0, FARTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle, degrees) < share else (low, middle)
    return high
