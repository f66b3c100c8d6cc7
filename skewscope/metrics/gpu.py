"""GPUs as NVML, GPM and sysfs show them.

`gpu` is a slot: the place in PCI order at the first inventory, kept when a GPU drops out. `uuid` is the identity.
A family with a `state`, `reason`, `action` or `mode` has one series a value, 1 where it holds and 0 where it does not.
"""

from __future__ import annotations

from ._metric import Metric

_GPU = ("gpu", "uuid")
_CLOCKS = {"domain": ("sm", "memory")}
_ENDS = {"kind": ("current", "max")}
_STATES = ("ok", "lost", "reset_required", "hung", "error")
_ASPECTS = (
    "degraded_bandwidth", "route_recovery", "route_unhealthy", "access_timeout", "configuration", "partition",
    "manager",
)  # fmt: skip
_PIPES = ("hmma", "imma", "dmma", "dfma", "fp16", "fp32", "fp64", "int")
_REASONS = (
    "idle", "app_clocks", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake",
    "display", "board_limit", "reliability",
)  # fmt: skip
_COUNTED_REASONS = (
    "sw_power_cap", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake", "board_limit", "low_utilization",
    "reliability",
)  # fmt: skip
_ECC = {
    "severity": ("corrected", "uncorrected"), "lifetime": ("volatile", "aggregate"),
    "location": ("sram", "dram", "all"),
}  # fmt: skip
_PCIE_ERRORS = (
    "correctable", "nonfatal", "fatal", "bad_tlp", "bad_dllp", "receiver", "lcrc", "lane", "naks_sent",
    "naks_received", "unsupported_request",
)  # fmt: skip
_NVLINK_ERRORS = (
    "replay", "recovery", "crc_flit", "crc_data", "ecc", "symbol", "effective", "receive", "overrun", "discard",
    "malformed", "remote", "general", "integrity",
)  # fmt: skip
_EVENTS = (
    "double_bit_ecc", "sbe_storm", "dram_retirement", "dram_retirement_failure", "nonfatal_poison", "fatal_poison",
    "unavailable", "recovery_action", "clock", "power_source",
)  # fmt: skip
_ACTIONS = (
    "none", "reset", "node_reboot", "drain_p2p", "drain_and_reset", "recover_imex", "bus_reset", "system_reboot",
)  # fmt: skip

# fmt: off
METRICS = (
    # what is there
    Metric("skewscope_driver_info", "gauge", "info",
           "Always 1; versions of the NVIDIA driver, of NVML and of the newest CUDA that the driver runs",
           ("driver", "nvml", "cuda")),
    Metric("skewscope_gpu_info", "gauge", "info",
           "Always 1; what does not change while a GPU is in its slot, empty where the driver does not tell",
           (*_GPU, "pci_bus_id", "model", "minor", "module", "numa_node", "vbios")),
    Metric("skewscope_gpu_devices", "gauge", "",
           "GPUs that the driver lists (nvml), that are on the PCI bus (pci), and that the settings say (expected)",
           ("source",), {"source": ("nvml", "pci", "expected")}),
    Metric("skewscope_gpu_access_state", "gauge", "",
           "Whether the driver can reach a GPU: lost is off the bus, hung is a call that does not return",
           (*_GPU, "state"), {"state": _STATES}),
    Metric("skewscope_gpu_mode_enabled", "gauge", "",
           "1 where ECC, MIG or persistence is on; without persistence volatile counters fall with the last client",
           (*_GPU, "mode"), {"mode": ("ecc", "mig", "persistence")}),
    Metric("skewscope_gpu_fabric_state", "gauge", "",
           "How far a GPU has joined its NVLink fabric; absent where there is none",
           (*_GPU, "state"), {"state": ("not_started", "in_progress", "completed")}),
    Metric("skewscope_gpu_fabric_unhealthy", "gauge", "",
           "1 where the fabric manager reports trouble of this aspect; absent where it does not watch it",
           (*_GPU, "aspect"), {"aspect": _ASPECTS}),
    Metric("skewscope_gpu_job_info", "gauge", "info",
           "Always 1; the job that holds a GPU, the key on which rules join; how it is known is job_source",
           (*_GPU, "job_id", "job_source", "user", "namespace", "pod", "container")),
    Metric("skewscope_gpu_nic_affinity_info", "gauge", "info",
           "Always 1; how near an RDMA device is to a GPU in the PCI tree",
           (*_GPU, "device", "level"), {"level": ("same_switch", "same_root", "same_numa", "system")}),
    # activity
    Metric("skewscope_gpu_utilization_ratio", "gauge", "ratio",
           "Share of the last sample period in which any kernel ran, 0-1; a spinning collective counts as busy", _GPU),
    Metric("skewscope_gpu_memory_activity_ratio", "gauge", "ratio",
           "Share of the last sample period in which device memory was read or written, 0-1", _GPU),
    Metric("skewscope_gpu_busy_seconds_total", "counter", "seconds",
           "Time in which any kernel ran, integrated from the driver's own samples, seen since the agent began", _GPU),
    Metric("skewscope_gpu_sm_active_ratio", "gauge", "ratio",
           "Share of SM time with at least one warp, 0-1, mean of the last interval (GPM)", _GPU),
    Metric("skewscope_gpu_sm_occupancy_ratio", "gauge", "ratio",
           "Resident warps over the most that fit, 0-1, mean of the last interval (GPM)", _GPU),
    Metric("skewscope_gpu_tensor_active_ratio", "gauge", "ratio",
           "Share of time in which tensor cores worked, 0-1, mean of the last interval (GPM)", _GPU),
    Metric("skewscope_gpu_dram_active_ratio", "gauge", "ratio",
           "Bandwidth of device memory in use over its peak, 0-1, mean of the last interval (GPM)", _GPU),
    Metric("skewscope_gpu_pipe_active_ratio", "gauge", "ratio",
           "Share of time in which a pipe of the SMs worked, 0-1, mean of the last interval (GPM)",
           (*_GPU, "pipe"), {"pipe": _PIPES}),
    Metric("skewscope_gpu_sm_active_seconds_total", "counter", "seconds",
           "Integral of skewscope_gpu_sm_active_ratio since the agent began: its rate is a mean over any window", _GPU),
    Metric("skewscope_gpu_tensor_active_seconds_total", "counter", "seconds",
           "Integral of skewscope_gpu_tensor_active_ratio since the agent began", _GPU),
    Metric("skewscope_gpu_dram_active_seconds_total", "counter", "seconds",
           "Integral of skewscope_gpu_dram_active_ratio since the agent began", _GPU),
    Metric("skewscope_gpu_mma_stall_ratio", "gauge", "ratio",
           "Share of time in which matrix units were stalled to smooth power, 0-1", _GPU),
    # clocks and what holds them back
    Metric("skewscope_gpu_clock_hertz", "gauge", "hertz", "Clock at the last look", (*_GPU, "domain"), _CLOCKS),
    Metric("skewscope_gpu_clock_limit_hertz", "gauge", "hertz", "Highest clock", (*_GPU, "domain"), _CLOCKS),
    Metric("skewscope_gpu_sm_clock_min_hertz", "gauge", "hertz",
           "Lowest SM clock that was seen in the last 15 s, dips between two scrapes included", _GPU),
    Metric("skewscope_gpu_clock_event_active", "gauge", "",
           "1 where a reason holds the clocks down now; idle and app_clocks are no trouble",
           (*_GPU, "reason"), {"reason": _REASONS}),
    Metric("skewscope_gpu_clock_event_seconds_total", "counter", "seconds",
           "Time in which a reason held the clocks down, as the driver counts it, gaps between samples included",
           (*_GPU, "reason"), {"reason": _COUNTED_REASONS}),
    Metric("skewscope_gpu_clock_event_observed_seconds_total", "counter", "seconds",
           "Time in which a reason was seen set, for reasons that the driver does not count, since the agent began",
           (*_GPU, "reason"), {"reason": ("app_clocks", "hw_slowdown", "idle")}),
    Metric("skewscope_gpu_performance_state", "gauge", "",
           "Performance state, 0 fastest to 15; an idle GPU may lower its PCIe generation", _GPU),
    # power and temperature
    Metric("skewscope_gpu_power_watts", "gauge", "watts",
           "Power drawn: mean of a second (average), now (instant), and of the module with its CPU (module)",
           (*_GPU, "kind"), {"kind": ("average", "instant", "module")}),
    Metric("skewscope_gpu_power_limit_watts", "gauge", "watts",
           "Power limit: what holds (enforced), is asked for (requested), the factory set (default), can be set (max)",
           (*_GPU, "kind"), {"kind": ("enforced", "requested", "default", "max")}),
    Metric("skewscope_gpu_energy_joules_total", "counter", "joules", "Energy used since the driver was loaded", _GPU),
    Metric("skewscope_gpu_temperature_celsius", "gauge", "celsius",
           "Temperature of the GPU and of its memory", (*_GPU, "sensor"), {"sensor": ("gpu", "memory")}),
    Metric("skewscope_gpu_temperature_margin_celsius", "gauge", "celsius",
           "Degrees left before the clocks are slowed", _GPU),
    Metric("skewscope_gpu_temperature_limit_celsius", "gauge", "celsius",
           "Temperature at which clocks are slowed, the GPU shuts down, and memory and GPU should stay below",
           (*_GPU, "limit"), {"limit": ("slowdown", "shutdown", "memory_max", "gpu_max")}),
    # memory and its repair
    Metric("skewscope_gpu_memory_used_bytes", "gauge", "bytes", "Device memory in use, without what is reserved", _GPU),
    Metric("skewscope_gpu_memory_total_bytes", "gauge", "bytes", "Device memory", _GPU),
    Metric("skewscope_gpu_bar1_used_bytes", "gauge", "bytes",
           "Device memory mapped for other devices on the bus (BAR1), as GPUDirect does", _GPU),
    Metric("skewscope_gpu_ecc_errors_total", "counter", "",
           "Memory errors since the driver was loaded (volatile) or ever (aggregate); location all if not told",
           (*_GPU, "severity", "lifetime", "location"), _ECC),
    Metric("skewscope_gpu_sram_ecc_threshold_exceeded", "gauge", "",
           "1 where uncorrectable SRAM errors passed the driver's threshold for replacing the GPU", _GPU),
    Metric("skewscope_gpu_remapped_rows", "gauge", "",
           "Memory rows (before Ampere: pages) taken out of use, by the kind of error that did it",
           (*_GPU, "cause"), {"cause": ("corrected", "uncorrected")}),
    Metric("skewscope_gpu_row_remap_pending", "gauge", "", "1 where a remapping waits for a reset", _GPU),
    Metric("skewscope_gpu_row_remap_failure", "gauge", "", "1 where a remapping failed: no spare row is left", _GPU),
    Metric("skewscope_gpu_row_remap_banks", "gauge", "",
           "Memory banks by how many spare rows they have left",
           (*_GPU, "availability"), {"availability": ("max", "high", "partial", "low", "none")}),
    # PCIe
    Metric("skewscope_gpu_pcie_link_generation", "gauge", "",
           "PCIe generation now and at most of GPU and slot; judge under load", (*_GPU, "kind"), _ENDS),
    Metric("skewscope_gpu_pcie_link_width_lanes", "gauge", "lanes",
           "PCIe lanes now and at most of GPU and slot", (*_GPU, "kind"), _ENDS),
    Metric("skewscope_gpu_pcie_transmit_bytes_total", "counter", "bytes", "Bytes from the GPU over PCIe", _GPU),
    Metric("skewscope_gpu_pcie_receive_bytes_total", "counter", "bytes", "Bytes to the GPU over PCIe", _GPU),
    Metric("skewscope_gpu_pcie_replays_total", "counter", "", "PCIe packets sent again", _GPU),
    Metric("skewscope_gpu_pcie_recovery_entries_total", "counter", "",
           "Times that the PCIe link left its working state to retrain", _GPU),
    Metric("skewscope_gpu_pcie_errors_total", "counter", "",
           "PCIe errors as the GPU counts them", (*_GPU, "error"), {"error": _PCIE_ERRORS}),
    # NVLink and C2C
    Metric("skewscope_gpu_nvlink_links", "gauge", "",
           "NVLinks that are up, down and asleep, and that the chip has (expected)",
           (*_GPU, "state"), {"state": ("active", "inactive", "sleep", "expected")}),
    Metric("skewscope_gpu_nvlink_speed_bytes_per_second", "gauge", "bytes_per_second",
           "Speed of all NVLinks that are up, one direction", _GPU),
    Metric("skewscope_gpu_nvlink_transmit_bytes_total", "counter", "bytes", "Bytes from the GPU over NVLink", _GPU),
    Metric("skewscope_gpu_nvlink_receive_bytes_total", "counter", "bytes", "Bytes to the GPU over NVLink", _GPU),
    Metric("skewscope_gpu_nvlink_errors_total", "counter", "",
           "NVLink errors of all links; which kinds there are depends on the generation",
           (*_GPU, "error"), {"error": _NVLINK_ERRORS}),
    Metric("skewscope_gpu_nvlink_recovery_events_total", "counter", "",
           "Times that a link went into recovery and came back, or did not",
           (*_GPU, "result"), {"result": ("successful", "failed")}),
    Metric("skewscope_gpu_nvlink_bit_error_ratio", "gauge", "ratio",
           "Worst bit error ratio of the links, after correction (effective) or by symbols",
           (*_GPU, "kind"), {"kind": ("effective", "symbol")}),
    Metric("skewscope_gpu_nvlink_link_errors_total", "counter", "",
           "NVLink errors of one link; only links that have any",
           (*_GPU, "link", "error"), {"error": _NVLINK_ERRORS}),
    Metric("skewscope_gpu_c2c_links", "gauge", "",
           "Chip-to-chip links to the CPU that are up, down, and that the chip has (expected)",
           (*_GPU, "state"), {"state": ("active", "inactive", "expected")}),
    # events
    Metric("skewscope_gpu_xid_errors_total", "counter", "",
           "XID errors by code since the agent began, as NVML delivers them and as the kernel log tells them",
           (*_GPU, "xid", "source"), {"source": ("nvml", "kmsg")}),
    Metric("skewscope_gpu_xid_last_timestamp_seconds", "gauge", "seconds",
           "Unix time at which NVML last delivered this XID", (*_GPU, "xid")),
    Metric("skewscope_gpu_events_total", "counter", "",
           "Events that the driver delivered since the agent began, 0 for kinds that it can deliver and has not",
           (*_GPU, "event"), {"event": _EVENTS}),
    Metric("skewscope_gpu_recovery_action", "gauge", "",
           "What the driver asks for before a GPU is used again", (*_GPU, "action"), {"action": _ACTIONS}),
    # processes and allocation
    Metric("skewscope_gpu_processes", "gauge", "",
           "Processes with a context on the GPU: their own (compute), or through the multi-process service (mps)",
           (*_GPU, "kind"), {"kind": ("compute", "mps")}),
    Metric("skewscope_gpu_job_memory_bytes", "gauge", "bytes",
           "Device memory of all processes of a job", (*_GPU, "job_id")),
    Metric("skewscope_gpu_foreign_processes", "gauge", "",
           "Processes on a GPU that do not belong to the job that holds it", _GPU),
    Metric("skewscope_gpu_allocated", "gauge", "", "1 where a job or any process holds the GPU", _GPU),
    Metric("skewscope_gpu_allocated_idle_seconds_total", "counter", "seconds",
           "Time in which a GPU was held and its SMs did next to nothing, since the agent began", _GPU),
)
