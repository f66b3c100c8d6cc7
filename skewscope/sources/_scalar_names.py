"""What the scalars of experiment trackers are called (W&B, TensorBoard, Lightning), and what they mean here."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ._telemetry_series import Meaning

PERCENT, MIB, MHZ = 0.01, 1024.0**2, 1e6
GPU = {
    "gpu": Meaning("skewscope_gpu_utilization_ratio", scale=PERCENT),
    "memory": Meaning("skewscope_gpu_memory_activity_ratio", scale=PERCENT),
    "memoryallocatedbytes": Meaning("skewscope_gpu_memory_used_bytes"),
    "temp": Meaning("skewscope_gpu_temperature_celsius", "sensor=gpu"),
    "memorytemp": Meaning("skewscope_gpu_temperature_celsius", "sensor=memory"),
    "powerwatts": Meaning("skewscope_gpu_power_watts", "kind=average"),
    "enforcedpowerlimitwatts": Meaning("skewscope_gpu_power_limit_watts", "kind=enforced"),
    "smclock": Meaning("skewscope_gpu_clock_hertz", "domain=sm", scale=MHZ),
    "memoryclock": Meaning("skewscope_gpu_clock_hertz", "domain=memory", scale=MHZ),
    "smactive": Meaning("skewscope_gpu_sm_active_ratio", scale=PERCENT),
    "smoccupancy": Meaning("skewscope_gpu_sm_occupancy_ratio", scale=PERCENT),
    "pipetensoractive": Meaning("skewscope_gpu_tensor_active_ratio", scale=PERCENT),
    "dramactive": Meaning("skewscope_gpu_dram_active_ratio", scale=PERCENT),
    "correctedmemoryerrors": Meaning(
        "skewscope_gpu_ecc_errors_total", "severity=corrected,lifetime=aggregate,location=all"),
    "uncorrectedmemoryerrors": Meaning(
        "skewscope_gpu_ecc_errors_total", "severity=uncorrected,lifetime=aggregate,location=all"),
}  # fmt: skip
HOST = {
    "network.sent": ("all", Meaning("skewscope_ethernet_transmit_bytes_total")),
    "network.recv": ("all", Meaning("skewscope_ethernet_receive_bytes_total")),
    "disk.in": ("all", Meaning("skewscope_disk_bytes_total", "direction=read", scale=MIB)),
    "disk.out": ("all", Meaning("skewscope_disk_bytes_total", "direction=write", scale=MIB)),
    "proc.memory.availablemb": ("", Meaning("skewscope_host_memory_bytes", "kind=available", scale=MIB)),
    "proc.memory.rssmb": ("", Meaning("skewscope_rank_resident_memory_bytes", scale=MIB)),
    "proc.cpu.threads": ("", Meaning("skewscope_rank_threads")),
}  # fmt: skip
# Lightning's GPUStatsMonitor, which asks nvidia-smi.
LIGHTNING = {
    "utilization.gpu (%)": Meaning("skewscope_gpu_utilization_ratio", scale=PERCENT),
    "utilization.memory (%)": Meaning("skewscope_gpu_memory_activity_ratio", scale=PERCENT),
    "memory.used (mb)": Meaning("skewscope_gpu_memory_used_bytes", scale=MIB),
    "temperature.gpu (°c)": Meaning("skewscope_gpu_temperature_celsius", "sensor=gpu"),
    "temperature.memory (°c)": Meaning("skewscope_gpu_temperature_celsius", "sensor=memory"),
}  # fmt: skip
# Busy share of one processor: what is left is idle; summed over processors, and over time.
IDLE = Meaning("skewscope_host_cpu_seconds_total", "mode=idle", over="sum", rate=True)
SYSTEM = re.compile(r"(?:^|\s)system[./](.+)$", re.IGNORECASE)
OF_GPU = re.compile(r"gpu\.(\d{1,3})\.(\w+)")
OF_CPU = re.compile(r"cpu\.\d{1,4}\.cpu_percent")
OF_DISK = re.compile(r"disk(?:\.[^.]+)?\.(in|out)")
OF_LIGHTNING = re.compile(r"(?:^|/)gpu_id: ?(\d{1,3})/(.+)$", re.IGNORECASE)
UNIT = r"(?:_?\(?(?:in_)?(?P<unit>ms|msec|milliseconds|s|sec|secs|seconds)\)?)?"
WHOLE = re.compile(
    r"(?:.*[_.])?(?:(?:step|iteration|iter)_(?:time|timing|duration|latency)|(?:time|seconds|sec)_per_(?:step|iteration|iter)"
    r"|time_metrics_end_to_end)" + UNIT
)
DATA = re.compile(r"(?:.*[_.])?(?:data_?load(?:ing|er)?_?(?:time|duration)|time_metrics_data_loading)" + UNIT)


class Known(NamedTuple):
    """What a scalar means: a metric of a device, or ("step" or "data") a length of a step with ns per unit."""

    meaning: Meaning | None = None
    device: str = ""
    phase: str = ""
    per_ns: float = 0.0
    idle: bool = False


@lru_cache(1 << 14)
def known(tag: str) -> Known:
    """Return what a tag means here; nothing is known of most.

    >>> known("system.gpu.3.temp").device, known("perf/step_time").phase, known("iteration-time").per_ns
    ('gpu3', 'step', 1000000000.0)
    >>> known("train/loss") == Known()
    True
    """
    if found := SYSTEM.search(tag):
        return _of_system(found[1].replace("/", ".").lower())
    if found := OF_LIGHTNING.search(tag):
        meaning = LIGHTNING.get(found[2].lower())
        return Known(meaning, f"gpu{int(found[1])}") if meaning else Known()
    plain = re.sub(r"[-/ ]+", "_", tag.lower())
    for phase, pattern in (("step", WHOLE), ("data", DATA)):
        if length := pattern.fullmatch(plain):
            return Known(phase=phase, per_ns=1e6 if str(length["unit"]).startswith("m") else 1e9)
    return Known()


def _of_system(name: str) -> Known:
    if found := OF_GPU.fullmatch(name):
        meaning = GPU.get(found[2])
        return Known(meaning, f"gpu{int(found[1])}") if meaning else Known()
    if OF_CPU.fullmatch(name):
        return Known(IDLE, idle=True)
    if found := OF_DISK.fullmatch(name):
        name = f"disk.{found[1]}"
    device, meaning = HOST.get(name, ("", None))
    return Known(meaning, device)
