"""Queues in the network fill up: switches mark packets, and adapters are told to slow down.

Why it hurts
    A sender that obeys halves its rate and finds its way back in small steps. A collective runs at the rate of its
    slowest flow, so one crowded path slows all ranks.

How it is seen
    Of the packets that a port sends, one in a hundred brings a notification back (or of those it receives, one in a
    hundred makes it send one), or its flows restart slowly. Culprit where the job's steps have become slower at the
    same time; else it is context: busy, and harmless now. Ports of one rail, or all, are one finding.

Look-alikes
    Without notifications the network is not congested: lost packets are `rdma-retransmit`, pauses from a slow host are
    `pfc-storm`. A few crowded ports with clean neighbours and steadily slow transfers are two flows on one link
    (`ecmp-collision`).

What to do
    Everywhere: less incast, pacing, another job elsewhere. One rail: look for a dead uplink, then spread flows (more
    queue pairs, adaptive routing).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import PACKETS, fleet, port, rail
from ._ports import CONGESTED, RECEIVED_PACKETS, RETRANSMITTED, SENT_PACKETS, Array


@dataclass(frozen=True)
class FabricCongestion:
    """Thresholds: notifications per packet, slow restarts, and what the job must lose."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    notified_ratio: float = 0.01  # D: of packets
    restarts_per_s: float = 10.0  # NVS: roce_slow_restart
    lost_share_ratio: float = 0.03  # D: below, the job hides it behind its compute
    windows_count: int = 3  # conditions A12
    of_windows_count: int = 4
    least_packets_per_s: float = 1000.0  # D: an idle port says nothing
    hosts_count: int = 2  # D: a crowded path has two ends

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per port, host, rail or fabric that is told to slow down."""
        told = _ports.ports(tables, CONGESTED)
        if not len(told):
            return
        notified = self._notified(told, tables)
        restarts = _ports.grown(told, tables, RETRANSMITTED, cause="slow_restart") / told.window_s
        some, strong = (
            (notified >= times * self.notified_ratio) | (restarts > times * self.restarts_per_s)
            for times in (1.0, STRONG_RATIO)
        )
        crowded = lasting(some, self.windows_count, self.of_windows_count, strong)
        for scope in _ports.scopes(told, crowded, self.hosts_count):
            column = scope.worst(notified + restarts)
            share, slow = (_live.mean_in(one[:, column], scope.mask) for one in (notified, restarts))
            before = _live.mean_in(notified[:, column], ~crowded[:, column])
            found = _live.finding(
                "fabric-congestion", tables, told, column, scope.mask, role="context", subject=scope.subject, ranks=(),
                evidence=(
                    Evidence("notifications_per_packet", share, before, self.notified_ratio, "ratio"),
                    Evidence("slow_restarts", slow, 0.0, self.restarts_per_s, "1/s"),
                ),
                summary=f"{scope.text}: {share:.1%} of packets meet congestion, {slow:.0f} slow restarts a second",
                advice="look for a dead uplink or incast; spread flows over paths or pace them", confidence=0.8,
            )  # fmt: skip
            if found.lost_share >= self.lost_share_ratio:
                found = replace(found, role="culprit", severity=min(found.severity, "S3"))
            yield found

    def _notified(self, told: Signal, tables: Frames) -> Array:
        """Return notifications per packet, the greater of both directions, [windows, ports]."""
        least = self.least_packets_per_s * told.window_s
        obeyed, asked = (
            _ports.ratio(_ports.grown(told, tables, CONGESTED, event=event), _ports.grown(told, tables, packets), least)
            for event, packets in (("cnp_handled", SENT_PACKETS), ("cnp_sent", RECEIVED_PACKETS))
        )
        return np.nan_to_num(np.fmax(obeyed, asked))

    def alert(self) -> Rule:
        """Return the alert: notifications per packet or slow restarts beyond the thresholds."""
        return Rule(
            "SkewscopeFabricCongestion",
            f'rate({CONGESTED}{{event="cnp_handled"}}[2m]) / on (node, instance, device, port) '
            f"(rate({SENT_PACKETS}[2m]) > {self.least_packets_per_s:g}) >= {self.notified_ratio:g} "
            f'or rate({RETRANSMITTED}{{cause="slow_restart"}}[2m]) > {self.restarts_per_s:g}',
            120, "warning", "{{ $labels.device }} of {{ $labels.node }} meets congestion",
            "{{ $value | humanizePercentage }} of packets of {{ $labels.device }} bring a notification",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: a few marks, below the line, crowded and slow, crowded only, a rail, idle, losses."""
        yield World("quiet", _crowded(fleet(), 2e-5).tables())
        yield World("near-miss", _crowded(fleet(), 0.9 * self.notified_ratio).slow_transfer(0.05).tables())
        one = frozenset({"n1/mlx5_0"})
        yield World("crowded", _crowded(fleet(), 0.02).slow_transfer(0.05).tables(), one)
        yield World("harmless", _crowded(fleet(), 0.02).tables(), one)
        whole = rail(fleet(), CONGESTED, 0.02 * PACKETS, "event=cnp_handled").slow_transfer(0.05)
        yield World("rail", whole.tables(), frozenset({"rail/mlx5_1"}))
        incast = port(fleet(), CONGESTED, 0.03 * PACKETS, "event=cnp_sent").slow_transfer(0.05)
        yield World("incast", incast.tables(), one)
        restarts = port(fleet(), RETRANSMITTED, 400.0, "cause=slow_restart").slow_transfer(0.05)
        yield World("restarts", restarts.tables(), one)
        idle = port(port(fleet(), SENT_PACKETS, 50.0), CONGESTED, 25.0, "event=cnp_handled")
        yield World("idle", idle.tables())
        losses = port(fleet(), RETRANSMITTED, 4000.0, "cause=packet_sequence").slow_transfer(0.05)
        yield World("losses", losses.tables())

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who is told to slow down, who tells, is it loss or pause instead, is a rail dead."""
        return (
            Check("obeyed", "Senders are told to slow down.", CONGESTED, "rate", ">= 1000",
                  f'rate({CONGESTED}{{event="cnp_handled"}}[2m]) / rate({SENT_PACKETS}[2m])',
                  "go on with `incast`", "go on with `pauses`", {"event": "cnp_handled"}),
            Check("incast", "One receiver sends most of the notifications.", CONGESTED, "rate", ">= 1000",
                  f'topk(3, rate({CONGESTED}{{event="cnp_sent"}}[2m]))',
                  "flows meet at that receiver: go on with `ignored`",
                  "marks come from inside the fabric: look for a dead uplink", {"event": "cnp_sent"}),
            Check("ignored", "Senders ignore the notifications.", CONGESTED, "rate", "> 0",
                  f'rate({CONGESTED}{{event="cnp_ignored"}}[2m])',
                  "congestion control is off on these adapters: switch it on", "spread or pace the flows",
                  {"event": "cnp_ignored"}),
            Check("pauses", "Ports are paused instead.", _ports.PAUSED, "rate", ">= 0.1",
                  f'sum by (node, device) (rate({_ports.PAUSED}{{direction="receive"}}[2m]))',
                  "see pfc-storm", "the network is not crowded", {"direction": "receive"}),
        )  # fmt: skip


def _crowded(made: Fleet, share: float) -> Fleet:
    return port(made, CONGESTED, share * PACKETS, "event=cnp_handled")
