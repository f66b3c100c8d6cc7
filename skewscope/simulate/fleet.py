"""Machines: nodes, racks, GPUs, adapters and where the ranks of jobs sit on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .scenario import JobPlan, Scenario

Indices = npt.NDArray[np.int64]
GIB = 2.0**30


@dataclass(frozen=True)
class Hardware:
    """One kind of GPU board and its links; speeds in bytes per second and direction, usable, not nominal."""

    model: str
    limit_watts: float
    idle_watts: float
    clock_hertz: float
    idle_clock_hertz: float
    memory_clock_hertz: float
    memory_bytes: float
    slowdown_celsius: float
    pcie_generation: int
    pcie_bytes_per_s: float
    nvlinks: int
    nvlink_bytes_per_s: float
    nic_bytes_per_s: float


HARDWARE = {
    "h100": Hardware("NVIDIA H100 80GB HBM3", 700, 72, 1.98e9, 0.345e9, 2.619e9, 80 * GIB, 87, 5, 50e9, 18, 26.562e9,
                     50e9),
    "a100": Hardware("NVIDIA A100-SXM4-80GB", 400, 62, 1.41e9, 0.21e9, 1.593e9, 80 * GIB, 85, 4, 26e9, 12, 25e9, 25e9),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job on the fleet: rank r sits on GPU `first_gpu` + r."""

    plan: JobPlan
    first_gpu: int

    @property
    def gpus(self) -> slice:
        """Its GPUs among those of the fleet."""
        return slice(self.first_gpu, self.first_gpu + self.plan.ranks)


@dataclass(frozen=True)
class Fleet:
    """All machines. GPU g is slot g % gpus_per_node of node g // gpus_per_node; each GPU has its rail's adapter."""

    nodes: tuple[str, ...]
    racks: tuple[str, ...]  # of each node
    gpus_per_node: int
    hardware: Hardware
    fabric: str
    jobs: tuple[Job, ...]

    @property
    def gpus(self) -> int:
        """Number of GPUs, which is that of adapters too."""
        return len(self.nodes) * self.gpus_per_node

    def node_of(self, gpu: Indices | int) -> Indices:
        """Return the node (index) of GPUs."""
        return np.asarray(gpu) // self.gpus_per_node

    def gpus_of(self, node: int) -> Indices:
        """Return the GPUs of a node."""
        return np.arange(node * self.gpus_per_node, (node + 1) * self.gpus_per_node)

    def nodes_of_rack(self, rack: str) -> list[int]:
        """Return the nodes of a rack."""
        return [node for node, name in enumerate(self.racks) if name == rack]

    def same_rail(self, nic: int) -> Indices:
        """Return the other adapters of a rail in a rack: those behind the same leaf switch."""
        node, slot = divmod(nic, self.gpus_per_node)
        others = [one for one in self.nodes_of_rack(self.racks[node]) if one != node]
        return np.array(others, dtype=np.int64) * self.gpus_per_node + slot

    def job_of(self, gpu: int) -> int:
        """Return the job (index) on a GPU, -1 for none."""
        return next((at for at, job in enumerate(self.jobs) if job.gpus.start <= gpu < job.gpus.stop), -1)

    def rank_of(self, gpu: int) -> int:
        """Return the rank on a GPU, -1 for none."""
        job = self.job_of(gpu)
        return gpu - self.jobs[job].first_gpu if job >= 0 else -1

    def gpu_name(self, gpu: int) -> str:
        """Return `node/gpu3`."""
        return f"{self.nodes[gpu // self.gpus_per_node]}/gpu{gpu % self.gpus_per_node}"

    def nic_name(self, nic: int) -> str:
        """Return `node/mlx5_3`."""
        return f"{self.nodes[nic // self.gpus_per_node]}/mlx5_{nic % self.gpus_per_node}"

    def uuid(self, gpu: int) -> str:
        """Return the identity of a GPU."""
        return f"GPU-{gpu * 2654435761 % 2**32:08x}-0000-4000-8000-{gpu:012x}"


def build(scenario: Scenario) -> Fleet:
    """Return the fleet of a scenario: jobs on whole nodes, in their order, then the spares."""
    per = scenario.fleet.gpus_per_node
    jobs = []
    node = 0
    for plan in scenario.jobs:
        jobs.append(Job(plan, node * per + plan.first_slot))
        node += -(-(plan.first_slot + plan.ranks) // per)
    count = node + scenario.fleet.spares
    width = max(3, len(str(count - 1)))
    return Fleet(
        nodes=tuple(f"n{at:0{width}d}" for at in range(count)),
        racks=tuple(f"r{at // scenario.fleet.nodes_per_rack:03d}" for at in range(count)),
        gpus_per_node=per, hardware=HARDWARE[scenario.fleet.hardware], fabric=scenario.fleet.fabric, jobs=tuple(jobs),
    )  # fmt: skip
