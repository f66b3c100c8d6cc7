"""How often to synchronise: H local steps between two averagings (local SGD, DiLoCo).

A synchronous step lasts as long as its slowest rank plus the exposed communication. With H local steps ranks meet once
in H: communication is paid once, and random delays average out before anybody waits. A rank that is always slow stays
slow: no H helps below `bound_s`. What is risked is statistical: replicas drift apart, and H is no free number.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ENOUGH_RATIO = 0.9  # of what the longest interval saves: beyond it risk grows and time hardly falls
INTERVALS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Intervals:
    """Mean `step_s` [intervals] at every number of local `steps` [intervals], and the `bound_s` of them all."""

    steps: Array
    step_s: Array
    bound_s: float

    def enough(self, most: int | None = None, ratio: float = ENOUGH_RATIO) -> int:
        """Return the place of the shortest interval that saves `ratio` of what the longest allowed one saves.

        >>> Intervals(np.array([1, 2, 4]), np.array([2.0, 1.1, 1.05]), 1.0).enough()
        1
        """
        allowed = self.steps <= (self.steps[-1] if most is None else most)
        saved = np.where(allowed, self.step_s[0] - self.step_s, -np.inf)
        return int(np.argmax(saved >= ratio * saved.max() * (1 - 1e-9))) if saved.max() > 0 else 0


def block_s(own_s: Array, interval: int) -> Array:
    """Return the time of each block of `interval` rounds, [blocks]: that of the rank with the most work in it.

    `own_s` [rounds, ranks]; rounds that fill no whole block are left out.

    >>> block_s(np.array([[1.0, 3.0], [3.0, 1.0]]), 2).tolist()
    [4.0]
    """
    blocks = len(own_s) // interval
    summed = own_s[: blocks * interval].reshape(blocks, interval, -1).sum(axis=1)
    return np.asarray(summed.max(axis=1))


def intervals(own_s: Array, exposed_s: float, averaging_s: float, most: int | None = None) -> Intervals:
    """Return the mean step time for intervals 1, 2, 4 .. that fit at least twice into the recording.

    `own_s` [rounds, ranks] in seconds; `exposed_s` is what communication adds to a synchronous step, `averaging_s`
    what one averaging of parameters takes (nothing hides it).

    >>> made = intervals(np.array([[1.0, 3.0], [3.0, 1.0]] * 2), 1.0, 2.0)
    >>> made.steps.tolist(), made.step_s.tolist(), made.bound_s
    ([1, 2], [4.0, 3.0], 2.0)
    """
    longest = max(min(most or INTERVALS[-1], len(own_s) // 2), 1)
    steps = np.array([one for one in INTERVALS if one <= longest])
    step_s = [float(block_s(own_s, int(one)).mean()) / one + averaging_s / one for one in steps]
    step_s[0] = float(own_s.max(axis=1).mean()) + exposed_s
    return Intervals(steps, np.array(step_s), float(own_s.mean(axis=0).max()))


def normal_step_s(mean_s: float, jitter_s: float, ranks: int, interval: int, averaging_s: float) -> float:
    """Return the mean step time for equal ranks with independent normal jitter, to check or extrapolate by.

    E[max of n normals] is taken as Blom's quantile: within 2 % from n = 8 on.

    >>> round(normal_step_s(1.0, 0.1, 64, 1, 0.5), 3), round(normal_step_s(1.0, 0.1, 64, 100, 0.5), 3)
    (1.734, 1.028)
    """
    return mean_s + jitter_s * largest_of_normals(ranks) / float(np.sqrt(interval)) + averaging_s / interval


def largest_of_normals(ranks: int) -> float:
    """Return the expected maximum of so many standard normals (Blom 1958: the quantile at (n - 3/8) / (n + 1/4)).

    >>> round(largest_of_normals(64), 2)
    2.34
    """
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25)) if ranks > 1 else 0.0


def risk(interval: int, ranks: int) -> str:
    """Return in words what an interval does to training."""
    if interval <= 1:
        return "none: every step is synchronous"
    text = f"replicas drift for {interval} steps before {ranks} of them are averaged"
    if interval <= 8:
        return f"{text}: small for most runs; compare the loss over a few hundred steps"
    if interval <= 64:
        return f"{text}: use an outer optimizer (Nesterov momentum 0.9, outer rate 0.7) and compare the loss"
    return f"{text}: published for pre-training with an outer optimizer, not for fine-tuning; validate the final loss"
