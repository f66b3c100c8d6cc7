"""The PCIe link of a GPU or adapter runs with fewer lanes or a lower generation than it can, under load.

Why it hurts
    Half the lanes are half the bandwidth for all that crosses the link: input copies of one rank, or the traffic of
    its adapter, which in a ring slows everybody.

How it is seen
    Lanes or generation stay below their highest value in every look of most windows in which the GPU works or the
    adapter moves bytes, and others of the kind have theirs. It is the culprit where the rank on it is late, or where
    transfers became longer for all.

Look-alikes
    An idle GPU lowers its generation by itself, so idle ones are not judged. A slot that is narrower by design is so on
    all hosts. `pcie-saturation`: the link is whole and full. `pcie-error-replay`: it is whole and sends again.

What to do
    Reseat the card, the riser or the cable, look at the retimer's firmware; take the host out for validation (a copy
    test reaches 48 GB/s each way on H100) before it gets new work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from ._live import UTILIZATION
from ._live_groups import Array, Group, groups, judged
from ._live_pci import GENERATION, WIDTH, links, named
from ._live_worlds import Fleet

LANES, SPEED = "skewscope_pcie_link_width_lanes", "skewscope_pcie_link_transfers_per_second"
RATE = "skewscope_rdma_rate_bytes_per_second"
MOVED = ("skewscope_rdma_transmit_bytes_total", "skewscope_rdma_receive_bytes_total")


@dataclass(frozen=True)
class PcieLinkDegraded:
    """Thresholds: the load under which a link is judged, for how long, and what that costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    busy_ratio: float = 0.10  # utilisation {conditions A2}
    port_load_ratio: float = 0.01  # of an adapter's rate: then its link is not at rest {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # {conditions A2: 3 samples}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per GPU or adapter with a lesser link, per host of such links, or for the job."""
        yield from self._gpus(tables)
        for metric, unit, scale in ((LANES, "lanes", 1.0), (SPEED, "GT/s", 1e9)):
            most = signal(tables, metric, take="high", kind="max")
            told = replace(most, values=most.aligned(signal(tables, metric, take="high", kind="current")))
            adapters, mask = self._adapters(tables, told, most)
            for group in groups(adapters, mask, tables):
                now, full = group.mean(told.values) / scale, group.mean(most.values) / scale
                yield self._finding(tables, adapters, group, now, full, unit)

    def _gpus(self, tables: Frames) -> Iterator[Finding]:
        told = signal(tables, GENERATION, take="high", kind="current")
        here = links(told, tables)
        if not here.below.any():
            return
        mask = here.below & (told.aligned(signal(tables, UTILIZATION)) >= self.busy_ratio)
        strong = here.left_ratio * STRONG_RATIO <= 1
        for group in groups(told, lasting(mask, self.held_count, self.of_count, strong), tables):
            by_lanes = group.mean(here.lanes) < group.mean(here.most_lanes)
            now, most = (here.lanes, here.most_lanes) if by_lanes else (here.generation, here.most_generation)
            unit = "lanes" if by_lanes else "generation"
            found = self._finding(tables, told, group, group.mean(now), group.mean(most), unit)
            left = Evidence("bandwidth_left", group.mean(here.left_ratio), 1.0, None, "ratio")
            yield replace(found, evidence=(*found.evidence, left))

    def _adapters(self, tables: Frames, told: Signal, most: Signal) -> tuple[Signal, Array]:
        """Return links by adapter, and [windows, links] where one under load is below its peers; NVML tells of GPUs."""
        below = told.values < most.values
        if not below.any():
            return told, below
        below &= told.values < peer_median(told.values, np.nan_to_num(most.values).max(axis=0))
        adapters, rate = named(told, tables, below), signal(tables, RATE)
        moved = np.fmax(*(rate.aligned(signal(tables, metric, take="increase")) for metric in MOVED))
        load = replace(rate, values=moved / rate.window_s / rate.values)
        loaded = adapters.aligned(load) >= self.port_load_ratio
        strong = told.values * STRONG_RATIO <= most.values
        return adapters, lasting(below & loaded, self.held_count, self.of_count, strong)

    def _finding(self, tables: Frames, told: Signal, group: Group, now: float, full: float, unit: str) -> Finding:
        return judged(
            "pcie-link-degraded", tables, told, group, cost_ratio=self.cost_ratio, least="S3", link=True, proven=True,
            evidence=(Evidence(f"link_{unit.replace('/', '_')}", now, full, full, unit),),
            summary=f"the PCIe link of {group.name(told)} runs with {now:g} {unit} of {full:g} under load",
            advice="reseat the card, riser or cable and validate the host before it gets new work",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: lanes or generation below their highest value while the GPU works."""
        lesser = " or ".join(
            f'{metric}{{kind="current"}} < ignoring (kind) {metric}{{kind="max"}}' for metric in (WIDTH, GENERATION)
        )
        return Rule(
            "SkewscopePcieLinkDegraded", f"({lesser}) and on (instance, gpu) {UTILIZATION} >= {self.busy_ratio:g}",
            30 * self.held_count, "warning", "GPU {{ $labels.gpu }} of {{ $labels.instance }} has a lesser PCIe link",
            "the PCIe link of GPU {{ $labels.gpu }} on {{ $labels.instance }} is at {{ $value }} under load",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: load, lanes, generation, retraining, and who is late."""
        recovery, phase = "skewscope_gpu_pcie_recovery_entries_total", "skewscope_phase_seconds_total"
        return (
            Check("load", "Does the GPU work, so that its link may be judged?", UTILIZATION, "mean",
                  f">= {self.busy_ratio:g}", UTILIZATION, "see `lanes` and `generation`",
                  "an idle GPU may rest its link: look again under load"),
            Check("lanes", "Has the link lost lanes?", WIDTH, "high", "< 16", f'{WIDTH}{{kind="current"}}',
                  "a contact, riser or retimer: reseat", "all lanes are there", {"kind": "current"}, ("load",)),
            Check("generation", "Is it below the generation of the slot?", GENERATION, "high", "< 5",
                  f'{GENERATION}{{kind="current"}} < ignoring (kind) {GENERATION}{{kind="max"}}',
                  "it could not train higher: retimer, firmware, or a BIOS limit where all are so",
                  "it runs at its generation", {"kind": "current"}, ("load",)),
            Check("retrains", "Does it retrain now and then?", recovery, "increase", ">= 1",
                  f"increase({recovery}[1h])", "the signal is bad: see `pcie-error-replay`", "it is stable as it is"),
            Check("copies", "Do copies take long on that rank?", phase, "rate", ">= 0.05",
                  f'rate({phase}{{phase="h2d"}}[5m])', "the link costs steps: take the host out",
                  "it may still slow the network", {"phase": "h2d"}, ("lanes",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: whole, idle, for a moment, full and whole, few lanes, low generation, adapter, all hosts."""
        yield World("quiet", _fleet().tables())
        idle = _fleet().put(UTILIZATION, 0.09, nodes=["n0"], devices=["gpu1"])
        yield World("near-miss", idle.put(WIDTH, 8.0, labels="kind=current", devices=["gpu1"], nodes=["n0"]).tables())
        yield World("for-a-moment", _lanes(12.0, until=12).tables())
        yield World("look-alike-late", _fleet().late(1, 0.1).tables())
        yield World("lanes", _lanes(8.0).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        low = _fleet().put(GENERATION, 3.0, labels="kind=current", nodes=["n0"], devices=["gpu1"], since=10)
        yield World("generation", low.slow_transfer(0.1).tables(), frozenset({"n0/gpu1"}))
        every = _fleet().put(GENERATION, 4.0, labels="kind=current", devices=[f"gpu{n}" for n in range(4)])
        yield World("all-hosts", every.tables(), frozenset({"llm"}))
        yield World("adapter", _adapter(8.0).slow_transfer(0.1).tables(), frozenset({"n0/mlx5_1"}))
        yield World("narrow-by-design", _adapter(8.0, others=8.0).slow_transfer(0.1).tables())


def _fleet() -> Fleet:
    return Fleet()


def _lanes(lanes: float, until: int | None = None) -> Fleet:
    where = {"nodes": ["n0"], "devices": ["gpu1"]}
    return Fleet().put(WIDTH, lanes, labels="kind=current", **where, since=10, until=until)


def _adapter(lanes: float, others: float = 16.0) -> Fleet:
    """Return a fleet whose adapters move bytes; the links of one and of the others have so many lanes of 16."""
    fleet, address = Fleet(), "0000:2b:00.0"
    fleet.put(RATE, 50e9, devices=fleet.nics)
    fleet.put(MOVED[0], 5e9 * 30, devices=fleet.nics)
    fleet.put("skewscope_rdma_info", 1.0, labels=f"pci_bus_id={address}", nodes=["n0"], devices=["mlx5_1"])
    for kind, value in (("max", 16.0), ("current", others)):
        fleet.put(LANES, value, labels=f"kind={kind}", devices=[address, "0000:1b:00.0"])
    return fleet.put(LANES, lanes, labels="kind=current", nodes=["n0"], devices=[address], since=10)
