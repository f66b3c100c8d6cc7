from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import Clock, build, memory  # noqa: E402

sysfs = catalogue.load("agents.collectors._sysfs")
pci = catalogue.load("agents.collectors._sysfs_pci")
net = catalogue.load("agents.collectors._sysfs_net")
SPAN = 1 << 32


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "counter"
    path.write_text("7\n")
    return path


def following(path: Path, **more):
    files = sysfs.Files()
    files.follow([sysfs.Source(str(path), "metric", ("a",), **more)])
    return files


def values(files) -> list[float]:
    return [sample[2] for sample in files.samples()]


def counted(path: Path, *numbers: int, **more) -> list[float]:
    files, seen = following(path, **more), []
    for number in numbers:
        path.write_text(f"{number}\n")
        seen += values(files)
    return seen


def test_a_kept_descriptor_sees_new_content(file):
    assert counted(file, 7, 9, 9, scale=4) == [28, 36, 36]


def test_a_narrow_counter_goes_on_when_it_wraps(file):
    assert counted(file, SPAN - 10, 5, 6, SPAN - 4, 1, wraps=True) == [
        SPAN - 10,
        SPAN + 5,
        SPAN + 6,
        2 * SPAN - 4,
        2 * SPAN + 1,
    ]


@pytest.mark.parametrize("before", [5000, SPAN // 2, SPAN - 1, SPAN + 5])
def test_other_decreases_are_resets(file, before):
    assert counted(file, before, 5, wraps=True) == [before, 5]


def test_a_wide_counter_never_wraps(file):
    assert counted(file, SPAN - 10, 5) == [SPAN - 10, 5]


def test_a_reset_takes_back_what_wraps_had_added(file):
    assert counted(file, SPAN - 10, 5, 1000, 3, wraps=True)[-1] == 3


@pytest.mark.parametrize("content", ["", "N/A (no PMA)", "-3", "\xff"])
def test_what_is_no_counter_is_left_out_until_it_is_one(file, content):
    files = following(file)
    assert values(files) == [7]
    file.write_text(content)
    assert values(files) == [] and files.lost
    file.write_text("8\n")
    assert values(files) == [8] and not files.lost


def test_one_bad_file_does_not_hide_the_others(tmp_path, file):
    folder = tmp_path / "folder"
    folder.mkdir()
    files = sysfs.Files()
    files.follow(sysfs.Source(str(path), "metric", (path.name,)) for path in (folder, file, tmp_path / "absent"))
    assert [sample[1] for sample in files.samples()] == [("counter",)]
    assert isinstance(files.error, OSError)


def test_a_file_that_keeps_failing_is_asked_ever_more_seldom(tmp_path):
    path = tmp_path / "late"
    files = following(path)
    for _ in range(9):  # tried at calls 1, 2, 4, 8
        assert values(files) == []
    path.write_text("1")
    seen = [bool(values(files)) for _ in range(8)]
    assert seen == [False] * 6 + [True] * 2


def test_failing_files_can_be_tried_at_once(tmp_path):
    files = following(tmp_path / "late")
    for _ in range(9):
        values(files)
    (tmp_path / "late").write_text("1")
    files.retry()
    assert values(files) == [1]


def test_a_descriptor_whose_device_is_gone_is_opened_anew(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path = tmp_path / "counter"
    path.symlink_to(f"/proc/{other.pid}/oom_score_adj")
    try:
        files = following(path)
        assert len(values(files)) == 1
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert values(files) == [] and files.error.errno
    path.unlink()
    path.write_text("5")
    assert values(files) == [5]


def test_files_that_stay_keep_their_counts_and_others_are_closed(tmp_path, file):
    other = tmp_path / "other"
    other.write_text("1")
    sources = [sysfs.Source(str(path), "metric", (path.name,), wraps=True) for path in (file, other)]
    files = sysfs.Files()
    before = len(os.listdir("/proc/self/fd"))
    files.follow(sources)
    file.write_text(str(SPAN - 2))
    files.samples()
    file.write_text("1")
    assert len(os.listdir("/proc/self/fd")) == before + 2
    files.samples()
    files.follow(sources[:1])
    assert values(files) == [SPAN + 1]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del files
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_source_named_twice_is_read_once(file):
    source = sysfs.Source(str(file), "metric", ())
    files = sysfs.Files()
    files.follow([source, source])
    assert values(files) == [7]


def test_a_folder_is_scanned_when_names_change_or_time_went_by(tmp_path):
    clock = Clock()
    watch = sysfs.Watch(str(tmp_path / "absent"), clock)
    assert watch.due() and not watch.due()
    (tmp_path / "absent/one").mkdir(parents=True)
    assert watch.due() and watch.found == ["one"] and not watch.due()
    clock.wait(15)
    assert watch.due()


def test_a_count_that_is_none_is_refused():
    with pytest.raises(UsageError, match="rdma.expected wants a whole number, got 'eight'"):
        sysfs.expected({"rdma.expected": "eight"}, "rdma.expected")


@pytest.mark.parametrize("bus_id", ["00000000:1B:00.0", "0000:1b:00.0", "0000:1B:00.0"])
def test_bus_ids_become_addresses(bus_id):
    assert pci.address(bus_id) == "0000:1b:00.0"


def test_a_domain_that_needs_more_digits_keeps_them():
    assert pci.address("00010000:1B:00.0") == "10000:1b:00.0"


def test_virtual_functions_and_representors_do_not_count(tree):
    root = build(tree, hcas=1, gpus=0)
    assert net.interfaces(str(root.sys)) == ["eno1", "roce0"]
    root.write("sys/class/net/roce0/phys_port_name", "pf0vf3")
    assert net.interfaces(str(root.sys)) == ["eno1"]
    root.write("sys/class/net/roce0/phys_port_name", "p0")
    (root.sys / "class/net/roce0/device/physfn").mkdir()
    root.write("sys/class/net/bonding_masters", "bond0")
    assert net.interfaces(str(root.sys)) == ["eno1"]


def test_virtual_interfaces_count_where_there_is_nothing_else(tree):
    root = build(tree, hcas=0, gpus=0)
    root.write("sys/class/net/veth0/operstate", "up")
    assert net.interfaces(str(root.sys)) == ["eno1"]
    root.remove_device("eno1")
    assert net.interfaces(str(root.sys)) == ["veth0"]


def test_each_port_of_a_device_finds_its_interface(tree):
    root = build(tree, hcas=3, gpus=0)
    assert net.ports(str(root.sys)) == {"ib0": ("mlx5_0", "1"), "roce1": ("mlx5_1", "1"), "roce2": ("mlx5_2", "1")}
    nic = (root.sys / "class/infiniband/mlx5_0/device").resolve()
    root.add_interface("ib0b", nic, dev_port=1)
    root.write("sys/class/infiniband/mlx5_0/ports/2/state", "1: DOWN")
    assert net.interface_of(str(root.sys), "mlx5_0", "2") == "ib0b"
    assert net.port_labels(str(root.sys), "eno1", {}) == ("eno1", "1")
