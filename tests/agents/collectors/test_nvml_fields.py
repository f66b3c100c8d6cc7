"""Field values: one call for many, types and wraps, and ECC by its place."""

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
GIB4 = 1 << 32


@pytest.fixture
def nvml():
    return fake_nvml.FakeNvml(1)


@pytest.fixture
def rig(nvml):
    return stub.Rig(nvml)


def test_units(nvml, rig):
    nvml.gpus[0].fields |= {185: 650_500, 186: 700_250, 83: 7_000_500, 82: 88, 270: 1_500_000_000, 297: 25, 138: 3}
    found = rig.look("nvml-fields")
    assert found["gpu_power_watts", *GPU, "average"] == 650.5
    assert found["gpu_power_watts", *GPU, "instant"] == 700.25
    assert ("gpu_power_watts", *GPU, "module") not in found
    assert found["gpu_energy_joules_total", *GPU] == 7000.5
    assert found["gpu_temperature_celsius", *GPU, "memory"] == 88
    assert found["gpu_clock_event_seconds_total", *GPU, "hw_thermal"] == 1.5
    assert found["gpu_mma_stall_ratio", *GPU] == 0.25
    assert found["gpu_nvlink_transmit_bytes_total", *GPU] == 3072


def test_one_call_a_gpu_and_tick(nvml, rig):
    rig.look("nvml-fields")
    nvml.calls.clear()
    rig.look("nvml-fields", after_s=1)
    assert nvml.calls == [("GetFieldValues", 0)]


def test_a_field_that_fails_now_hides_nothing_and_is_counted(nvml, rig):
    rig.look("nvml-fields")
    nvml.gpus[0].field_faults = {185: 999}
    found = rig.look("nvml-fields", after_s=1)
    assert ("gpu_power_watts", *GPU, "average") not in found
    assert found["gpu_power_watts", *GPU, "instant"] == 410
    assert rig.look("nvml-calls")["nvml_errors_total", "GetFieldValues", "Unknown"] == 1
    nvml.gpus[0].field_faults = {}
    assert rig.look("nvml-fields", after_s=1)["gpu_power_watts", *GPU, "average"] == 400


def test_a_field_that_failed_at_first_is_tried_again_after_half_a_minute(nvml, rig):
    nvml.gpus[0].field_faults = {185: 999}
    rig.look("nvml-fields")
    nvml.gpus[0].field_faults = {}
    assert ("gpu_power_watts", *GPU, "average") not in rig.look("nvml-fields", after_s=1)
    assert rig.look("nvml-fields", after_s=30)["gpu_power_watts", *GPU, "average"] == 400


def test_a_field_of_another_type_than_before_is_still_read_right(nvml, rig):
    rig.look("nvml-fields")
    nvml.gpus[0].fields[185] = 123.0e3  # a double now
    found = rig.look("nvml-fields", after_s=1)
    assert found["gpu_power_watts", *GPU, "average"] == 123
    assert found["gpu_power_watts", *GPU, "instant"] == 410


def test_without_field_values_power_and_energy_come_from_their_calls(nvml, rig):
    nvml.gpus[0].faults = {"GetFieldValues": fake_nvml.NOT_SUPPORTED}
    found = rig.look("nvml-fields")
    assert found == {
        ("gpu_power_watts", *GPU, "average"): 410,
        ("gpu_energy_joules_total", *GPU): 5e6,
    }


def test_a_gpu_with_nothing_of_it_is_no_fault(nvml, rig):
    absent = fake_nvml.NOT_SUPPORTED
    nvml.gpus[0].faults = dict.fromkeys(("GetFieldValues", "GetPowerUsage", "GetTotalEnergyConsumption"), absent)
    assert rig.look("nvml-fields") == {} and rig.reasons["nvml-fields"]


def test_a_counter_of_32_bits_is_widened_over_its_wraps(nvml, rig):
    gpu = nvml.gpus[0]
    gpu.narrow_fields, gpu.gpm = frozenset((197, 198)), {}
    gpu.fields[197] = GIB4 - 100
    rig.look("nvml-fields")
    gpu.fields[197] = GIB4 + 50
    assert rig.look("nvml-fields", after_s=1)["gpu_pcie_transmit_bytes_total", *GPU] == GIB4 + 50
    gpu.fields[197] = 2 * GIB4 + 1
    assert rig.look("nvml-fields", after_s=1)["gpu_pcie_transmit_bytes_total", *GPU] == 2 * GIB4 + 1


def test_gpm_is_believed_rather_than_a_counter_that_wraps_within_the_interval(nvml, rig):
    gpu = nvml.gpus[0]
    gpu.narrow_fields = frozenset((197, 198))
    for _ in range(3):
        found = rig.look("gpm-activity", "nvml-fields", after_s=1)
    assert found["gpu_pcie_transmit_bytes_total", *GPU] == 2 * 100 * (1 << 20)
    assert found["gpu_pcie_receive_bytes_total", *GPU] == 2 * 200 * (1 << 20)
    assert found["gpu_nvlink_transmit_bytes_total", *GPU] == 1 << 40, "the driver's own counter is wide enough"


def test_ecc_errors_are_told_by_place_and_asked_for_only_when_they_change(nvml, rig):
    gpu = nvml.gpus[0]
    rig.look("nvml-fields")
    nvml.calls.clear()
    gpu.fields[4], gpu.ecc[1, 0, 2] = 2, 2
    found = rig.look("nvml-fields", after_s=1)
    assert found["gpu_ecc_errors_total", *GPU, "uncorrected", "volatile", "dram"] == 2
    assert found["gpu_ecc_errors_total", *GPU, "uncorrected", "volatile", "sram"] == 0
    assert ("gpu_ecc_errors_total", *GPU, "uncorrected", "volatile", "all") not in found
    nvml.calls.clear()
    again = rig.look("nvml-fields", after_s=1)
    assert again["gpu_ecc_errors_total", *GPU, "uncorrected", "volatile", "dram"] == 2
    assert nvml.calls == [("GetFieldValues", 0)]


def test_ecc_errors_whose_place_is_not_told_are_told_all_the_same(nvml, rig):
    nvml.gpus[0].faults = {"GetMemoryErrorCounter": fake_nvml.NOT_SUPPORTED}
    nvml.gpus[0].fields[3] = 9
    found = rig.look("nvml-fields")
    assert found["gpu_ecc_errors_total", *GPU, "corrected", "volatile", "all"] == 9
    assert {key[-1] for key in found if key[0] == "gpu_ecc_errors_total"} == {"all"}


def test_ecc_off_leaves_the_series_out(nvml, rig):
    for number in (3, 4, 5, 6):
        del nvml.gpus[0].fields[number]
    assert not [key for key in rig.look("nvml-fields") if key[0] == "gpu_ecc_errors_total"]


@pytest.mark.parametrize(("number", "action"), [(0, "none"), (2, "node_reboot"), (4, "drain_and_reset")])
def test_the_recovery_action_is_one_of_all(nvml, rig, number: int, action: str):
    nvml.gpus[0].fields[230] = number
    found = rig.look("nvml-fields")
    assert [key[-1] for key, value in found.items() if key[0] == "gpu_recovery_action" and value] == [action]


def test_an_action_that_is_not_known_is_not_told_as_another(nvml, rig):
    nvml.gpus[0].fields[230] = 77
    assert not [key for key in rig.look("nvml-fields") if key[0] == "gpu_recovery_action"]
