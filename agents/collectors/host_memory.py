"""Where the host's memory is: uses, swap, NUMA nodes, huge pages, and allocations that had to wait."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._proc import PAGE_BYTES, entries, number, table, whole

NODES = 64
# fmt: off
USES = (
    (b"MemTotal", "total"), (b"MemAvailable", "available"), (b"MemFree", "free"), (b"Buffers", "buffers"),
    (b"Cached", "cached"), (b"AnonPages", "anonymous"), (b"Shmem", "shared"), (b"Dirty", "dirty"),
    (b"Writeback", "writeback"), (b"Slab", "slab"), (b"Unevictable", "unevictable"), (b"Mlocked", "locked"),
    (b"SwapTotal", "swap_total"), (b"SwapFree", "swap_free"),
)
EVENTS: tuple[tuple[str, tuple[str, ...], tuple[bytes, ...], int], ...] = (
    ("skewscope_host_swap_bytes_total", ("in",), (b"pswpin",), PAGE_BYTES),
    ("skewscope_host_swap_bytes_total", ("out",), (b"pswpout",), PAGE_BYTES),
    ("skewscope_host_major_faults_total", (), (b"pgmajfault",), 1),
    ("skewscope_host_oom_kills_total", (), (b"oom_kill",), 1),
    ("skewscope_host_numa_migrated_bytes_total", (), (b"numa_pages_migrated",), PAGE_BYTES),
    ("skewscope_host_memory_stalls_total", ("compaction",), (b"compact_stall",), 1),
    ("skewscope_host_memory_stalls_total", ("reclaim",), (  # one a zone since Linux 4.12
        b"allocstall", b"allocstall_dma", b"allocstall_dma32", b"allocstall_normal", b"allocstall_high",
        b"allocstall_movable", b"allocstall_device"), 1),
)
ALLOCATIONS = ((b"numa_hit", "hit"), (b"numa_miss", "miss"), (b"numa_foreign", "foreign"))
POOL = (("nr_hugepages", "total"), ("free_hugepages", "free"), ("resv_hugepages", "reserved"),
        ("surplus_hugepages", "surplus"))
# fmt: on


class HostMemory:
    """Reads <proc>/meminfo and vmstat, and NUMA nodes and huge pages from <sys>."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_host_memory_bytes", *dict.fromkeys(name for name, *_ in EVENTS), "skewscope_host_numa_memory_bytes",
        "skewscope_host_numa_allocations_total", "skewscope_host_hugepage_bytes",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._proc = str(place.proc)
        self._nodes = f"{place.sys}/devices/system/node"
        self._pools = f"{place.sys}/kernel/mm/hugepages"

    def collect(self) -> Iterable[Sample]:
        """Return all of them; a file that is missing takes only its own away."""
        found = [*self._uses(), *self._events(), *self._numa(), *self._huge()]
        if not found:
            raise NoData(f"{self._proc}/meminfo and vmstat cannot be read")
        return found

    def _uses(self) -> Iterator[Sample]:
        kib = table(whole(f"{self._proc}/meminfo"))
        for name, kind in USES:
            if name in kib:
                yield "skewscope_host_memory_bytes", (kind,), kib[name] * 1024

    def _events(self) -> Iterator[Sample]:
        counts = table(whole(f"{self._proc}/vmstat"))
        for metric, labels, names, unit in EVENTS:
            known = [counts[name] for name in names if name in counts]
            if known:
                yield metric, labels, sum(known) * unit

    def _numa(self) -> Iterator[Sample]:
        names = [name for name in entries(self._nodes) if re.fullmatch(r"node\d+", name)]
        for name in names[:NODES]:
            node, folder = name[4:], f"{self._nodes}/{name}"
            kib = table(whole(f"{folder}/meminfo").replace(b"Node %d " % int(node), b""))
            for field, kind in ((b"MemTotal", "total"), (b"MemFree", "free")):
                if field in kib:
                    yield "skewscope_host_numa_memory_bytes", (node, kind), kib[field] * 1024
            counts = table(whole(f"{folder}/numastat"))
            for field, result in ALLOCATIONS:
                if field in counts:
                    yield "skewscope_host_numa_allocations_total", (node, result), counts[field]

    def _huge(self) -> Iterator[Sample]:
        for name in entries(self._pools):
            match = re.fullmatch(r"hugepages-(\d+)kB", name)
            for file, kind in POOL if match else ():
                pages = number(whole(f"{self._pools}/{name}/{file}"))
                if match and pages is not None:
                    kib = int(match[1])
                    yield "skewscope_host_hugepage_bytes", (page_size(kib), kind), pages * kib * 1024


def page_size(kib: int) -> str:
    """Return the size of a page in its greatest whole unit.

    >>> page_size(2048), page_size(1048576), page_size(64)
    ('2MiB', '1GiB', '64KiB')
    """
    for factor, unit in ((1 << 20, "GiB"), (1 << 10, "MiB")):
        if kib % factor == 0:
            return f"{kib // factor}{unit}"
    return f"{kib}KiB"
