"""Activity between two samples of the performance monitor."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from skewscope import catalogue

_spec = importlib.util.spec_from_file_location("nvml_stub", Path(__file__).parents[2] / "nvml_stub/__init__.py")
stub = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stub)
fake_nvml = catalogue.load("agents.fake_nvml")
GPU = ("0", "GPU-00000000-0000")
ROOM = "gpm-activity"


@pytest.fixture
def nvml():
    return fake_nvml.FakeNvml(2)


@pytest.fixture
def rig(nvml):
    return stub.Rig(nvml)


def test_means_are_ratios_and_add_up_to_seconds(nvml, rig):
    assert rig.look(ROOM) == {}, "one sample makes no window"
    nvml.gpus[0].gpm |= {2: 75.0, 3: 30.0, 5: 50.0, 10: 20.0, 7: 49.0}
    found = rig.look(ROOM, after_s=2)
    assert found["gpu_sm_active_ratio", *GPU] == 0.75
    assert found["gpu_sm_occupancy_ratio", *GPU] == 0.3
    assert found["gpu_pipe_active_ratio", *GPU, "hmma"] == 0.49
    assert found["gpu_sm_active_seconds_total", *GPU] == 1.5
    nvml.gpus[0].gpm |= {2: 25.0}
    found = rig.look(ROOM, after_s=1)
    assert found["gpu_sm_active_seconds_total", *GPU] == 1.75
    assert found["gpu_tensor_active_seconds_total", *GPU] == 1.5
    assert found["gpu_dram_active_seconds_total", *GPU] == pytest.approx(0.6)


def test_a_window_that_is_too_short_keeps_the_last_values(nvml, rig):
    rig.look(ROOM)
    first = rig.look(ROOM, after_s=1)
    nvml.gpus[0].gpm[2] = 1.0
    nvml.calls.clear()
    assert rig.look(ROOM, after_s=0.05) == first
    assert not nvml.calls, "nothing is sampled twice within 100 ms"
    assert rig.look(ROOM, after_s=0.06)["gpu_sm_active_ratio", *GPU] == 0.01


def test_a_window_that_is_too_long_is_begun_anew(nvml, rig):
    rig.look(ROOM)
    rig.look(ROOM, after_s=1)
    found = rig.look(ROOM, after_s=3600)
    assert ("gpu_sm_active_ratio", *GPU) not in found
    assert found["gpu_sm_active_seconds_total", *GPU] == 0.8
    assert rig.look(ROOM, after_s=1)["gpu_sm_active_seconds_total", *GPU] == 1.6


def test_a_metric_that_the_gpu_lacks_is_left_out(nvml, rig):
    del nvml.gpus[0].gpm[10]
    rig.look(ROOM)
    found = rig.look(ROOM, after_s=1)
    assert ("gpu_dram_active_ratio", *GPU) not in found
    assert ("gpu_dram_active_seconds_total", *GPU) not in found
    assert ("gpu_dram_active_ratio", "1", nvml.gpus[1].uuid) in found


def test_a_gpu_without_gpm_is_left_out_and_a_node_without_is_no_fault(nvml, rig):
    nvml.gpus[0].gpm = {}
    rig.look(ROOM)
    assert {key[1] for key in rig.look(ROOM, after_s=1)} == {"1"}
    nvml.gpus[1].faults = {"GpmQueryDeviceSupport": fake_nvml.NOT_SUPPORTED}
    nvml.gpus[1].gpm = {}
    rig = stub.Rig(nvml)
    assert rig.look(ROOM) == {} and "Hopper" in rig.reasons[ROOM]


def test_a_sample_that_fails_ends_the_window_and_the_next_begins(nvml, rig):
    rig.look(ROOM)
    rig.look(ROOM, after_s=1)
    nvml.gpus[0].faults = {"GpmSampleGet": 999}
    assert ("gpu_sm_active_ratio", *GPU) not in rig.look(ROOM, after_s=1)
    nvml.gpus[0].faults = {}
    assert ("gpu_sm_active_ratio", *GPU) not in rig.look(ROOM, after_s=1)
    assert rig.look(ROOM, after_s=1)["gpu_sm_active_ratio", *GPU] == 0.8


def test_there_are_two_sample_buffers_a_gpu_for_ever(nvml, rig):
    taken = []
    plain = nvml.nvmlGpmSampleAlloc
    nvml.nvmlGpmSampleAlloc = lambda: taken.append(1) or plain()
    for _ in range(50):
        rig.look(ROOM, after_s=1)
    assert len(taken) == 4


def test_traffic_comes_from_here_only_where_the_driver_does_not_count_it(nvml, rig):
    for number in (138, 139, 197, 198):
        del nvml.gpus[0].fields[number]
    for _ in range(3):
        found = rig.look(ROOM, "nvml-fields", after_s=1)
    assert found["gpu_nvlink_receive_bytes_total", *GPU] == 2000 * (1 << 20)
    assert found["gpu_pcie_transmit_bytes_total", *GPU] == 200 * (1 << 20)
    assert found["gpu_pcie_transmit_bytes_total", "1", nvml.gpus[1].uuid] == 1 << 40


def test_where_sm_activity_is_not_measured_utilization_has_to_do(nvml, rig):
    del nvml.gpus[0].gpm[2]
    for _ in range(3):
        rig.look(ROOM, "nvml-device", after_s=1)
    assert rig.place.board["gpu-activity"] == {GPU[1]: 0.9, nvml.gpus[1].uuid: 0.8}
