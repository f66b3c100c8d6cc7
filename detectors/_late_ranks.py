"""Ranks that are late by their own work as live metrics show them: long own work that nothing measured explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from skewscope.contracts import Frames
from skewscope.signals.impact import JobCost, costs
from skewscope.signals.peers import peer_median
from skewscope.signals.view import Signal

from . import _own_work

Array = np.ndarray[Any, Any]


class Thresholds(Protocol):
    """What a room that asks says of how long is too long; its own fields."""

    @property
    def slow_ratio(self) -> float:
        """Own work against the peers'."""

    @property
    def spread_z(self) -> float:
        """Robust deviations by which healthy ranks differ."""

    @property
    def explained_ratio(self) -> float:
        """Of the excess: if so much is known, it is another condition."""

    @property
    def crowd_ratio(self) -> float:
        """Of the ranks: so many at once are no single one."""


@dataclass(frozen=True)
class Late:
    """The ranks of one job: own work (`told`, seconds a step), `usual`, `ratio`, `suspect` [windows, ranks], stages."""

    told: Signal
    usual: Array
    ratio: Array
    suspect: Array
    groups: Array


def late(tables: Frames, room: Thresholds) -> Iterator[Late]:
    """Yield each job of more than two ranks some of which need longer than their peers, without a known reason.

    Known are input, copies, garbage collection, waiting for a processor, more work, and a low clock.
    """
    known = costs(tables).jobs if len(tables.get("windows", ())) else {}
    for cost in known.values():
        found = _of_job(tables, cost, room) if len(cost.rank) > 2 else None
        if found is not None:
            yield found


def _of_job(tables: Frames, cost: JobCost, room: Thresholds) -> Late | None:
    told = _own_work.seconds(cost)
    groups = _own_work.peers(told, tables)
    usual = peer_median(told.values, groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = told.values / usual
    suspect = (ratio >= room.slow_ratio) & (ratio >= 1 + room.spread_z * _own_work.spread(ratio))
    if not suspect.any() or suspect.any(axis=0).sum() > max(1.0, room.crowd_ratio * len(told)):
        return None
    explained_s = _own_work.explained(told, tables, groups)
    suspect &= explained_s < room.explained_ratio * (told.values - usual)
    suspect &= ratio / _own_work.more_work(told, tables, groups) >= room.slow_ratio
    suspect &= ~_own_work.clock_is_low(told, tables, groups)
    return Late(told, usual, ratio, suspect, groups)
