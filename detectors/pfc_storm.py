"""Pause frames stop the lossless traffic: a host that cannot take its packets makes the network stand.

Why it hurts
    A paused port sends nothing. The switch before it fills up and pauses its own senders, so one slow host stops ports
    that never talk to it, and every ring that crosses them.

How it is seen
    Adapters never pass pauses on, so who sends them is slow itself: a port that pauses the network for a hundredth of
    the time, with stalls of its PCIe, full buffers or a storm event, is the culprit; of several without such proof
    only the first. Ports that are paused for a tenth of the time are its victims and are counted in its finding.
    Where nobody sends, the cause is inside the fabric: one finding about who suffers, as context.

Look-alikes
    Marks and notifications without pauses are `fabric-congestion`. A PCIe stall without pauses does not reach the
    network. A single burst of pauses is how lossless traffic works.

What to do
    Isolate the first host that pauses, then look at its PCIe link, its memory and NUMA placement, and its buffers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import fleet, port
from ._ports import CONGESTED, NIC_ERRORS, PAUSED, PAUSES, STALLED, Array


@dataclass(frozen=True)
class PfcStorm:
    """Thresholds: the share of time in which a port is paused, and pauses others."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    paused_ratio: float = 0.10  # D: of the time, received
    pausing_ratio: float = 0.01  # D: of the time, sent: a healthy host sends none
    paused_per_s: float = 10_000.0  # a public playbook (V2), where drivers tell no time; a tenth of it where sent
    stalled_ratio: float = 0.30  # LNX: seconds in which credits of PCIe were waited for
    windows_count: int = 3  # conditions A12
    of_windows_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host that pauses the network; else one about those that are paused."""
        told = _ports.ports(tables, PAUSED, PAUSES)
        if not len(told):
            return
        sent, received = (self._paused(told, tables, way) for way in ("transmit", "receive"))
        stalled, storm = self._proof(told, tables)
        sending = self._lasting(sent, self.pausing_ratio, stalled) | storm
        suffering = self._lasting(received, self.paused_ratio)
        proven = sending & (_ports.ahead(stalled, self.of_windows_count) | stalled | storm)
        guilty = sending & (proven.any(axis=0) if proven.any() else _first(sending))
        for scope in _ports.scopes(told, guilty):
            yield self._pauses(tables, told, scope, (sent, received, stalled), suffering, bool(proven.any()))
        if not guilty.any():
            for scope in _ports.scopes(told, suffering):
                yield self._suffers(tables, told, scope, received)

    def _lasting(self, share: Array, least: float, proven: Array | bool = True) -> Array:
        """Return where pauses last; of twice as much, where the host is known to be slow, a window less is enough."""
        strong = (share >= STRONG_RATIO * least) & proven
        return lasting(share >= least, self.windows_count, self.of_windows_count, strong)

    def _paused(self, told: Signal, tables: Frames, way: str) -> Array:
        """Return the share of time in pauses of one direction, summed over priorities; from frames where untold."""
        told_s = _ports.grown(told, tables, PAUSED, direction=way) / told.window_s
        frames_per_s = _ports.grown(told, tables, PAUSES, direction=way) / told.window_s
        share = np.where(told_s > 0, told_s, frames_per_s / self.paused_per_s * self.paused_ratio)
        return np.asarray(np.minimum(np.nan_to_num(share), 1.0))

    def _proof(self, told: Signal, tables: Frames) -> tuple[Array, Array]:
        """Return (where the host cannot take its packets, where the adapter calls it a storm), [windows, ports]."""
        waited = _ports.grown(told, tables, STALLED) / told.window_s
        full = _ports.grown(told, tables, NIC_ERRORS, error=("pcie_buffer_overflow", "discard", "pause_storm_warning"))
        storm = _ports.grown(told, tables, NIC_ERRORS, error="pause_storm") > 0
        return (waited >= self.stalled_ratio) | (full > 0), storm

    def _pauses(self, tables: Frames, told: Signal, scope: _ports.Scope, shares: tuple[Array, Array, Array],
                suffering: Array, proven: bool) -> Finding:  # fmt: skip
        sent, received, stalled = shares
        column = scope.worst(sent)
        share = _live.mean_in(sent[:, column], scope.mask)
        others = np.flatnonzero(suffering[scope.mask].any(axis=0))
        worst = float(received[scope.mask][:, others].mean()) if len(others) else 0.0
        return _live.finding(
            "pfc-storm", tables, told, column, scope.mask, role="culprit", least="S2", subject=scope.subject, ranks=(),
            evidence=(
                Evidence("pausing_others", share, 0.0, self.pausing_ratio, "ratio"),
                Evidence("ports_paused", float(len(others)), 0.0, None, ""),
                Evidence("their_time_paused", worst, 0.0, self.paused_ratio, "ratio"),
                Evidence("windows_stalled", float(stalled[scope.mask, column].mean()), 0.0, None, "ratio"),
            ),
            summary=f"{scope.text} pauses the network {share:.0%} of the time; {len(others)} ports stand because of it",
            advice="isolate it, then look at its PCIe link, memory and buffers", confidence=0.95 if proven else 0.7,
        )  # fmt: skip

    def _suffers(self, tables: Frames, told: Signal, scope: _ports.Scope, received: Array) -> Finding:
        column = scope.worst(received)
        share = _live.mean_in(received[:, column], scope.mask)
        single = scope.subject.kind == "nic"
        return _live.finding(
            "pfc-storm", tables, told, column, scope.mask, role="victim" if single else "context", least="S3",
            subject=scope.subject, ranks=(), confidence=0.6,
            evidence=(Evidence("paused", share, 0.0, self.paused_ratio, "ratio"),),
            summary=f"{scope.text} is paused {share:.0%} of the time and 0 known hosts send pauses",
            advice="look for the first pauser at the switches: a host without agent, or a port of the fabric",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a port pauses the network, or the adapter calls it a storm."""
        sent = f'sum by (node, instance, device, port) (rate({PAUSED}{{direction="transmit"}}[2m]))'
        return Rule(
            "SkewscopePfcStorm",
            f'{sent} >= {self.pausing_ratio:g} or increase({NIC_ERRORS}{{error="pause_storm"}}[2m]) > 0',
            60, "critical", "{{ $labels.device }} of {{ $labels.node }} pauses the network",
            "the port sends pauses {{ $value | humanizePercentage }} of the time: its host is slow",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: calm, below the line, a burst, a stalled host with victims, two senders, victims only."""
        yield World("quiet", fleet().tables())
        yield World("near-miss", _pausing(fleet(), 0.009).tables())
        yield World("burst", port(fleet(), PAUSED, 5.0, "priority=3,direction=transmit", until=12).tables())
        storm = port(_paused(_pausing(fleet(), 0.2)), STALLED, 25.0, "direction=write").slow_transfer(0.1)
        one = frozenset({"n1/mlx5_0"})
        yield World("storm", storm.tables(), one)
        both = _pausing(_pausing(fleet(), 0.2), 0.3, node="n3", since=13)
        yield World("first-of-two", both.tables(), one)
        yield World("proven-of-two", port(both, STALLED, 25.0, "direction=write", node="n3", since=13).tables(),
                    frozenset({"n3/mlx5_0"}))  # fmt: skip
        yield World("victims-only", _paused(fleet()).tables(), frozenset({"fabric"}))
        frames = port(fleet(), PAUSES, 60_000.0, "priority=3,direction=transmit")
        yield World("frames", frames.tables(), one)
        yield World("stall-only", port(fleet(), STALLED, 25.0, "direction=write").tables())
        yield World("marks", port(fleet(), CONGESTED, 4e6, "event=cnp_handled").slow_transfer(0.1).tables())

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who pauses, is it stalled, who is paused, are packets dropped."""
        return (
            Check("sends", "A port pauses the network.", PAUSED, "rate", f">= {self.pausing_ratio:g}",
                  f'topk(3, sum by (node, device) (rate({PAUSED}{{direction="transmit"}}[2m])))',
                  "this host is slow: go on with `stalled`", "go on with `paused`", {"direction": "transmit"}),
            Check("stalled", "Its PCIe has no credits.", STALLED, "rate", f">= {self.stalled_ratio:g}",
                  f"sum by (node, device) (rate({STALLED}[2m]))",
                  "PCIe or memory of the host: see pcie-nic-backpressure", "go on with `storm`"),
            Check("storm", "The adapter calls it a storm.", NIC_ERRORS, "increase", ">= 1",
                  f'increase({NIC_ERRORS}{{error=~"pause_storm.*"}}[10m])',
                  "it drops packets to protect the network: reset the adapter", "look at buffers and NUMA placement",
                  {"error": "pause_storm"}),
            Check("paused", "Ports are paused.", PAUSED, "rate", f">= {self.paused_ratio:g}",
                  f'sum by (node, device) (rate({PAUSED}{{direction="receive"}}[2m]))',
                  "the pauser is no host with an agent: follow the pauses from switch to switch", "there is no storm",
                  {"direction": "receive"}),
        )  # fmt: skip


def _first(sending: Array) -> Array:
    """Return [ports]: those that began first, of those that ever send."""
    onset = np.where(sending.any(axis=0), sending.argmax(axis=0), len(sending))
    return np.asarray(onset == onset.min())


def _pausing(made: Fleet, share: float, node: str = "n1", since: int = 10) -> Fleet:
    return port(made, PAUSED, share * 30.0, "priority=3,direction=transmit", node=node, since=since)


def _paused(made: Fleet) -> Fleet:
    return made.put(PAUSED, 6.0, labels="priority=3,direction=receive", nodes=["n0", "n2", "n3"], devices=made.nics,
                    since=10)  # fmt: skip
