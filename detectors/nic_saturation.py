"""A network port carries nearly all that its link can, and the job on its host gets what is left.

Why it hurts
    Checkpoints, another job's storage or all traffic on one rail fill the port. The collectives of the rank behind it
    share what is left, every ring that crosses it runs at that rate, and all ranks wait.

How it is seen
    What a port sends or receives is 90 % of the rate that it trained to, on average over two windows of 30 s of three.
    Adapters and kernel interfaces are judged alike, each against its own rate. Culprit where the job's transfers have
    become longer since, or where nobody can tell: no job makes steps there, or it was so from the start. Half of the
    fleet's ports at once are one finding about the job, which is a culprit only where it costs something.

Look-alikes
    `rail-imbalance`: another port of the host has lost its bytes to this one; told there. `nic-link-down`: it trained
    to a lower rate than its rail. `fabric-congestion`: the switches are full, the port is not. `pcie-saturation`: the
    slot is full. One window alone is a checkpoint on its way out.

What to do
    Move storage and checkpoints to another port or spread them over time, spread the job over all rails, place jobs
    that move much on other hosts; add adapters where it is always so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import SEVERITIES, Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal

from . import _ports
from ._live_groups import Group, groups, judged
from ._live_worlds import Fleet
from ._port_worlds import fleet, port
from ._ports import RATE, RECEIVED, SENT, Array

ETHERNET = tuple(f"skewscope_ethernet_{what}" for what in
                 ("transmit_bytes_total", "receive_bytes_total", "speed_bytes_per_second"))  # fmt: skip
LINKS = ((SENT, RECEIVED, RATE), ETHERNET)
FULL_BYTES = 0.95 * 50e9 * 30.0  # of the worlds' ports in a window


@dataclass(frozen=True)
class NicSaturation:
    """Thresholds: how full a port is, for how long, and what that costs."""

    category: ClassVar[str] = "nic"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    full_ratio: float = 0.9  # of the rate of the link {conditions A13}
    moved_ratio: float = 0.25  # of what its rail carries elsewhere: a port with less has lost it to another {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 2  # windows: {conditions A13: 30 s}, and one more, as a checkpoint fills one {D}
    of_count: int = 3

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per full port, per host of such ports, or for the job."""
        for sent, received, rate in LINKS:
            told = _ports.known(tables, sent, "increase")
            if not len(told):
                continue
            ways = [told.values, told.aligned(_ports.known(tables, received, "increase"))]
            most = told.aligned(_ports.known(tables, rate, "last"))
            loads = replace(told, values=_ports.ratio(np.fmax(*ways) / told.window_s, most))
            full = loads.values >= self.full_ratio
            if not full.any():
                continue
            full &= ~self._gains(told)
            for group in groups(loads, lasting(full, self.held_count, self.of_count), tables):
                yield self._finding(tables, loads, group, most)

    def _gains(self, told: Signal) -> Array:
        """Return [windows, ports]: where another port of the host carries little of what its rail does elsewhere."""
        share = _ports.ratio(told.values, peer_median(told.values, told.device))
        lost = share < self.moved_ratio
        return np.asarray(_ports.others_mean(lost.astype(float), told.node) > 0)

    def _finding(self, tables: Frames, loads: Signal, group: Group, most: Array) -> Finding:
        load, rate = group.mean(loads.values), group.mean(most)
        found = judged(
            "nic-saturation", tables, loads, group, cost_ratio=self.cost_ratio, link=True, proven=not group.wide,
            evidence=(
                Evidence("load", load, None, self.full_ratio, "ratio"),
                Evidence("link_rate", rate, None, None, "bytes/s"),
            ),
            summary=f"{group.name(loads)} carries {load:.0%} of its {rate * 8e-9:.0f} Gb/s",
            advice="move storage and checkpoints to another port or another time, and spread the job over all rails",
        )  # fmt: skip
        if found.role != "culprit":
            return found
        return replace(found, severity=min(found.severity, "S3", key=SEVERITIES.index))

    def alert(self) -> Rule:
        """Return the alert: a port sends or receives nearly as much as its link carries."""
        by = "on (node, instance, device, port)"
        return Rule(
            "SkewscopeNicSaturation",
            f"rate({SENT}[1m]) / {by} {RATE} >= {self.full_ratio:g} or "
            f"rate({RECEIVED}[1m]) / {by} {RATE} >= {self.full_ratio:g}",
            30 * (self.held_count - 1), "warning", "{{ $labels.device }} of {{ $labels.node }} is full",
            "{{ $labels.device }} carries {{ $value | humanizePercentage }} of the rate of its link",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it full, is its rate whole, is it the rail's, whose are the bytes."""
        stored = "skewscope_nfs_bytes_total"
        return (
            Check("load", "Does the port carry nearly all it can?", SENT, "rate", f">= {self.full_ratio * 50e9:g}",
                  f"rate({SENT}[2m]) / on (node, instance, device, port) {RATE}", "see `rate`", "it has room"),
            Check("rate", "Did it train to the rate of its rail?", RATE, "low", ">= 50e9", RATE, "see `rail`",
                  "see `nic-link-down`", after=("load",)),
            Check("rail", "Do the host's other ports carry their part?", SENT, "rate", ">= 1e9",
                  f"rate({SENT}[2m])", "see `storage`", "see `rail-imbalance`", after=("rate",)),
            Check("storage", "Does the host write to storage meanwhile?", stored, "rate", ">= 1e8",
                  f"rate({stored}[2m])", "move checkpoints to another port or another time",
                  "another job or service sends through this port: find it by its connections", after=("rail",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: usual, nearly full, full, received, a checkpoint, a lost rail, a slower link, all, a store."""
        one = frozenset({"n1/mlx5_0"})
        yield World("quiet", fleet().tables())
        yield World("near-miss", _full(0.93 * FULL_BYTES).slow_transfer(0.1).tables())
        yield World("full", _full(FULL_BYTES).slow_transfer(0.1).tables(), one)
        yield World("harmless", _full(FULL_BYTES).tables(), one)
        yield World("received", port(fleet(), RECEIVED, FULL_BYTES).slow_transfer(0.1).tables(), one)
        yield World("checkpoint", _full(FULL_BYTES, until=11).tables())
        moved = port(_full(FULL_BYTES), SENT, 0.0, device="mlx5_1").slow_transfer(0.1)
        yield World("look-alike-rail", moved.tables())
        slower = port(port(fleet(), RATE, 25e9, since=0), SENT, 0.5 * FULL_BYTES).slow_transfer(0.1)
        yield World("slower-link", slower.tables(), one)
        every = fleet()
        every.put(SENT, FULL_BYTES, devices=every.nics, since=10).slow_transfer(0.1)
        yield World("everybody", every.tables(), frozenset({"llm"}))
        store = Fleet(gpus=0)
        for metric, value in zip(ETHERNET, (1e10, 1e10, 12.5e9), strict=True):
            store.put(metric, value, devices=["eth0"])
        store.put(ETHERNET[0], 0.95 * 12.5e9 * 30.0, nodes=["n1"], devices=["eth0"], since=10)
        yield World("kernel-interface", store.tables(job=False), frozenset({"n1/eth0"}))


def _full(value: float, until: int | None = None) -> Fleet:
    """Return a fleet of which one port sends so many bytes in a window."""
    return port(fleet(), SENT, value, until=until)
