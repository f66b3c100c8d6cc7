from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.errors import NoData

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import Clock, build, memory, told  # noqa: E402

wing = catalogue.load("agents.collectors.ethtool")
PAUSES, PAUSED, ERRORS = wing.PAUSES, wing.PAUSED, wing.ERRORS
MLX5 = {
    "rx_packets": 100, "rx_packets_phy": 120, "rx0_packets": 40,
    "rx_prio3_pause": 11, "tx_prio3_pause": 12, "rx_prio3_pause_duration": 2_500_000, "tx_prio3_pause_duration": 1,
    "rx_prio3_marked": 13, "rx_pcs_symbol_err_phy": 14, "rx_corrected_bits_phy": 15, "rx_crc_errors_phy": 16,
    "rx_discards_phy": 17, "outbound_pci_buffer_overflow": 18, "outbound_pci_stalled_rd": 50,
    "outbound_pci_stalled_rd_events": 19, "outbound_pci_stalled_wr_events": 20, "link_down_events_phy": 21,
}  # fmt: skip


class FakeStatistics:
    """Answers for interfaces; notes what was asked. An error among the tables is raised."""

    def __init__(self, **tables: dict[str, int] | OSError) -> None:
        self.tables = tables
        self.asked: list[tuple[str, str]] = []

    def _table(self, what: str, interface: str) -> dict[str, int]:
        self.asked.append((what, interface))
        table = self.tables.get(interface, OSError(95, "Operation not supported"))
        if isinstance(table, OSError):
            raise table
        return table

    def count(self, interface: str) -> int:
        return len(self._table("count", interface))

    def names(self, interface: str, count: int) -> list[str]:
        return list(self._table("names", interface))

    def values(self, interface: str, count: int) -> list[int]:
        return list(self._table("values", interface).values())


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


@pytest.fixture
def root(tree: Path):
    return build(tree, hcas=1, gpus=0)


@pytest.fixture
def clock():
    return Clock()


def test_what_is_of_use_is_told_by_device_and_port(root):
    ethtool = wing.Ethtool(root.place(), FakeStatistics(roce0=MLX5, eno1={"rx_crc_errors_phy": 3, "rx_queue_0": 4}))
    found = told(ethtool)
    port = ("mlx5_0", "1")
    assert set(found) == set(ethtool.exports)
    assert found[PAUSES] == {(*port, "3", "receive"): 11, (*port, "3", "transmit"): 12}
    assert found[PAUSED] == {(*port, "3", "receive"): 2.5, (*port, "3", "transmit"): 1e-6}
    assert found[wing.MARKED] == {(*port, "3"): 13}
    assert found[wing.STALLED] == {(*port, "read"): 19, (*port, "write"): 20}
    assert found[ERRORS]["eno1", "1", "crc"] == 3 and found[ERRORS][*port, "link_down"] == 21
    assert len(found[ERRORS]) == 7


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("tx_pfc_ena_frames_pri5", ("5", "transmit")), ("rx_priority_4_xoff.nic", ("4", "receive")),
        ("rx_global_pause", ("global", "receive")),
    ],
)  # fmt: skip
def test_pauses_of_other_drivers(name, labels):
    assert wing.meaning(name) == (PAUSES, labels, 1)


@pytest.mark.parametrize("name", ["rx_prio3_pause_transition", "rx_prio3_bytes", "xrx_prio3_pause", ""])
def test_the_rest_is_left(name):
    assert wing.meaning(name) is None


def test_names_are_asked_once_and_again_when_their_count_changes(root):
    statistics = FakeStatistics(roce0=dict(MLX5))
    ethtool = wing.Ethtool(root.place(), statistics)
    for _ in range(3):
        told(ethtool)
    assert statistics.asked.count(("names", "roce0")) == 1
    statistics.tables["roce0"] = {"new": 1, **MLX5, "tx_prio3_pause": 99}
    assert told(ethtool)[PAUSES]["mlx5_0", "1", "3", "transmit"] == 99
    assert statistics.asked.count(("names", "roce0")) == 2


def test_a_driver_that_has_nothing_of_use_is_left_alone(root, clock):
    statistics = FakeStatistics(roce0=MLX5, eno1={"rx_queue_0": 4})
    ethtool = wing.Ethtool(root.place(clock_s=clock), statistics)
    for _ in range(3):
        told(ethtool)
        clock.wait(15)
    assert [what for what, interface in statistics.asked if interface == "eno1"] == ["count", "names"]


def test_an_interface_that_fails_is_asked_ever_more_seldom_and_hides_nothing(root, clock):
    statistics = FakeStatistics(roce0=MLX5, eno1=OSError(5, "Input/output error"))
    ethtool = wing.Ethtool(root.place(clock_s=clock), statistics)
    for _ in range(4 * 60):  # an hour
        assert PAUSES in told(ethtool)
        clock.wait(15)
    assert statistics.asked.count(("count", "eno1")) == 6  # after 0, 1, 3, 7, 15, 31 minutes
    statistics.tables["eno1"] = {"rx_crc_errors_phy": 3}
    clock.wait(3600)
    assert ("eno1", "1", "crc") in told(ethtool)[ERRORS]


def test_another_device_under_an_old_name_is_asked_at_once(root, clock):
    statistics = FakeStatistics(roce0=MLX5, eno1=OSError(5, "Input/output error"))
    ethtool = wing.Ethtool(root.place(clock_s=clock), statistics)
    told(ethtool)
    root.remove_device("eno1")
    root.add_interface("eno1", (root.sys / "class/infiniband/mlx5_0/device").resolve(), dev_port=1)
    statistics.tables["eno1"] = {"rx_crc_errors_phy": 3}
    assert told(ethtool)[ERRORS]["eno1", "2", "crc"] == 3


def test_labels_follow_an_rdma_device_that_comes_later(root):
    statistics = FakeStatistics(eno1={"rx_crc_errors_phy": 3})
    ethtool = wing.Ethtool(root.place(), statistics)
    assert set(told(ethtool)[ERRORS]) == {("eno1", "1", "crc")}
    root.add_hca("irdma0", (root.sys / "class/net/eno1/device").resolve())
    assert set(told(ethtool)[ERRORS]) == {("irdma0", "1", "crc")}


def test_counters_of_the_wire_that_firmware_withholds_are_not_zeros(root, clock):
    withheld = {name: 0 if name.endswith("_phy") else number for name, number in MLX5.items()}
    statistics = FakeStatistics(roce0=withheld)
    ethtool = wing.Ethtool(root.place(clock_s=clock), statistics)
    for _ in range(3):
        with pytest.raises(NoData, match="roce0: its firmware keeps the counters of the wire to itself"):
            list(ethtool.collect())
        clock.wait(15)
    assert statistics.asked.count(("values", "roce0")) == 1


def test_a_link_that_never_carried_anything_is_believed(root):
    unused = dict.fromkeys(MLX5, 0)
    assert told(wing.Ethtool(root.place(), FakeStatistics(roce0=unused)))[PAUSES]["mlx5_0", "1", "3", "receive"] == 0


def test_drivers_without_anything_of_use_are_no_data(root):
    with pytest.raises(NoData, match="no driver here"):
        list(wing.Ethtool(root.place(), FakeStatistics(roce0={}, eno1={"rx_queue_0": 4})).collect())


@pytest.fixture
def ioctl():
    return wing.Ioctl()


def interfaces() -> list[str]:
    net = Path("/sys/class/net")
    return sorted(path.name for path in net.iterdir() if path.is_dir()) if net.is_dir() else []


@pytest.mark.parametrize("interface", interfaces())
def test_the_kernel_answers_or_refuses(ioctl, interface):
    try:
        count = ioctl.count(interface)
        if not count:
            return
        names, values = ioctl.names(interface, count), ioctl.values(interface, count)
    except OSError as refused:
        assert refused.errno
        return
    assert len(names) == len(values) == count and all(names)


def test_a_count_that_is_no_longer_true_is_noticed(ioctl):
    for interface in interfaces():
        try:
            count = ioctl.count(interface)
            ioctl.values(interface, count)
        except OSError:
            continue
        if count:
            with pytest.raises(OSError):
                ioctl.values(interface, count + 1)
            return
    pytest.skip("no interface of this machine has statistics")


@pytest.mark.parametrize("interface", ["nosuchthing0", "a-name-that-is-too-long"])
def test_an_interface_that_is_none_is_an_error(ioctl, interface):
    with pytest.raises(OSError):
        ioctl.count(interface)
