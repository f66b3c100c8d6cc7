"""What rooms about PCIe share: links below what they can be, what a link carries at most, whose address it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Frames
from skewscope.signals.view import Signal, parsed, remembered, signal

Array = np.ndarray[Any, Any]
GENERATION, WIDTH = "skewscope_gpu_pcie_link_generation", "skewscope_gpu_pcie_link_width_lanes"
RECEIVED, SENT = "skewscope_gpu_pcie_receive_bytes_total", "skewscope_gpu_pcie_transmit_bytes_total"
INFO = ("skewscope_gpu_info", "skewscope_rdma_info")
# Copies reach 26 GB/s of 31.5 on generation 4 x16 and 50 GB/s of 63 on generation 5 (conditions, `pcie-saturation`).
GEN5_X16_BYTES_PER_S = 50e9


def usable_bytes_per_s(generation: Array, lanes: Array) -> Array:
    """Return what copies reach over a link, one way, in bytes/s.

    >>> usable_bytes_per_s(np.array([5.0, 4.0]), np.array([16.0, 8.0])).tolist()
    [50000000000.0, 12500000000.0]
    """
    return np.asarray(GEN5_X16_BYTES_PER_S * 2.0 ** (generation - 5.0) * lanes / 16.0)


@dataclass(frozen=True)
class Links:
    """What links are and can be: generations and lanes [windows, series], the best that was seen in each window."""

    generation: Array
    lanes: Array
    most_generation: Array
    most_lanes: Array

    @property
    def below(self) -> Array:
        """Where a link never had the generation and lanes that it can have."""
        return np.asarray((self.generation < self.most_generation) | (self.lanes < self.most_lanes))

    @property
    def left_ratio(self) -> Array:
        """Bandwidth over what the link could have."""
        most = usable_bytes_per_s(self.most_generation, self.most_lanes)
        return np.asarray(usable_bytes_per_s(self.generation, self.lanes) / most)


def links(told: Signal, tables: Frames) -> Links:
    """Return the links of the GPUs of these series, NaN where they are not told."""
    ends = [
        told.aligned(signal(tables, metric, take="high", kind=kind))
        for kind in ("current", "max") for metric in (GENERATION, WIDTH)
    ]  # fmt: skip
    return Links(*ends)


def capacity(told: Signal, tables: Frames) -> Array:
    """Return [windows, series]: what the links of these GPUs carry at most, NaN where the link is not told."""
    ends = [told.aligned(signal(tables, metric, take="high", kind="current")) for metric in (GENERATION, WIDTH)]
    return usable_bytes_per_s(ends[0], ends[1])


def below_max(told: Signal, tables: Frames) -> Array:
    """Return [windows, series]: where a GPU's link never in the window had the generation and lanes it can have."""
    return links(told, tables).below


def named(told: Signal, tables: Frames, mask: Array) -> Signal:
    """Return a signal with GPUs and adapters in place of the PCI addresses of those in `mask` [windows, series]."""
    device = told.device.copy()
    for column in np.flatnonzero(mask.any(axis=0)).tolist():
        device[column] = device_at(tables, str(told.node[column]), str(device[column]))
    return replace(told, device=device)


def device_at(tables: Frames, node: str, address: str) -> str:
    """Return the GPU or adapter at a PCI address of a host, the address itself where nobody tells."""
    known = remembered(tables["windows"], "pci", lambda: _addresses(tables["windows"]))
    return known.get((node, short(address)), address)


def _addresses(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return (host, address) -> device of all GPUs and adapters that tell their address."""
    rows = table[table["metric"].isin(INFO).to_numpy()]
    places = {str(text): short(parsed(str(text)).get("pci_bus_id", "")) for text in rows["labels"].unique()}
    rows = rows[["node", "device", "labels"]].drop_duplicates()
    told = zip(rows["node"].astype(str), rows["device"].astype(str), rows["labels"].astype(str), strict=True)
    return {(node, places[labels]): device for node, device, labels in told if places[labels]}


def short(address: str) -> str:
    """Return a PCI address in the kernel's form: the driver's has a longer domain and capitals.

    >>> short("00000000:1B:00.0")
    '0000:1b:00.0'
    """
    return address.lower()[-12:]
