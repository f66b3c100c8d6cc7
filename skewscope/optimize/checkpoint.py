"""How often to save: the interval between checkpoints that loses least, and what failures cost.

Young 1974: first order. Daly 2006: higher order. Exact for exponential failures: the root of
`(tau/M - 1) e^((tau + delta)/M) + 1 = 0`. All times in seconds: `save_s` (delta) is what training is held up by a save,
`mttf_s` (M) the mean time between interruptions of the whole job, `restart_s` (R) from the failure until training goes
on, `interval_s` (tau) the useful time between two saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]

DAY_S = 86_400.0
LLAMA_3_PER_GPU_DAY = 419 / (54 * 16_384)  # unplanned interruptions of 54 days on 16,384 GPUs
BISECTIONS = 200


def young_s(save_s: float, mttf_s: float) -> float:
    """Return Young's interval in seconds.

    >>> young_s(2.0, 100.0)
    20.0
    """
    return float(np.sqrt(2 * save_s * mttf_s))


def daly_s(save_s: float, mttf_s: float) -> float:
    """Return Daly's interval in seconds; of saves longer than twice the mean time between failures, that time.

    >>> [round(daly_s(5.0, minutes), 1) for minutes in (1440.0, 360.0, 15.0)]
    [116.7, 56.7, 9.1]
    """
    if save_s >= 2 * mttf_s:
        return mttf_s
    part = save_s / (2 * mttf_s)
    return young_s(save_s, mttf_s) * float(1 + np.sqrt(part) / 3 + part / 9) - save_s


def exact_s(save_s: float, mttf_s: float) -> float:
    """Return the interval of least expected time, in seconds: between two bounds of the root, halved until they meet.

    Raises UsageError where a time is not positive.

    >>> [round(exact_s(5.0, minutes), 2) for minutes in (1440.0, 360.0, 15.0)]
    [116.69, 56.71, 9.17]
    """
    if not (save_s > 0 and 0 < mttf_s < float("inf")):
        raise UsageError(f"a save of {save_s:g} s and {mttf_s:g} s between failures: both must be above 0")
    low, high = 0.0, 1.0  # in units of M; the root is below M
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        # Left of the root (u - 1) e^u is below -e^(-delta/M), here without the difference of two numbers near 1.
        low, high = (middle, high) if middle + np.expm1(-middle - save_s / mttf_s) < 0 else (low, middle)
    return low * mttf_s


def period_of_nvidia_s(save_s: float, fail_s: float, restart_s: float) -> float:
    """Return the period including the save (Saxena and others 2024): Ts + sqrt(2 (Tf + Tr) Ts + Ts^2).

    >>> round(period_of_nvidia_s(10.0, 6000.0, 600.0), 1)
    373.5
    """
    return float(save_s + np.sqrt(2 * (fail_s + restart_s) * save_s + save_s**2))


def expected_s(work_s: float, interval_s: float, save_s: float, mttf_s: float, restart_s: float) -> float:
    """Return how long `work_s` seconds of work take: M e^(R/M) (e^((tau + delta)/M) - 1) / tau for each of them.

    Infinite where failures come so often that no number holds it.

    >>> round(expected_s(1.0, 798.0, 30.0, 11135.0, 600.0), 4)
    1.1368
    """
    with np.errstate(over="ignore"):
        part = mttf_s * np.exp(restart_s / mttf_s) * np.expm1((interval_s + save_s) / mttf_s)
    return float(work_s * part / interval_s)


def ettr(interval_s: float, save_s: float, mttf_s: float, restart_s: float) -> float:
    """Return the effective training time ratio: useful seconds per second.

    >>> round(ettr(798.0, 30.0, 11135.0, 600.0), 3)
    0.88
    """
    return 1.0 / expected_s(1.0, interval_s, save_s, mttf_s, restart_s)


def first_order_ettr(interval_s: float, save_s: float, mttf_s: float, restart_s: float) -> float:
    """Return 1 - delta/tau - (tau/2 + R)/M, which is a little too low.

    >>> round(first_order_ettr(100.0, 1.0, 1000.0, 10.0), 3)
    0.93
    """
    return 1 - save_s / interval_s - (interval_s / 2 + restart_s) / mttf_s


def rsc_ettr(nodes: int, per_node_day: float, interval_s: float, save_s: float, restart_s: float) -> float:
    """Return the ratio as the operators of two research clusters estimate it: (1 - N r (u + dt/2)) / (1 + w/dt).

    >>> round(rsc_ettr(128, 6.5e-3, 3600.0, 300.0, 300.0), 3)
    0.904
    """
    rate = nodes * per_node_day / DAY_S
    return (1 - rate * (restart_s + interval_s / 2)) / (1 + save_s / interval_s)


def overhead_ratio(interval_s: float, save_s: float, mttf_s: float, restart_s: float) -> float:
    """Return the seconds that saves, lost work and restarts add to each useful second.

    >>> round(overhead_ratio(798.0, 30.0, 11135.0, 600.0), 3)
    0.137
    """
    return expected_s(1.0, interval_s, save_s, mttf_s, restart_s) - 1.0


def assumed_mttf_s(gpus: int) -> float:
    """Return the mean time between interruptions of so many GPUs at the published rate of Llama 3, in seconds.

    >>> round(assumed_mttf_s(16384) / 3600, 3)
    3.093
    """
    return DAY_S / (LLAMA_3_PER_GPU_DAY * gpus)


@dataclass(frozen=True)
class Asked:
    """A run: times as above, `drain_s` the time an asynchronous save needs until it is safe, `step_s` one step."""

    save_s: float
    mttf_s: float
    restart_s: float = 600.0
    drain_s: float = 0.0
    step_s: float = 0.0

    def ettr(self, interval_s: float) -> float:
        """Return the useful share of the time, 0 where next to nothing is useful."""
        return 1.0 / (1.0 + self.overhead_ratio(interval_s))

    def overhead_ratio(self, interval_s: float) -> float:
        """Return the seconds lost per useful second; a failure also loses what was not yet drained.

        A save waits until the one before is safe.
        """
        lost = max(self.drain_s - self.save_s, 0.0)
        return overhead_ratio(max(interval_s, self.drain_s), self.save_s, self.mttf_s, self.restart_s + lost)

    def whole_steps(self, interval_s: float) -> float:
        """Return the interval in whole steps, at least one, and no shorter than a save needs to drain; seconds.

        >>> Asked(30.0, 11135.0, step_s=15.0).whole_steps(798.0)
        795.0
        """
        interval_s = max(interval_s, self.drain_s)
        if self.step_s <= 0:
            return interval_s
        below = max(1.0, np.floor(interval_s / self.step_s))
        ends = [count * self.step_s for count in (below, below + 1) if count * self.step_s >= self.drain_s]
        return float(max(ends, key=self.ettr))

    def best_s(self) -> float:
        """Return the best interval in whole steps, seconds."""
        return self.whole_steps(exact_s(self.save_s, self.mttf_s))
