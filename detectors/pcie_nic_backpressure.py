"""An adapter waits for the host: PCIe or memory takes its bytes too slowly.

Why it hurts
    What arrives fills the adapter's buffer. Then it stops its peers with pause frames, or drops and they send again;
    the pauses spread over the fabric and slow jobs that never use this host.

How it is seen
    The driver counts the seconds in which the adapter waited for PCIe credits for more than 30 % of the time. They are
    many in most windows, beyond those of the other adapters. Overflowing buffers and pauses that this adapter sends
    make it the source; it is the culprit where transfers became longer.

Look-alikes
    `pfc-storm`: pauses are received, and this host's adapters do not wait. `ib-credit-starvation` and
    `fabric-congestion`: the sender waits for the network. `pcie-link-degraded`: the adapter's link has lost lanes and
    explains the waiting. All adapters at full load wait a little, alike.

What to do
    Relaxed ordering on, IOMMU in pass-through mode, memory of all channels in place, the BIOS profile for throughput;
    check the slot's lanes. Keep new work off the host until it is validated: it disturbs others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from ._live_groups import Group, groups, judged, peers_of_counts
from ._live_worlds import Fleet

STALLED, ERRORS = "skewscope_nic_pcie_stalled_seconds_total", "skewscope_nic_errors_total"
PAUSED, PAUSES = "skewscope_nic_pause_seconds_total", "skewscope_nic_pause_frames_total"


@dataclass(frozen=True)
class PcieNicBackpressure:
    """Thresholds: how long adapters wait for PCIe beyond others, and what that costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    stalled_ratio: float = 5 / 60  # of the time, beyond the peers' {conditions A2: more than 5 such seconds a minute}
    peers_ratio: float = 3.0  # times the peers' {D, as for credits: conditions D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per adapter that waits for its host, per host of such adapters, or for the fleet."""
        told = signal(tables, STALLED, take="increase").rate()
        if not (told.values >= self.stalled_ratio).any():
            return
        usual = peers_of_counts(told, tables)
        beyond = told.values - usual
        mask = (beyond >= self.stalled_ratio) & (told.values >= self.peers_ratio * usual)
        strong = beyond >= STRONG_RATIO * self.stalled_ratio
        for group in groups(told, lasting(mask, self.held_count, self.of_count, strong), tables):
            yield self._finding(tables, told, group, group.mean(usual))

    def _finding(self, tables: Frames, told: Signal, group: Group, usual: float) -> Finding:
        share = group.mean(told.values)
        sent = group.mean(told.aligned(signal(tables, PAUSED, take="increase", direction="transmit").rate()))
        overflows = group.mean(
            told.aligned(signal(tables, ERRORS, take="increase", error=("pcie_buffer_overflow", "discard")).rate())
        )
        evidence = [Evidence("pcie_stalled", share, usual, usual + self.stalled_ratio, "ratio")]
        if np.isfinite(sent):
            evidence.append(Evidence("pause_sent", sent, 0.0, None, "ratio"))
        if np.isfinite(overflows):
            evidence.append(Evidence("overflows", overflows, 0.0, None, "packets_per_s"))
        source = sent > 0 or overflows > 0
        return judged(
            "pcie-nic-backpressure", tables, told, group, cost_ratio=self.cost_ratio, evidence=evidence, link=True,
            least="S3" if source else "S4", proven=source, confidence=0.9 if source else 0.75,
            summary=f"{group.name(told)} waits for PCIe in {share:.0%} of the seconds, where {usual:.0%} is usual"
            + (", and stops or drops what its peers send" if source else ""),
            advice="check relaxed ordering, IOMMU, memory and the slot; keep new work off the host until validated",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: an adapter waits for PCIe in many seconds."""
        return Rule(
            "SkewscopePcieNicBackpressure", f"sum without (direction) (rate({STALLED}[2m])) >= {self.stalled_ratio:g}",
            30 * self.held_count, "warning", "{{ $labels.device }} of {{ $labels.instance }} waits for PCIe",
            "{{ $labels.device }} of {{ $labels.instance }} waits for PCIe credits for {{ $value }} s a second",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: waiting, who pauses whom, what is dropped, and the slot."""
        lanes, wait = "skewscope_pcie_link_width_lanes", "skewscope_rdma_transmit_wait_ticks_total"
        return (
            Check("stalled", "Does the adapter wait for PCIe?", STALLED, "rate", f">= {self.stalled_ratio:g}",
                  f"rate({STALLED}[5m])", "the host is slow: see `pauses` and `slot`", "the host keeps up: see `wait`"),
            Check("pauses", "Does it stop its peers?", PAUSES, "rate", "> 0",
                  f'rate({PAUSES}{{direction="transmit"}}[5m])', "it is the source: take it out of the fabric first",
                  "it does not disturb others so", {"direction": "transmit"}, ("stalled",)),
            Check("drops", "Does its buffer overflow?", ERRORS, "rate", "> 0",
                  f'rate({ERRORS}{{error="pcie_buffer_overflow"}}[5m])', "packets are lost and sent again",
                  "nothing is lost", {"error": "pcie_buffer_overflow"}, ("stalled",)),
            Check("slot", "Has its slot all lanes?", lanes, "low", ">= 16", f'{lanes}{{kind="current"}}',
                  "memory, IOMMU or ordering: read the BIOS profile", "see `pcie-link-degraded`", {"kind": "current"},
                  ("stalled",)),
            Check("wait", "Does it wait for the network instead?", wait, "rate", "> 0", f"rate({wait}[5m])",
                  "see `ib-credit-starvation` and `pfc-storm`", "it waits for nobody"),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, few seconds, a moment, all alike, paused by others, waiting, a whole host."""
        yield World("quiet", _waits(0.0).tables())
        yield World("near-miss", _waits(2.4).slow_transfer(0.1).tables())
        yield World("a-moment", _waits(25.0, until=11).tables())
        every = Fleet()
        yield World("all-alike", every.put(STALLED, 6.0, labels="direction=write", devices=every.nics).tables())
        paused = _waits(0.0).put(PAUSED, 9.0, labels="priority=3,direction=receive", devices=["mlx5_0", "mlx5_1"])
        yield World("look-alike-paused", paused.slow_transfer(0.1).tables())
        sends = _waits(20.0).put(PAUSED, 4.0, labels="priority=3,direction=transmit", nodes=["n0"],
                                 devices=["mlx5_1"], since=10)  # fmt: skip
        yield World("waiting", sends.slow_transfer(0.1).tables(), frozenset({"n0/mlx5_1"}))
        host = Fleet(nodes=4)
        host.put(STALLED, 0.0, labels="direction=write", devices=host.nics)
        host.put(STALLED, 20.0, labels="direction=write", nodes=["n2"], devices=host.nics, since=10)
        yield World("host", host.slow_transfer(0.1).tables(), frozenset({"n2"}))


def _waits(stalled_s: float, until: int | None = None) -> Fleet:
    """Return a fleet of which one adapter waits for PCIe for so many seconds of each window."""
    fleet = Fleet()
    fleet.put(STALLED, 0.0, labels="direction=write", devices=fleet.nics)
    where = {"nodes": ["n0"], "devices": ["mlx5_1"]}
    return fleet.put(STALLED, stalled_s, labels="direction=write", **where, since=10, until=until)
