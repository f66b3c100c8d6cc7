from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.errors import NoData

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import build, memory, told  # noqa: E402

RdmaInfo = catalogue.room("agents.collectors", "rdma-info").kind()
INFO, AFFINITY = "skewscope_rdma_info", "skewscope_gpu_nic_affinity_info"


@pytest.fixture
def tree() -> Iterator[Path]:
    with memory() as folder:
        yield folder


def test_a_port_says_what_it_is_and_where(tree):
    root = build(tree)
    info = {labels[0]: labels[1:] for labels in told(RdmaInfo(root.place()))[INFO]}
    firmware = ("28.39.1002", "MT_0000000838")
    assert info["mlx5_0"] == ("1", "ib0", "InfiniBand", *firmware, "0", "0000:14:00.0")
    assert info["mlx5_7"] == ("1", "roce7", "Ethernet", *firmware, "1", "0000:84:00.0")


def test_a_device_without_a_place_leaves_it_open(tree):
    root = build(tree, hcas=0, gpus=1)
    root.write("sys/class/infiniband/rxe0/ports/1/link_layer", "Ethernet")
    root.write("sys/class/infiniband/rxe0/device/numa_node", -1)
    assert told(RdmaInfo(root.place(board={"gpus": root.board_gpus()}))) == {
        INFO: {("rxe0", "1", "", "Ethernet", "", "", "", ""): 1}
    }


def test_how_near_gpus_and_adapters_stand(tree):
    root = build(tree)
    pairs = told(RdmaInfo(root.place(board={"gpus": root.board_gpus()})))[AFFINITY]
    assert len(pairs) == 64
    levels = {device: level for slot, _, device, level in pairs if slot == "0"}
    assert levels == {
        "mlx5_0": "same_switch", "mlx5_1": "same_root", "mlx5_2": "same_numa", "mlx5_3": "same_numa",
        **dict.fromkeys(("mlx5_4", "mlx5_5", "mlx5_6", "mlx5_7"), "system"),
    }  # fmt: skip
    assert ("5", "GPU-00000005", "mlx5_5", "same_switch") in pairs


@pytest.mark.parametrize(
    "board", [{}, {"gpus": []}, {"gpus": [{"slot": 0}]}, {"gpus": [{"uuid": "a", "pci_bus_id": "0:99:00.0"}]}]
)
def test_unknown_gpus_are_left_out(tree, board):
    assert set(told(RdmaInfo(build(tree, hcas=2, gpus=0).place(board=board)))) == {INFO}


def test_a_node_without_rdma_has_no_data(tree):
    with pytest.raises(NoData, match="no RDMA device"):
        list(RdmaInfo(build(tree, hcas=0, gpus=1).place()).collect())
