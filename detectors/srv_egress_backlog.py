"""Tokens that the GPU has made wait in the send queues of the host: the way out is slower than the engine.

Why it hurts
    Answers are done and nobody has them. Every token waits for all before it, first tokens too, so requests last longer
    although the engine is as fast as ever; in the end connections run into their timeouts.

How it is seen
    For two windows of 30 s the send queues of a host of engines hold what it sends in half a second or more, four times
    what others hold (or what it held before), in many connections, while the time between tokens in its engines is as
    usual. By Little's law the queue over the bytes that leave per second is how long a token waits; what that is beyond
    the usual is the price, as a share of a request's time.

Look-alikes
    A slow client: one connection holds half of the queue or more. `srv-egress-jitter`: tokens leave by fits and starts,
    the queue does not stay. `srv-ingress-loss`: segments are lost. Long paths: some of the queue is on its way and not
    yet acknowledged, alike on all hosts. A slow engine makes no queue.

What to do
    Look at the host's output path: queues of the interface, shapers, a proxy or tokeniser that one processor serves.
    More of them, larger frames of several tokens; route requests elsewhere meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import lasting

from ._serving import HELD_COUNT, LEAST_BEFORE, OF_COUNT, Array, engines, ratio
from ._serving_network import PORT_PACKETS, PORT_SENT, TOKEN_S, Hosts, finding, hosts, over_usual, struck
from ._serving_network_worlds import COUNT, SENT_BYTES, NetPool

QUEUED, LONGEST = "skewscope_tcp_send_queue_bytes", "skewscope_tcp_send_queue_max_bytes"
SLOW_BYTES = 6e5  # of the worlds' queues: two seconds of what a host sends


@dataclass(frozen=True)
class SrvEgressBacklog:
    """Thresholds: how long and large the queue is, that it is no single client's nor the engine's, and its price."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    waiting_s: float = 0.5  # that a token waits {D}: what is on its way takes a tenth of that
    queue_bytes: float = 65_536.0  # less is what one connection may hold on its way {D}
    header_bytes: float = 66.0  # of a segment on the wire {D: Ethernet, IP, TCP with time stamps}
    usual_ratio: float = 4.0  # of what other hosts hold {D}
    client_ratio: float = 0.5  # of the queue, in one connection: then that client is slow {D}
    token_ratio: float = 1.2  # of the usual time between tokens in the engine {D}: else the engine is slow
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A13: 30 s, and one that it must stay}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host in which answers wait."""
        found = hosts(engines(tables))
        if not found.node:
            return
        queued = found.tcp(tables, QUEUED, "mean")
        if not (queued >= self.queue_bytes).any():
            return
        headers = np.nan_to_num(found.tcp(tables, PORT_PACKETS)) * self.header_bytes  # queues hold none
        waits = ratio(queued, (found.tcp(tables, PORT_SENT) - headers) / found.told.window_s)
        longest = ratio(found.tcp(tables, LONGEST, "mean"), queued)
        mask = (queued >= self.queue_bytes) & (waits >= self.waiting_s)
        mask &= (queued >= self.usual_ratio * _usual(queued)) & ~(longest >= self.client_ratio)
        mask &= ~self._slow_engine(found)
        mask = lasting(mask, self.held_count, self.of_count)
        for place, subject in struck(found, mask):
            when = mask[:, place]
            wait_s, size = float(waits[when, place].mean()), float(queued[when, place].mean())
            yield finding(
                "srv-egress-backlog", found.told, found.columns[place], when, subject=subject,
                more_s=over_usual(waits[:, place], when), cost_ratio=self.cost_ratio,
                evidence=(
                    Evidence("waiting_to_be_sent", wait_s, None, self.waiting_s, "s"),
                    Evidence("send_queue", size, None, self.queue_bytes, "bytes"),
                ),
                summary=f"{size / 1e6:.1f} MB of answers wait in the send queues of {subject.id}, {wait_s:.1f} s of "
                "what it sends",
                advice="look at the host's output path: queues of the interface, shapers, a proxy on one processor",
            )  # fmt: skip

    def _slow_engine(self, found: Hosts) -> Array:
        """Return [windows, hosts]: where the engines take longer for a token than before, and than others."""
        told = found.told
        sums, counts = (found.summed(told.count(f"{TOKEN_S}_{part}")) for part in ("sum", "count"))
        each_s = ratio(sums, counts)
        return np.asarray(each_s > self.token_ratio * np.fmax(_usual(each_s), own_median(each_s, LEAST_BEFORE)[None]))

    def alert(self) -> Rule:
        """Return the alert: what waits over what leaves per second, in no single connection, on hosts of engines."""
        by = "on (node, instance)"
        sent = f"sum by (node, instance) (rate({PORT_SENT}[2m]))"
        return Rule(
            "SkewscopeSrvEgressBacklog",
            f"({QUEUED} >= {self.queue_bytes:g}) / {by} {sent} >= {self.waiting_s:g} "
            f"and {by} ({LONGEST} / {QUEUED} < {self.client_ratio:g}) and on (node) skewscope_serving_requests_running",
            30 * self.held_count, "warning", "answers wait in the send queues of {{ $labels.node }}",
            "what {{ $labels.instance }} sends waits {{ $value | humanizeDuration }} in the host",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is there a queue, is it one client's, does the engine hold it up, is it dropped."""
        drops = "skewscope_ethernet_drops_total"
        return (
            Check("queue", "Do answers wait in the send queues?", QUEUED, "mean", f">= {self.queue_bytes:g}", QUEUED,
                  "see `client`", "nothing waits"),
            Check("client", "Is most of it one connection's?", LONGEST, "mean", f">= {self.queue_bytes:g}",
                  f"{LONGEST} / {QUEUED}", "that client reads slowly: limit what is kept for it", "see `drops`",
                  after=("queue",)),
            Check("drops", "Does the interface drop what it should send?", drops, "rate", "> 0",
                  f'rate({drops}{{direction="transmit"}}[5m])', "see `srv-egress-jitter`",
                  "the way out is slow: shapers, a proxy or tokeniser on one processor",
                  {"direction": "transmit"}, ("client",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: on its way, nearly, slow, just slow, one client, a slow engine, alike, a moment, few bytes."""
        one = frozenset({"n1"})
        yield World("quiet", _waiting(9e3).told())
        yield World("near-miss", _waiting(1.4e5).told())
        yield World("waits", _waiting(SLOW_BYTES).told(), one)
        yield World("short", _waiting(0.25 * SLOW_BYTES + 1e4).told(), one)
        yield World("look-alike-client", _waiting(SLOW_BYTES, longest=0.8).told())
        slow = _waiting(SLOW_BYTES).serve("inter_token_latency_seconds_sum", 1200.0, nodes=["n1"])
        yield World("look-alike-engine", slow.told())
        alike = _waiting(SLOW_BYTES)
        alike.put(QUEUED, 0.5 * SLOW_BYTES, nodes=["n0", "n2", "n3"], since=10)
        yield World("everybody", alike.told())
        yield World("one-window", _waiting(SLOW_BYTES, until=11).told())
        few = _waiting(6e4)
        few.put(PORT_SENT, 0.1 * SENT_BYTES + 66.0 * COUNT, devices=["eth0"])
        yield World("few-bytes", few.told())


def _usual(values: Array) -> Array:
    """Return the median of the other hosts, of the host's own first windows where there are too few."""
    others = peer_median(values, np.zeros(values.shape[1]))
    return np.asarray(np.where(np.isfinite(others), others, own_median(values, LEAST_BEFORE)[None]))


def _waiting(size: float, *, longest: float = 0.1, until: int | None = None) -> NetPool:
    """Return a pool of which one host holds so many bytes, this share of them in one connection."""
    pool = NetPool()
    for metric, share in ((QUEUED, 1.0), (LONGEST, longest)):
        pool.put(metric, share * 9e3)
        pool.put(metric, share * size, nodes=["n1"], since=10, until=until)
    return pool
