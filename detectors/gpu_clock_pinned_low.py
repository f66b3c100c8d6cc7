"""A GPU's clock is locked below that of its peers, with power and cooling to spare.

Why it hurts
    A lock that an earlier job or a test left behind (`nvidia-smi -lgc`, `-ac`) slows all kernels of the rank by the
    ratio of the clocks, and everybody waits for it. Nothing looks broken: the GPU is cool and draws little.

How it is seen
    Under load even the highest SM clock of a window stays at 0.9 of that of the peers of its job or lower; where the
    driver says that a setting holds it (`app_clocks`, `sync_boost`), 75 MHz below them are enough. Neither heat nor
    the power limit explains it.

Look-alikes
    `gpu-hw-slowdown` and `gpu-power-cap`: heat, a brake or the power limit lowers the clock. Idle GPUs rest. Another
    model has another highest clock: only GPUs with the same limit are compared. One short dip is nothing.

What to do
    Reset the locks (`nvidia-smi -rgc`, `-rmc`, `-rac`) and let the epilogue of jobs do so. In a boost group
    (`sync_boost`) look for the slowest member instead.
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


@dataclass(frozen=True)
class GpuClockPinnedLow:
    """Thresholds: how far below peers, how much of the time a setting or the power limit holds the clock."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    clock_ratio: float = 0.90  # conditions A3: SM clock against peers
    drift_hz: float = 75e6  # conditions A3: GCM's policy, critical
    setting_ratio: float = 0.50  # OWN: of the time that the driver names a setting
    power_cap_ratio: float = 0.20  # as in gpu-power-cap: then the limit explains the clock
    held_count: int = 3  # A12
    of_count: int = 4
    peers_count: int = 3  # design: ratios need four or more

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU whose clock is locked low, or one for a host with most of them."""
        told = signal(tables, _clocks.SM_CLOCK, take="high", domain="sm")
        if not len(told):
            return
        groups = _clocks.alike(told, tables)
        usual = peer_median(told.values, groups)
        near = told.values <= usual - self.drift_hz
        if not near.any():
            return
        setting = self._setting(told, tables)
        far, named = told.values <= self.clock_ratio * usual, np.nan_to_num(setting) >= self.setting_ratio
        low = far | (near & named)
        low &= _live.busy(told, tables) & ~_clocks.held_back(told, tables)
        low &= ~_clocks.held_back(told, tables, ("sw_power_cap",), self.power_cap_ratio)
        strong = (far & named) | (told.values <= (1 - STRONG_RATIO * (1 - self.clock_ratio)) * usual)
        mask = lasting(low, self.held_count, self.of_count, strong)
        few = _clocks.sizes(groups) <= self.peers_count
        for one in _crowds.found(told, mask, tables):
            yield self._finding(tables, told, one, usual, setting, bool(few[one.column]))

    def _setting(self, told: Signal, tables: Frames) -> Array:
        """Return [windows, series]: the share of the time that a setting held the clock, NaN where nobody tells."""
        whole, _ = _clocks.shares(tables, ("app_clocks", "sync_boost"))
        return told.aligned(whole)

    def _finding(
        self, tables: Frames, told: Signal, one: _crowds.Found, usual: Array, setting: Array, few: bool
    ) -> Finding:
        own_hz, peers_hz, share = one.mean(told.values), one.mean(usual), one.mean(setting)
        named = share >= self.setting_ratio
        return _live.finding(
            "gpu-clock-pinned-low", tables, told, one.column, one.mask, role="context" if few else "culprit",
            subject=one.subject, ranks=one.ranks, least="S4" if few else "S3", confidence=0.97 if named else 0.85,
            evidence=(
                Evidence("sm_clock", own_hz, peers_hz, self.clock_ratio * peers_hz, "hertz"),
                Evidence("held_by_setting", share if share == share else 0.0, 0.0, self.setting_ratio, "ratio"),
            ),
            summary=f"the SM clock of {one.where(told)} never exceeds {own_hz / 1e9:.2f} GHz where its peers reach "
            f"{peers_hz / 1e9:.2f} GHz{', held by a setting' if named else ', and neither heat nor power explains it'}",
            advice="reset its clocks (nvidia-smi -rgc, -rac) and let the epilogue of jobs do so",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: far below the median of the host, while it computes and power does not hold it."""
        clock = f'max_over_time({_clocks.SM_CLOCK}{{domain="sm"}}[2m])'
        return Rule(
            "SkewscopeGpuClockPinnedLow",
            f"{clock} / on (node) group_left quantile by (node) (0.5, {clock}) <= {self.clock_ratio:g} "
            f"and on (node, gpu) {_live.UTILIZATION} > {_live.BUSY_RATIO:g} unless on (node, gpu) "
            f'rate({_clocks.SECONDS}{{reason=~"sw_power_cap|hw_thermal|sw_thermal|hw_power_brake"}}[2m]) '
            f">= {self.power_cap_ratio:g}",
            self.held_count * 30, "warning", "the clock of GPU {{ $labels.gpu }} is locked low",
            "GPU {{ $labels.gpu }} reaches {{ $value | humanizePercentage }} of its neighbours' clock",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: alike, a little lower, idle, capped, hot, a short dip; locked, and a whole host locked."""
        yield World("quiet", _locked(1.755e9).tables())
        yield World("near-miss", _locked(1.62e9).tables())
        yield World("setting-near-miss", _locked(1.69e9, app_clocks=1.0).tables())
        yield World("idle", _locked(0.345e9).put(_live.UTILIZATION, 0.0, nodes=["n1"], devices=["gpu2"]).tables())
        yield World("power-capped", _locked(1.3e9).put(
            _clocks.SECONDS, 27.0, labels="reason=sw_power_cap", nodes=["n1"], devices=["gpu2"]).tables())  # fmt: skip
        yield World("hot", _locked(1.0e9).put(
            _clocks.SECONDS, 20.0, labels="reason=hw_thermal", nodes=["n1"], devices=["gpu2"]).tables())  # fmt: skip
        yield World("dip", _locked(1.5e9, until=12).tables())
        yield World("locked", _locked(1.2e9).late(6, 0.2).tables(), frozenset({"n1/gpu2"}))
        yield World("set-lower", _locked(1.66e9, app_clocks=1.0).tables(), frozenset({"n1/gpu2"}))
        yield World("host", _locked(1.2e9, devices=("gpu0", "gpu1", "gpu2", "gpu3")).tables(), frozenset({"n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: low under load, by a setting, or by something else."""
        return (
            Check("busy", "Does the GPU compute at all?", _live.UTILIZATION, "mean", f"> {_live.BUSY_RATIO:g}",
                  f"avg_over_time({_live.UTILIZATION}[5m])", "hot", "an idle GPU lowers its clocks: nothing to do"),
            Check("hot", "Does heat hold the clock?", _clocks.SECONDS, "rate", f">= {_clocks.HELD_RATIO:g}",
                  f'rate({_clocks.SECONDS}{{reason=~"hw_thermal"}}[5m])', "see `gpu-hw-slowdown`", "capped",
                  {"reason": "hw_thermal"}, ("busy",)),
            Check("capped", "Does the power limit hold the clock?", _clocks.SECONDS, "rate",
                  f">= {self.power_cap_ratio:g}", f'rate({_clocks.SECONDS}{{reason="sw_power_cap"}}[5m])',
                  "see `gpu-power-cap`", "setting", {"reason": "sw_power_cap"}, ("hot",)),
            Check("setting", "Does the driver say that a setting holds the clock?", _clocks.OBSERVED, "rate",
                  f">= {self.setting_ratio:g}", f'rate({_clocks.OBSERVED}{{reason="app_clocks"}}[5m])',
                  "locked: reset with nvidia-smi -rgc and -rac",
                  "a lock (-lgc) does not always show: compare its highest clock with its neighbours'",
                  {"reason": "app_clocks"}, ("capped",)),
        )  # fmt: skip


def _locked(
    clock_hz: float, *, app_clocks: float = 0.0, devices: tuple[str, ...] = ("gpu2",), until: int = 20
) -> Fleet:
    fleet = Fleet()
    one: dict[str, Any] = {"nodes": ["n1"], "devices": devices, "since": 10, "until": until}
    fleet.put(_clocks.SM_CLOCK, clock_hz, labels="domain=sm", **one)
    return fleet.put(_clocks.OBSERVED, 30.0 * app_clocks, labels="reason=app_clocks", **one)
