"""What the host's disks do and how long their requests take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._proc import entries

DISKS = 64
NO_DISKS = ("loop", "ram", "zram", "sr", "fd")


class Disks:
    """Reads <proc>/diskstats through psutil; which devices are whole disks, <sys>/block tells."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_disk_bytes_total", "skewscope_disk_operations_total", "skewscope_disk_operation_seconds_total",
        "skewscope_disk_busy_seconds_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._proc = str(place.proc)
        self._blocks = f"{place.sys}/block"

    def collect(self) -> Iterable[Sample]:
        """Return the counters of the first 64 disks by name; raises NoData where there are none."""
        import psutil

        psutil.PROCFS_PATH = self._proc
        try:
            counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        except (OSError, ValueError, NotImplementedError) as error:
            raise NoData(f"the kernel does not count what disks do: {error}") from error
        found: list[Sample] = []
        for disk in [name for name in self._disks() if name in counters][:DISKS]:
            found.extend(_of_one(disk, counters[disk]))
        if not found:
            raise NoData(f"no disk in {self._blocks}")
        return found

    def _disks(self) -> list[str]:
        names = [name for name in entries(self._blocks) if name.rstrip("0123456789") not in NO_DISKS]
        real = [name for name in names if os.path.exists(f"{self._blocks}/{name}/device")]
        return real or names  # volumes over disks would count their bytes twice


def _of_one(disk: str, count: object) -> Iterable[Sample]:
    for way in ("read", "write"):
        labels = (disk, way)
        yield "skewscope_disk_bytes_total", labels, getattr(count, f"{way}_bytes")
        yield "skewscope_disk_operations_total", labels, getattr(count, f"{way}_count")
        yield "skewscope_disk_operation_seconds_total", labels, getattr(count, f"{way}_time") / 1e3
    yield "skewscope_disk_busy_seconds_total", (disk,), getattr(count, "busy_time", float("nan")) / 1e3
