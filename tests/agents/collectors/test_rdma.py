from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.errors import NoData, UsageError

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import Clock, FakeRoot, build, memory, told  # noqa: E402

Rdma = catalogue.room("agents.collectors", "rdma").kind()
HCAS = [f"mlx5_{at}" for at in range(3)]
RATE = "skewscope_rdma_rate_bytes_per_second"
UP, ERRORS = "skewscope_rdma_port_up", "skewscope_rdma_errors_total"
AGAIN, SENT = "skewscope_rdma_retransmissions_total", "skewscope_rdma_transmit_bytes_total"


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


@pytest.fixture
def root(tree: Path) -> FakeRoot:
    return build(tree, hcas=3, gpus=0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rdma(root: FakeRoot, clock: Clock):
    return Rdma(root.place(clock_s=clock))


def devices(found: dict) -> set[str]:
    return {labels[0] for name, series in found.items() if name != "skewscope_rdma_devices" for labels in series}


def test_everything_is_told_of_every_port(rdma):
    found = told(rdma)
    assert set(found) == set(rdma.exports)
    assert devices(found) == set(HCAS)
    assert len(found[ERRORS]) == 3 * 9 and len(found[AGAIN]) == 3 * 9
    assert found[UP]["mlx5_1", "1", "logical"] == found[UP]["mlx5_1", "1", "physical"] == 1
    assert found[RATE]["mlx5_0", "1"] == 50e9
    assert found["skewscope_rdma_devices"] == {("present",): 3}


@pytest.mark.parametrize(
    ("counter", "metric", "label", "scale"),
    [
        ("port_xmit_data", SENT, (), 4), ("port_rcv_data", "skewscope_rdma_receive_bytes_total", (), 4),
        ("port_xmit_wait", "skewscope_rdma_transmit_wait_ticks_total", (), 1),
        ("symbol_error", ERRORS, ("symbol",), 1), ("rx_icrc_encapsulated", ERRORS, ("icrc",), 1),
        ("link_downed", "skewscope_rdma_link_events_total", ("downed",), 1),
        ("rp_cnp_handled", "skewscope_rdma_congestion_events_total", ("cnp_handled",), 1),
        ("local_ack_timeout_err", AGAIN, ("ack_timeout",), 1),
        ("req_transport_retries_exceeded", "skewscope_rdma_retries_exceeded_total", ("transport",), 1),
    ],
)  # fmt: skip
def test_a_counter_shows_at_the_next_look(rdma, root, counter, metric, label, scale):
    before = told(rdma)[metric]
    root.bump("mlx5_1", counter, 1_000_000)
    after = told(rdma)[metric]
    assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == {
        ("mlx5_1", "1", *label): 1_000_000 * scale
    }


def test_driver_counters_of_32_bits_go_on_over_their_end(rdma, root):
    for number in (2**32 - 100, 50):
        root.set("mlx5_0", "packet_seq_err", number)
        found = told(rdma)
    assert found[AGAIN]["mlx5_0", "1", "packet_sequence"] == 2**32 + 50


def test_a_link_that_goes_down_shows_at_the_next_look(rdma, root):
    told(rdma)
    root.link_down("mlx5_2")
    found = told(rdma)
    assert found[UP]["mlx5_2", "1", "logical"] == found[UP]["mlx5_2", "1", "physical"] == 0
    assert found["skewscope_rdma_link_events_total"]["mlx5_2", "1", "downed"] == 2001
    root.link_up("mlx5_2")
    assert told(rdma)[UP]["mlx5_2", "1", "logical"] == 1


def test_a_rate_that_drops_shows_within_five_seconds(rdma, root, clock):
    told(rdma)
    root.write("sys/class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (1X NDR)")
    assert told(rdma)[RATE]["mlx5_0", "1"] == 50e9
    clock.wait(5)
    assert told(rdma)[RATE]["mlx5_0", "1"] == 12.5e9


def test_a_port_that_waits_for_its_subnet_manager_is_up_physically_only(rdma, root):
    root.write("sys/class/infiniband/mlx5_0/ports/1/state", "2: INIT")
    up = told(rdma)[UP]
    assert up["mlx5_0", "1", "logical"] == 0 and up["mlx5_0", "1", "physical"] == 1


@pytest.mark.parametrize("content", ["N/A (no PMA)", "", "garbage"])
@pytest.mark.parametrize("name", ["symbol_error", "out_of_buffer"])
def test_a_counter_that_cannot_be_told_hides_nothing_else(rdma, root, name, content):
    root.set("mlx5_0", name, content)
    found = told(rdma)
    assert len(found[ERRORS]) == 3 * 9 - 1 and devices(found) == set(HCAS)


@pytest.mark.parametrize(("file", "metric"), [("state", UP), ("rate", RATE)])
def test_a_state_that_cannot_be_told_is_not_told(rdma, root, file, metric):
    root.write(f"sys/class/infiniband/mlx5_0/ports/1/{file}", "what")
    found = told(rdma)
    assert len(found[metric]) == (5 if metric == UP else 2)


def test_counters_that_a_device_lacks_are_absent_and_come_with_the_next_scan(rdma, root, clock):
    root.remove_counter("mlx5_0", "out_of_buffer")
    assert ("mlx5_0", "1", "out_of_buffer") not in told(rdma)[ERRORS]
    root.write("sys/class/infiniband/mlx5_0/ports/1/hw_counters/out_of_buffer", 3)
    assert ("mlx5_0", "1", "out_of_buffer") not in told(rdma)[ERRORS]
    clock.wait(15)
    assert told(rdma)[ERRORS]["mlx5_0", "1", "out_of_buffer"] == 3


def test_a_device_that_vanishes_takes_its_series_and_may_come_back(rdma, root):
    told(rdma)
    nic = (root.sys / "class/infiniband/mlx5_1/device").resolve()
    root.remove_device("mlx5_1")
    found = told(rdma)
    assert devices(found) == set(HCAS) - {"mlx5_1"}
    assert found["skewscope_rdma_devices"]["present",] == 2
    root.add_hca("mlx5_1", nic)
    assert devices(told(rdma)) == set(HCAS)


def test_when_the_last_device_vanishes_that_is_known(tree):
    root = build(tree, hcas=1, gpus=0)
    rdma = Rdma(root.place())
    told(rdma)
    root.remove_device("mlx5_0")
    assert told(rdma) == {"skewscope_rdma_devices": {("present",): 0}}


def test_a_node_without_rdma_has_no_data(tree):
    with pytest.raises(NoData, match="no RDMA device"):
        list(Rdma(build(tree, hcas=0, gpus=0).place()).collect())


def test_expected_devices_are_told_even_where_there_is_none(tree):
    rdma = Rdma(build(tree, hcas=0, gpus=0).place(options={"rdma.expected": "8"}))
    assert told(rdma) == {"skewscope_rdma_devices": {("present",): 0, ("expected",): 8}}


def test_a_senseless_expectation_is_refused(root):
    with pytest.raises(UsageError, match="rdma.expected"):
        list(Rdma(root.place(options={"rdma.expected": "many"})).collect())


def test_devices_that_tell_nothing_at_all_are_a_fault(tree):
    root = build(tree, hcas=0, gpus=0)
    (root.sys / "class/infiniband/mlx5_0/ports/1/counters").mkdir(parents=True)
    with pytest.raises(OSError, match="no port of mlx5_0"):
        list(Rdma(root.place()).collect())


def bare(root: FakeRoot, device: str, hw_counters: dict[str, int]) -> None:
    """Add a device that has driver counters only."""
    folder = f"sys/class/infiniband/{device}/ports/1"
    root.write(f"{folder}/state", "4: ACTIVE")
    for name, number in hw_counters.items():
        root.write(f"{folder}/hw_counters/{name}", number)


def test_adapters_of_other_makers_are_read_by_their_own_names(tree):
    root = build(tree, hcas=1, gpus=0)
    bare(
        root, "rdmap0s31", {"tx_bytes": 5, "rx_drops": 2, "retrans_pkts": 3, "unresponsive_remote_events": 1, "new": 9}
    )
    root.write("sys/class/infiniband/rdmap0s31/hw_counters/no_completion_cmds", 4)
    bare(root, "irdma0", {"cnpSent": 6, "RxECNMrkd": 7, "RetransSegs": 8, "ip4InOctets": 1})
    found = told(Rdma(root.place()))
    assert found[SENT]["rdmap0s31", "1"] == 5
    assert found[ERRORS]["rdmap0s31", "1", "receive_drop"] == 2
    assert found[ERRORS]["rdmap0s31", "", "no_completion"] == 4
    assert found[AGAIN]["rdmap0s31", "1", "packet"] == 3 and found[AGAIN]["irdma0", "1", "packet"] == 8
    assert found["skewscope_rdma_congestion_events_total"]["irdma0", "1", "ecn_marked"] == 7


def test_where_two_files_say_the_same_one_is_told(tree):
    root = build(tree, hcas=1, gpus=0)
    for name in ("tx_bytes", "cnpSent"):
        root.write(f"sys/class/infiniband/mlx5_0/ports/1/hw_counters/{name}", 1)
    root.set("mlx5_0", "port_xmit_data", 100)
    assert told(Rdma(root.place()))[SENT] == {("mlx5_0", "1"): 400}
