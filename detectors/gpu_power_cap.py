"""One GPU is held at a power limit that its peers do not meet, and computes slower than they do.

Why it hurts
    A GPU at its power limit lowers its clocks. If all are capped alike that is full load; if one is capped lower, its
    rank arrives late at every collective by the ratio of the clocks.

How it is seen
    The time at the limit (`sw_power_cap`) exceeds that of the peers of its job by twenty points, or is most of the
    time under a limit lower than theirs, and its SM clock is 5 % below theirs, in most of the last windows; with 10 %
    below, one window less is enough.

Look-alikes
    All GPUs capped alike: normal at full load. `gpu-hw-slowdown`: heat or a brake holds the clocks. A rank with more
    work than its peers (`data-sequence-skew`) draws more power than they do and is capped for it: that is told as
    context. `gpu-clock-pinned-low`: low clocks with power to spare.

What to do
    Compare the enforced limit with the default one and with its peers' (`nvidia-smi -q -d POWER`), and set them equal.
    With equal limits the silicon or the cooling differs: swap the GPU, or give its rank less work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from . import _clocks, _crowds, _live
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]
POWER, LIMIT = "skewscope_gpu_power_watts", "skewscope_gpu_power_limit_watts"


@dataclass(frozen=True)
class GpuPowerCap:
    """Thresholds: time at the limit and clock against peers, how low a limit is lower, how many windows and peers."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    above_peers_ratio: float = 0.20  # conditions A3: twenty points of the time more than the same-role median
    mostly_ratio: float = 0.50  # OWN: then the limit is what holds the clock
    clock_ratio: float = 0.95  # conditions A3: SM clock against peers
    limit_ratio: float = 0.97  # OWN: limits are set in steps of watts; equal ones are equal
    power_ratio: float = 1.02  # OWN: draws more than its peers, so it works more than they do
    held_count: int = 3  # A12
    of_count: int = 4
    peers_count: int = 3  # design: ratios need four or more

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU that its power limit slows, or one for a host with most of them."""
        told = _clocks.share(tables, "sw_power_cap")
        if not (told.values >= self.above_peers_ratio).any():
            return
        groups = _live.roles(told, tables)
        clock = told.aligned(signal(tables, _clocks.SM_CLOCK, domain="sm"))
        usual, clock_usual = peer_median(told.values, groups), peer_median(clock, groups)
        suspect = (clock <= self.clock_ratio * clock_usual) & (told.values >= self.above_peers_ratio)
        if not suspect.any():
            return
        lower = self._lower_limit(told, tables, groups)
        more = told.values >= usual + self.above_peers_ratio
        suspect &= more | (lower & (told.values >= self.mostly_ratio))
        suspect &= _live.busy(told, tables) & ~_clocks.held_back(told, tables)
        strong = clock <= (1 - STRONG_RATIO * (1 - self.clock_ratio)) * clock_usual
        mask = lasting(suspect, self.held_count, self.of_count, strong)
        greedy = self._greedy(told, tables, groups) & ~lower
        few = _clocks.sizes(groups) <= self.peers_count
        for one in _crowds.found(told, mask, tables):
            context = one.mean(greedy) > 0.5 or bool(few[one.column])
            yield self._finding(tables, told, one, (usual, clock, clock_usual), one.mean(lower) > 0.5, context)

    def _lower_limit(self, told: Signal, tables: Frames, groups: Array) -> Array:
        """Return [windows, series]: where the enforced limit is below that of the peers."""
        limit = told.aligned(signal(tables, LIMIT, kind="enforced"))
        return np.asarray(limit <= self.limit_ratio * peer_median(limit, groups))

    def _greedy(self, told: Signal, tables: Frames, groups: Array) -> Array:
        """Return [windows, series]: where a GPU draws more power than its peers."""
        power = told.aligned(signal(tables, POWER, kind="average"))
        return np.asarray(power >= self.power_ratio * peer_median(power, groups))

    def _finding(
        self, tables: Frames, told: Signal, one: _crowds.Found, values: tuple[Array, ...], lower: bool, context: bool
    ) -> Finding:
        own, usual, own_hz, peers_hz = (one.mean(part) for part in (told.values, *values))
        why = "its limit is lower than theirs" if lower else "it draws more power than they do" if context else ""
        return _live.finding(
            "gpu-power-cap", tables, told, one.column, one.mask, role="context" if context else "culprit",
            subject=one.subject, ranks=one.ranks, confidence=0.95 if lower else 0.8, least="S4" if context else "S3",
            evidence=(
                Evidence("at_power_limit", own, usual, usual + self.above_peers_ratio, "ratio"),
                Evidence("sm_clock", own_hz, peers_hz, self.clock_ratio * peers_hz, "hertz"),
            ),
            summary=f"{one.where(told)} is at its power limit {own:.0%} of the time, its peers {usual:.0%}; its clock "
            f"is {own_hz / 1e9:.2f} GHz against {peers_hz / 1e9:.2f} GHz{'; ' if why else ''}{why}",
            advice="set its power limit to that of its peers" if lower
            else "compare limits; with equal ones look at its cooling, swap it, or give its rank less work",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: more time at the limit than the job's or host's median, with a lower clock."""
        capped = f'rate({_clocks.SECONDS}{{reason="sw_power_cap"}}[2m])'
        clock = f'avg_over_time({_clocks.SM_CLOCK}{{domain="sm"}}[2m])'
        return Rule(
            "SkewscopeGpuPowerCap",
            f"{capped} - on (node) group_left quantile by (node) (0.5, {capped}) >= {self.above_peers_ratio:g} and "
            f"on (node, gpu) {clock} / on (node) group_left quantile by (node) (0.5, {clock}) <= {self.clock_ratio:g}",
            self.held_count * 30, "warning", "GPU {{ $labels.gpu }} is capped more than its neighbours",
            "GPU {{ $labels.gpu }} spends {{ $value | humanizePercentage }} more of its time at its power limit",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: all capped alike, ten points more, a locked clock, more work; a lower limit, more time."""
        yield World("quiet", _capped(0.8).tables())
        yield World("near-miss", _capped(0.4, own=0.55, clock_hz=1.6e9).tables())
        yield World("clock-only-a-little-lower", _capped(0.4, own=0.9, clock_hz=1.70e9).tables())
        yield World("locked-clock", _capped(0.4, own=0.0, clock_hz=1.2e9).tables())
        hot = _capped(0.4, own=0.9, clock_hz=1.2e9)
        hot.put(_clocks.SECONDS, 15.0, labels="reason=hw_thermal", nodes=["n1"], devices=["gpu2"], since=10)
        yield World("hot", hot.tables())
        limited = _capped(0.85, own=1.0, clock_hz=1.4e9, limit_watts=500).late(6, 0.1)
        yield World("lower-limit", limited.tables(), frozenset({"n1/gpu2"}))
        yield World("capped-more", _capped(0.3, own=0.8, clock_hz=1.5e9).tables(), frozenset({"n1/gpu2"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: capped at all, by heat, by a lower limit, or by its work."""
        seconds = f"rate({_clocks.SECONDS}{{reason=%r}}[5m])"
        return (
            Check("at-limit", "Is the GPU at its power limit for much of the time?", _clocks.SECONDS, "rate",
                  f">= {self.above_peers_ratio:g}", seconds.replace("%r", '"sw_power_cap"'), "hot",
                  "power does not hold it: see `gpu-clock-pinned-low` and `gpu-hw-slowdown`",
                  {"reason": "sw_power_cap"}),
            Check("hot", "Does heat hold its clocks as well?", _clocks.SECONDS, "rate", f">= {_clocks.HELD_RATIO:g}",
                  seconds.replace("%r", '"hw_thermal"'), "heat comes first: see `gpu-hw-slowdown`", "limit",
                  {"reason": "hw_thermal"}, ("at-limit",)),
            Check("limit", "Which limit is enforced? The query gives it as a share of the default one.", LIMIT, "low",
                  "> 0", f'{LIMIT}{{kind="enforced"}} / on (node, gpu) {LIMIT}{{kind="default"}}',
                  "go on with `power`; below its peers' limit that is the cause: set it equal",
                  "power", {"kind": "enforced"}, ("hot",)),
            Check("power", "What does it draw? Compare it with its peers of the same job.", POWER, "mean", "> 0",
                  f'avg by (node, gpu) (avg_over_time({POWER}{{kind="average"}}[5m]))',
                  "more than its peers: its rank has more work (`data-sequence-skew`); as much for a lower clock: "
                  "cooling or silicon, swap it", "it draws nothing: it does not compute", {"kind": "average"},
                  ("limit",)),
        )  # fmt: skip


def _capped(usual: float, *, own: float | None = None, clock_hz: float = 1.755e9, limit_watts: float = 700.0) -> Fleet:
    fleet = Fleet()
    capped = "reason=sw_power_cap"
    fleet.put(_clocks.SECONDS, 30 * usual, labels=capped, devices=fleet.gpus)
    fleet.put(LIMIT, 700.0, labels="kind=enforced", devices=fleet.gpus)
    one: dict[str, Any] = {"nodes": ["n1"], "devices": ["gpu2"], "since": 10}
    if own is not None:
        fleet.put(_clocks.SECONDS, 30 * own, labels=capped, **one)
    fleet.put(LIMIT, limit_watts, labels="kind=enforced", **one)
    return fleet.put(_clocks.SM_CLOCK, clock_hz, labels="domain=sm", **one)
