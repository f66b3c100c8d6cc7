"""How the host's processors spend their time, what waits for them, and whether heat slows them.

The kernel makes <proc>/stat anew at each read, at a cost that grows with processors and interrupts, and the clock of
one processor may have to be asked of itself. So nothing here is read each second, and clocks are read in turns.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._proc import TICKS_PER_S, Kept, entries, number, whole

MODES = tuple((mode,) for mode in ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"))
TASKS = ((b"\nprocs_running ", ("runnable",)), (b"\nprocs_blocked ", ("blocked",)))
STAT_EVERY_S = 4.5
HEAT_EVERY_S = 30.0
CLOCKS_AT_ONCE = 32
CLOCKS_MOST_S = 0.02  # old kernels wait for the processor whose clock is read


class HostCpu:
    """Reads <proc>/stat, hung_task_detect_count, cpufreq and thermal_throttle."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_host_cpus", "skewscope_host_cpu_seconds_total", "skewscope_host_tasks",
        "skewscope_host_context_switches_total", "skewscope_host_cpu_throttle_events_total",
        "skewscope_host_cpu_throttle_seconds_total", "skewscope_host_cpu_frequency_hertz",
        "skewscope_host_hung_tasks_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stat = Kept(f"{place.proc}/stat", 65_536)
        self._hung = Kept(f"{place.proc}/sys/kernel/hung_task_detect_count")
        self._clocks = Clocks(f"{place.sys}/devices/system/cpu/cpufreq")
        self._heat = Heat(f"{place.sys}/devices/system/cpu")
        self._due_s = self._heat_due_s = float("-inf")
        self._known: list[Sample] = []
        self._known_heat: list[Sample] = []

    def collect(self) -> Iterable[Sample]:
        """Return what the last look gave, looking again where it is due."""
        now_s = self._place.clock_s()
        if now_s >= self._heat_due_s:
            self._heat_due_s = now_s + HEAT_EVERY_S
            self._known_heat = list(self._heat.samples())
        if now_s >= self._due_s:
            self._due_s = now_s + STAT_EVERY_S
            self._known = [*_stat(self._stat.read()), *self._hung_tasks(), *self._clocks.samples()]
        if not self._known and not self._known_heat:
            raise NoData(f"{self._stat.path} cannot be read")
        return [*self._known, *self._known_heat]

    def _hung_tasks(self) -> Iterator[Sample]:
        count = number(self._hung.read())
        if count is not None:
            yield "skewscope_host_hung_tasks_total", (), count


def _stat(raw: bytes) -> Iterator[Sample]:
    ticks = raw[: raw.find(b"\n")].split()
    if ticks[:1] != [b"cpu"]:
        return
    for label, value in zip(MODES, ticks[1:], strict=False):  # kernels before 2.6.11 lack the last
        if value.isdigit():
            yield "skewscope_host_cpu_seconds_total", label, int(value) / TICKS_PER_S
    yield "skewscope_host_cpus", (), raw.count(b"\ncpu")
    for name, label in TASKS:
        count = _after(raw, name)
        if count is not None:
            yield "skewscope_host_tasks", label, count
    switches = _after(raw, b"\nctxt ")
    if switches is not None:
        yield "skewscope_host_context_switches_total", (), switches


def _after(raw: bytes, name: bytes) -> int | None:
    at = raw.find(name)
    return number(raw[at + len(name) : raw.find(b"\n", at + 1)]) if at >= 0 else None


class Clocks:
    """The processors' clocks, some of them anew at each look."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: list[str] | None = None
        self._next = 0
        self._khz: dict[str, int] = {}

    def samples(self) -> Iterator[Sample]:
        """Return the statistics of the last known clock of each processor."""
        if self._files is None:
            names = [name for name in entries(self._folder) if name.startswith("policy")]
            self._files = [f"{self._folder}/{name}/scaling_cur_freq" for name in names]
        self._look(self._files)
        known = self._khz.values()
        if known:
            yield "skewscope_host_cpu_frequency_hertz", ("min",), min(known) * 1e3
            yield "skewscope_host_cpu_frequency_hertz", ("mean",), sum(known) / len(known) * 1e3
            yield "skewscope_host_cpu_frequency_hertz", ("max",), max(known) * 1e3

    def _look(self, files: list[str]) -> None:
        start_s = time.perf_counter()
        for _ in range(min(CLOCKS_AT_ONCE, len(files))):
            path = files[self._next % len(files)]
            self._next += 1
            khz = number(whole(path, 64))
            if khz:
                self._khz[path] = khz
            else:
                self._khz.pop(path, None)  # the processor went offline
            if time.perf_counter() - start_s > CLOCKS_MOST_S:
                return


class Heat:
    """What counters of thermal throttling say, each core and package once: its processors all count for it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._owners: dict[str, dict[tuple[bytes, bytes], str]] | None = None

    def samples(self) -> Iterator[Sample]:
        """Return events and seconds by scope; nothing where the processors do not count."""
        if self._owners is None:
            self._owners = self._find()
        for scope, owners in self._owners.items():
            events = [number(whole(f"{path}/{scope}_throttle_count", 64)) for path in owners.values()]
            known = [count for count in events if count is not None]
            if known:
                yield "skewscope_host_cpu_throttle_events_total", (scope,), sum(known)
            times = [number(whole(f"{path}/{scope}_throttle_total_time_ms", 64)) for path in owners.values()]
            known = [count for count in times if count is not None]
            if known:
                yield "skewscope_host_cpu_throttle_seconds_total", (scope,), sum(known) / 1e3

    def _find(self) -> dict[str, dict[tuple[bytes, bytes], str]]:
        owners: dict[str, dict[tuple[bytes, bytes], str]] = {"core": {}, "package": {}}
        for name in entries(self._folder):
            counters = f"{self._folder}/{name}/thermal_throttle"
            if re.fullmatch(r"cpu\d+", name) and entries(counters):
                package = whole(f"{self._folder}/{name}/topology/physical_package_id", 64)
                core = whole(f"{self._folder}/{name}/topology/core_id", 64)
                owners["core"].setdefault((package, core), counters)
                owners["package"].setdefault((package, b""), counters)
        return owners
