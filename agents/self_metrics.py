"""What the agent says of itself."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable

import skewscope
from skewscope.contracts import Sample

from .crew import NO_DATA
from .schedule import Watched

EXPORTS = (
    "skewscope_build_info", "skewscope_collector_success", "skewscope_collector_duration_seconds",
    "skewscope_collector_last_success_timestamp_seconds", "skewscope_collector_overruns_total", "skewscope_nvml_hung",
    "skewscope_nvml_worker_restarts_total", "skewscope_series_dropped_total", "skewscope_http_requests_total",
    "skewscope_agent_resident_bytes", "skewscope_agent_cpu_seconds_total", "skewscope_gpu_access_state",
)  # fmt: skip
CARDINALITY, STALE = ("cardinality",), ("stale",)
PATHS = ("/metrics", "/metrics/fast", "/metrics/slow", "/healthz", "/readyz")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
BUILD = (skewscope.__version__, os.environ.get("SKEWSCOPE_REVISION", ""), ".".join(map(str, sys.version_info[:3])))


class Requests:
    """Counts HTTP replies by path and status; unknown paths count as one."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def count(self, path: str, status: int) -> None:
        """Note one reply."""
        known = path.split("?", 1)[0]
        with self._lock:
            self._counts[str(status), known if known in PATHS else "other"] += 1

    def samples(self) -> list[Sample]:
        """Return the counts."""
        with self._lock:
            return [("skewscope_http_requests_total", key, count) for key, count in self._counts.items()]


def urgent(watched: Collection[Watched], *, nvml_restarts: int, hung: bool | None, stale: int) -> list[Sample]:
    """Return what must be on the very next page; `hung` is None where no driver is asked."""
    found: list[Sample] = [
        ("skewscope_collector_success", one.label, int(not one.broken))
        for one in watched
        if one.last is not None and one.last.state != NO_DATA
    ]
    found.append(("skewscope_series_dropped_total", CARDINALITY, sum(one.dropped for one in watched)))
    found.append(("skewscope_series_dropped_total", STALE, stale))
    if hung is not None:
        found.append(("skewscope_nvml_hung", (), int(hung)))
        found.append(("skewscope_nvml_worker_restarts_total", (), max(nvml_restarts, 0)))
    return found


def leisurely(watched: Iterable[Watched], *, nvml_pid: int) -> list[Sample]:
    """Return what need not be newer than some seconds."""
    found: list[Sample] = [("skewscope_build_info", BUILD, 1)]
    for one in watched:
        if one.last is None:
            continue
        found.append(("skewscope_collector_duration_seconds", one.label, round(one.last.seconds, 7)))
        found.append(("skewscope_collector_overruns_total", one.label, one.overruns))
        if one.success_s:
            found.append(("skewscope_collector_last_success_timestamp_seconds", one.label, round(one.success_s, 3)))
    for process, pid in (("agent", os.getpid()), ("nvml", nvml_pid)):
        found += _process(process, pid) if pid else []
    return found


def _process(process: str, pid: int) -> list[Sample]:
    try:
        with open(f"/proc/{pid}/statm", "rb") as memory, open(f"/proc/{pid}/stat", "rb") as stat:
            pages = int(memory.read().split()[1])
            times = stat.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError, ValueError):
        return []
    cpu_s = (int(times[11]) + int(times[12])) / TICKS
    return [
        ("skewscope_agent_resident_bytes", (process,), pages * PAGE_BYTES),
        ("skewscope_agent_cpu_seconds_total", (process,), cpu_s),
    ]
