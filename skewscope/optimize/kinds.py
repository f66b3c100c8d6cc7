"""Network cards of several kinds (Holmes, 2023): a stage's replicas inside one kind, pipelines across kinds.

Cards of different kinds often speak to each other over plain Ethernet only. A pipeline's boundary carries the least
traffic, so that is where kinds should meet. A rule, not a model: measured links may say that breaking it costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import layout
from .annealing import anneal
from .layout import Job

Array = np.ndarray[Any, Any]


def mixed(orders: Array, kinds: Array, it: Job) -> Array:
    """Return how many stages have replicas of more than one kind, [...]; `orders` [..., units], `kinds` [units].

    >>> it = layout.job(np.ones((4, 4)), 2, 2, 1.0, 1.0)
    >>> mixed(np.array([[0, 1, 2, 3], [0, 2, 1, 3]]), np.array([0, 0, 1, 1]), it).tolist()
    [2, 0]
    """
    grid = kinds[orders].reshape(*orders.shape[:-1], it.replicas, it.stages)
    return np.asarray((grid != grid[..., :1, :]).any(axis=-2).sum(axis=-1))


def grouped(units: Array, kinds: Array, it: Job) -> Array | None:
    """Return the order that fills stage after stage with one kind, units as they come in `units`; None where none can.

    >>> grouped(np.arange(4), np.array([0, 1, 0, 1]), layout.job(np.ones((4, 4)), 2, 2, 1.0, 1.0)).tolist()
    [0, 1, 2, 3]
    >>> grouped(np.arange(4), np.array([0, 1, 1, 1]), layout.job(np.ones((4, 4)), 2, 2, 1.0, 1.0)) is None
    True
    """
    if (np.bincount(kinds) % it.replicas).any():
        return None
    return np.asarray(units[np.argsort(kinds[units], kind="stable")][layout.by_stage(it)])


def within(it: Job, kinds: Array, seed: int = 0, moves: int = 2000) -> Array | None:
    """Return the best order found whose stages are each of one kind, [units]; None where the numbers do not allow it.

    Up to `layout.EXACT_UNITS` units it is the best of all such; above, annealing, never worse than filling in order.
    """
    starts = [grouped(units, kinds, it) for units in (np.arange(len(kinds)), layout.clusters(it.speed))]
    able = [one for one in starts if one is not None]
    if not able:
        return None
    if len(kinds) <= layout.EXACT_UNITS:
        return layout.exact(it, lambda orders: mixed(orders, kinds, it) == 0)
    # A mixed stage costs as much as all of the first start, so nothing mixed is ever better than it.
    fine = max(float(it.seconds(able[0])), 1e-300)
    return anneal(lambda orders: it.seconds(orders) + fine * mixed(orders, kinds, it), np.stack(able), seed,
                  moves=moves).order  # fmt: skip
