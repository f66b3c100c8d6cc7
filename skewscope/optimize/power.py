"""Power of a row of servers: when to cap, how many more servers it bears, whom to cap, and what a cap costs a job.

Two thresholds as in POLCA (Patel and others, ASPLOS 2024): above T1 low-priority work is locked to a lower clock, above
T2 to a still lower one and then high-priority work too, above 1 a power brake throws all back. A lock takes effect only
after the control latency, so T2 lies as far below 1 as power can rise in that time; T1 lies 9 % below.
Power shares are row power over provisioned power, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]

T1_BELOW_T2, HYSTERESIS = 0.09, 0.05
SURE_QUANTILE = 0.999
CAPPED_CLOCK_RATIO = 0.95  # of the row's median clock
LEVELS = ("free", "low capped", "all capped", "brake")
EXACT_JOBS = 18


@dataclass(frozen=True)
class Thresholds:
    """`low` (T1) and `high` (T2) as shares of the provisioned power; `rise` is the largest one seen in the latency."""

    low: float
    high: float
    rise: float


def largest_rise(share: Array, within: int) -> float:
    """Return the largest rise of `share` [times, rows] within so many samples, 0 where power only falls.

    >>> round(largest_rise(np.array([[0.5], [0.6], [0.4], [0.9]]), 2), 3)
    0.5
    """
    if within < 1 or len(share) < 2:
        raise UsageError("a rise wants two samples or more, and a latency no shorter than the time between them")
    later = [share[step:] - share[:-step] for step in range(1, min(within, len(share) - 1) + 1)]
    return max(0.0, *(float(one.max()) for one in later))


def thresholds(share: Array, within: int) -> Thresholds:
    """Return where to cap, from `share` [times, rows] and the control latency in samples; never below 0.

    >>> made = thresholds(np.array([[0.60], [0.718], [0.70]]), 1)
    >>> round(made.low, 3), round(made.high, 3)
    (0.792, 0.882)
    """
    rise = largest_rise(share, within)
    return Thresholds(max(0.0, 1 - rise - T1_BELOW_T2), max(0.0, 1 - rise), rise)


def extra_servers(share: Array, servers: int, quantile: float = SURE_QUANTILE) -> int:
    """Return how many servers more the budget of `servers` bears: floor(servers (1 / quantile of the share - 1)).

    Of several rows [times, rows] the fullest decides. Never below 0.

    >>> extra_servers(np.full((10, 1), 0.77), 40)
    11
    """
    peak = float(np.quantile(share, quantile, axis=0).max())
    if peak <= 0 or servers < 1:
        raise UsageError(f"a row of {servers} servers at {peak:.3g} of its power: both must be above 0")
    return max(0, int(np.floor(servers * (1 / peak - 1) + 1e-9)))


def states(share: Array, limits: Thresholds) -> Array:
    """Return what a controller would do at each sample of one row, [times]: 0 free .. 3 brake, with hysteresis.

    A level is left only 5 % of the provisioned power below the threshold that set it.

    >>> states(np.array([0.7, 0.81, 0.78, 0.74, 0.9, 1.01]), Thresholds(0.80, 0.89, 0.11)).tolist()
    [0, 1, 1, 0, 2, 3]
    """
    rising = np.array([limits.low, limits.high, 1.0])
    made, level = np.zeros(len(share), dtype=np.int64), 0
    for place, now in enumerate(share):
        up = int((now > rising).sum())
        held = int((now > rising - HYSTERESIS).sum())
        level = max(up, min(level, held))
        made[place] = level
    return made


def slowed_ratio(compute_ratio: Array | float, clock_ratio: Array | float) -> Array:
    """Return by which factor a step gets longer when its computation runs at `clock_ratio` of the clock.

    >>> round(float(slowed_ratio(0.8, 0.8)), 3)
    1.2
    """
    return np.asarray(1 - np.asarray(compute_ratio) + np.asarray(compute_ratio) / np.asarray(clock_ratio))


def lost_gpus(gpus: Array | float, compute_ratio: Array | float, clock_ratio: float) -> Array:
    """Return the GPUs' worth of work that a synchronous job loses, however few of its GPUs are capped.

    >>> round(float(lost_gpus(512, 0.8, 0.8)), 2)
    85.33
    """
    return np.asarray(np.asarray(gpus) * (1 - 1 / slowed_ratio(compute_ratio, clock_ratio)))


@dataclass(frozen=True)
class Capped:
    """`chosen` [jobs] booleans, the GPUs' worth of work they lose (`cost`), no choice below `bound`; watts saved."""

    chosen: Array
    cost: float
    bound: float
    saved_watts: float
    enough: bool


def choose(saves_watts: Array, cost: Array, wanted_watts: float) -> Capped:
    """Return the jobs to cap that save `wanted_watts` at the least cost; all of them where even that is too little.

    `saves_watts`, `cost` [jobs]. Exact up to 18 jobs, beyond by cost per watt with needless ones dropped again. The
    bound allows parts of jobs.

    >>> choose(np.array([10.0, 10, 25]), np.array([1.0, 2.0, 2.5]), 20.0).chosen.tolist()
    [False, False, True]
    """
    if wanted_watts <= 0:
        return Capped(np.zeros(len(cost), dtype=bool), 0.0, 0.0, 0.0, enough=True)
    if saves_watts.sum() < wanted_watts:
        every = np.ones(len(cost), dtype=bool)
        return Capped(every, float(cost.sum()), float(cost.sum()), float(saves_watts.sum()), enough=False)
    small = len(cost) <= EXACT_JOBS
    chosen = _exact(saves_watts, cost, wanted_watts) if small else _greedy(saves_watts, cost, wanted_watts)
    bound = float(cost[chosen].sum()) if small else _fractional(saves_watts, cost, wanted_watts)
    return Capped(chosen, float(cost[chosen].sum()), bound, float(saves_watts[chosen].sum()), enough=True)


def _exact(saves: Array, cost: Array, wanted: float) -> Array:
    every = (np.arange(2 ** len(cost))[:, None] >> np.arange(len(cost))) & 1
    price = np.where(every @ saves >= wanted, every @ cost, np.inf)
    return np.asarray(every[int(np.argmin(price))], dtype=bool)


def _greedy(saves: Array, cost: Array, wanted: float) -> Array:
    order = np.argsort(cost / np.maximum(saves, 1e-12), kind="stable")
    chosen = np.zeros(len(cost), dtype=bool)
    chosen[order[: int(np.searchsorted(np.cumsum(saves[order]), wanted - 1e-9)) + 1]] = True
    for one in order[::-1]:  # the last one may have made an earlier one needless
        if chosen[one] and saves[chosen].sum() - saves[one] >= wanted:
            chosen[one] = False
    return chosen


def _fractional(saves: Array, cost: Array, wanted: float) -> float:
    order = np.argsort(cost / np.maximum(saves, 1e-12), kind="stable")
    before = np.concatenate([[0.0], np.cumsum(saves[order])[:-1]])
    part = np.clip((wanted - before) / np.maximum(saves[order], 1e-12), 0.0, 1.0)
    return float((part * cost[order]).sum())


def held_back(clock: Array) -> Array:
    """Return which GPUs run below the row's median clock by more than 5 %, [gpus]: a cap makes them stragglers.

    `clock` [times, gpus] in any unit; medians over time are compared.

    >>> held_back(np.array([[1400.0, 1390, 1100, 1405]])).tolist()
    [False, False, True, False]
    """
    usual = np.nanmedian(clock, axis=0)
    return np.asarray(usual < CAPPED_CLOCK_RATIO * np.nanmedian(usual))


def seen_share(window_s: float, every_s: float) -> float:
    """Return the share of the time that a sensor sees which averages `window_s` every `every_s` seconds.

    >>> seen_share(0.025, 0.1)
    0.25
    """
    return min(1.0, window_s / every_s)
