"""What a GPU does now: activity, clocks, what holds them back, memory, temperature."""

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


@pytest.fixture
def nvml():
    return fake_nvml.FakeNvml(1)


@pytest.fixture
def rig(nvml):
    return stub.Rig(nvml)


def passed(nvml, rig, seconds: float = 1.0, *rooms: str):
    nvml.advance(seconds)
    return rig.look(*(rooms or ("nvml-device",)), after_s=seconds)


def test_values_of_now(nvml, rig):
    gpu = nvml.gpus[0]
    gpu.utilization_percent, gpu.memory_percent, gpu.sm_mhz, gpu.celsius, gpu.margin_celsius = 42, 17, 1410, 61, 20
    found = rig.look("nvml-device")
    assert found["gpu_utilization_ratio", *GPU] == 0.42
    assert found["gpu_memory_activity_ratio", *GPU] == 0.17
    assert found["gpu_clock_hertz", *GPU, "sm"] == 1.41e9
    assert found["gpu_clock_hertz", *GPU, "memory"] == 2.619e9
    assert found["gpu_temperature_celsius", *GPU, "gpu"] == 61
    assert found["gpu_temperature_margin_celsius", *GPU] == 20
    assert found["gpu_memory_used_bytes", *GPU] == 60 << 30
    assert found["gpu_performance_state", *GPU] == 0


def test_busy_seconds_follow_the_drivers_samples_and_not_the_last_rate(nvml, rig):
    gpu = nvml.gpus[0]
    passed(nvml, rig)
    before = passed(nvml, rig)["gpu_busy_seconds_total", *GPU]
    gpu.utilization_percent = 100
    nvml.advance(0.5)
    gpu.utilization_percent = 0
    nvml.advance(0.5)
    found = rig.look("nvml-device", after_s=1)
    assert found["gpu_utilization_ratio", *GPU] == 0
    assert found["gpu_busy_seconds_total", *GPU] - before == pytest.approx(0.5, abs=0.01)


def test_without_samples_busy_seconds_follow_the_rate(nvml, rig):
    nvml.gpus[0].faults = {"GetSamples": fake_nvml.NOT_SUPPORTED}
    nvml.gpus[0].utilization_percent = 50
    rig.look("nvml-device")
    for _ in range(10):
        found = rig.look("nvml-device", after_s=2)
    assert found["gpu_busy_seconds_total", *GPU] == pytest.approx(10)


def test_a_gap_in_the_samples_is_not_taken_for_one_long_sample(nvml, rig):
    gpu = nvml.gpus[0]
    passed(nvml, rig)
    before = passed(nvml, rig)["gpu_busy_seconds_total", *GPU]
    gpu.samples.append((int((nvml.now_s + 600) * 1e6), 100))
    after = rig.look("nvml-device", after_s=1)["gpu_busy_seconds_total", *GPU]
    assert after - before <= 1.0


def test_the_lowest_clock_of_fifteen_seconds_is_kept_and_then_forgotten(nvml, rig):
    gpu = nvml.gpus[0]
    rig.look("nvml-device")
    gpu.sm_mhz = 345
    rig.look("nvml-device", after_s=1)
    gpu.sm_mhz = 1980
    for _ in range(15):
        assert rig.look("nvml-device", after_s=1)["gpu_sm_clock_min_hertz", *GPU] == 345e6
    assert rig.look("nvml-device", after_s=1)["gpu_sm_clock_min_hertz", *GPU] == 1980e6


def test_reasons_are_bits_and_seconds_of_those_that_the_driver_does_not_count(nvml, rig):
    gpu = nvml.gpus[0]
    rig.look("nvml-device")
    gpu.reasons = 0x8 | 0x40 | 0x400 | 1 << 40
    found = rig.look("nvml-device", after_s=1)
    active = {key[-1] for key, value in found.items() if key[0] == "gpu_clock_event_active" and value}
    assert active == {"hw_slowdown", "hw_thermal", "reliability"}
    gpu.reasons = 0
    found = rig.look("nvml-device", after_s=1)
    assert not [key for key, value in found.items() if key[0] == "gpu_clock_event_active" and value]
    assert found["gpu_clock_event_observed_seconds_total", *GPU, "hw_slowdown"] == 1
    assert found["gpu_clock_event_observed_seconds_total", *GPU, "idle"] == 0


def test_time_in_which_nobody_looked_is_not_counted(nvml, rig):
    nvml.gpus[0].reasons = 0x8
    rig.look("nvml-device")
    found = rig.look("nvml-device", after_s=3600)
    assert found["gpu_clock_event_observed_seconds_total", *GPU, "hw_slowdown"] == 0


def test_an_older_driver_has_other_names_for_the_same(nvml, rig):
    missing = fake_nvml.FUNCTION_NOT_FOUND
    gpu = nvml.gpus[0]
    gpu.faults = {"GetCurrentClocksEventReasons": missing, "GetTemperatureV": missing}
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x4
    nvml.nvmlDeviceGetTemperature = lambda handle, sensor: 77
    found = rig.look("nvml-device")
    assert found["gpu_clock_event_active", *GPU, "sw_power_cap"] == 1
    assert found["gpu_temperature_celsius", *GPU, "gpu"] == 77


@pytest.mark.parametrize(
    ("call", "metric"),
    [
        ("GetCurrentClocksEventReasons", "gpu_clock_event_active"),
        ("GetUtilizationRates", "gpu_utilization_ratio"),
        ("GetClockInfo", "gpu_clock_hertz"),
        ("GetMemoryInfo_v2", "gpu_memory_used_bytes"),
        ("GetTemperatureV", "gpu_temperature_celsius"),
        ("GetPerformanceState", "gpu_performance_state"),
    ],
)
def test_a_call_that_fails_hides_nothing_else(nvml, rig, call: str, metric: str):
    healthy = {key[0] for key in rig.look("nvml-device")}
    nvml.gpus[0].faults = {call: 999, "GetMemoryInfo": fake_nvml.NOT_SUPPORTED}
    found = {key[0] for key in rig.look("nvml-device", after_s=1)}
    assert metric not in found
    assert len(healthy - found) <= 3 and rig.look("nvml-device", after_s=1)["gpu_access_state", *GPU, "ok"] == 1
    assert rig.look("nvml-calls")["nvml_errors_total", call, "Unknown"] >= 2


def test_activity_on_the_board_is_that_of_the_sms_where_it_is_measured(nvml, rig):
    nvml.gpus[0].gpm[2] = 12.5
    rig.look("nvml-device")
    assert rig.place.board["gpu-activity"] == {GPU[1]: 0.9}
    for _ in range(2):
        rig.look("gpm-activity", "nvml-device", after_s=1)
    assert rig.place.board["gpu-activity"] == {GPU[1]: 0.125}
    nvml.gpus[0].fault = fake_nvml.GPU_IS_LOST
    rig.look("gpm-activity", "nvml-device", after_s=1)
    assert rig.place.board["gpu-activity"] == {}
