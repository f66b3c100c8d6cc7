"""Judges a re-test against peers: a node passes only where it is shown to be as fast, not where nothing was shown.

The speed of each device is compared with what other nodes of the same hardware reached at the same work. The interval
of their ratio holds the node's own spread, how runs of one node differ, and the spread of the peers; few peers widen
it (Student). "pass": the lower end is above the limit for every measure. "fail": for one of them the upper end is below
it, at a level that counts how many were looked at. All else is "unsure", and an unsure node stays where it is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ._student import quantile
from .document import Measure, Result

MAD_TO_SIGMA = 1.4826
MOST_DEGREES = 100  # beyond, the normal distribution
MEDIAN_TO_MEAN = 1.2533  # standard error of a median over that of a mean


@dataclass(frozen=True)
class Limits:
    """How slow is too slow, and how sure that must be."""

    least_ratio: float = 0.93  # of the speed of peers: above, a job loses less than where a trouble counts as over
    level: float = 0.95
    least_peers: int = 3
    least_rounds: int = 5
    run_sigma: float = 0.01  # how two runs of one healthy device differ, as a share: rounds of one run do not show it
    far_sigmas: float = 5.0  # a peer so far from the others' median is no reference


@dataclass(frozen=True)
class Judged:
    """One measure beside its reference: `ratio` to it with both ends; `peers` is how many nodes are the reference."""

    measure: Measure
    verdict: str
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    peers: int = 0
    why: str = ""


def judge(result: Result, others: Iterable[Result], limits: Limits | None = None) -> tuple[Judged, ...]:
    """Return every measure of a result beside what its peers reached; those that failed themselves are no peers."""
    limits = limits or Limits()
    peers = _latest(result, others)
    tries = max(len(result.measures), 1)
    judged = [_judged(one, [_speeds(peer, one) for peer in peers], tries, limits) for one in result.measures]
    return tuple(_beside_its_twins(one, result, tries, limits) for one in judged)


def verdict(result: Result, others: Iterable[Result], limits: Limits | None = None) -> Result:
    """Return the result with its verdict and why, in sentences with numbers.

    >>> def of(node, speed):
    ...     return Result(node, 1, "h", "b", (Measure("gemm", "flops", "cpu", "w", (speed,) * 9),))
    >>> peers = [of("n1", 99.0), of("n2", 100.0), of("n3", 101.0), of("n4", 100.0)]
    >>> verdict(of("n5", 100.5), peers).verdict, verdict(of("n6", 80.0), peers).verdict
    ('pass', 'fail')
    """
    judged = judge(result, others, limits)
    failed = [one for one in judged if one.verdict == "fail"]
    open_ = [one.why for one in judged if one.verdict == "unsure"] + [f"{said}" for said in result.failures]
    if failed:
        return replace(result, verdict="fail", why=tuple(one.why for one in failed))
    if open_ or not judged:
        return replace(result, verdict="unsure", why=tuple(open_) or ("nothing was measured",))
    slowest = min(judged, key=lambda one: one.low)
    return replace(result, verdict="pass", why=(f"all {len(judged)} measures; the closest: {slowest.why}",))


def _latest(result: Result, others: Iterable[Result]) -> list[Result]:
    """Return the newest result of each other node with the same hardware and software, and the node's own passed one.

    What a node reached itself counts only where that was judged a pass: it may have been slow before.
    """
    found: dict[str, Result] = {}
    for one in others:
        alike = (one.hardware, one.backend) == (result.hardware, result.backend) and one.verdict != "fail"
        own = one.node == result.node
        if alike and (not own or (one.verdict == "pass" and one.time_ns < result.time_ns)):
            newest = found.get(one.node)
            found[one.node] = one if newest is None or one.time_ns >= newest.time_ns else newest
    return list(found.values())


def _speeds(peer: Result, measure: Measure) -> list[float]:
    return [statistics.median(one.values) for one in peer.measures
            if (one.name, one.work, one.unit) == (measure.name, measure.work, measure.unit)]  # fmt: skip


def _judged(measure: Measure, peers: Sequence[Sequence[float]], tries: int, limits: Limits) -> Judged:
    logs = [math.log(statistics.median(speeds)) for speeds in peers if speeds]
    logs = _near(logs, limits)
    label = f"{measure.name} of {measure.device}"
    if len(measure.values) < limits.least_rounds:
        return Judged(measure, "unsure", why=f"{label}: {len(measure.values)} rounds, {limits.least_rounds} are wanted")
    if len(logs) < max(limits.least_peers, 2):
        said = f"{label}: {len(logs)} peers did the same work, {limits.least_peers} are wanted"
        return Judged(measure, "unsure", peers=len(logs), why=said)
    return _against(measure, logs, tries, limits)


def _against(measure: Measure, logs: Sequence[float], tries: int, limits: Limits, whom: str = "peers") -> Judged:
    """Return a measure beside logarithms of the reference's speeds."""
    spread = max(statistics.stdev(logs), limits.run_sigma)
    middle = math.log(statistics.median(measure.values)) - statistics.median(logs)
    own, reference = _own_error(measure, limits), MEDIAN_TO_MEAN * spread / math.sqrt(len(logs))
    error = math.hypot(own, reference)
    # Welch and Satterthwaite: only the peers' error is estimated from few numbers.
    degrees = min(int(error**4 / (reference**4 / (len(logs) - 1))), MOST_DEGREES)
    ends = math.exp(middle - quantile(limits.level, degrees) * error)
    surest = math.exp(middle + quantile(1 - (1 - limits.level) / tries, degrees) * error)
    told = "pass" if ends >= limits.least_ratio else "fail" if surest < limits.least_ratio else "unsure"
    said = (
        f"{measure.name} of {measure.device} is {math.exp(middle):.3f} of what {len(logs)} {whom} reach "
        f"({ends:.3f} to {surest:.3f}; {limits.least_ratio:g} is wanted)"
    )
    return Judged(measure, told, math.exp(middle), ends, surest, len(logs), said)


def _own_error(measure: Measure, limits: Limits) -> float:
    """Return the standard error of the logarithm of a median speed, that of another run included."""
    logs = [math.log(value) for value in measure.values]
    centre = statistics.median(logs)
    sigma = MAD_TO_SIGMA * statistics.median(abs(one - centre) for one in logs)
    return math.hypot(MEDIAN_TO_MEAN * sigma / math.sqrt(len(logs)), limits.run_sigma)


def _near(logs: Sequence[float], limits: Limits) -> list[float]:
    """Return the references without those that are far from all others: a slow peer must excuse nobody."""
    if len(logs) < 3:
        return list(logs)
    centre = statistics.median(logs)
    sigma = max(MAD_TO_SIGMA * statistics.median(abs(one - centre) for one in logs), limits.run_sigma)
    return [one for one in logs if abs(one - centre) <= limits.far_sigmas * sigma]


def _beside_its_twins(judged: Judged, result: Result, tries: int, limits: Limits) -> Judged:
    """Return it failed where a device is slower than the others of its own node; that cannot make it pass."""
    if judged.verdict != "unsure" or judged.peers >= limits.least_peers:
        return judged
    mine = judged.measure
    twins = [math.log(statistics.median(one.values)) for one in result.measures
             if one is not mine and (one.name, one.work) == (mine.name, mine.work)]  # fmt: skip
    twins = _near(twins, limits)
    if len(twins) < limits.least_peers or len(mine.values) < limits.least_rounds:
        return judged
    beside = _against(mine, twins, tries, limits, "devices of its node")
    return beside if beside.verdict == "fail" else judged
