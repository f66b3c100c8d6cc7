from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.errors import NoData, UsageError

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import Clock, FakeRoot, build, memory, told  # noqa: E402

Pcie = catalogue.room("agents.collectors", "pcie").kind()
WIDTH, SPEED = "skewscope_pcie_link_width_lanes", "skewscope_pcie_link_transfers_per_second"
AER, GPUS = "skewscope_pcie_aer_errors_total", "skewscope_gpu_devices"


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


@pytest.fixture
def root(tree: Path) -> FakeRoot:
    return build(tree, hcas=2, gpus=3)


def above(root: FakeRoot, address: str) -> str:
    return (root.sys / "bus/pci/devices" / address).resolve().parent.name


def test_adapters_gpus_and_their_bridges_are_watched(root):
    found = told(Pcie(root.place()))
    ends = {labels[0] for labels in found[WIDTH]}
    watched = {*root.gpus, *map(root.address_of, root.hcas), "0000:01:00.0"}
    assert ends == watched | {above(root, address) for address in watched}
    assert found[WIDTH][root.gpus[0], "current"] == found[WIDTH][root.gpus[0], "max"] == 16
    assert found[SPEED]["0000:01:00.0", "current"] == 32e9
    assert len(found[AER]) == 3 * len(ends)
    assert {labels[:2] for labels in found[AER]} >= {
        (root.gpus[0], "endpoint"),
        (above(root, root.gpus[0]), "upstream"),
    }


def test_a_link_that_loses_lanes_shows_at_the_next_look(root):
    pcie = Pcie(root.place())
    told(pcie)
    address = root.address_of("mlx5_1")
    root.degrade(address, 8, "16.0 GT/s PCIe")
    found = told(pcie)
    for end in (address, above(root, address)):
        assert found[WIDTH][end, "current"] == 8 and found[WIDTH][end, "max"] == 16
        assert found[SPEED][end, "current"] == 16e9 and found[SPEED][end, "max"] == 32e9


@pytest.mark.parametrize("severity", ["correctable", "nonfatal", "fatal"])
def test_errors_show_at_the_end_that_logged_them_within_five_seconds(root, severity):
    clock = Clock()
    pcie = Pcie(root.place(clock_s=clock))
    told(pcie)
    bridge = above(root, root.gpus[2])
    root.set_aer(bridge, severity, 12)
    clock.wait(5)
    assert {labels: value for labels, value in told(pcie)[AER].items() if value} == {(bridge, "upstream", severity): 12}


def test_a_device_that_does_not_answer_has_no_width(root):
    root.degrade(root.gpus[1], 63, "Unknown")
    found = told(Pcie(root.place()))
    assert (root.gpus[1], "current") not in found[WIDTH] and (root.gpus[1], "current") not in found[SPEED]
    assert found[WIDTH][root.gpus[1], "max"] == 16


def test_garbage_hides_nothing_else(root):
    for file in ("max_link_width", "current_link_speed", "aer_dev_fatal"):
        root.write(root.sys / "bus/pci/devices" / root.gpus[0] / file, "what ever")
    found = told(Pcie(root.place()))
    assert found[WIDTH][root.gpus[0], "current"] == 16 and (root.gpus[0], "max") not in found[WIDTH]
    assert (root.gpus[0], "endpoint", "fatal") not in found[AER] and found[SPEED][root.gpus[1], "current"] == 32e9


def test_a_gpu_that_falls_off_the_bus_is_missed_at_once(root):
    clock, gone = Clock(), root.gpus[2]
    pcie = Pcie(root.place(options={"gpus.expected": "3"}, clock_s=clock))
    assert told(pcie)[GPUS] == {("pci",): 3, ("expected",): 3}
    root.remove_device(gone)
    assert told(pcie)[GPUS] == {("pci",): 2, ("expected",): 3}
    clock.wait(15)
    assert not [labels for series in told(pcie).values() for labels in series if labels[0] == gone]


def test_a_gpu_that_comes_is_found_by_the_next_scan(root):
    clock = Clock()
    pcie = Pcie(root.place(clock_s=clock))
    told(pcie)
    nic = (root.sys / "bus/pci/devices" / root.gpus[0]).resolve()
    root.add_pci(nic.parent / "0000:13:00.1", vendor="0x10de", kind="0x030000", numa=0)
    clock.wait(15)
    found = told(pcie)
    assert found[GPUS]["pci",] == 4 and found[WIDTH]["0000:13:00.1", "current"] == 16


@pytest.mark.parametrize(("vendor", "kind"), [("0x10de", "0x040300"), ("0x10de", "0x068000"), ("0x1a03", "0x030000")])
def test_sound_switches_and_other_displays_are_no_gpus(root, vendor, kind):
    parent = (root.sys / "bus/pci/devices" / root.gpus[0]).resolve().parent
    root.add_pci(parent / "0000:13:00.1", vendor=vendor, kind=kind, numa=0)
    found = told(Pcie(root.place()))
    assert found[GPUS]["pci",] == 3 and ("0000:13:00.1", "current") not in found[WIDTH]


def test_virtual_functions_are_left_out(root):
    address = root.address_of("mlx5_0")
    (root.sys / "bus/pci/devices" / address / "physfn").mkdir()
    assert (address, "current") not in told(Pcie(root.place()))[WIDTH]


def test_what_stands_in_the_root_complex_has_no_bridge(root):
    root.add_pci(root.sys / "devices/pci0000:00/0000:00:1f.6", vendor="0x8086", kind="0x020000", numa=0)
    found = told(Pcie(root.place()))
    assert ("0000:00:1f.6", "current") in found[WIDTH] and ("pci0000:00", "current") not in found[WIDTH]


def test_when_a_device_stops_answering_its_limits_are_read_again(root):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    folder = root.sys / "bus/pci/devices" / root.gpus[0]
    (folder / "current_link_width").unlink()
    (folder / "current_link_width").symlink_to(f"/proc/{other.pid}/oom_score_adj")
    try:
        pcie = Pcie(root.place(clock_s=Clock()))
        assert (root.gpus[0], "current") in told(pcie)[WIDTH]
    finally:
        other.kill()
        other.wait()
    (folder / "max_link_width").unlink()
    assert (root.gpus[0], "current") not in told(pcie)[WIDTH]
    assert (root.gpus[0], "max") not in told(pcie)[WIDTH]


def test_a_machine_without_pci_has_no_data(tree):
    root = FakeRoot(tree)
    with pytest.raises(NoData, match="no PCI bus"):
        list(Pcie(root.place()).collect())
    assert told(Pcie(root.place(options={"gpus.expected": "4"}))) == {GPUS: {("expected",): 4}}
    with pytest.raises(UsageError, match="gpus.expected"):
        list(Pcie(root.place(options={"gpus.expected": "-1"})).collect())
