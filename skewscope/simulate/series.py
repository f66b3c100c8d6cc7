"""Series: what one metric with one set of labels shows of many devices, before it becomes rows or a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .fleet import Fleet, Indices
from .injection import pci_address
from .noise import Array


@dataclass(frozen=True)
class Places:
    """Who the series of one area are about, sorted by node, device and rank: index of the node, names, rank."""

    node: Indices
    device: tuple[str, ...]
    job: tuple[str, ...]
    rank: Indices


@dataclass(frozen=True)
class Shown:
    """Values of a series [windows, devices]. Counters: growth. Gauges: mean, and how far samples lie from it."""

    values: Array
    swing: Array | float = 0.0
    present: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Series:
    """One metric and label text over the devices `at` of an area; `make` computes the values when they are needed.

    `agent` marks counters that the agent itself began, which fall to 0 when it is restarted; `bits` that of a counter
    that wraps; `first` what stood in it before the run.
    """

    metric: str
    labels: str
    area: str
    counter: bool
    make: Callable[[], Shown]
    at: Indices | None = None
    agent: bool = False
    bits: int = 64
    first: float = 0.0


def places(fleet: Fleet) -> dict[str, Places]:
    """Return who is in each area."""
    per, gpus = fleet.gpus_per_node, np.arange(fleet.gpus)
    slots = gpus % per
    wire = "eth" if fleet.fabric == "roce" else "ib"
    names = {
        "gpu": "gpu{slot}", "nic": "mlx5_{slot}", "netdev": wire + "{slot}", "gpu_link": "gpu", "nic_link": "nic",
        "gpu_port": "gpu", "nic_port": "nic",
    }  # fmt: skip
    found = {}
    for area, form in names.items():
        if "{" in form:
            device = tuple(form.format(slot=slot) for slot in slots)
        else:
            device = tuple(pci_address(form, int(slot), port=area.endswith("port")) for slot in slots)
        found[area] = Places(gpus // per, device, ("",) * fleet.gpus, np.full(fleet.gpus, -1))
    held = np.array([fleet.job_of(int(gpu)) for gpu in gpus])
    ranks = np.flatnonzero(held >= 0)
    jobs = tuple(fleet.jobs[held[gpu]].plan.name for gpu in ranks)
    firsts = np.array([fleet.jobs[held[gpu]].first_gpu for gpu in ranks], dtype=np.int64)
    found["rank"] = Places(ranks // per, tuple(f"gpu{slot}" for slot in slots[ranks]), jobs, ranks - firsts)
    found["gpu_job"] = Places(found["rank"].node, found["rank"].device, jobs, np.full(len(ranks), -1))
    nodes = np.arange(len(fleet.nodes))
    found["node"] = Places(nodes, ("",) * len(nodes), ("",) * len(nodes), np.full(len(nodes), -1))
    found["disk"] = Places(nodes, ("nvme0n1",) * len(nodes), ("",) * len(nodes), np.full(len(nodes), -1))
    pairs = sorted({(int(gpu) // per, int(held[gpu])) for gpu in ranks})
    found["job"] = Places(
        np.array([node for node, _ in pairs], dtype=np.int64), ("",) * len(pairs),
        tuple(fleet.jobs[job].plan.name for _, job in pairs), np.full(len(pairs), -1),
    )  # fmt: skip
    return found
