"""How often a job is interrupted, from few failures: mean time with its interval, shares of causes, spares, churn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import gammaincinv, pdtr  # type: ignore[import-untyped]

from ..errors import UsageError

DAY_S = 86_400.0
LEVEL_RATIO = 0.9
NONE_SEEN_FACTOR = 3.0  # -ln(.05): 95 % sure that failures are rarer than one in a third of the time


@dataclass(frozen=True)
class Mttf:
    """Mean time between interruptions in seconds and its ends; `mean_s` is infinite where none was seen.

    `high_s` is infinite there too: of no failures only a lower bound can be told.
    """

    mean_s: float
    low_s: float
    high_s: float
    count: int


def mttf(count: int, seconds: float, level: float = LEVEL_RATIO) -> Mttf:
    """Return the mean time between interruptions after `count` of them in `seconds`, with its interval.

    Failures at random: `count` in a time X leaves a rate between the quantiles of a gamma distribution. Without any
    the lower bound is X / 3 (95 %). Raises UsageError for a time that is none.

    >>> made = mttf(10, 1000.0)
    >>> made.mean_s, round(made.low_s, 2), round(made.high_s, 2)
    (100.0, 58.95, 184.32)
    >>> mttf(0, 300.0)
    Mttf(mean_s=inf, low_s=100.0, high_s=inf, count=0)
    """
    if count < 0 or not 0 < seconds < float("inf"):
        raise UsageError(f"{count} failures in {seconds:g} s: wants 0 or more failures in a time above 0")
    if not count:
        return Mttf(float("inf"), seconds / NONE_SEEN_FACTOR, float("inf"), 0)
    tail = (1 - level) / 2
    low, high = gammaincinv(count, tail), gammaincinv(count + 1, 1 - tail)
    return Mttf(seconds / count, seconds / float(high), seconds / float(low), count)


def per_1000_node_days(count: int, seconds: float, nodes: int) -> float:
    """Return failures per 1,000 days of one node.

    >>> round(per_1000_node_days(419, 54 * 86400.0, 2048), 3)
    3.789
    """
    return 1000 * count / (nodes * seconds / DAY_S)


def job_mttf_s(per_1000: float, nodes: int) -> float:
    """Return the mean time between interruptions of a job of so many nodes, in seconds: 1 / N scaling.

    It does not hold for small jobs everywhere: one cluster measured 7.9 h at 128 nodes where it says 28.8 h.

    >>> round(job_mttf_s(6.5, 2048) / 3600, 3), round(job_mttf_s(6.5, 128) / 3600, 1)
    (1.803, 28.8)
    """
    return DAY_S * 1000 / (per_1000 * nodes)


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return each cause's share of all failures, the most frequent first: from counts, never from printed shares.

    >>> {cause: round(share, 3) for cause, share in shares({"GPU": 148, "others": 271}).items()}
    {'others': 0.647, 'GPU': 0.353}
    """
    total = sum(counts.values())
    if total <= 0 or min(counts.values()) < 0:
        raise UsageError("causes want counts of 0 or more, with one failure at least")
    return {cause: count / total for cause, count in sorted(counts.items(), key=lambda one: -one[1])}


def spares(nodes: int, per_1000: float, repair_s: float, sure: float = 0.99) -> int:
    """Return how many spare nodes keep a job whole with certainty `sure`: a Poisson number is under repair at a time.

    >>> spares(2048, 3.789, 2 * 86400.0), spares(2048, 3.789, 2 * 86400.0, 0.5)
    (25, 15)
    """
    if not (nodes > 0 and per_1000 >= 0 and repair_s >= 0 and 0 < sure < 1):
        raise UsageError("spares want nodes above 0, a rate and a repair time of 0 or more, and a certainty below 1")
    down = nodes * per_1000 / 1000 * repair_s / DAY_S  # mean of a Poisson distribution
    return next(count for count in itertools.count() if pdtr(count, down) >= sure)


@dataclass(frozen=True)
class Churn:
    """Workers that leave and join: how many per hour, and which share of the time is lost to forming anew."""

    events_per_hour: float
    lost_ratio: float


def churn(workers: int, stay_s: float, join_s: float, away_s: float = float("inf")) -> Churn:
    """Return what churn costs when a worker stays `stay_s` on the average and every change stops all for `join_s`.

    A worker that left comes back after `away_s` and stops all again; infinite where nobody comes back.

    >>> made = churn(64, 86400.0, 90.0, 3600.0)
    >>> round(made.events_per_hour, 3), round(made.lost_ratio, 4)
    (5.12, 0.128)
    """
    if not (workers > 0 and stay_s > 0 and join_s >= 0 and away_s > 0):
        raise UsageError("churn wants workers, and times above 0")
    present = workers * (stay_s / (stay_s + away_s)) if away_s < float("inf") else float(workers)
    per_s = present / stay_s * (2 if away_s < float("inf") else 1)
    return Churn(3600 * per_s, min(1.0, per_s * join_s))
