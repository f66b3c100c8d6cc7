"""How often to sample telemetry: against how late a fault is found, how short an event is missed, and what it costs.

A fault is found when `looks` samples in a row have crossed a threshold. It begins anywhere between two samples, so the
delay is `(looks - 1/2)` intervals on the average, `looks` intervals at most, and the latency of scrape and rule on top.
Samples closer than twice the correlation time of the noise tell nothing new. Times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]

DAY_S = 86_400.0
POWER_RATIO = 0.95
MOST_LAGS_SHARE = 0.25


@dataclass(frozen=True)
class Noise:
    """A healthy signal: standard deviation `spread` in its unit, and `correlation_s` over which it remembers."""

    spread: float
    correlation_s: float


def noise(values: Array, every_s: float) -> Noise:
    """Return the noise of a healthy series [times] sampled every `every_s`.

    The correlation time is the sum of autocorrelations until the first that is not positive (of white noise half a
    sample). Raises UsageError for fewer than eight values.

    >>> noise(np.array([1.0, -1.0] * 8), 10.0)
    Noise(spread=1.0, correlation_s=5.0)
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 8:
        raise UsageError(f"{len(values)} values say nothing of noise; give eight or more")
    left = values - values.mean()
    spread = float(left.std())
    if spread == 0:
        return Noise(0.0, every_s / 2)
    total = 0.5
    for lag in range(1, int(len(left) * MOST_LAGS_SHARE) + 1):
        found = float((left[lag:] * left[:-lag]).mean()) / spread**2
        if found <= 0:
            break
        total += found
    return Noise(spread, every_s * total)


def looks(effect: float, spread: float, false_ratio: float, power: float = POWER_RATIO) -> int:
    """Return how many independent samples tell a shift of `effect` from noise, by their mean.

    `false_ratio` is the chance of a false alarm per decision. ((z_a + z_b) spread / effect)^2, rounded up, at least 1.

    >>> looks(1.0, 1.0, 0.001), looks(10.0, 1.0, 0.001)
    (23, 1)
    """
    if not (effect > 0 and spread >= 0 and 0 < false_ratio < 0.5 and 0.5 < power < 1):
        raise UsageError("wants an effect above 0, a spread of 0 or more, and ratios of false alarms below .5")
    normal = NormalDist()
    wanted = (normal.inv_cdf(1 - false_ratio) + normal.inv_cdf(power)) * spread / effect
    return max(1, int(np.ceil(wanted**2 - 1e-9)))


def delay_s(every_s: Array | float, count: int, latency_s: float = 0.0, correlation_s: float = 0.0) -> Array:
    """Return the mean time from a fault's beginning until `count` independent samples have seen it.

    >>> float(delay_s(10.0, 3, 5.0)), float(delay_s(1.0, 3, 0.0, 10.0))
    (30.0, 40.5)
    """
    apart = np.maximum(every_s, 2 * correlation_s)
    return np.asarray(np.asarray(every_s) / 2 + (count - 1) * apart + latency_s)


def longest_delay_s(every_s: float, count: int, latency_s: float = 0.0, correlation_s: float = 0.0) -> float:
    """Return the same for a fault that begins just after a sample.

    >>> longest_delay_s(10.0, 3, 5.0)
    35.0
    """
    return every_s + (count - 1) * max(every_s, 2 * correlation_s) + latency_s


def seen_ratio(event_s: float, every_s: float, window_s: float = 0.0) -> float:
    """Return the chance that an event of `event_s` touches a sample that averages `window_s`.

    >>> seen_ratio(0.0, 0.1, 0.025), seen_ratio(20.0, 10.0)
    (0.25, 1.0)
    """
    return min(1.0, (event_s + window_s) / every_s)


@dataclass(frozen=True)
class Costs:
    """What is paid, in GPU-seconds per second of the fleet.

    `faults_per_s` faults of the whole fleet, each losing `lost_gpus` GPUs' work while nobody knows; `sample_gpu_s` the
    price of one sample of all nodes.
    """

    faults_per_s: float
    lost_gpus: float
    sample_gpu_s: float

    def total(self, every_s: Array | float, count: int, latency_s: float = 0.0, correlation_s: float = 0.0) -> Array:
        """Return the GPUs' worth of work that faults not yet found and sampling take, on the average."""
        late = delay_s(every_s, count, latency_s, correlation_s)
        return np.asarray(self.faults_per_s * self.lost_gpus * late + self.sample_gpu_s / np.asarray(every_s))


def best_s(costs: Costs, count: int, correlation_s: float = 0.0) -> float:
    """Return the interval of least total cost: sqrt(c / (faults lost (looks - 1/2))), or a closer one in long memory.

    Below twice the correlation time only half an interval is saved by sampling faster, so the optimum is one of two
    closed forms; infinite where faults cost nothing.

    >>> round(best_s(Costs(1e-3, 8.0, 0.02), 1), 3)
    2.236
    """
    rate = costs.faults_per_s * costs.lost_gpus
    if rate <= 0:
        return float("inf")
    edge = 2 * correlation_s
    far = max(edge, float(np.sqrt(costs.sample_gpu_s / (rate * (count - 0.5)))))
    if edge <= 0:
        return far
    near = min(edge, float(np.sqrt(costs.sample_gpu_s / (rate * 0.5))))
    ends = [one for one in (near, far) if one > 0]
    return min(ends, key=lambda one: float(costs.total(one, count, 0.0, correlation_s))) if ends else edge


def stored_bytes_per_day(nodes: int, series: int, every_s: float, sample_bytes: float) -> float:
    """Return what is stored per day.

    >>> stored_bytes_per_day(10, 100, 10.0, 1.5)
    12960000.0
    """
    return nodes * series * sample_bytes * DAY_S / every_s
