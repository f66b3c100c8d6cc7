"""Packets between adapters are lost or damaged and have to be sent again.

Why it hurts
    RDMA goes back to the lost packet and sends all after it again, or waits for a timer of tens of milliseconds. One
    lost packet in a million is felt; the collective waits for that flow.

How it is seen
    Of a million packets that a port sends, at least one is asked for again (sequence errors), or acknowledgements time
    out more than once a second, or packets with a wrong checksum arrive; steadily, not once. Many ports of one rail at
    once are the path between them: one finding.

Look-alikes
    `out_of_sequence` alone is expected where packets take several paths (adaptive routing): it is not used. A burst
    after a reset does not last. Damage on the wire has its own counters (`nic-phy-degraded`), pauses and notifications
    mean full queues, not loss.

What to do
    Find the hop that drops: discards at switch ports, a lossless class without pauses, a bad cable on the far side.
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
from ._port_worlds import PACKETS, fleet, port, rail
from ._ports import ERRORS, RETRANSMITTED, SENT_PACKETS, Array

LOST = ("packet_sequence", "implied_nak")


@dataclass(frozen=True)
class RdmaRetransmit:
    """Thresholds: losses per packet, timeouts, damaged packets, and how long."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    lost_ratio: float = 1e-6  # D: of packets sent
    fewest_per_s: float = 0.2  # D: a handful in a window is no rate
    timeouts_per_s: float = 1.0  # NVS: local_ack_timeout
    damaged_per_s: float = 0.1  # D: an end-to-end checksum must not fail at all
    windows_count: int = 3  # conditions A12
    of_windows_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per port, host, rail or fabric that has to send again."""
        told = _ports.ports(tables, RETRANSMITTED)
        if not len(told):
            return
        lost = _ports.grown(told, tables, RETRANSMITTED, cause=LOST)
        timeouts = _ports.grown(told, tables, RETRANSMITTED, cause="ack_timeout") / told.window_s
        damaged = _ports.grown(told, tables, ERRORS, error="icrc") / told.window_s
        ratio = np.nan_to_num(_ports.ratio(lost, _ports.grown(told, tables, SENT_PACKETS)))
        some, strong = (
            ((ratio >= times * self.lost_ratio) & (lost / told.window_s >= times * self.fewest_per_s))
            | (timeouts > times * self.timeouts_per_s) | (damaged >= times * self.damaged_per_s)
            for times in (1.0, STRONG_RATIO)
        )  # fmt: skip
        bad = lasting(some, self.windows_count, self.of_windows_count, strong)
        for scope in _ports.scopes(told, bad):
            yield self._again(tables, told, scope, (ratio, timeouts, damaged))

    def _again(self, tables: Frames, told: Signal, scope: _ports.Scope, rates: tuple[Array, Array, Array]) -> Finding:
        ratio, timeouts, damaged = rates
        column = scope.worst(ratio / self.lost_ratio + timeouts / self.timeouts_per_s + damaged / self.damaged_per_s)
        share, per_s, spoilt = (_live.mean_in(one[:, column], scope.mask) for one in rates)
        return _live.finding(
            "rdma-retransmit", tables, told, column, scope.mask, role="culprit", confidence=0.85,
            least="S2" if per_s > self.timeouts_per_s else "S3", subject=scope.subject, ranks=(),
            evidence=(
                Evidence("lost_packets", share, 0.0, self.lost_ratio, "ratio"),
                Evidence("ack_timeouts", per_s, 0.0, self.timeouts_per_s, "1/s"),
                Evidence("checksum_errors", spoilt, 0.0, self.damaged_per_s, "1/s"),
            ),
            summary=f"{scope.text} sends {share * 1e6:.2f} of a million packets again, "
            f"with {per_s:.1f} timeouts and {spoilt:.1f} damaged packets a second",
            advice="find the hop that drops: discards at switch ports, a class without pauses, the far cable",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: losses per packet, timeouts, or damaged packets."""
        by = "sum by (node, instance, device, port)"
        lost = f'{by} (rate({RETRANSMITTED}{{cause=~"{"|".join(LOST)}"}}[2m]))'
        return Rule(
            "SkewscopeRdmaRetransmit",
            f"{lost} / {by} (rate({SENT_PACKETS}[2m])) >= {self.lost_ratio:g} and {lost} >= {self.fewest_per_s:g} "
            f'or rate({RETRANSMITTED}{{cause="ack_timeout"}}[2m]) > {self.timeouts_per_s:g} '
            f'or rate({ERRORS}{{error="icrc"}}[2m]) >= {self.damaged_per_s:g}',
            120, "warning", "{{ $labels.device }} of {{ $labels.node }} sends again",
            "packets of {{ $labels.device }}/{{ $labels.port }} are lost: {{ $value }}",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: reordering, below each line, losses, timeouts, damage, a burst, an idle port, a rail."""
        reordered = fleet()
        reordered.put(RETRANSMITTED, 2e-4 * PACKETS, labels="cause=out_of_sequence", devices=reordered.nics)
        yield World("quiet", reordered.tables())
        one = frozenset({"n1/mlx5_0"})
        yield World("near-miss", _lost(0.8e-6).tables())
        yield World("losses", _lost(1.2e-6).slow_transfer(0.1).tables(), one)
        yield World("timeouts-near-miss", port(fleet(), RETRANSMITTED, 28.0, "cause=ack_timeout").tables())
        timeouts = port(fleet(), RETRANSMITTED, 33.0, "cause=ack_timeout").slow_transfer(0.1)
        yield World("timeouts", timeouts.tables(), one)
        yield World("damage", port(fleet(), ERRORS, 4.0, "error=icrc").tables(), one)
        yield World("burst", _lost(1e-3, until=11).tables())
        idle = port(port(fleet(), SENT_PACKETS, 1e4), RETRANSMITTED, 4.0, "cause=packet_sequence")
        yield World("idle-port", idle.tables())
        whole = rail(fleet(), RETRANSMITTED, 1e-5 * PACKETS, "cause=packet_sequence").slow_transfer(0.1)
        yield World("rail", whole.tables(), frozenset({"rail/mlx5_1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: are packets lost, do timers fire, is the wire bad, are they dropped."""
        return (
            Check("lost", "Packets are asked for again.", RETRANSMITTED, "rate", f">= {self.fewest_per_s:g}",
                  f'rate({RETRANSMITTED}{{cause="packet_sequence"}}[2m]) / rate({SENT_PACKETS}[2m])',
                  "go on with `wire`", "go on with `timeouts`", {"cause": "packet_sequence"}),
            Check("timeouts", "Acknowledgements do not come.", RETRANSMITTED, "rate", f"> {self.timeouts_per_s:g}",
                  f'rate({RETRANSMITTED}{{cause="ack_timeout"}}[2m])',
                  "the path or the far end is away at times: go on with `wire`", "nothing is lost",
                  {"cause": "ack_timeout"}),
            Check("wire", "Packets arrive damaged somewhere.", ERRORS, "increase", ">= 1",
                  f'topk(5, increase({ERRORS}{{error=~"receive|icrc"}}[10m]))',
                  "the cable of that port: see nic-phy-degraded", "go on with `dropped`", {"error": "receive"}),
            Check("dropped", "Adapters drop packets for want of buffers.", ERRORS, "increase", ">= 1",
                  f'topk(5, increase({ERRORS}{{error=~"out_of_buffer|receive_drop|transmit_discard"}}[10m]))',
                  "a slow receiver, or a class that is not lossless: check its pauses",
                  "a switch drops: look at its ports, then at the far end", {"error": "out_of_buffer"}),
        )  # fmt: skip


def _lost(share: float, until: int | None = None) -> Fleet:
    return port(fleet(), RETRANSMITTED, share * PACKETS, "cause=packet_sequence", until=until)
