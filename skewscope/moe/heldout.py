"""How a plan does on loads that it was not made from: the number to believe, as packing for the past is easy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drift import cut, summed
from .placement import Placement, balancedness

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Planned = Callable[[Sequence[Counts]], Placement]  # steps of each workload [T, L, E] to one placement

WINDOWS = 4  # into which a series is cut: three splits


@dataclass(frozen=True, eq=False)
class Heldout:
    """Scores of plans on windows that followed those they were made from, one per split and workload.

    `same`, `later` and `kept` [splits, K] are mean balancedness over layers: of each plan on its own window, on later
    ones, and of the running placement on these later ones (NaN without one). `layers` [L] is the mean over splits of
    later ones, `last` the plan of the last split, and `place` the first step that it was not made from.
    """

    same: Floats
    later: Floats
    kept: Floats
    layers: Floats
    last: Placement
    place: int
    ordered: bool = True

    @property
    def mean(self) -> float:
        """Return the mean over splits and workloads on later windows."""
        return float(self.later.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Return the least and the greatest split, each the mean over workloads; splits are few and not independent."""
        each = self.later.mean(1)
        return float(each.min()), float(each.max())

    @property
    def gains(self) -> Floats:
        """Return what each split won over the running placement on the same windows [splits]."""
        gained: Floats = (self.later - self.kept).mean(1)
        return gained


def heldout(
    series: Sequence[Counts], planned: Planned, current: Placement | None = None, *, windows: int = WINDOWS,
    horizon: int = 1, ordered: bool = True,
) -> Heldout | None:  # fmt: skip
    """Return how plans do on later windows of loads, each [T, L, E]; None where a series has one window only.

    Every series is cut into `windows`; for each window but the first a plan is made from all windows before it and
    scored on the next `horizon` ones. Steps without order are halved instead, every other step, and scored both ways.

    >>> even = np.full((4, 1, 4), 5)
    >>> found = heldout([even], lambda series: Placement(np.array([[0, 1, 2, 3]]), 2, 4))
    >>> found.mean, len(found.gains), found.place
    (1.0, 3, 3)
    """
    count = min([windows, *(len(one) for one in series)])
    if count < 2:
        return None
    splits = _in_order(series, count, horizon) if ordered else _halves(series)
    found = [_scored(planned(before), before, after, current) for before, after in splits]
    places, *numbers = zip(*found, strict=True)
    same, later, kept, layers = (np.array(one) for one in numbers)
    first = int(cut(len(series[0]), count)[count - 1]) if ordered else 0
    return Heldout(same, later, kept, layers.mean(0), places[-1], first, ordered)


def _in_order(series: Sequence[Counts], count: int, horizon: int) -> Iterator[tuple[list[Counts], list[Counts]]]:
    """Yield for each split the steps [T, L, E] before it and the windows [H, L, E] after it, per workload."""
    edges = [cut(len(one), count) for one in series]
    for split in range(1, count):
        before = [one[: at[split]] for one, at in zip(series, edges, strict=True)]
        after = [summed(one, at)[split : split + horizon] for one, at in zip(series, edges, strict=True)]
        yield before, after


def _halves(series: Sequence[Counts]) -> Iterator[tuple[list[Counts], list[Counts]]]:
    for first in (0, 1):
        yield [one[first::2] for one in series], [one[1 - first :: 2].sum(0)[None] for one in series]


def _scored(
    placement: Placement, before: Sequence[Counts], after: Sequence[Counts], current: Placement | None
) -> tuple[Placement, Floats, Floats, Floats, Floats]:
    same = np.array([_mean(placement, one.sum(0)) for one in before])
    later = [balancedness(placement.gpu_loads(one)) for one in after]  # each [H, L]
    kept = [_mean(current, one) for one in after]
    layers = np.mean([one.mean(0) for one in later], axis=0)
    return placement, same, np.array([one.mean() for one in later]), np.array(kept), layers


def _mean(placement: Placement | None, loads: NDArray[Any]) -> float:
    return float(balancedness(placement.gpu_loads(loads)).mean()) if placement else float("nan")
