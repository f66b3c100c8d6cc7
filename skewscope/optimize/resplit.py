"""Re-splits a batch over unequal workers so that they finish together (LB-BSP: Chen and others, SoCC 2020).

Worker i needs `fixed_s[i] + per_sample_s[i] * b_i` for b_i samples. Exact: the next sample always goes to the worker
that would finish it first. Gradients must then be averaged with weights b_i / batch, not 1 / workers, or the model
that is trained is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]

LEAST_GAIN_RATIO = 0.04  # a smaller predicted gain is noise: 3 to 5 % in the reference implementations
BISECTIONS = 80


@dataclass(frozen=True)
class Split:
    """`samples` [workers] integers, the step `time_s` they give, and the `bound_s` that no split can be below."""

    samples: Array
    time_s: float
    bound_s: float

    @property
    def weights(self) -> Array:
        """Return the weight of each worker's mean gradient in the average, [workers], summing to 1."""
        return np.asarray(self.samples / self.samples.sum())


def time_s(fixed_s: Array, per_sample_s: Array, samples: Array) -> float:
    """Return when the last worker with any samples is done; a worker without samples is not waited for.

    >>> time_s(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([4, 2]))
    5.0
    """
    return float(np.where(samples > 0, fixed_s + per_sample_s * samples, 0.0).max())


def resplit(
    fixed_s: Array, per_sample_s: Array, batch: int, least: Array | None = None, most: Array | None = None
) -> Split:
    """Return the split of `batch` samples that ends first; optimal among integers within [least, most] per worker.

    `fixed_s` and `per_sample_s` [workers] in seconds; `least` (default 1: everybody takes part) and `most` (memory)
    [workers] in samples. Raises UsageError where the limits cannot hold the batch.

    >>> resplit(np.zeros(4), np.array([6e-3, 6e-3, 6e-3, 12e-3]), 56).samples.tolist()
    [16, 16, 16, 8]
    """
    least, most = _limits(len(fixed_s), batch, least, most)
    level = _level_s(fixed_s, per_sample_s, batch, least, most)
    samples = np.clip(np.floor((level - fixed_s) / per_sample_s - 1e-9), least, most).astype(np.int64)
    # Handing out singly would have come here too: all these end by the level. Only a few samples are left.
    for _ in range(batch - int(samples.sum())):
        after = np.where(samples < most, fixed_s + per_sample_s * (samples + 1), np.inf)
        samples[int(np.argmin(after))] += 1
    bound = max(level, time_s(fixed_s, per_sample_s, least))
    return Split(samples, time_s(fixed_s, per_sample_s, samples), bound)


def _level_s(fixed_s: Array, per_sample_s: Array, batch: int, least: Array, most: Array) -> float:
    """Return the least time in which fractions of samples could be done: a bound of every integer split.

    >>> float(round(_level_s(np.zeros(2), np.array([1.0, 2.0]), 4, np.ones(2), np.full(2, 9.0)), 4))
    2.6667
    """
    low = float((fixed_s + per_sample_s * least).min())
    high = float((fixed_s + per_sample_s * np.minimum(most, batch)).max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = _done(middle, fixed_s, per_sample_s, least, most) >= batch
        low, high = (low, middle) if enough else (middle, high)
    return low


def _done(time: float, fixed_s: Array, per_sample_s: Array, least: Array, most: Array) -> float:
    """Return how many samples are done by `time`, fractions counted."""
    return float(np.clip((time - fixed_s) / per_sample_s, least, most).sum())


def _limits(workers: int, batch: int, least: Array | None, most: Array | None) -> tuple[Array, Array]:
    low = np.broadcast_to(np.asarray(1 if least is None else least, dtype=np.int64), (workers,))
    high = np.broadcast_to(np.asarray(batch if most is None else most, dtype=np.int64), (workers,))
    if (low > high).any() or (low < 0).any():
        place = int(np.argmax((low > high) | (low < 0)))
        raise UsageError(f"worker {place}: wants 0 <= least <= most samples, not {low[place]} to {high[place]}")
    if low.sum() > batch:
        raise UsageError(f"a batch of {batch} is less than the {low.sum()} samples that the workers must take at least")
    if high.sum() < batch:
        held = int(high.sum())
        raise UsageError(f"a batch of {batch} is more than the {held} samples that fit; raise the limits or shrink it")
    return low, high


def even(workers: int, batch: int) -> Array:
    """Return the split that frameworks make: equal parts, the first workers one more where it does not divide.

    >>> even(3, 8).tolist()
    [3, 3, 2]
    """
    return np.full(workers, batch // workers) + (np.arange(workers) < batch % workers)


def worth_it(before_s: float, after_s: float, least_gain: float = LEAST_GAIN_RATIO) -> bool:
    """Return whether a new split gains enough to change anything (hysteresis).

    >>> worth_it(1.0, 0.97), worth_it(1.0, 0.90)
    (False, True)
    """
    return before_s - after_s > least_gain * before_s
