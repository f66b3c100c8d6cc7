"""A GPU's hardware slows its clocks: it is too hot, or a power brake is pulled.

Why it hurts
    Heat and brake cut the clocks by half or more. The ranks on that GPU come late to every collective and all others
    wait. A brake on a whole rack slows the job as a whole, and then nobody looks slow.

How it is seen
    The driver counts the time in which heat (`hw_thermal`, `sw_thermal`) or the external brake (`hw_power_brake`) held
    the clocks. A twentieth of the time, in most of the last windows, of a GPU that computes; a tenth of the time needs
    one window less. One GPU is about its cooling; most GPUs of a host are about the host, several hosts about their
    rack's power or air.

Look-alikes
    `gpu-power-cap`: the limit in software, normal at full load. `gpu-clock-pinned-low`: locked clocks, no heat. Idle
    GPUs rest, and the bit `hw_slowdown` flashes when performance states change: one window is nothing.

What to do
    One GPU: look at its airflow, pump, paste and dust, and compare its temperature with its neighbours'. A host: fans
    and inlet temperature. A rack with the brake pulled: power supplies and the rack's budget; spread the load.
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
CAUSES = {
    "hw_thermal": "heat", "sw_thermal": "heat (the driver keeps it below its limit)", "hw_power_brake": "a power brake",
    "hw_slowdown": "a slowdown of the hardware",
}  # fmt: skip
BRAKE = "hw_power_brake"
POWER_ADVICE = "look at the host's power supplies and the rack's power budget, on the neighbours too"
ADVICE = {
    "gpu": "look at this GPU's cooling: airflow, pump, dust, seating",
    "node": "look at the host's fans, inlet temperature and power supplies",
    "rack": "look at the power supplies, power budget and air of these hosts; spread the load until then",
}


@dataclass(frozen=True)
class GpuHwSlowdown:
    """Thresholds: share of the time slowed, and in how many of the last windows of 30 s."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    slowed_ratio: float = 0.05  # conditions A3: warn
    severe_ratio: float = 0.20  # conditions A3: critical
    held_count: int = 3  # A12: two windows warn; one more where it is weak, as a short excess may touch two
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU that is slowed, or one for their host or rack where most are."""
        told, parts = _clocks.shares(tables, _clocks.HOT)
        slowed = told.values >= self.slowed_ratio
        if not slowed.any():
            return
        strong = told.values >= STRONG_RATIO * self.slowed_ratio
        mask = lasting(slowed & _live.busy(told, tables), self.held_count, self.of_count, strong)
        clock = told.aligned(signal(tables, _clocks.SM_CLOCK, domain="sm"))
        usual = peer_median(clock, _live.roles(told, tables))
        for one in _crowds.found(told, mask, tables):
            yield self._finding(tables, told, parts, one, clock, usual)

    def _finding(
        self, tables: Frames, told: Signal, parts: dict[str, Array], one: _crowds.Found, clock: Array, usual: Array
    ) -> Finding:
        by_reason = {reason: one.mean(part) for reason, part in parts.items() if one.mean(part) == one.mean(part)}
        reason = max(by_reason, key=lambda name: (by_reason[name], name != "hw_slowdown"))
        own_hz, peers_hz = one.mean(clock), one.mean(usual)
        subject = one.subject or told.subject(one.column)
        return _live.finding(
            "gpu-hw-slowdown", tables, told, one.column, one.mask, role="culprit", subject=subject, ranks=one.ranks,
            evidence=(
                *(Evidence(f"slowed_by_{name}", value, 0.0, self.slowed_ratio, "ratio")
                  for name, value in by_reason.items() if value > 0),
                Evidence("sm_clock", own_hz, None if peers_hz != peers_hz else peers_hz, None, "hertz"),
            ),
            summary=f"{one.where(told)}: {CAUSES[reason]} slows the clocks {by_reason[reason]:.0%} of the time",
            advice=POWER_ADVICE if reason == BRAKE and subject.kind == "gpu" else ADVICE[subject.kind],
            least="S2" if by_reason[reason] >= self.severe_ratio else "S3",
            confidence=0.97,
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the driver counts that much time."""
        return Rule(
            "SkewscopeGpuHwSlowdown",
            f'rate({_clocks.SECONDS}{{reason=~"hw_thermal|hw_power_brake|sw_thermal"}}[2m]) >= {self.slowed_ratio:g}',
            self.held_count * 30, "warning", "GPU {{ $labels.gpu }} is slowed by {{ $labels.reason }}",
            "GPU {{ $labels.gpu }} spends {{ $value | humanizePercentage }} of its time slowed by {{ $labels.reason }}",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: no heat, below the line, one short excess, a power cap, idle; one GPU, a host, a rack."""
        yield World("quiet", _slowed(0.0))
        yield World("near-miss", _slowed(0.04))
        yield World("one-burst", _slowed(0.09, until=12))
        yield World("power-capped", _slowed(0.9, reason="sw_power_cap", nodes=("n0", "n1"), gpus=4))
        idle = Fleet().put(_live.UTILIZATION, 0.0, nodes=["n1"], devices=["gpu2"])
        idle.put(_clocks.OBSERVED, 15.0, labels="reason=hw_slowdown", nodes=["n1"], devices=["gpu2"])
        yield World("idle", idle.tables())
        yield World("hot", _slowed(0.3, late_s=0.15), frozenset({"n1/gpu2"}))
        yield World("hot-host", _slowed(0.3, gpus=4), frozenset({"n1"}))
        brake = _slowed(0.4, reason="hw_power_brake", nodes=("n0", "n1"), gpus=4)
        yield World("brake", brake, frozenset({"n0..n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it slowed, by what, how hot, and is it alone."""
        seconds = f"rate({_clocks.SECONDS}{{reason=%r}}[5m])"
        return (
            Check("brake", "Is the external power brake pulled?", _clocks.SECONDS, "rate", f">= {self.slowed_ratio:g}",
                  seconds.replace("%r", '"hw_power_brake"'),
                  "the power brake: look at power supplies and the rack's budget, on the neighbours too",
                  "thermal", {"reason": "hw_power_brake"}),
            Check("thermal", "Does the hardware slow the clocks for heat?", _clocks.SECONDS, "rate",
                  f">= {self.slowed_ratio:g}", seconds.replace("%r", '"hw_thermal"'), "margin", "software",
                  {"reason": "hw_thermal"}, ("brake",)),
            Check("software", "Does the driver slow the clocks to stay cool?", _clocks.SECONDS, "rate",
                  f">= {self.slowed_ratio:g}", seconds.replace("%r", '"sw_thermal"'), "margin",
                  "nothing slows it for heat: see `gpu-power-cap` and `gpu-clock-pinned-low`",
                  {"reason": "sw_thermal"}, ("thermal",)),
            Check("margin", "Are fewer than five degrees left before the clocks are slowed?",
                  "skewscope_gpu_temperature_margin_celsius", "low", "< 5",
                  "min_over_time(skewscope_gpu_temperature_margin_celsius[10m])",
                  "too hot: airflow, pump, dust; compare with its neighbours",
                  "the temperature is fine: suspect the sensor, the memory's temperature, or a short excess",
                  {}, ("thermal", "software")),
        )  # fmt: skip


def _slowed(
    ratio: float, *, reason: str = "hw_thermal", nodes: tuple[str, ...] = ("n1",), gpus: int = 1, until: int = 20,
    late_s: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    fleet = Fleet()
    devices = ["gpu2"] if gpus == 1 else fleet.gpus
    fleet.put(_clocks.SECONDS, 30.0 * ratio, labels=f"reason={reason}", nodes=nodes, devices=devices, since=10,
              until=until)  # fmt: skip
    return fleet.late(6, late_s, until=until).tables()
