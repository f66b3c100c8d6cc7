from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from skewscope.catalogue import room
from skewscope.contracts import Place
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MEMINFO = "MemTotal:  1000 kB\nMemFree:   200 kB\nMemAvailable:  600 kB\nUnevictable:  8 kB\nHugePages_Total:  4\n"
VMSTAT = """pswpin 3
pswpout 5
pgmajfault 7
allocstall_dma 1
allocstall_normal 2
compact_stall 9
oom_kill 1
numa_pages_migrated 2
"""


def _node(host, number, miss=3):
    folder = host.sys / f"devices/system/node/node{number}"
    fake.write(folder / "meminfo", f"Node {number} MemTotal:  500 kB\nNode {number} MemFree:   50 kB\n")
    fake.write(folder / "numastat", f"numa_hit 100\nnuma_miss {miss}\nnuma_foreign 4\nlocal_node 9\n")


def test_all_of_it(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "meminfo", MEMINFO)
    fake.write(host.proc / "vmstat", VMSTAT)
    _node(host, 0)
    _node(host, 12, miss=8)
    pool = host.sys / "kernel/mm/hugepages/hugepages-2048kB"
    fake.write(pool / "nr_hugepages", "4\n")
    fake.write(pool / "free_hugepages", "1\n")
    fake.write(pool / "resv_hugepages", "many\n")
    found = fake.values(host.collector("host-memory"))
    assert found["host_memory_bytes"] == {
        ("total",): 1_024_000, ("free",): 204_800, ("available",): 614_400, ("unevictable",): 8192,
    }  # fmt: skip
    assert found["host_swap_bytes_total"] == {("in",): 3 * PAGE_BYTES, ("out",): 5 * PAGE_BYTES}
    assert found["host_memory_stalls_total"] == {("reclaim",): 3, ("compaction",): 9}
    assert found["host_numa_migrated_bytes_total"] == {(): 2 * PAGE_BYTES}
    assert (found["host_oom_kills_total"], found["host_major_faults_total"]) == ({(): 1}, {(): 7})
    assert found["host_numa_memory_bytes"]["12", "free"] == 51_200
    assert found["host_numa_allocations_total"]["12", "miss"] == 8
    assert found["host_hugepage_bytes"] == {("2MiB", "total"): 8 << 20, ("2MiB", "free"): 2 << 20}


def test_a_missing_file_takes_only_its_own_away(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "meminfo", b"\xff\xfe rubbish\nMemTotal: x kB\n")
    fake.write(host.proc / "vmstat", VMSTAT)
    found = fake.values(host.collector("host-memory"))
    assert "host_memory_bytes" not in found and found["host_oom_kills_total"] == {(): 1}


def test_nothing_readable_is_no_data(tmp_path):
    with pytest.raises(NoData):
        fake.FakeHost(tmp_path).collector("host-memory").collect()


def test_this_host():
    found = fake.values(room("agents.collectors", "host-memory").kind()(Place()))
    assert found["host_memory_bytes"]["total",] > found["host_memory_bytes"]["free",] > 0
    assert "host_major_faults_total" in found
