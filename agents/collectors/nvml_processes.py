"""Which processes hold a context on each GPU, counted; their memory goes to those who know the jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_devices import devices

PROCESSES = "skewscope_gpu_processes"
KINDS = (("mps", "GetMPSComputeRunningProcesses_v3"), ("compute", "GetComputeRunningProcesses_v3"))


class NvmlProcesses:
    """Asks for processes seldom: the call is dear, and its answer changes with jobs."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (PROCESSES,)

    def __init__(self, place: Place) -> None:
        self._place = place

    def collect(self) -> Iterable[Sample]:
        """Return counts, and leave [pid, bytes used (None: unknown), kind] of each GPU on the board."""
        asked = devices(self._place)
        found: list[Sample] = []
        board: dict[str, list[list[Any]]] = {}
        ready = asked.ready()
        for device in ready:
            seen: dict[int, list[Any]] = {}
            for kind, call in KINDS:
                running = asked.ask(device, call)
                if running is None:
                    continue
                new = {one.pid: [one.pid, one.usedGpuMemory, kind] for one in running if one.pid not in seen}
                seen.update(new)
                board[device.uuid] = list(seen.values())
                found.append((PROCESSES, (*device.labels, kind), len(new)))
        self._place.board["gpu-processes"] = board
        if not found and ready:
            raise NoData("no GPU here tells of its processes")
        return found
