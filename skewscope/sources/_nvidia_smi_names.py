"""Elements of `nvidia-smi -q -x` below <gpu> in our metrics, by their path; of drivers 418 (v10) to 590 (v13).

Names and units are those of the documents that telegraf keeps for its tests (influxdata/telegraf
plugins/inputs/nvidia_smi/testdata: v10, v11, v12 and v13). PCIe rates are left out: they are those of 20 ms.
"""

from __future__ import annotations

import re

from . import _dcgm_names as dcgm
from ._telemetry_series import Meaning

MICRO = 1e-6
HELD_NOW, CLOCK_LIMIT = "skewscope_gpu_clock_event_active", "skewscope_gpu_clock_limit_hertz"
ACTION, FABRIC = "skewscope_gpu_recovery_action", "skewscope_gpu_fabric_state"
WORDS = {
    "active": 1.0, "not active": 0.0, "yes": 1.0, "no": 0.0, "enabled": 1.0, "disabled": 0.0, "pending": 1.0,
    # of recovery actions, in the order of their numbers, and of the fabric's state
    "none": 0.0, "reset": 1.0, "gpu reset": 1.0, "reboot": 2.0, "node reboot": 2.0, "drain p2p": 3.0,
    "drain and reset": 4.0, "not started": 0.0, "in progress": 1.0, "completed": 2.0,
}  # fmt: skip
NUMBER = re.compile(r"[PxX]?(-?\d+(?:\.\d+)?)")

_REASONS = {
    "gpu_idle": "idle", "applications_clocks_setting": "app_clocks", "sw_power_cap": "sw_power_cap",
    "hw_slowdown": "hw_slowdown", "hw_thermal_slowdown": "hw_thermal", "hw_power_brake_slowdown": "hw_power_brake",
    "sync_boost": "sync_boost", "sw_thermal_slowdown": "sw_thermal", "display_clocks_setting": "display",
}  # fmt: skip
_COUNTED = {
    "sw_power_cap": "sw_power_cap", "sync_boost": "sync_boost", "sw_therm_slowdown": "sw_thermal",
    "hw_therm_slowdown": "hw_thermal", "hw_power_brake": "hw_power_brake",
}  # fmt: skip
_POWER = {
    "power_draw": Meaning(dcgm.POWER, "kind=average"),
    "average_power_draw": Meaning(dcgm.POWER, "kind=average"),
    "instant_power_draw": Meaning(dcgm.POWER, "kind=instant"),
    "current_power_limit": Meaning(dcgm.POWER_LIMIT, "kind=enforced"),
    "enforced_power_limit": Meaning(dcgm.POWER_LIMIT, "kind=enforced"),
    "requested_power_limit": Meaning(dcgm.POWER_LIMIT, "kind=requested"),
    "power_limit": Meaning(dcgm.POWER_LIMIT, "kind=requested"),
    "default_power_limit": Meaning(dcgm.POWER_LIMIT, "kind=default"),
    "max_power_limit": Meaning(dcgm.POWER_LIMIT, "kind=max"),
}  # fmt: skip
_LIMITS = {
    "gpu_temp_max_threshold": "shutdown", "gpu_temp_slow_threshold": "slowdown",
    "gpu_temp_max_gpu_threshold": "gpu_max", "gpu_temp_max_mem_threshold": "memory_max",
}  # fmt: skip


def _ecc(severity: str, lifetime: str, location: str, over: str = "") -> Meaning:
    return Meaning(dcgm.ECC, f"severity={severity},lifetime={lifetime},location={location}", over=over)


def _ecc_paths(lifetime: str) -> dict[str, Meaning]:
    at = f"ecc_errors/{lifetime}"
    return {
        f"{at}/sram_correctable": _ecc("corrected", lifetime, "sram"),
        f"{at}/sram_uncorrectable": _ecc("uncorrected", lifetime, "sram", "sum"),
        f"{at}/sram_uncorrectable_parity": _ecc("uncorrected", lifetime, "sram", "sum"),
        f"{at}/sram_uncorrectable_secded": _ecc("uncorrected", lifetime, "sram", "sum"),
        f"{at}/dram_correctable": _ecc("corrected", lifetime, "dram"),
        f"{at}/dram_uncorrectable": _ecc("uncorrected", lifetime, "dram"),
        f"{at}/single_bit/total": _ecc("corrected", lifetime, "all"),
        f"{at}/double_bit/total": _ecc("uncorrected", lifetime, "all"),
    }


_COUNTERS = "clocks_event_reasons_counters"
_LINK = "pci/pci_gpu_link_info"
_RETIRED, _REMAPPED = "retired_pages", "remapped_rows"
# fmt: off
MEANINGS: dict[str, tuple[Meaning, ...]] = {path: (meaning,) for path, meaning in {
    "utilization/gpu_util": Meaning("skewscope_gpu_utilization_ratio", "", dcgm.PERCENT),
    "utilization/memory_util": Meaning("skewscope_gpu_memory_activity_ratio", "", dcgm.PERCENT),
    "clocks/sm_clock": Meaning(dcgm.CLOCKS, "domain=sm", dcgm.MHZ),
    "clocks/mem_clock": Meaning(dcgm.CLOCKS, "domain=memory", dcgm.MHZ),
    "max_clocks/sm_clock": Meaning(CLOCK_LIMIT, "domain=sm", dcgm.MHZ),
    "max_clocks/mem_clock": Meaning(CLOCK_LIMIT, "domain=memory", dcgm.MHZ),
    "performance_state": Meaning("skewscope_gpu_performance_state"),
    **{f"clocks_{word}_reasons/clocks_{word}_reason_{name}": Meaning(HELD_NOW, f"reason={reason}")
       for word in ("event", "throttle") for name, reason in _REASONS.items()},
    **{f"{_COUNTERS}/{_COUNTERS}_{name}": Meaning(dcgm.HELD, f"reason={reason}", MICRO)
       for name, reason in _COUNTED.items()},
    **{f"{at}/{name}": meaning for at in ("gpu_power_readings", "power_readings") for name, meaning in _POWER.items()},
    "module_power_readings/power_draw": Meaning(dcgm.POWER, "kind=module"),
    "module_power_readings/average_power_draw": Meaning(dcgm.POWER, "kind=module"),
    "temperature/gpu_temp": Meaning(dcgm.DEGREES, "sensor=gpu"),
    "temperature/memory_temp": Meaning(dcgm.DEGREES, "sensor=memory"),
    "temperature/gpu_temp_tlimit": Meaning("skewscope_gpu_temperature_margin_celsius"),
    **{f"temperature/{name}": Meaning(dcgm.DEGREES_LIMIT, f"limit={limit}") for name, limit in _LIMITS.items()},
    "fb_memory_usage/used": Meaning("skewscope_gpu_memory_used_bytes", "", dcgm.MIB),
    "fb_memory_usage/total": Meaning("skewscope_gpu_memory_total_bytes", "", dcgm.MIB),
    "bar1_memory_usage/used": Meaning("skewscope_gpu_bar1_used_bytes", "", dcgm.MIB),
    **_ecc_paths("volatile"), **_ecc_paths("aggregate"),
    "ecc_errors/aggregate/sram_threshold_exceeded": Meaning("skewscope_gpu_sram_ecc_threshold_exceeded"),
    f"{_REMAPPED}/remapped_row_corr": Meaning(dcgm.ROWS, "cause=corrected"),
    f"{_REMAPPED}/remapped_row_unc": Meaning(dcgm.ROWS, "cause=uncorrected"),
    f"{_REMAPPED}/remapped_row_pending": Meaning("skewscope_gpu_row_remap_pending"),
    f"{_REMAPPED}/remapped_row_failure": Meaning("skewscope_gpu_row_remap_failure"),
    **{f"{_REMAPPED}/row_remapper_histogram/row_remapper_histogram_{name}": Meaning(dcgm.BANKS, f"availability={name}")
       for name in ("max", "high", "partial", "low", "none")},
    f"{_RETIRED}/multiple_single_bit_retirement/retired_count": Meaning(dcgm.ROWS, "cause=corrected"),
    f"{_RETIRED}/double_bit_retirement/retired_count": Meaning(dcgm.ROWS, "cause=uncorrected"),
    f"{_RETIRED}/pending_retirement": Meaning("skewscope_gpu_row_remap_pending"),
    f"{_LINK}/pcie_gen/current_link_gen": Meaning(dcgm.GENERATION, "kind=current"),
    f"{_LINK}/pcie_gen/max_link_gen": Meaning(dcgm.GENERATION, "kind=max"),
    f"{_LINK}/link_widths/current_link_width": Meaning(dcgm.WIDTH, "kind=current"),
    f"{_LINK}/link_widths/max_link_width": Meaning(dcgm.WIDTH, "kind=max"),
    "pci/replay_counter": Meaning("skewscope_gpu_pcie_replays_total"),
    "ecc_mode/current_ecc": Meaning(dcgm.MODE, "mode=ecc"), "mig_mode/current_mig": Meaning(dcgm.MODE, "mode=mig"),
    "persistence_mode": Meaning(dcgm.MODE, "mode=persistence"),
}.items()} | {
    "gpu_recovery_action": tuple(Meaning(ACTION, f"action={name}", equal=at) for at, name in enumerate(dcgm.ACTIONS)),
    "fabric/state": tuple(Meaning(FABRIC, f"state={name}", equal=at)
                          for at, name in enumerate(("not_started", "in_progress", "completed"))),
}
# fmt: on
# Of two paths that say the same the later one counts where it has a value: rows before pages.
ORDERS = {path: 1 for path in MEANINGS if path.startswith(_RETIRED)}


def value(text: str) -> float | None:
    """Return the number of an element's text, None for "N/A" and the like.

    >>> value("1275 MHz"), value("16x"), value("P8"), value("Not Active"), value("N/A")
    (1275.0, 16.0, 8.0, 0.0, None)
    """
    word = WORDS.get(text.lower())
    if word is not None:
        return word
    hit = NUMBER.match(text)
    return float(hit[1]) if hit else None
