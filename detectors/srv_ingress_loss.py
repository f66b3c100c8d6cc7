"""Segments on their way to or from an engine's host are lost and sent again: requests arrive late.

Why it hurts
    A prompt is a burst of segments. If one is lost, TCP hands on nothing after it until it was sent again, at the
    earliest a round trip later, and after 200 ms or more where the last one was lost. The engine knows nothing: its
    clock starts when the request is whole.

How it is seen
    For two windows of 30 s more than 0.1 % of the segments that a host of engines receives come twice or are dropped
    for want of room, or more than 0.1 % of those that it sends must be sent again although its own interface dropped
    none. The price is what requests take longer at the gateway to their first token than in the engines, over what that
    was before, as a share of the time of a request there.

Look-alikes
    `srv-egress-jitter`: the host's interface drops what it sends. `srv-egress-backlog`: nothing is lost, it waits in
    the host. `srv-ingress-starvation`: requests wait at the gateway, none is lost. `rdma-retransmit`: the job's
    traffic, not the requests'. A handful of lost segments an hour is usual; idle hosts say nothing.

What to do
    Look at drops of the interface and of sockets: longer receive rings and buffers, a longer backlog of connections;
    clean or change the link where the switch counts errors. Route requests elsewhere meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._live_worlds import Fleet
from ._serving import HELD_COUNT, OF_COUNT, Array, engines, gate_s, ratio
from ._serving_network import (
    AGAIN,
    FIRST_S,
    GATE_FIRST_S,
    PORT_DROPS,
    SEGMENTS,
    Hosts,
    beyond,
    finding,
    hosts,
    over_usual,
    spread,
    struck,
)
from ._serving_network_worlds import COUNT, NetPool

TWICE, DROPPED = "skewscope_tcp_duplicate_segments_total", "skewscope_tcp_drops_total"
CAUSES = ("listen", "backlog", "receive_queue", "out_of_order", "zero_window")  # listen contains full accept queues


@dataclass(frozen=True)
class SrvIngressLoss:
    """Thresholds: the share of segments that are lost, of how many, and what that costs."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    lost_ratio: float = 0.001  # of segments {conditions A13: 0.1 % for 60 s}
    segments_per_s: float = 20.0  # of an idle host one lost segment says nothing {D}
    own_drops_ratio: float = 1e-4  # of the segments sent: the host's own interface drops them {D}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A13: 60 s}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host on whose way segments are lost."""
        told = engines(tables)
        found = hosts(told)
        if not found.node:
            return
        ways = self._lost(tables, found)
        worst = np.fmax.reduce(list(ways.values()))
        mask = lasting(worst > self.lost_ratio, self.held_count, self.of_count)
        for place, subject in struck(found, mask):
            shares = {name: _mean(way[mask[:, place], place]) for name, way in ways.items()}
            name, share = max(shares.items(), key=lambda pair: pair[1])
            yield finding(
                "srv-ingress-loss", told, found.columns[place], mask[:, place], subject=subject,
                more_s=_late_s(found, place, mask[:, place]), cost_ratio=self.cost_ratio,
                evidence=[Evidence(f"segments_{way}", value, 0.0, self.lost_ratio, "ratio")
                          for way, value in shares.items()],
                summary=f"{share:.2%} of the segments at {subject.id} are {name.replace('_', ' ')}",
                advice="look at drops of the interface and of sockets, longer rings and buffers; route elsewhere",
            )  # fmt: skip

    def _lost(self, tables: Frames, found: Hosts) -> dict[str, Array]:
        """Return the shares of segments that come twice, are dropped, or go again, 0 where nothing is told."""
        into, out = (found.tcp(tables, SEGMENTS, direction=way) for way in ("receive", "transmit"))
        into, out = (np.where(one >= self.segments_per_s * found.told.window_s, one, np.nan) for one in (into, out))
        dropped = np.nan_to_num(found.tcp(tables, DROPPED, cause=CAUSES))
        dropped = dropped + np.nan_to_num(found.tcp(tables, PORT_DROPS, direction="receive"))
        own = np.nan_to_num(ratio(found.tcp(tables, PORT_DROPS, direction="transmit"), out)) > self.own_drops_ratio
        again = np.where(own, 0.0, found.tcp(tables, AGAIN))
        shares = {"received_twice": (found.tcp(tables, TWICE), into), "dropped": (dropped, into),
                  "sent_again": (again, out)}  # fmt: skip
        return {name: np.nan_to_num(ratio(*pair)) for name, pair in shares.items()}

    def alert(self) -> Rule:
        """Return the alert: segments that come twice or go again over all of them, on hosts of engines."""
        here = "and on (node) skewscope_serving_requests_running"
        twice = f'rate({TWICE}[2m]) / ignoring (direction) rate({SEGMENTS}{{direction="receive"}}[2m])'
        again = f'rate({AGAIN}[2m]) / ignoring (direction) rate({SEGMENTS}{{direction="transmit"}}[2m])'
        return Rule(
            "SkewscopeSrvIngressLoss", f"({twice} > {self.lost_ratio:g} or {again} > {self.lost_ratio:g}) {here}",
            30 * self.held_count, "warning", "segments from and to the engines of {{ $labels.node }} are lost",
            "{{ $value | humanizePercentage }} of the segments at {{ $labels.instance }} are sent again",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who sends again, is it dropped here, has the wire errors."""
        return (
            Check("twice", "Do segments arrive twice?", TWICE, "rate", "> 0.1", f"rate({TWICE}[5m])",
                  "what comes in is lost: see `interface`", "see `again`"),
            Check("interface", "Does the interface drop what arrives?", PORT_DROPS, "rate", "> 0",
                  f'rate({PORT_DROPS}{{direction="receive"}}[5m])', "longer receive rings, more queues",
                  "see `sockets`", {"direction": "receive"}, ("twice",)),
            Check("sockets", "Do sockets drop what arrives?", DROPPED, "rate", "> 0", f"rate({DROPPED}[5m])",
                  "larger receive buffers, a longer backlog of connections",
                  "it is lost on the way: look at the switch port and the cable", after=("interface",)),
            Check("again", "Must the host send again?", AGAIN, "rate", "> 0.1", f"rate({AGAIN}[5m])",
                  "answers are lost on the way", "nothing is lost"),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: a little, nearly, twice, dropped, again, cheap, no gateway, idle, own drops, no engine."""
        one, full, away = frozenset({"n1"}), "cause=receive_queue", "direction=transmit"
        yield World("quiet", NetPool().lose(TWICE, 2e-5).told())
        yield World("near-miss", NetPool().lose(TWICE, 0.0009).later(0.5).told())
        yield World("received-twice", NetPool().lose(TWICE, 0.004).later(0.5).told(), one)
        yield World("dropped", NetPool().lose(DROPPED, 0.004, full).later(0.5).told(), one)
        yield World("sent-again", NetPool().lose(AGAIN, 0.004).later(0.5).told(), one)
        yield World("harmless", NetPool().lose(TWICE, 0.004).told(), one)
        yield World("no-gateway", NetPool(gateway=False).lose(TWICE, 0.004).told(), one)
        yield World("one-window", NetPool().lose(TWICE, 0.004, until=11).later(0.5, until=11).told())
        yield World("idle", NetPool(busy=0.003).lose(TWICE, 0.004).told())
        egress = NetPool().lose(AGAIN, 0.004).lose(PORT_DROPS, 0.004, away)
        yield World("look-alike-egress", egress.later(0.5).told())
        training = Fleet(gpus=0).put(SEGMENTS, COUNT, labels="direction=receive").put(TWICE, 600.0, nodes=["n1"])
        yield World("no-engine", training.tables(job=False))


def _late_s(found: Hosts, place: int, mask: Array) -> Array:
    """Return [windows]: by how much requests of a host's replicas come later to their first token than engines say."""
    told = found.told
    each_s = beyond(told, found.model(place), GATE_FIRST_S, FIRST_S) - gate_s(told, found.model(place))
    return spread(found, place, over_usual(each_s, mask), FIRST_S)


def _mean(values: Array) -> float:
    return float(values.mean())
