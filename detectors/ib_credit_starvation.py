"""A port has data to send, but the other end gives it no credits.

Why it hurts
    On InfiniBand nobody sends without a credit of the receiver. A receiver, or a switch, that frees its buffers too
    late makes the sender stand, and with it every ring that crosses this port.

How it is seen
    The port waits (`port_xmit_wait`) five times as much as its peers of the same rail, three times as much for each
    byte, and for a noticeable share of the time. Where the adapter of another host stalls on PCIe at the same time,
    that receiver is the culprit. Where a quarter of the rail waits three times as much as before, it is the fabric.

Look-alikes
    The counter also runs while packets wait for their turn on a busy port: so it is compared per byte and with peers
    that carry as much. Retransmissions and a lower rate of the link are rooms of their own.

What to do
    Look at the receiver first (PCIe, memory), then at the switch port between. Adaptive routing takes flows off it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal

from . import _live, _ports
from ._live_worlds import Fleet
from ._port_worlds import BYTES, fleet, port
from ._ports import RATE, SENT, STALLED, WAITED, Array


@dataclass(frozen=True)
class IbCreditStarvation:
    """Thresholds: how much the port waits, alone and against its peers."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    waited_ratio: float = 0.10  # D: of the time, while peers wait
    peers_waited_ratio: float = 0.02  # D: at most so much
    per_byte_ratio: float = 3.0  # D: ticks for each byte, against peers or before
    tick_bytes: float = 128.0  # ibdiagnet manual: the coarsest tick (32 bytes on each of 4 lanes); newer chips 8
    stalled_ratio: float = 0.30  # LNX: of the time, PCIe of the receiver
    windows_count: int = 3  # conditions A12
    of_windows_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per port that waits, or about the receiver, host, rail or fabric that makes them wait."""
        told = _ports.ports(tables, WAITED)
        if not len(told):
            return
        ticks = _ports.grown(told, tables, WAITED)
        rate = told.aligned(_ports.known(tables, RATE, "high"))
        share = ticks / told.window_s * self.tick_bytes / rate  # of the time, at most: the tick may be finer
        per_byte = _ports.ratio(ticks, _ports.grown(told, tables, SENT))
        peers, peers_per_byte = (peer_median(one, told.device) for one in (ticks, per_byte))
        much = share >= self.waited_ratio
        alone = much & (ticks * self.peers_waited_ratio >= peers * self.waited_ratio)
        alone &= per_byte >= self.per_byte_ratio * np.nan_to_num(peers_per_byte)
        risen = much & (per_byte >= self.per_byte_ratio * _ports.low_quantile(per_byte, 0.25))
        strong = share >= STRONG_RATIO * self.waited_ratio
        bad, single = (
            lasting(one, self.windows_count, self.of_windows_count, strong)
            for one in (alone | risen, alone | (risen & np.isnan(peers)))
        )
        receivers = self._stalled(told, tables)
        for scope in _ports.scopes(told, bad):
            if scope.subject.kind == "nic" and not single[:, scope.columns].any():
                continue
            yield self._waits(tables, told, scope, (ticks, peers, share), receivers)

    def _stalled(self, told: Signal, tables: Frames) -> Array:
        """Return [windows, ports]: where a receiver cannot write to its host's memory."""
        waited = _ports.grown(told, tables, STALLED, direction="write") / told.window_s
        strong = waited >= STRONG_RATIO * self.stalled_ratio
        return lasting(waited >= self.stalled_ratio, self.windows_count, self.of_windows_count, strong)

    def _waits(self, tables: Frames, told: Signal, scope: _ports.Scope, waits: tuple[Array, Array, Array],
               receivers: Array) -> Finding:  # fmt: skip
        column = scope.worst(waits[0])
        per_s, usual, share = (_live.mean_in(one[:, column], scope.mask) for one in waits)
        blamed = receivers[scope.mask].sum(axis=0) * (told.node != told.node[column]) * (
            told.device == told.device[column]
        )  # fmt: skip
        receiver = int(blamed.argmax()) if blamed.any() else -1
        subject = told.subject(receiver) if receiver >= 0 else scope.subject
        cause = f", while {subject.id} takes no data from its adapter" if receiver >= 0 else ""
        return _live.finding(
            "ib-credit-starvation", tables, told, column, scope.mask, role="culprit", least="S3", subject=subject,
            confidence=0.9 if receiver >= 0 else 0.75, ranks=(),
            evidence=(
                Evidence("wait_ticks", per_s / told.window_s, usual / told.window_s, None, "1/s"),
                Evidence("waited_at_most", share, None, self.waited_ratio, "ratio"),
            ),
            summary=f"{scope.text} waits for credits, {per_s / told.window_s:.3g} ticks a second where its peers have "
            f"{usual / told.window_s:.3g}{cause}",
            advice="look at the receiver's PCIe and memory, then at the switch port between",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: ticks beyond a share of the rate, and for each byte beyond the peers."""
        per_byte = f"(rate({WAITED}[2m]) / rate({SENT}[2m]))"
        return Rule(
            "SkewscopeIbCreditStarvation",
            f"rate({WAITED}[2m]) * {self.tick_bytes:g} / {RATE} >= {self.waited_ratio:g} "
            f"and {per_byte} / {self.per_byte_ratio:g} >= on (device) group_left () "
            f"quantile by (device) (0.5, {per_byte})",
            120, "warning", "{{ $labels.device }} of {{ $labels.node }} waits for credits",
            "the port waits {{ $value | humanizePercentage }} of the time, its peers do not",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: all wait a little, below each line, a port that waits, its receiver, the rail, a busy port."""
        yield World("quiet", _waiting(0.01, 0.01).tables())
        one = frozenset({"n1/mlx5_0"})
        yield World("near-miss", _waiting(0.09, 0.01).tables())
        yield World("peers-near-miss", _waiting(0.3, 0.07).tables())
        yield World("waits", _waiting(0.2, 0.01).slow_transfer(0.1).tables(), one)
        stalled = port(_waiting(0.2, 0.01), STALLED, 15.0, "direction=write", node="n3").slow_transfer(0.1)
        yield World("receiver", stalled.tables(), frozenset({"n3/mlx5_0"}))
        whole = _waiting(0.0, 0.01)
        whole.put(WAITED, _ticks(0.3), devices=["mlx5_1"], since=10).slow_transfer(0.1)
        yield World("rail", whole.tables(), frozenset({"rail/mlx5_1"}))
        busy = port(_waiting(0.12, 0.023), SENT, 5 * BYTES)
        yield World("busy-port", busy.tables())

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who waits, is a receiver stalled, does the wire lose, is it everybody."""
        return (
            Check("waits", "Ports wait to send.", WAITED, "rate", f">= {self.waited_ratio * 50e9 / self.tick_bytes:g}",
                  f"topk(5, rate({WAITED}[2m]) / rate({SENT}[2m]))", "go on with `receiver`", "nobody waits"),
            Check("receiver", "An adapter cannot write to its host.", STALLED, "rate", f">= {self.stalled_ratio:g}",
                  f'topk(3, rate({STALLED}{{direction="write"}}[2m]))',
                  "this receiver gives no credits: see pcie-nic-backpressure", "go on with `wire`",
                  {"direction": "write"}),
            Check("wire", "The link trains again or loses packets.", _ports.ERRORS, "increase", ">= 10",
                  f'increase({_ports.ERRORS}{{error="receive"}}[10m])',
                  "credits are lost with packets: see nic-phy-degraded", "go on with `discards`", {"error": "receive"}),
            Check("discards", "Packets grow too old and are dropped.", _ports.ERRORS, "increase", ">= 1",
                  f'increase({_ports.ERRORS}{{error="transmit_discard"}}[10m])',
                  "the fabric stands: look for the head of the line at the switches",
                  "a crowded path: adaptive routing or other paths", {"error": "transmit_discard"}),
        )  # fmt: skip


def _ticks(share: float) -> float:
    """Return the ticks in a window of a port of 400 Gb/s that waits for this share of the time, in coarse ticks."""
    return share * 50e9 / IbCreditStarvation.tick_bytes * 30.0


def _waiting(share: float, peers_share: float) -> Fleet:
    made = fleet()
    made.put(WAITED, _ticks(peers_share), devices=made.nics)
    return port(made, WAITED, _ticks(share)) if share else made
