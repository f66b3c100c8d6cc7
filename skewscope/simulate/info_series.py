"""What devices are, and which job holds them: series whose value is always 1, by which others are joined."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import __version__
from .activity import Activity
from .gpu_series import JOB_BYTES_RATIO
from .injection import pci_address
from .noise import Array
from .series import Places, Series, Shown
from .world import World

BOARDS = ("MT_0000000838", "MT_0000000223")  # ConnectX-7, and an older kind


def series(world: World, activity: Activity, place: dict[str, Places]) -> Iterator[Series]:
    """Yield the info series of hosts, GPUs and adapters, and the memory of jobs."""
    windows, fleet = len(activity.held), world.fleet
    per = fleet.gpus_per_node
    wire = ("eth", "Ethernet") if fleet.fabric == "roce" else ("ib", "InfiniBand")
    one = np.ones((windows, len(fleet.nodes)))
    older = world.nic.knob("other_board")[0] > 0
    for slot in range(per):
        at = np.arange(len(fleet.nodes)) * per + slot
        numa = 0 if slot < (per + 1) // 2 else 1
        labels = f"pci_bus_id={pci_address('gpu', slot)},model={fleet.hardware.model},minor={slot},module={slot + 1}"
        yield _info("gpu", "gpu", f"{labels},numa_node={numa},vbios=96.00.89.00.01", one, at)
        nic = f"netdev={wire[0]}{slot},link_layer={wire[1]},firmware=28.42.1000,board=%s,numa_node={numa}"
        nic = f"{nic},pci_bus_id={pci_address('nic', slot)}"
        for board in BOARDS[: 1 + int(older.any())]:
            mine = at[older[at] == (board != BOARDS[0])]
            yield _info("rdma", "nic", nic % board, one[:, : len(mine)], mine)
        yield _info("gpu_nic_affinity", "gpu", f"device=mlx5_{slot},level=same_switch", one, at)
    yield _info("build", "node", f"version={__version__},revision=simulated,python=3.11", one, None)
    yield _info("driver", "node", "driver=570.124.06,nvml=12.570.124.06,cuda=12.8", one, None)
    held = np.array([gpu for gpu in range(fleet.gpus) if fleet.job_of(gpu) >= 0])
    here = activity.held[:, held] > 0
    ones = np.ones(here.shape)
    used = fleet.hardware.memory_bytes * JOB_BYTES_RATIO * world.gpu.knob("memory_ratio")[:windows, held]
    yield Series("skewscope_gpu_job_info", "job_source=hook", "gpu_job", False, lambda: Shown(ones, present=here))
    name = "skewscope_gpu_job_memory_bytes"
    yield Series(name, "", "gpu_job", False, lambda: Shown(used, 0.001 * used, present=here))
    if "foreign_memory_bytes" in world.gpu.touched:  # of processes whose job nobody knows
        other = world.gpu.knob("foreign_memory_bytes")[:windows]
        yield Series(name, "", "gpu", False, lambda: Shown(other, present=other > 0))


def _info(name: str, area: str, labels: str, values: Array, at: Array | None) -> Series:
    return Series(f"skewscope_{name}_info", labels, area, False, lambda: Shown(values), at=at)
