"""A network link goes down and comes back again and again.

Why it hurts
    Each time the link trains, packets are lost and connections wait for their timers: a step stands for seconds. After
    some of these a connection runs out of retries and the job ends.

How it is seen
    The port went down (`link_downed`, the driver's own count, or its state) in at least three different windows of the
    last three hours. What happens within one window counts once, as a reset trains the link several times.

Look-alikes
    One flap after maintenance is harmless. A port that stays down is `nic-link-down`. All links of a rail that go down
    together, and do so again, are the switch: one finding.

What to do
    Hold for five minutes at the first time; then keep work away from the host. Clean or replace optic and cable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import held
from skewscope.signals.view import Signal

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import fleet, port, rail
from ._ports import LINK_EVENTS, NIC_ERRORS, UP, Array


@dataclass(frozen=True)
class NicLinkFlap:
    """Thresholds: how many times in which span."""

    category: ClassVar[str] = "nic"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    flaps_count: int = 3  # AZH: 3 in 3 h (GPD: 3 returns in 12 h)
    within_s: float = 10_800.0

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per port, host, rail or fabric whose links flap."""
        told = _ports.ports(tables, LINK_EVENTS, NIC_ERRORS)
        if not len(told):
            return
        fell = self._fell(told, tables)
        flaps = held(fell, self.flaps_count, max(1, round(self.within_s / told.window_s))).any(axis=0)
        count = np.cumsum(fell & flaps, axis=0)
        span = (count > 0) & (np.cumsum((fell & flaps)[::-1], axis=0)[::-1] > 0)  # from the first to the last time
        for scope in _ports.scopes(told, span):
            times = int(count[-1, scope.columns].max())
            yield _live.finding(
                "nic-link-flap", tables, told, int(scope.columns[0]), scope.mask, role="culprit", least="S2",
                subject=scope.subject, stalls=True,
                evidence=(Evidence("flaps", float(times), 0.0, float(self.flaps_count), ""),),
                summary=f"{scope.text} went down {times} times in {scope.mask.sum() * told.window_s / 60:.0f} min",
                advice="clean or replace optic and cable; keep new work away from the host",
            )  # fmt: skip

    def _fell(self, told: Signal, tables: Frames) -> Array:
        """Return [windows, ports]: where a port went down, by either counter or by its state."""
        downs = np.fmax(
            _ports.grown(told, tables, LINK_EVENTS, event="downed"),
            _ports.grown(told, tables, NIC_ERRORS, error="link_down"),
        )
        fell: Array = downs > 0
        if not (_ports.known(tables, UP, "low").values < 1).any():
            return fell
        for layer in ("logical", "physical"):
            low, last = (told.aligned(_ports.known(tables, UP, take, layer=layer)) for take in ("low", "last"))
            fell[1:] |= (low[1:] < 1) & (last[:-1] == 1)
        return fell

    def alert(self) -> Rule:
        """Return the alert: that many downs in that span, by InfiniBand's or by the driver's count."""
        span = f"[{self.within_s:g}s]) >= {self.flaps_count:g}"
        return Rule(
            "SkewscopeNicLinkFlap",
            f'increase({LINK_EVENTS}{{event="downed"}}{span} or increase({NIC_ERRORS}{{error="link_down"}}{span}',
            0, "warning", "{{ $labels.device }} of {{ $labels.node }} flaps",
            "the port {{ $labels.device }}/{{ $labels.port }} went down {{ $value | humanize }} times",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: calm, twice, three times, a burst in one window, a port that stays down, a switch."""
        yield World("quiet", fleet().tables())
        yield World("near-miss", _flapping(2).tables())
        yield World("flaps", _flapping(3).tables(), frozenset({"n1/mlx5_0"}))
        by_state = fleet()
        for window in (8, 11, 14):
            port(by_state, UP, 0.0, "layer=physical", since=window, until=window + 1)
        yield World("by-state", by_state.tables(), frozenset({"n1/mlx5_0"}))
        yield World("reset-burst", port(fleet(), LINK_EVENTS, 6.0, "event=downed", until=11).tables())
        down = port(port(fleet(), LINK_EVENTS, 1.0, "event=downed", until=11), UP, 0.0, "layer=logical", since=10)
        yield World("stays-down", down.tables())
        switch = rail(fleet(), LINK_EVENTS, 1.0, "event=downed", since=12)
        yield World("switch", switch.tables(), frozenset({"rail/mlx5_1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how often, since when errors, is light lost, is it the host."""
        return (
            Check("downs", "The link went down often.", LINK_EVENTS, "increase", f">= {self.flaps_count:g}",
                  f'increase({LINK_EVENTS}{{event="downed"}}[{self.within_s:g}s])',
                  "go on with `errors`", "go on with `carrier`", {"event": "downed"}),
            Check("carrier", "The interface lost its carrier.", "skewscope_nic_carrier_changes_total", "increase",
                  ">= 4", f"increase(skewscope_nic_carrier_changes_total[{self.within_s:g}s])",
                  "the interface flaps although the port does not count it; go on with `errors`",
                  "no flaps: hold and look again in five minutes"),
            Check("errors", "The wire has errors between the flaps.", _ports.ERRORS, "increase", ">= 120",
                  f'increase({_ports.ERRORS}{{error="symbol"}}[1h])',
                  "a bad optic or cable: see nic-phy-degraded", "go on with `driver`", {"error": "symbol"}),
            Check("driver", "The kernel log tells of the adapter.", "skewscope_kernel_messages_total", "increase",
                  ">= 1", 'increase(skewscope_kernel_messages_total{category=~"nic_.*"}[1h])',
                  "power, heat or firmware of the adapter: see nic-driver-fault",
                  "the switch port or its settings: swap the port", {"category": "nic_health"}),
        )  # fmt: skip


def _flapping(times: int) -> Fleet:
    made = fleet()
    for turn in range(times):
        port(made, LINK_EVENTS, 1.0, "event=downed", since=6 + 3 * turn, until=7 + 3 * turn)
    return made
