"""GPUDirect traffic of a host goes through its CPUs instead of straight from GPU to adapter.

Why it hurts
    Bytes that could pass one switch go up to the CPU and down again, or are copied through host memory by NCCL's
    threads: half the bandwidth or less on that host, and in a ring everybody has the slowest host's bandwidth.

How it is seen
    GPUDirect maps device memory for the adapter. On a host where next to none is mapped while the other hosts of the
    job map theirs, adapters cannot reach the GPUs. Or a GPU has no adapter near it in the PCI tree where the same slot
    of the other hosts has one. ACS bits of switches and the peer status of the driver are not told by the agent: ask
    the host. It is the culprit where transfers became longer, or NCCL's threads are busy copying since the start.

Look-alikes
    Virtual machines need access control and show no tree: there all hosts are alike. `rail-imbalance`: one adapter is
    used less. `host-numa-misbinding`: the rank is far, the adapter near. `pcie-link-degraded`: the path is right, the
    link is not.

What to do
    Load `nvidia_peermem` (or use DMA-BUF), switch ACS off on the switch ports of bare metal, check the topology that
    NCCL prints and that the container sees all devices. Keep jobs of several hosts off it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import signal

from ._group_calls import from_the_start
from ._live import UTILIZATION, busy, roles
from ._live_groups import groups, judged
from ._live_shares import known_or
from ._live_worlds import Fleet

MAPPED, AFFINITY = "skewscope_gpu_bar1_used_bytes", "skewscope_gpu_nic_affinity_info"
CPU, NEAR = "skewscope_rank_cpu_seconds_total", ("same_switch", "same_root")


@dataclass(frozen=True)
class PcieP2pMisroute:
    """Thresholds: mapped memory against the peers', cores that copy, and what that costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    mapped_ratio: float = 0.25  # of the peers' median {D}
    least_mapped_bytes: float = 64.0 * 2**20  # that peers map: less is no GPUDirect {D}
    copying_ratio: float = 0.3  # of a core, beyond the peers': threads that copy through host memory {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s; set-up does not come and go {D}
    of_count: int = 6

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per GPU whose traffic takes the long way, per host of such GPUs, or for the job."""
        seen: set[str] = set()
        for found in (*self._mapped(tables), *self._far(tables)):
            if not {found.subject.id, found.subject.node} & seen:
                seen |= {found.subject.id, found.subject.node} - {""}
                yield found

    def _mapped(self, tables: Frames) -> Iterator[Finding]:
        told = signal(tables, MAPPED)
        jobs = roles(told, tables)
        usual = peer_median(told.values, jobs)
        little = (told.values <= self.mapped_ratio * usual) & (usual >= self.least_mapped_bytes) & (jobs != "")[None]
        if not little.any():
            return
        strong = told.values * STRONG_RATIO <= self.mapped_ratio * usual
        mask = lasting(little & busy(told, tables), self.held_count, self.of_count, strong)
        cpu = signal(tables, CPU, take="increase").rate()
        beyond = told.aligned(
            replace(cpu, values=cpu.values - known_or(peer_median(cpu.values, roles(cpu, tables)), 0.0))
        )
        for group in groups(told, mask, tables):
            mapped, peers, more = group.mean(told.values), group.mean(usual), group.mean(beyond)
            evidence = [Evidence("mapped_memory", mapped, peers, self.mapped_ratio * peers, "bytes")]
            evidence += [Evidence("copying_cores", more, 0.0, self.copying_ratio, "cores")] if np.isfinite(more) else []
            found = judged(
                "pcie-p2p-misroute", tables, told, group, cost_ratio=self.cost_ratio, least="S3", link=True,
                proven=more >= self.copying_ratio, evidence=evidence, confidence=0.8,
                summary=f"{group.name(told)} maps {mapped / 2**20:.0f} MiB for adapters where its peers map "
                f"{peers / 2**20:.0f} MiB: its traffic goes through the host",
                advice="load nvidia_peermem or use DMA-BUF, and switch ACS off on the switch ports of bare metal",
            )  # fmt: skip
            node = str(told.node[group.columns[0]])
            yield from_the_start(found, tables, node, group.mask) if found.role == "culprit" else found

    def _far(self, tables: Frames) -> Iterator[Finding]:
        """Yield findings about GPUs without a near adapter where most of the same slot have one."""
        near = signal(tables, AFFINITY, level=NEAR)
        if not len(near):
            return
        told = signal(tables, UTILIZATION)
        here = np.where(np.isfinite(told.values), known_or(told.aligned(near), 0.0), np.nan)
        usual = peer_median(here, told.device)
        mask = lasting((here == 0) & (usual >= 1) & busy(told, tables), self.held_count, self.of_count)
        for group in groups(told, mask, tables):
            yield judged(
                "pcie-p2p-misroute", tables, told, group, cost_ratio=self.cost_ratio, least="S4", link=True,
                evidence=(Evidence("near_adapters", 0.0, 1.0, 1.0, "adapters"),), confidence=0.7,
                summary=f"{group.name(told)} has 0 adapters near it, where the same slot of other hosts has one",
                advice="check that the container sees the adapters and the PCI tree, and the slots of the cards",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: next to nothing is mapped where the other hosts map much."""
        median = f"scalar(quantile(0.5, {MAPPED}))"
        return Rule(
            "SkewscopePcieP2pMisroute",
            f"{MAPPED} <= {self.mapped_ratio:g} * {median} and on () vector({median}) >= {self.least_mapped_bytes:g} "
            f"and on (instance, gpu) {UTILIZATION} >= 0.5",
            600, "warning", "GPUDirect of GPU {{ $labels.gpu }} of {{ $labels.instance }} goes through the host",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} maps {{ $value | humanize1024 }}B for adapters, less than "
            "those of other hosts",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: mapped memory, cores that copy, the tree, and the network's rate."""
        sent = "skewscope_rdma_transmit_bytes_total"
        return (
            Check("mapped", "Is device memory mapped for adapters?", MAPPED, "mean", f"< {self.least_mapped_bytes:g}",
                  MAPPED, "no GPUDirect here: `lsmod | grep nvidia_peermem`, `NCCL_DEBUG=INFO` says GDRDMA or not",
                  "adapters reach the GPU; ACS may still send them the long way: `lspci -vvv | grep ACSCtl`"),
            Check("copying", "Do ranks there use more CPU than others?", CPU, "rate", "> 1.2", f"rate({CPU}[5m])",
                  "NCCL's threads copy through host memory", "nobody copies on CPUs", after=("mapped",)),
            Check("tree", "Is an adapter near each GPU?", AFFINITY, "last", ">= 1",
                  f'count by (instance, gpu) ({AFFINITY}{{level=~"same_switch|same_root"}})',
                  "the tree is right", "the container hides devices, or cards are in the wrong slots",
                  {"level": "same_switch"}),
            Check("network", "Do its adapters send as much as others?", sent, "rate", "> 1e8", f"rate({sent}[5m])",
                  "they do: the long way is wide enough", "compare with other hosts: the host is the slow one"),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: mapped, a little less, idle, nobody maps, slow alone, none mapped, no near adapter."""
        yield World("quiet", _maps(256.0).tables())
        yield World("near-miss", _maps(70.0).slow_transfer(0.1).tables())
        yield World("idle", _maps(6.0).put(UTILIZATION, 0.0, nodes=["n2"]).put(
            UTILIZATION, 0.0, nodes=["n2"], devices=[f"gpu{n}" for n in range(4)]).tables())  # fmt: skip
        yield World("nobody", _maps(6.0, others=40.0).slow_transfer(0.1).tables())
        yield World("look-alike-slow", _maps(256.0).slow_transfer(0.1).tables())
        yield World("through-host", _maps(6.0).slow_transfer(0.1).tables(), frozenset({"n2"}))
        tree = Fleet(nodes=4)
        tree.put(AFFINITY, 1.0, labels="device=mlx5_0,level=same_switch", devices=tree.gpus, nodes=["n0", "n1", "n2"])
        tree.put(AFFINITY, 1.0, labels="device=mlx5_0,level=same_switch", devices=tree.gpus[1:], nodes=["n3"])
        tree.put(AFFINITY, 1.0, labels="device=mlx5_0,level=system", devices=["gpu0"], nodes=["n3"])
        yield World("far", tree.tables(), frozenset({"n3/gpu0"}))


def _maps(mib: float, others: float = 256.0) -> Fleet:
    """Return a fleet of which one host maps so much of each GPU's memory, from the eleventh window on."""
    fleet = Fleet(nodes=4)
    fleet.put(MAPPED, others * 2**20, devices=fleet.gpus)
    return fleet.put(MAPPED, mib * 2**20, nodes=["n2"], devices=fleet.gpus, since=10)
