"""Events, repairs, limits, identities and processes."""

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
    return fake_nvml.FakeNvml(2)


@pytest.fixture
def rig(nvml):
    return stub.Rig(nvml)


def test_xids_are_counted_by_code_with_the_time_of_the_last(nvml, rig):
    rig.look("nvml-events")
    nvml.events.extend([(0, 8, 79), (1, 8, 31), (0, 8, 79)])
    found = rig.look("nvml-events", after_s=1)
    assert found["gpu_xid_errors_total", *GPU, "79", "nvml"] == 2
    assert found["gpu_xid_errors_total", "1", nvml.gpus[1].uuid, "31", "nvml"] == 1
    assert found["gpu_xid_last_timestamp_seconds", *GPU, "79"] == 1e9 + 1001
    later = rig.look("nvml-events", after_s=1)
    assert later["gpu_xid_last_timestamp_seconds", *GPU, "79"] == 1e9 + 1001


def test_other_events_begin_at_zero_where_the_driver_can_deliver_them(nvml, rig):
    found = rig.look("nvml-events")
    assert found["gpu_events_total", *GPU, "unavailable"] == 0
    assert ("gpu_events_total", *GPU, "clock") not in found
    nvml.events.extend([(0, 0x4000, 0), (0, 0x200, 0), (0, 0x40000000, 0)])
    found = rig.look("nvml-events", after_s=1)
    assert found["gpu_events_total", *GPU, "unavailable"] == found["gpu_events_total", *GPU, "sbe_storm"] == 1


def test_a_storm_of_events_is_taken_in_portions_and_nothing_is_lost(nvml, rig):
    rig.look("nvml-events")
    nvml.events.extend([(0, 8, 13)] * 300)
    assert rig.look("nvml-events", after_s=1)["gpu_xid_errors_total", *GPU, "13", "nvml"] == 256
    assert rig.look("nvml-events", after_s=1)["gpu_xid_errors_total", *GPU, "13", "nvml"] == 300


def test_codes_without_end_do_not_make_series_without_end(nvml, rig):
    rig.look("nvml-events")
    nvml.events.extend([(0, 8, code) for code in range(1000, 1200)])
    found = rig.look("nvml-events", after_s=1)
    assert len([key for key in found if key[0] == "gpu_xid_errors_total"]) == 64


def test_the_set_is_made_anew_without_the_gpu_that_spoilt_it(nvml, rig):
    rig.look("nvml-device", "nvml-events")
    nvml.gpus[0].fault = fake_nvml.GPU_IS_LOST
    wait, nvml.nvmlEventSetWait_v2 = nvml.nvmlEventSetWait_v2, spoilt(nvml)
    rig.look("nvml-device", "nvml-events", after_s=1)
    nvml.nvmlEventSetWait_v2 = wait
    nvml.events.append((1, 8, 48))
    rig.look("nvml-device", "nvml-events", after_s=1)
    nvml.events.append((1, 8, 48))
    found = rig.look("nvml-device", "nvml-events", after_s=1)
    assert found["gpu_xid_errors_total", "1", nvml.gpus[1].uuid, "48", "nvml"] >= 1


def spoilt(nvml):
    def wait(events, timeout_ms):
        raise nvml.NVMLError(fake_nvml.GPU_IS_LOST)

    return wait


def test_no_events_is_no_fault(nvml, rig):
    for gpu in nvml.gpus:
        gpu.event_types = 0
    assert rig.look("nvml-events") == {} and rig.reasons["nvml-events"]


def test_repairs_of_memory(nvml, rig):
    gpu = nvml.gpus[0]
    gpu.remapped, gpu.banks, gpu.sram_exceeded = (3, 1, 1, 0), (630, 8, 1, 1, 0), 1
    found = rig.look("nvml-health")
    assert found["gpu_remapped_rows", *GPU, "corrected"] == 3
    assert found["gpu_remapped_rows", *GPU, "uncorrected"] == 1
    assert found["gpu_row_remap_pending", *GPU] == 1
    assert found["gpu_row_remap_failure", *GPU] == 0
    banks = {"max": 630, "high": 8, "partial": 1, "low": 1, "none": 0}
    assert {name: found["gpu_row_remap_banks", *GPU, name] for name in banks} == banks
    assert found["gpu_sram_ecc_threshold_exceeded", *GPU] == 1
    assert found["gpu_sram_ecc_threshold_exceeded", "1", nvml.gpus[1].uuid] == 0


def test_before_rows_could_be_remapped_pages_were_retired(nvml, rig):
    nvml.gpus[0].faults = {"GetRemappedRows": fake_nvml.NOT_SUPPORTED}
    nvml.gpus[0].fields |= {29: 2, 30: 5, 31: 1}
    found = rig.look("nvml-health")
    assert found["gpu_remapped_rows", *GPU, "corrected"] == 2
    assert found["gpu_remapped_rows", *GPU, "uncorrected"] == 5
    assert found["gpu_row_remap_pending", *GPU] == 1
    assert ("gpu_row_remap_failure", *GPU) not in found


def test_limits_and_modes(nvml, rig):
    gpu = nvml.gpus[0]
    gpu.fields[190], gpu.modes["persistence"] = 500_000, 0
    gpu.thresholds[2] = 105
    found = rig.look("nvml-health")
    assert found["gpu_power_limit_watts", *GPU, "enforced"] == 500
    assert found["gpu_power_limit_watts", *GPU, "max"] == 700
    assert found["gpu_clock_limit_hertz", *GPU, "sm"] == 1.98e9
    assert found["gpu_temperature_limit_celsius", *GPU, "memory_max"] == 105
    assert found["gpu_mode_enabled", *GPU, "ecc"] == 1 and found["gpu_mode_enabled", *GPU, "persistence"] == 0
    assert found["gpu_memory_total_bytes", *GPU] == 80 << 30
    assert found["gpu_bar1_used_bytes", *GPU] == 1 << 20


def test_the_power_limit_has_a_call_of_its_own_on_older_drivers(nvml, rig):
    for number in (188, 189, 190, 192):
        del nvml.gpus[0].fields[number]
    found = rig.look("nvml-health")
    told = {key[-1] for key in found if key[:3] == ("gpu_power_limit_watts", *GPU)}
    assert told == {"enforced"}


def test_who_is_who_stands_in_the_info_and_on_the_board(nvml, rig):
    found = rig.look("nvml-info")
    assert found["driver_info", "580.65.06", "13.580.65.06", "13.0"] == 1
    one = ("1", nvml.gpus[1].uuid, "00000000:2b:00.0", "NVIDIA H100 80GB HBM3", "1", "2", "0", "96.00.74.00.01")
    assert found["gpu_info", *one] == 1
    assert rig.place.board["gpus"][1] == {
        "slot": 1, "uuid": nvml.gpus[1].uuid, "pci_bus_id": "00000000:2B:00.0", "cpus": list(range(8, 16)),
        "numa": 0, "minor": 1,
    }  # fmt: skip


def test_the_numa_node_of_the_bus_is_believed_first(nvml, tmp_path: Path):
    node = tmp_path / "bus/pci/devices/0000:1b:00.0/numa_node"
    node.parent.mkdir(parents=True)
    node.write_text("1\n")
    rig = stub.Rig(nvml, sys=tmp_path)
    rig.look("nvml-info")
    assert [gpu["numa"] for gpu in rig.place.board["gpus"]] == [1, 0]


def test_what_is_unknown_of_a_gpu_is_empty(nvml, rig):
    absent = ("GetMinorNumber", "GetModuleId", "GetNumaNodeId", "GetCpuAffinity", "GetVbiosVersion")
    nvml.gpus[0].faults = dict.fromkeys(absent, fake_nvml.NOT_SUPPORTED)
    found = rig.look("nvml-info")
    assert found["gpu_info", *GPU, "00000000:1b:00.0", "NVIDIA H100 80GB HBM3", "", "", "", ""] == 1
    assert rig.place.board["gpus"][0] | {"cpus": [], "numa": -1, "minor": -1} == rig.place.board["gpus"][0]


def test_what_was_known_of_a_gpu_stays_while_it_does_not_answer(nvml, rig):
    before = rig.look("nvml-info")
    nvml.running = False
    nvml.gpus[0].faults = {"GetName": 999, "GetVbiosVersion": 999}
    rig.look("nvml-device", after_s=2)
    assert {key for key in rig.look("nvml-info", after_s=2) if key[0] == "gpu_info"} == {
        key for key in before if key[0] == "gpu_info"
    }
    assert nvml.starts == 2


def test_a_gpu_that_did_not_tell_its_model_is_asked_again(nvml, rig):
    nvml.gpus[0].faults = {"GetName": 999}
    assert not [key for key in rig.look("nvml-info") if key[:2] == ("gpu_info", "0") and key[4]]
    nvml.gpus[0].faults = {}
    assert [key[4] for key in rig.look("nvml-info", after_s=15) if key[:2] == ("gpu_info", "0")] == [nvml.gpus[0].model]


def test_fabric_state_and_health(nvml, rig):
    nvml.gpus[0].fabric_state = 2
    nvml.gpus[0].fabric_mask = 1 << 12 | 0b01_10_01  # 0: nobody watches
    nvml.gpus[1].fabric_state = 0
    found = rig.look("nvml-info")
    state = {key[3]: value for key, value in found.items() if key[:3] == ("gpu_fabric_state", *GPU)}
    assert state == {"not_started": 0, "in_progress": 1, "completed": 0}
    told = {key[3]: value for key, value in found.items() if key[:3] == ("gpu_fabric_unhealthy", *GPU)}
    assert told == {"degraded_bandwidth": 1, "route_recovery": 0, "route_unhealthy": 1, "partition": 0}
    assert not [key for key in found if key[:2] == ("gpu_fabric_state", "1")]


@pytest.mark.parametrize(("driver", "call"), [("535.54.03", "GetGpuFabricInfo"), ("570.1", "GetGpuFabricInfoV")])
def test_the_form_of_the_fabric_question_follows_the_driver(nvml, rig, driver: str, call: str):
    nvml.driver = driver
    found = rig.look("nvml-info")
    asked = {name for name, _ in nvml.calls if "Fabric" in name}
    assert asked == {call}
    assert found["gpu_fabric_state", *GPU, "completed"] == 1


def test_processes_are_counted_and_left_on_the_board(nvml, rig):
    nvml.gpus[0].processes = [(100, 5 << 30), (101, None), (200, 1 << 30)]
    nvml.gpus[0].mps_processes = [(200, 1 << 30)]
    found = rig.look("nvml-processes")
    assert found["gpu_processes", *GPU, "compute"] == 2
    assert found["gpu_processes", *GPU, "mps"] == 1
    assert found["gpu_processes", "1", nvml.gpus[1].uuid, "compute"] == 0
    assert rig.place.board["gpu-processes"] == {
        GPU[1]: [[200, 1 << 30, "mps"], [100, 5 << 30, "compute"], [101, None, "compute"]],
        nvml.gpus[1].uuid: [],
    }
