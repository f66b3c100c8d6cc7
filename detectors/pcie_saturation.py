"""A PCIe link, or the port that devices under one switch share, carries nearly all it can.

Why it hurts
    Input copies, network traffic and local disks share a root port. When it is full, each gets what is left: copies
    take longer, the adapter waits for credits, and the rank below comes late although nothing is broken.

How it is seen
    What a GPU's link carries one way is near what copies reach over it, on average over most windows; or half of that
    and twice what is usual, as a link that is full half of the time averages. Or the bytes between host and GPUs below
    one switch, without those that adapters there exchange with GPUs directly, fill its port in the same way. The link
    has all its lanes.

Look-alikes
    `pcie-link-degraded`: few bytes fill a lesser link; told there. `pcie-error-replay`: packets are sent again.
    `nic-saturation`: the port of the network is full, not the slot. Traffic that is high on all GPUs alike and costs
    nothing is how the job works.

What to do
    Stagger copies and checkpoints, move the local disk's readers to another switch, use GPUDirect so that the network
    stays below the switch, spread ranks that copy much over sockets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, parsed, signal

from ._live import roles
from ._live_groups import BEFORE, Array, Group, groups, judged
from ._live_pci import RECEIVED, SENT, below_max, capacity
from ._live_shares import known_or
from ._live_worlds import Fleet

AFFINITY = "skewscope_gpu_nic_affinity_info"
NIC_RECEIVED, NIC_SENT = "skewscope_rdma_receive_bytes_total", "skewscope_rdma_transmit_bytes_total"


@dataclass(frozen=True)
class PcieSaturation:
    """Thresholds: how full, for which part of the time, against what is usual, and what that costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    full_ratio: float = 0.85  # of what copies reach {conditions A2}
    time_ratio: float = 0.5  # of the time {conditions A2}
    usual_ratio: float = 2.0  # times what is usual: then half of the time may be full {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per GPU whose link is full, per host of such GPUs or full switches, or for the job."""
        ways = [signal(tables, metric, take="increase").rate() for metric in (RECEIVED, SENT)]
        told = ways[0] if len(ways[0]) else ways[1]
        if not len(told):
            return
        usable = capacity(told, tables)
        flows = [known_or(told.aligned(way), 0.0) for way in ways]
        loads = replace(told, values=np.fmax(*flows) / usable)
        seen: set[str] = set()
        full = self._full(tables, loads)
        if full.any():
            full &= ~below_max(told, tables)
        for group in groups(loads, full, tables):
            found = self._finding(tables, loads, group, "link", group.name(loads))
            seen.add(found.subject.node or found.subject.id)
            yield found
        if (loads.values >= self.full_ratio * self.time_ratio / 4.0).any():  # GPUs that share a port, four at most
            yield from self._switches(tables, replace(told, values=usable), flows, seen)

    def _full(self, tables: Frames, loads: Signal) -> Array:
        """Return [windows, series]: full on average, or so half of the time where that is not usual."""
        before = own_median(loads.values, before=BEFORE)[None]
        usual = np.fmin(peer_median(loads.values, roles(loads, tables)), before)
        often = loads.values >= np.maximum(self.full_ratio * self.time_ratio, self.usual_ratio * usual)
        full = loads.values >= self.full_ratio
        strong = full & (loads.values >= self.usual_ratio * usual)
        return lasting(full | often, self.held_count, self.of_count, strong)

    def _switches(self, tables: Frames, usable: Signal, flows: list[Array], seen: set[str]) -> Iterable[Finding]:
        """Yield findings about hosts with a full switch; GPUs are below one switch if they are near one adapter."""
        below = _below_switches(tables, usable)
        if not below:
            return
        adapters = [signal(tables, metric, take="increase").rate() for metric in (NIC_RECEIVED, NIC_SENT)]
        loads = []
        for node, nic, gpus in below:
            direct = [way.values[:, (way.node == node) & (way.device == nic)].sum(axis=1) for way in adapters]
            shared = [
                np.maximum(flow[:, gpus].sum(axis=1) - gone, 0.0) for flow, gone in zip(flows, direct, strict=True)
            ]
            loads.append(np.fmax(*shared) / usable.values[:, gpus].max(axis=1))
        hosts, nobody = np.array([node for node, _, _ in below], dtype=object), np.full(len(below), "", dtype=object)
        unknown, values = np.full(len(below), -1), np.stack(loads, axis=1)
        told = Signal(usable.t_ns, usable.window_s, hosts, nobody, nobody, unknown, values)
        mask = self._full(tables, told)
        for column in np.flatnonzero(mask.any(axis=0)).tolist():
            node, nic, gpus = below[column]
            if node not in seen:
                seen.add(node)
                group = Group((column,), mask[:, column], subjects.node(node))
                name = f"the switch of {len(gpus)} GPUs and {nic} in {node}"
                yield self._finding(tables, told, group, "switch", name)

    def _finding(self, tables: Frames, told: Signal, group: Group, what: str, name: str) -> Finding:
        load = group.mean(told.values)
        return judged(
            "pcie-saturation", tables, told, group, cost_ratio=self.cost_ratio, link=True, confidence=0.8,
            evidence=(Evidence(f"{what}_load", load, None, self.full_ratio, "ratio"),),
            summary=f"the PCIe port of {name} carries {load:.0%} of what copies reach",
            advice="stagger copies, move disks or ranks that share the port, keep network traffic below the switch",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a GPU's link carries nearly all it can."""
        usable = '50e9 * 2 ^ (skewscope_gpu_pcie_link_generation{kind="current"} - 5)'
        full = f"on (instance, gpu) {self.full_ratio:g} * {usable}"
        return Rule(
            "SkewscopePcieSaturation", f"rate({RECEIVED}[2m]) >= {full} or rate({SENT}[2m]) >= {full}",
            30 * self.held_count, "info", "the PCIe link of GPU {{ $labels.gpu }} of {{ $labels.instance }} is full",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} moves {{ $value | humanize }}B/s over PCIe",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: both ways, the link, the adapter's waiting, and local disks."""
        width, disk = "skewscope_gpu_pcie_link_width_lanes", "skewscope_disk_bytes_total"
        stalled = "skewscope_nic_pcie_stalled_seconds_total"
        return (
            Check("in", "Does much go to the GPU?", RECEIVED, "rate", ">= 2e10", f"rate({RECEIVED}[5m])",
                  "input or network traffic fills it: see `link`", "not this way: see `out`"),
            Check("out", "Does much come from the GPU?", SENT, "rate", ">= 2e10", f"rate({SENT}[5m])",
                  "checkpoints, logs or network traffic fill it", "not this way"),
            Check("link", "Is the link whole?", width, "low", ">= 16", f'{width}{{kind="current"}}',
                  "it is the amount: see `disk`", "see `pcie-link-degraded`", {"kind": "current"}, ("in",)),
            Check("adapter", "Does the adapter wait for PCIe?", stalled, "rate", "> 0.05", f"rate({stalled}[5m])",
                  "the network pays for it: see `pcie-nic-backpressure`", "the network has its share"),
            Check("disk", "Do local disks read much?", disk, "rate", ">= 2e9", f"rate({disk}[5m])",
                  "disks below the same switch take their part: move them", "not the disks", after=("link",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: little, half full as usual, nearly, a moment, a lesser link, a full link, a full switch."""
        yield World("quiet", _moves(2e9).tables())
        half = Fleet()
        yield World("half-everywhere", half.put(RECEIVED, 30e9 * 30, devices=half.gpus).tables())
        yield World("near-miss", _moves(20e9).late(1, 0.1).tables())
        yield World("a-moment", _moves(48e9, until=11).tables())
        lesser = _moves(12e9).put("skewscope_gpu_pcie_link_width_lanes", 4.0, labels="kind=current", nodes=["n0"],
                                  devices=["gpu1"])  # fmt: skip
        yield World("look-alike-link", lesser.late(1, 0.1).tables())
        yield World("full", _moves(45e9).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        shared = _moves(2e9).put(RECEIVED, 14e9 * 30, nodes=["n1"], devices=["gpu0", "gpu1"], since=10)
        shared.put(AFFINITY, 1.0, labels="device=mlx5_0,level=same_switch", devices=["gpu0", "gpu1"])
        yield World("full-switch", shared.late(4, 0.1).tables(), frozenset({"n1"}))
        direct = _moves(2e9).put(RECEIVED, 14e9 * 30, nodes=["n1"], devices=["gpu0", "gpu1"], since=10)
        direct.put(AFFINITY, 1.0, labels="device=mlx5_0,level=same_switch", devices=["gpu0", "gpu1"])
        yield World("direct", direct.put(NIC_RECEIVED, 24e9 * 30, nodes=["n1"], devices=["mlx5_0"], since=10).tables())


def _below_switches(tables: Frames, told: Signal) -> list[tuple[str, str, list[int]]]:
    """Return (host, adapter, series of its GPUs) of each switch with two GPUs or more, told in its last window."""
    table = tables["windows"]
    rows = table[(table["metric"] == AFFINITY).to_numpy()]
    rows = rows[(rows["t_ns"] == rows["t_ns"].max()).to_numpy()]
    places = {key: column for column, key in enumerate(zip(told.node.tolist(), told.device.tolist(), strict=True))}
    found: dict[tuple[str, str], list[int]] = {}
    for node, gpu, labels in zip(rows["node"], rows["device"], rows["labels"].astype(str), strict=True):
        near = parsed(labels)
        if near.get("level") == "same_switch" and (node, gpu) in places:
            found.setdefault((str(node), near.get("device", "")), []).append(places[node, gpu])
    return [(node, nic, gpus) for (node, nic), gpus in found.items() if len(gpus) > 1]


def _moves(bytes_per_s: float, until: int | None = None) -> Fleet:
    """Return a fleet of which one GPU receives so much; the others 2 GB/s."""
    fleet = Fleet()
    fleet.put(RECEIVED, 2e9 * 30, devices=fleet.gpus)
    return fleet.put(RECEIVED, bytes_per_s * 30, nodes=["n0"], devices=["gpu1"], since=10, until=until)
