"""What the hosts of an inference engine tell of their network, and what the gateway sees of the answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import noise
from .noise import Array
from .series import Series, Shown
from .serving import ANSWER_TOKENS, BOUNDS_S, STALLED_SHARE, Serving, below
from .world import WINDOW_S

SEGMENT_BYTES = 1448.0
PROMPT_TOKEN_BYTES, ANSWER_TOKEN_BYTES, HEAD_BYTES = 4.5, 240.0, 2000.0  # OWN: one event of a stream a token
OTHER_SEGMENTS_PER_S = 60.0  # OWN: monitoring, heartbeats
USUAL_LOSS = 2e-5  # OWN: of segments, in a data centre
IN_FLIGHT_S = 0.02  # OWN: until what was sent is acknowledged
LONGEST_SHARE = 0.06  # OWN: of all that waits, in one of many connections
GATEWAY_S = 0.004  # there and back
JITTERED_SHARE = 0.06  # OWN: of tokens, before which the stream stands still


def series(one: Serving) -> Iterator[Series]:
    """Yield the series of one serving job's hosts and of its gateway."""
    yield from _Hosts(one).series()
    yield from _gateway(one)


class _Hosts:
    """Sums what the replicas of each host send and receive, [windows, hosts]."""

    def __init__(self, one: Serving) -> None:
        self.one, self.world = one, one.world
        self.nodes = np.unique(one.node)
        finished = one.finished
        self.into_bytes = self._summed(finished * (one.prompt_tokens * PROMPT_TOKEN_BYTES + HEAD_BYTES))
        self.out_bytes = self._summed(finished * (ANSWER_TOKENS * ANSWER_TOKEN_BYTES + HEAD_BYTES))
        other = OTHER_SEGMENTS_PER_S * WINDOW_S
        tokens = self._summed(finished * ANSWER_TOKENS)
        self.into = np.round(other + self.into_bytes / SEGMENT_BYTES + 0.5 * tokens)  # every second one is acknowledged
        self.out = np.round(other + tokens + 0.5 * self.into_bytes / SEGMENT_BYTES)

    def _summed(self, values: Array) -> Array:
        return np.stack([values[:, self.one.node == node].sum(axis=1) for node in self.nodes], axis=1)

    def _lost(self, name: str, of: Array, usual: float, part: float = 1.0) -> Array:
        ratio = usual + part * self.world.node.knob(name)[: len(of), self.nodes]
        return noise.rng(self.world.seed, name, f"{part}").poisson(of * ratio).astype(np.float64)

    def series(self) -> Iterator[Series]:
        """Yield what the kernel of each host counts of TCP, and its first interface."""
        for way, segments, size in (("receive", self.into, self.into_bytes), ("transmit", self.out, self.out_bytes)):
            yield self._host("tcp_segments_total", f"direction={way}", segments)
            yield self._port(f"ethernet_{way}_packets_total", "", segments)
            yield self._port(f"ethernet_{way}_bytes_total", "", size + 66.0 * segments)
        yield self._host("tcp_duplicate_segments_total", "", self._lost("resent_in", self.into, USUAL_LOSS))
        yield self._host("tcp_retransmitted_segments_total", "", self._lost("resent_out", self.out, USUAL_LOSS))
        yield self._host("tcp_drops_total", "cause=receive_queue", self._lost("dropped_in", self.into, 0.0, 0.5))
        yield self._port("ethernet_drops_total", "direction=receive", self._lost("dropped_in", self.into, 0.0, 0.4))
        yield self._port("ethernet_drops_total", "direction=transmit", self._lost("dropped_out", self.out, 0.0))
        per_s = self.one.finished * ANSWER_TOKENS * ANSWER_TOKEN_BYTES / WINDOW_S
        waiting = self._summed(per_s * self.one.outside_s["backlog_share"]) + IN_FLIGHT_S * self.out_bytes / WINDOW_S
        yield self._gauge("tcp_send_queue_bytes", waiting)
        yield self._gauge("tcp_send_queue_max_bytes", LONGEST_SHARE * waiting)

    def _host(self, metric: str, labels: str, values: Array) -> Series:
        return Series(f"skewscope_{metric}", labels, "node", True, lambda: Shown(values), at=self.nodes)

    def _port(self, metric: str, labels: str, values: Array) -> Series:
        first = self.nodes * self.world.fleet.gpus_per_node
        return Series(f"skewscope_{metric}", labels, "netdev", True, lambda: Shown(values), at=first)

    def _gauge(self, metric: str, values: Array) -> Series:
        return Series(f"skewscope_{metric}", "", "node", False, lambda: Shown(values, 0.1 * values), at=self.nodes)


def _gateway(one: Serving) -> Iterator[Series]:
    """Yield when tokens come back to the gateway: what happens outside of the engines is told here only."""
    tokens, outside = one.finished * ANSWER_TOKENS, one.outside_s
    jitter_s = outside["jitter_share"] / ANSWER_TOKENS
    first_s = one.first_s + one.gate_s + outside["ingress_share"] + outside["backlog_share"] + GATEWAY_S
    for metric, mean, count in (
        ("time_to_first_token_seconds", first_s, one.finished),
        ("inter_token_latency_seconds", one.between_s + one.stalled_s + jitter_s, tokens),
    ):
        yield _told(one, f"{metric}_sum", "", (mean * count).sum(axis=1, keepdims=True))
        yield _told(one, f"{metric}_count", "", count.sum(axis=1, keepdims=True))
    times = (
        (1.0 - STALLED_SHARE - JITTERED_SHARE, one.between_s),
        (STALLED_SHARE, one.between_s + one.stalled_s / STALLED_SHARE),
        (JITTERED_SHARE, one.between_s + jitter_s / JITTERED_SHARE),
    )
    for bound_s in (*BOUNDS_S, np.inf):
        within = np.sum([share * below(bound_s, median_s) for share, median_s in times], axis=0) * tokens
        text = "+Inf" if bound_s == np.inf else f"{bound_s:g}"
        counts = np.round(within.sum(axis=1, keepdims=True))
        yield _told(one, "inter_token_latency_seconds_bucket", f",le={text}", counts)


def _told(one: Serving, metric: str, more: str, values: Array) -> Series:
    name = one.job.plan.name
    labels = f"engine=gateway,model={name},replica={name}-gateway{more}"
    at = np.array([one.node[0]])
    return Series(f"skewscope_serving_gateway_{metric}", labels, "node", True, lambda: Shown(values), at=at)
