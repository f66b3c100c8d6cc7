"""Adapters as the agent's RDMA and ethtool collectors show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from . import noise
from .activity import Activity
from .noise import Array
from .series import Series, Shown
from .world import WINDOW_S, World

PACKET_BYTES = 4096.0  # the usual MTU of RDMA
TICK_BYTES = 128.0  # of the transmit-wait counter: 32 bytes on each of 4 lanes (ibdiagnet manual)
USUAL_WAIT_SHARE = 0.004  # OWN: waiting for one's turn on a healthy port while it sends
WRAPPING = ("skewscope_rdma_retransmissions_total", "skewscope_rdma_congestion_events_total",
            "skewscope_rdma_retries_exceeded_total")  # fmt: skip


class NicSeries:
    """Computes what adapters show, [windows, adapters]."""

    def __init__(self, world: World, activity: Activity) -> None:
        self.world, self.activity, self.windows = world, activity, len(activity.held)
        self.away = np.clip(world.nic.knob("away")[: self.windows], 0.0, 1.0)

    def sent_bytes(self) -> Array:
        """Bytes sent, by the weights of the rails; what a job sends does not depend on how long it takes."""
        return self._bytes("sent")

    def received_bytes(self) -> Array:
        """Bytes received: rings send on what they get."""
        return self._bytes("received")

    def _bytes(self, way: str) -> Array:
        weight = self.world.nic.knob("weight")[: self.windows]
        idle = 2e5 * WINDOW_S  # subnet and link management
        own = self.activity.wire_bytes * weight + idle
        line = self.world.fleet.hardware.nic_bytes_per_s * WINDOW_S
        filled = self.world.nic.knob(f"filled_{way}")[: self.windows] * line  # by others who take what the job leaves
        return noise.smooth(np.maximum(own, filled), self.world.seed, way, 0.004)

    def series(self) -> Iterator[Series]:
        """Yield the series that follow from load and knobs, and counters that grow with packets."""
        sent, received = self.sent_bytes, self.received_bytes
        yield _counter("skewscope_rdma_transmit_bytes_total", "", lambda: Shown(sent()))
        yield _counter("skewscope_rdma_receive_bytes_total", "", lambda: Shown(received()))
        yield _counter("skewscope_rdma_transmit_packets_total", "", lambda: Shown(np.floor(sent() / PACKET_BYTES)))
        yield _counter("skewscope_rdma_receive_packets_total", "", lambda: Shown(np.floor(received() / PACKET_BYTES)))
        yield _counter("skewscope_rdma_transmit_wait_ticks_total", "", self._wait)
        for way, knob in (("receive", "pause_received"), ("transmit", "pause_sent")):
            share = self.world.nic.knob(knob)[: self.windows]
            labels = f"priority=3,direction={way}"
            yield _counter("skewscope_nic_pause_seconds_total", labels, _shown(share * WINDOW_S))
            frames = np.floor(share * WINDOW_S * 4e4)  # a frame asks for at most 65,535 times 512 bits
            yield _counter("skewscope_nic_pause_frames_total", labels, _shown(frames))
        for (metric, labels), ratio in self.world.nic.per_packet.items():
            counted = self.world.nic.counts.get((metric, labels))
            yield _counter(metric, labels, self._per_packet(metric, labels, ratio, counted), bits=_bits(metric))

    def _wait(self) -> Shown:
        share = USUAL_WAIT_SHARE * self.activity.transfer + self.world.nic.knob("wait_share")[: self.windows]
        ticks_per_s = self.world.fleet.hardware.nic_bytes_per_s / TICK_BYTES
        return Shown(noise.smooth(share * WINDOW_S * ticks_per_s, self.world.seed, "waiting", 0.1))

    def _per_packet(self, metric: str, labels: str, ratio: Array, counted: Array | None) -> Callable[[], Shown]:
        def make() -> Shown:
            packets = self.sent_bytes() / PACKET_BYTES
            drawn = noise.rng(self.world.seed, metric, labels).poisson(packets * ratio[: self.windows])
            more = 0.0 if counted is None else counted[: self.windows]
            return Shown(drawn + more)

        return make


def _bits(metric: str) -> int:
    """Return the width of a counter: mlx5 keeps 32 bits of what its hardware counts."""
    return 32 if metric in WRAPPING else 64


def _counter(metric: str, labels: str, make: Callable[[], Shown], bits: int = 64) -> Series:
    return Series(metric, labels, "nic", True, make, bits=bits)


def _shown(values: Array) -> Callable[[], Shown]:
    return lambda: Shown(values)
