"""Dynamic backup workers: how many results to wait for, chosen anew each step (Xu and others, arXiv 2004.14696).

Waiting for k results lowers the loss by gain(k) and lasts T(k); the best k maximises gain(k) / T(k). With noisy
gradients late in training more results are worth waiting for, with clean ones early in training few are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .batch_split import TINY_S

Array = np.ndarray[Any, Any]

AVERAGED_STEPS = 5


class Noise(NamedTuple):
    """`variance` of one worker's gradient and `signal`, the squared length of the true one, both in loss units."""

    variance: float
    signal: float


def gain(noise: Noise, workers: int, rate: float, smoothness: float) -> Array:
    """Return the expected loss decrease with k = 1 .. workers results, [workers].

    (eta - L eta^2 / 2) |grad F|^2 - (L eta^2 / 2) V / k, eta the learning `rate`, L the `smoothness` of the loss.

    >>> gain(Noise(10.0, 1.0), 2, 0.05, 2.0).round(4).tolist()
    [0.0225, 0.035]
    """
    curve = smoothness * rate**2 / 2
    return np.asarray((rate - curve) * noise.signal - curve * noise.variance / np.arange(1, workers + 1))


def best_workers(gains: Array, arrival_s: Array) -> int:
    """Return the k with the largest gain per second; all workers where no gain is positive.

    `arrival_s` [workers] is when the k-th result is in; it is made non-decreasing, as it must be.

    >>> best_workers(np.array([1.0, 1.8]), np.array([1.0, 1.5]))
    2
    """
    if (gains <= 0).all():
        return len(gains)
    return int(np.argmax(gains / np.maximum.accumulate(np.maximum(arrival_s, TINY_S)))) + 1


def noise_of(gradients: Array) -> Noise:
    """Return the noise seen in the gradients at hand, [k, parameters], k >= 2.

    V = sum |g_i - mean|^2 / (k - 1); |grad F|^2 = max(|mean|^2 - V / k, 0).

    >>> noise_of(np.array([[1.0, 1.0], [3.0, 1.0]]))
    Noise(variance=2.0, signal=4.0)
    """
    count = len(gradients)
    mean = gradients.mean(axis=0)
    variance = float(((gradients - mean) ** 2).sum()) / (count - 1)
    return Noise(variance, max(float(mean @ mean) - variance / count, 0.0))


@dataclass
class DynamicBackup:
    """Chooses k step by step for `workers` workers at a learning `rate`; estimates average over the last five steps."""

    workers: int
    rate: float
    chosen: int = 0
    _noise: deque[Noise] = field(default_factory=lambda: deque(maxlen=AVERAGED_STEPS))
    _smoothness: deque[float] = field(default_factory=lambda: deque(maxlen=AVERAGED_STEPS))
    _sums_s: Array = field(init=False)
    _seen: Array = field(init=False)
    _loss: float = float("inf")

    def __post_init__(self) -> None:
        self.chosen = self.chosen or self.workers
        self._sums_s, self._seen = np.zeros(self.workers), np.zeros(self.workers)

    def observe(self, noise: Noise, arrival_s: Array, loss: float) -> int:
        """Learn from one step and return how many results to wait for in the next.

        `arrival_s` [at most workers] are the sorted times of the results that came; a loss that rose raises k.
        """
        count = len(arrival_s)
        self._sums_s[:count] += np.sort(arrival_s)
        self._seen[:count] += 1
        self._learn_smoothness(noise, loss)
        self._noise.append(noise)
        rose, self._loss = loss > self._loss, loss
        best = best_workers(gain(self.noise(), self.workers, self.rate, self.smoothness()), self.arrival_s())
        self.chosen = min(max(best, self.chosen + 1), self.workers) if rose else best
        return self.chosen

    def noise(self) -> Noise:
        """Return the averaged noise; raises ValueError before the first step."""
        if not self._noise:
            raise ValueError("no step was observed yet")
        return Noise(*np.mean(np.array(self._noise), axis=0).tolist())

    def smoothness(self) -> float:
        """Return the averaged L of the loss, 1 / rate (the largest that still descends) before one was seen."""
        return float(np.mean(self._smoothness)) if self._smoothness else 1.0 / self.rate

    def arrival_s(self) -> Array:
        """Return the mean k-th arrival, [workers], non-decreasing; places never seen are as late as the last seen."""
        mean = np.divide(self._sums_s, self._seen, out=np.zeros(self.workers), where=self._seen > 0)
        return np.maximum.accumulate(mean)

    def _learn_smoothness(self, noise: Noise, loss: float) -> None:
        """Keep the L that explains the last decrease: decrease = (eta - L eta^2/2) S - L eta^2/2 V/k, solved for L."""
        size = self.rate**2 / 2 * (noise.signal + noise.variance / self.chosen)
        if np.isfinite(self._loss) and size > 0:
            explained = (self.rate * noise.signal - (self._loss - loss)) / size
            self._smoothness.append(min(max(explained, 0.0), 2.0 / self.rate))
