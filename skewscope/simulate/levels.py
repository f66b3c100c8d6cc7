"""States that gauges show and their usual values, by kind of device; faults change them, telemetry shows them all.

A kind names its devices: a GPU or rank "gpu3", an adapter "mlx5_3", its interface "eth3", PCIe ends by their address.
What is not listed here appears only where a fault touches it, and was 0 before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .fleet import GIB, Fleet

Levels = Mapping[tuple[str, str], float | Callable[[Fleet], float]]


def _per_node(fleet: Fleet) -> float:
    return float(fleet.gpus_per_node)


_GPU: Levels = {
    ("skewscope_gpu_access_state", "state=ok"): 1.0,
    ("skewscope_gpu_mode_enabled", "mode=ecc"): 1.0,
    ("skewscope_gpu_mode_enabled", "mode=persistence"): 1.0,
    ("skewscope_gpu_fabric_state", "state=completed"): 1.0,
    ("skewscope_gpu_clock_limit_hertz", "domain=sm"): lambda fleet: fleet.hardware.clock_hertz,
    ("skewscope_gpu_clock_limit_hertz", "domain=memory"): lambda fleet: fleet.hardware.memory_clock_hertz,
    ("skewscope_gpu_clock_hertz", "domain=memory"): lambda fleet: fleet.hardware.memory_clock_hertz,
    ("skewscope_gpu_power_limit_watts", "kind=enforced"): lambda fleet: fleet.hardware.limit_watts,
    ("skewscope_gpu_power_limit_watts", "kind=default"): lambda fleet: fleet.hardware.limit_watts,
    ("skewscope_gpu_power_limit_watts", "kind=max"): lambda fleet: fleet.hardware.limit_watts,
    ("skewscope_gpu_temperature_limit_celsius", "limit=slowdown"): lambda fleet: fleet.hardware.slowdown_celsius,
    ("skewscope_gpu_memory_total_bytes", ""): lambda fleet: fleet.hardware.memory_bytes,
    ("skewscope_gpu_sram_ecc_threshold_exceeded", ""): 0.0,
    ("skewscope_gpu_remapped_rows", "cause=corrected"): 0.0,
    ("skewscope_gpu_remapped_rows", "cause=uncorrected"): 0.0,
    ("skewscope_gpu_row_remap_pending", ""): 0.0,
    ("skewscope_gpu_row_remap_failure", ""): 0.0,
    ("skewscope_gpu_pcie_link_generation", "kind=max"): lambda fleet: float(fleet.hardware.pcie_generation),
    ("skewscope_gpu_pcie_link_width_lanes", "kind=current"): 16.0,
    ("skewscope_gpu_pcie_link_width_lanes", "kind=max"): 16.0,
    ("skewscope_gpu_nvlink_links", "state=active"): lambda fleet: float(fleet.hardware.nvlinks),
    ("skewscope_gpu_nvlink_links", "state=inactive"): 0.0,
    ("skewscope_gpu_nvlink_links", "state=expected"): lambda fleet: float(fleet.hardware.nvlinks),
    ("skewscope_gpu_nvlink_speed_bytes_per_second", ""): lambda fleet: (
        fleet.hardware.nvlinks * fleet.hardware.nvlink_bytes_per_s
    ),
    ("skewscope_gpu_nvlink_bit_error_ratio", "kind=effective"): 1e-16,
    ("skewscope_gpu_nvlink_bit_error_ratio", "kind=symbol"): 2e-9,
    ("skewscope_gpu_recovery_action", "action=none"): 1.0,
    ("skewscope_gpu_foreign_processes", ""): 0.0,
    ("skewscope_gpu_bar1_used_bytes", ""): 24 * GIB,
}
_RANK: Levels = {
    ("skewscope_rank_numa_local", ""): 1.0,
    ("skewscope_rank_locked_memory_bytes", ""): 12 * GIB,
    ("skewscope_rank_pinned_memory_bytes", ""): 20 * GIB,
    ("skewscope_rank_uninterruptible", ""): 0.0,
    ("skewscope_rank_threads", ""): 184.0,
}
_NIC: Levels = {
    ("skewscope_rdma_port_up", "layer=logical"): 1.0,
    ("skewscope_rdma_port_up", "layer=physical"): 1.0,
    ("skewscope_rdma_rate_bytes_per_second", ""): lambda fleet: fleet.hardware.nic_bytes_per_s,
}
_NETDEV: Levels = {("skewscope_ethernet_up", "layer=logical"): 1.0, ("skewscope_ethernet_up", "layer=physical"): 1.0}
_LINK: Levels = {
    ("skewscope_pcie_link_width_lanes", "kind=current"): 16.0,
    ("skewscope_pcie_link_width_lanes", "kind=max"): 16.0,
    ("skewscope_pcie_link_transfers_per_second", "kind=max"): lambda fleet: 2.0**fleet.hardware.pcie_generation * 1e9,
}
_NIC_LINK: Levels = {
    **_LINK,
    ("skewscope_pcie_link_transfers_per_second", "kind=current"): lambda fleet: (
        2.0**fleet.hardware.pcie_generation * 1e9
    ),
}
_NODE: Levels = {
    ("skewscope_gpu_devices", "source=nvml"): _per_node,
    ("skewscope_gpu_devices", "source=pci"): _per_node,
    ("skewscope_gpu_devices", "source=expected"): _per_node,
    ("skewscope_rdma_devices", "source=present"): _per_node,
    ("skewscope_rdma_devices", "source=expected"): _per_node,
    ("skewscope_host_cpus", ""): 192.0,
    ("skewscope_host_clock_synchronized", ""): 1.0,
    ("skewscope_host_clock_max_error_seconds", ""): 2e-3,
    ("skewscope_host_clock_estimated_error_seconds", ""): 1e-4,
    ("skewscope_host_memory_bytes", "kind=total"): 2.0**41,
    ("skewscope_host_tasks", "state=blocked"): 0.0,
    ("skewscope_collector_success", "collector=nvml-device"): 1.0,
    ("skewscope_collector_success", "collector=rdma"): 1.0,
    ("skewscope_nvml_hung", ""): 0.0,
    ("skewscope_nvml_call_max_seconds", "call=device"): 0.004,
}
LEVELS: Mapping[str, Levels] = {
    "gpu": _GPU, "rank": _RANK, "nic": _NIC, "node": _NODE, "netdev": _NETDEV, "gpu_link": _LINK, "nic_link": _NIC_LINK,
    "gpu_port": {}, "nic_port": {}, "disk": {},
}  # fmt: skip
