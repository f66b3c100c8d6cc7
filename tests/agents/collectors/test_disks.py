from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from skewscope.catalogue import room
from skewscope.contracts import Place
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)


@pytest.fixture(autouse=True)
def psutil_reads_the_real_root():
    import psutil

    yield
    psutil.PROCFS_PATH = "/proc"


def _host(tmp_path, disks, real=()):
    host = fake.FakeHost(tmp_path)
    lines = [f" 259 {number} {name} 10 0 16 2500 20 0 32 500 1 1250 3000\n" for number, name in enumerate(disks)]
    fake.write(host.proc / "diskstats", "".join(lines))
    for name in disks:
        (host.sys / "block" / name).mkdir(parents=True)
    for name in real:
        (host.sys / "block" / name / "device").mkdir()
    return host


def test_whole_disks_only_and_in_base_units(tmp_path):
    host = _host(tmp_path, ["nvme0n1", "dm-0", "loop3"], real=["nvme0n1"])
    with (host.proc / "diskstats").open("a") as file:
        file.write(" 259 9 nvme0n1p1 10 0 16 2500 20 0 32 500 1 1250 3000\n")
    found = fake.values(host.collector("disks"))
    assert found["disk_bytes_total"] == {("nvme0n1", "read"): 8192, ("nvme0n1", "write"): 16_384}
    assert found["disk_operations_total"]["nvme0n1", "write"] == 20
    assert found["disk_operation_seconds_total"] == {("nvme0n1", "read"): 2.5, ("nvme0n1", "write"): 0.5}
    assert found["disk_busy_seconds_total"] == {("nvme0n1",): 1.25}


def test_volumes_count_where_no_real_disk_is_seen(tmp_path):
    found = fake.values(_host(tmp_path, ["dm-0", "zram0"]).collector("disks"))
    assert found["disk_busy_seconds_total"].keys() == {("dm-0",)}


@pytest.mark.parametrize("disks", [[], ["loop0", "ram1"]])
def test_no_disk_is_no_data(tmp_path, disks):
    with pytest.raises(NoData, match="no disk"):
        _host(tmp_path, disks).collector("disks").collect()


@pytest.mark.parametrize("text", [None, "rubbish\n", " 259 0 nvme0n1 x y z\n"])
def test_unreadable_counters_are_told(tmp_path, text):
    host = _host(tmp_path, ["nvme0n1"], real=["nvme0n1"])
    (host.proc / "diskstats").unlink()
    if text is not None:
        fake.write(host.proc / "diskstats", text)
    with pytest.raises(NoData):
        host.collector("disks").collect()


@pytest.mark.skipif(not Path("/proc/diskstats").exists(), reason="no disk statistics here")
def test_this_host():
    try:
        found = fake.values(room("agents.collectors", "disks").kind()(Place()))
    except NoData:
        pytest.skip("no disk here")
    assert all(value >= 0 for series in found.values() for value in series.values())
