from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.contracts import Place
from skewscope.errors import NoData

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import Clock, build, memory, told  # noqa: E402

Ethernet = catalogue.room("agents.collectors", "ethernet").kind()
UP, SPEED, DUPLEX = (f"skewscope_ethernet_{what}" for what in ("up", "speed_bytes_per_second", "full_duplex"))
SENT, ERRORS, DROPS = (f"skewscope_ethernet_{what}_total" for what in ("transmit_bytes", "errors", "drops"))
CHANGES = "skewscope_nic_carrier_changes_total"


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


@pytest.fixture
def root(tree: Path):
    return build(tree, hcas=1, gpus=0)


def test_everything_is_told_of_every_physical_interface(root):
    ethernet = Ethernet(root.place())
    found = told(ethernet)
    assert set(found) == set(ethernet.exports)
    assert all({labels[0] for labels in series} == {"eno1", "roce0"} for series in found.values())
    assert found[UP]["eno1", "logical"] == found[UP]["eno1", "physical"] == 1
    assert found[SPEED]["eno1",] == 50e9 and found[DUPLEX]["eno1",] == 1


@pytest.mark.parametrize(
    ("name", "metric", "labels"),
    [
        ("tx_bytes", SENT, ()), ("rx_bytes", "skewscope_ethernet_receive_bytes_total", ()),
        ("tx_packets", "skewscope_ethernet_transmit_packets_total", ()),
        ("rx_packets", "skewscope_ethernet_receive_packets_total", ()),
        ("tx_errors", ERRORS, ("transmit",)), ("rx_errors", ERRORS, ("receive",)),
        ("tx_dropped", DROPS, ("transmit",)), ("rx_dropped", DROPS, ("receive",)),
    ],
)  # fmt: skip
def test_traffic_shows_at_the_next_look(root, name, metric, labels):
    ethernet = Ethernet(root.place())
    before = told(ethernet)
    root.bump("eno1", name, 77)
    after = told(ethernet)
    assert after[metric]["eno1", *labels] - before[metric]["eno1", *labels] == 77
    before[metric]["eno1", *labels] += 77
    assert after == before


def test_a_link_that_goes_down_shows_at_the_next_look_and_has_no_speed(root):
    ethernet = Ethernet(root.place())
    told(ethernet)
    root.link_down("eno1")
    found = told(ethernet)
    assert found[UP]["eno1", "logical"] == found[UP]["eno1", "physical"] == 0
    assert found[CHANGES]["eno1",] == 3 and set(found[SPEED]) == {("roce0",)}
    root.link_up("eno1")
    assert told(ethernet)[SPEED]["eno1",] == 50e9


def test_speed_is_asked_again_after_the_link_changed_only(root):
    clock = Clock()
    ethernet = Ethernet(root.place(clock_s=clock))
    told(ethernet)
    root.write("sys/class/net/eno1/speed", 1000)
    root.write("sys/class/net/eno1/duplex", "half")
    clock.wait(60)
    assert told(ethernet)[SPEED]["eno1",] == 50e9
    root.write("sys/class/net/eno1/carrier_changes", 4)
    found = told(ethernet)
    assert found[SPEED]["eno1",] == 125e6 and found[DUPLEX]["eno1",] == 0


@pytest.mark.parametrize("speed", ["-1", "4294967295", "", "fast"])
def test_an_unknown_speed_is_not_told(root, speed):
    root.write("sys/class/net/eno1/speed", speed)
    root.write("sys/class/net/eno1/duplex", "unknown")
    root.write("sys/class/net/eno1/operstate", "unknown")
    found = told(Ethernet(root.place()))
    assert set(found[SPEED]) == set(found[DUPLEX]) == {("roce0",)} and ("eno1", "logical") not in found[UP]


def test_a_carrier_that_cannot_be_read_comes_with_the_link(root):
    root.link_down("eno1")
    carrier = root.sys / "class/net/eno1/carrier"
    carrier.unlink()
    ethernet = Ethernet(root.place())
    for _ in range(9):
        assert ("eno1", "physical") not in told(ethernet)[UP]
    root.write(carrier, 1)
    root.write("sys/class/net/eno1/operstate", "up")
    told(ethernet)
    assert told(ethernet)[UP]["eno1", "physical"] == 1


@pytest.mark.parametrize("content", [None, "what", "a\nb\n eno1: 1 2"])
def test_broken_counters_do_not_hide_the_links(root, content):
    (root.proc / "net/dev").unlink() if content is None else root.write("proc/net/dev", content)
    assert set(told(Ethernet(root.place()))) == {UP, CHANGES, SPEED, DUPLEX}


def test_interfaces_come_and_go(root):
    clock = Clock()
    ethernet = Ethernet(root.place(clock_s=clock))
    told(ethernet)
    root.remove_device("eno1")
    assert set(told(ethernet)[SENT]) == {("roce0",)}
    root.add_interface("eno2", (root.sys / "class/infiniband/mlx5_0/device").resolve(), dev_port=1)
    assert set(told(ethernet)[SENT]) == {("roce0",), ("eno2",)}


def test_the_loopback_alone_is_no_data(tree):
    root = build(tree, hcas=0, gpus=0)
    root.remove_device("eno1")
    with pytest.raises(NoData, match="no network interface"):
        list(Ethernet(root.place()).collect())


def test_psutil_is_left_as_it_was(root):
    import psutil

    told(Ethernet(root.place()))
    assert psutil.PROCFS_PATH == "/proc"


def test_this_machine():
    ethernet = Ethernet(Place())
    try:
        found = told(ethernet)
    except NoData:
        pytest.skip("this machine has no network interface")
    assert ("lo",) not in found.get(SENT, {}) and set(found) & {UP, SENT}
