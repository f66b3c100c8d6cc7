"""What no placement can pass, per layer, and the name of the limit that binds. Tokens are split evenly over replicas.

Four limits, each a least load of the hottest GPU: the mean ("even"); the heaviest replica, however replicas are shared
out ("replication"); too many heavy replicas for GPUs of few slots, or too few light ones to lie beside them ("slots");
and the hottest node when router groups must stay on one ("groups").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import groups as grouping
from .pack import pack
from .placement import Floats
from .replicate import replicate
from .swap import of_slots

LIMITS = ("even", "replication", "slots", "groups")
NEAR_RATIO = 1e-6  # a limit within this of the mean does not bind
FEW_SLOTS = 4  # per GPU: with more, light replicas for every heavy one are always there
PRICES = (1.0, 1.25, 1.5, 2.0, 3.0)  # of a slot, in the relaxation of pairs
LEVELS, HALVINGS = 32, 8


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least tokens of the hottest GPU [L] by limit; `mean` [L] is the even load, the first of them.

    `balance` is the highest balancedness that the limits leave, `binding` the limit that sets it, by layer.
    """

    mean: Floats
    limits: dict[str, Floats]

    @property
    def least(self) -> Floats:
        """Return the highest of the limits [L], in tokens: no placement has a cooler hottest GPU."""
        highest: Floats = np.stack(list(self.limits.values())).max(0)
        return highest

    @property
    def balance(self) -> Floats:
        """Return the bound on balancedness [L]; 1 where a layer has no tokens."""
        return _balance(self.mean, self.least)

    @property
    def binding(self) -> tuple[str, ...]:
        """Return the name of the limit that binds in each layer; "even" where none does, and 1 may be reached."""
        names = list(self.limits)
        each = np.stack([self.limits[name] for name in names])
        each[0] *= 1 + NEAR_RATIO
        return tuple(names[place] for place in each.argmax(0))


def bounds(counts: NDArray[Any], slots: int, gpus: int, nodes: int = 1, groups: int = 0) -> Bounds:
    """Return all limits of tokens [L, E] on slots and GPUs; `groups` > 1 must stay on one of the `nodes`.

    Raises UsageError where slots are too few or do not spread evenly.

    >>> found = bounds(np.array([[6, 2, 2, 2], [3, 3, 3, 3]]), slots=4, gpus=2)
    >>> found.balance.round(1).tolist(), found.binding
    ([0.8, 1.0], ('slots', 'even'))
    """
    loads = np.asarray(counts, np.float64)
    mean = loads.sum(1) / gpus
    limits = {"even": mean, "replication": _heaviest(loads, slots, gpus)}
    if 2 <= slots // gpus <= FEW_SLOTS:
        limits["slots"] = few_slots(loads, slots, gpus, np.maximum(mean, limits["replication"]))
    if groups > 1 and nodes > 1:
        limits["groups"] = grouping.hottest_node(loads, groups, nodes, slots, gpus)
    return Bounds(mean, limits)


def replication(counts: NDArray[Any], slots: int, gpus: int) -> Floats:
    """Return the replication bound on balancedness [L]: tokens [L, E].

    The best shares of replicas leave one with t tokens, t the least for which the sum of ceil(w / t) fits the slots.

    >>> replication(np.array([[6, 2, 2, 2], [3, 3, 3, 3]]), slots=4, gpus=4).tolist()
    [0.5, 1.0]
    """
    loads = np.asarray(counts, np.float64)
    return _balance(loads.sum(1) / gpus, _heaviest(loads, slots, gpus))


def grouped(counts: NDArray[Any], slots: int, gpus: int, nodes: int, groups: int) -> Floats:
    """Return the bound on balancedness [L] with router groups kept on nodes; the replication bound without groups.

    >>> grouped(np.array([[6, 2, 2, 2]]), slots=4, gpus=4, nodes=2, groups=2).tolist()
    [0.5]
    """
    loads = np.asarray(counts, np.float64)
    if groups <= 1 or nodes <= 1:
        return replication(loads, slots, gpus)
    on_nodes = _balance(loads.sum(1) / gpus, grouping.hottest_node(loads, groups, nodes, slots, gpus))
    return np.minimum(replication(loads, slots, gpus), on_nodes)


def few_slots(loads: Floats, slots: int, gpus: int, least: Floats) -> Floats:
    """Return tokens of a GPU [L] below which replicas cannot be packed into S slots per GPU; at least `least` [L].

    On GPUs of at most T tokens, replicas above T / k number at most k - 1 each, for k up to S. And a GPU with a replica
    of h > T / 2 holds S - 1 others of at most T - h, so S - 1 times the replicas of h and more may not outnumber those
    of T - h and less. How few replicas can be in the way is a choice per expert under one sum over all; a price on
    slots (Lagrange) bounds it from below.

    >>> few_slots(np.array([[6.0, 2.0, 2.0, 2.0]]), 4, 2, np.array([6.0])).round().tolist()
    [8.0]
    """
    packed = of_slots(loads / (counts := replicate(loads, slots, gpus)), pack(loads, counts, gpus)).sum(2).max(1)
    low, high = least.copy(), np.maximum(packed, least)
    for _ in range(HALVINGS):
        aim = np.maximum((low + high) / 2, np.finfo(float).tiny)  # of a layer without tokens
        fewest = np.maximum(1.0, np.ceil(loads / aim[:, None] - NEAR_RATIO))
        beyond = (fewest.sum(1) > slots) | _too_many(loads, fewest, slots, gpus, aim)
        beyond |= _in_want(loads, fewest, slots, gpus, aim)
        low, high = np.where(beyond, aim, low), np.where(beyond, high, aim)
    return low


def _too_many(loads: Floats, fewest: Floats, slots: int, gpus: int, aim: Floats) -> NDArray[np.bool_]:
    """Return where replicas above 1 / k of `aim` are certain to outnumber k - 1 per GPU [L]."""
    beyond = np.zeros(len(loads), bool)
    for k in range(2, slots // gpus + 1):
        heavy = aim[:, None] / k
        middle = np.maximum(fewest, np.ceil(loads / heavy - NEAR_RATIO))  # the fewest replicas that are not above it
        above = loads > heavy * fewest * (1 + NEAR_RATIO)
        for price in (0.5, *PRICES):
            cost = np.where(above, np.minimum((price + 1) * fewest, price * middle), price * fewest)
            beyond |= cost.sum(1) - price * slots > (k - 1) * gpus + NEAR_RATIO * slots
    return beyond


def _in_want(loads: Floats, fewest: Floats, slots: int, gpus: int, aim: Floats) -> NDArray[np.bool_]:
    """Return where a heavy replica is certain to find too few light ones [L], if no GPU may pass `aim` [L]."""
    others = slots // gpus - 1
    beyond = np.zeros(len(loads), bool)
    for level in range(LEVELS):
        heavy = (aim * (0.5 + (level + 0.5) / (2 * LEVELS)))[:, None]
        middle = np.maximum(fewest, np.floor(loads / heavy) + 1)  # the fewest replicas that are not heavy
        small = np.maximum(fewest, np.ceil(loads / (aim[:, None] - heavy) - NEAR_RATIO))  # the fewest that are light
        is_heavy = loads >= heavy * fewest
        for price in PRICES:
            cost = np.minimum(price * middle, (price - 1.0) * small)
            cost = np.where(is_heavy, np.minimum((price + others) * fewest, cost), cost)
            beyond |= cost.sum(1) > price * slots + NEAR_RATIO * slots
    return beyond


def _heaviest(loads: Floats, slots: int, gpus: int) -> Floats:
    least: Floats = (loads / replicate(loads, slots, gpus)).max(1)
    return least


def _balance(mean: Floats, least: Floats) -> Floats:
    return np.where(least > 0, mean / np.maximum(least, np.maximum(mean, 1e-300)), 1.0)
