"""What the agent says of itself."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import skewscope
from skewscope.contracts import Sample

from .crew import NO_DATA
from .exposition import Block, Renderer, without
from .nvml_lane import NvmlLane
from .schedule import Watched

OWN_EVERY_S = 4.5  # what the agent says of itself, but for what is broken
ACCESS = "skewscope_gpu_access_state"

EXPORTS = (
    "skewscope_build_info", "skewscope_collector_success", "skewscope_collector_duration_seconds",
    "skewscope_collector_last_success_timestamp_seconds", "skewscope_collector_overruns_total", "skewscope_nvml_hung",
    "skewscope_nvml_worker_restarts_total", "skewscope_series_dropped_total", "skewscope_http_requests_total",
    "skewscope_agent_resident_bytes", "skewscope_agent_cpu_seconds_total", ACCESS,
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


class Own:
    """Makes the blocks of what the agent says of itself."""

    def __init__(self) -> None:
        self.requests = Requests()
        self._renderers = Renderer(), Renderer()
        self._block: Block = {}
        self._next_s = 0.0

    def blocks(
        self, watched: Collection[Watched], lane: NvmlLane | None, board: Mapping[str, Any], hanging: str,
        unreachable: Iterable[int], stale: int, now_s: float,
    ) -> list[Block]:  # fmt: skip
        """Return what is said now; `hanging` names the driver call that hangs, `unreachable` the slots left out."""
        if now_s >= self._next_s:
            self._next_s = now_s + OWN_EVERY_S
            told = leisurely(watched, nvml_pid=lane.pid if lane else 0)
            self._block = self._renderers[0].block(told + self.requests.samples())[0]
        restarts, hung = (lane.restarts, bool(hanging)) if lane else (0, None)
        now = urgent(watched, nvml_restarts=restarts, hung=hung, stale=stale)
        for slot in unreachable:
            uuid = next((gpu["uuid"] for gpu in board.get("gpus", ()) if gpu["slot"] == slot), "")
            now.append((ACCESS, (str(slot), uuid, "hung"), 1))
        return [self._block, self._renderers[1].block(now)[0]]


def without_access(block: Block, unreachable: Sequence[int]) -> Block:
    """Return a block that says nothing of the access to GPUs that hang: those of which the node itself does, or all."""
    if ACCESS not in block:
        return block
    if not unreachable:  # the call that hangs is of no GPU in particular
        return {name: lines for name, lines in block.items() if name != ACCESS}
    beginnings = tuple(f'{ACCESS}{{gpu="{slot}",'.encode() for slot in unreachable)
    return {name: without(lines, beginnings) if name == ACCESS else lines for name, lines in block.items()}


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
