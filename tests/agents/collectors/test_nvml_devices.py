"""Who the GPUs are, and what becomes of them when the driver or the bus fails."""

from __future__ import annotations

import importlib.util
import weakref
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.contracts import Place
from skewscope.errors import NoData, Unreadable

_spec = importlib.util.spec_from_file_location("nvml_stub", Path(__file__).parents[2] / "nvml_stub/__init__.py")
stub = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stub)
fake_nvml = catalogue.load("agents.fake_nvml")
inventory = catalogue.load("agents.collectors._nvml_devices")
STATE = "gpu_access_state"
LIBRARY_NOT_FOUND, VERSION_MISMATCH, DRIVER_NOT_LOADED = 12, 18, 9


def uuids(rig: stub.Rig) -> dict[int, str]:
    return {device.slot: device.uuid for device in inventory.devices(rig.place).known}


def states(found: dict[tuple[str, ...], float]) -> dict[str, str]:
    return {key[1]: key[3] for key, value in found.items() if key[0] == STATE and value}


def test_slots_stand_in_pci_order_whatever_the_drivers_order():
    nvml = fake_nvml.FakeNvml(3)
    nvml.order = [2, 0, 1]
    rig = stub.Rig(nvml)
    rig.look("nvml-device")
    assert uuids(rig) == {slot: nvml.gpus[slot].uuid for slot in range(3)}


def test_a_gpu_that_drops_out_keeps_its_slot_and_moves_nobody():
    nvml = fake_nvml.FakeNvml(4)
    rig = stub.Rig(nvml)
    before = rig.look("nvml-device")
    nvml.order = [0, 2, 3]
    nvml.gpus[1].fault = fake_nvml.GPU_IS_LOST
    nvml.gpus[3].utilization_percent = 7
    found = rig.look("nvml-device", after_s=1)
    assert states(before) == dict.fromkeys("0123", "ok")
    assert states(found) == {"0": "ok", "1": "lost", "2": "ok", "3": "ok"}
    assert found["gpu_devices", "nvml"] == 3
    assert found["gpu_utilization_ratio", "3", nvml.gpus[3].uuid] == 0.07
    assert {key[0] for key in found if key[1:2] == ("1",)} == {STATE}, "a lost GPU has no other series"
    nvml.order, nvml.gpus[1].fault = [0, 1, 2, 3], 0
    assert states(rig.look("nvml-device", after_s=1)) == dict.fromkeys("0123", "ok")


def test_a_gpu_that_is_lost_but_listed_shows_at_once_in_all_collectors_and_costs_one_call():
    nvml = fake_nvml.FakeNvml(2)
    rig = stub.Rig(nvml)
    rig.look()
    nvml.gpus[0].fault = fake_nvml.GPU_IS_LOST
    rig.look(after_s=1)
    nvml.calls.clear()
    found = rig.look(after_s=1)
    assert states(found) == {"0": "lost", "1": "ok"}
    ours = [call for call, gpu in nvml.calls if gpu == 0]
    assert ours == ["GetCurrentClocksEventReasons"]
    assert {key[0] for key in found if key[1:2] == ("0",)} == {STATE, "gpu_events_total", "gpu_info"}


def test_a_gpu_that_is_broken_at_the_start_has_a_slot_without_a_name_and_is_tried_again():
    nvml = fake_nvml.FakeNvml(3)
    nvml.gpus[1].fault = fake_nvml.GPU_IS_LOST
    rig = stub.Rig(nvml)
    assert states(rig.look("nvml-device")) == {"0": "ok", "1": "lost", "2": "ok"}
    assert uuids(rig)[1] == ""
    nvml.gpus[1].fault = 0
    assert states(rig.look("nvml-device", after_s=5))["1"] == "lost"
    assert states(rig.look("nvml-device", after_s=30))["1"] == "ok"
    assert uuids(rig)[1] == nvml.gpus[1].uuid


def test_a_reset_that_is_required_is_a_state_and_hides_nothing_else():
    nvml = fake_nvml.FakeNvml(2)
    rig = stub.Rig(nvml)
    rig.look()
    nvml.gpus[1].faults = {"GetUtilizationRates": fake_nvml.RESET_REQUIRED}
    nvml.gpus[1].fields[230] = 1
    found = rig.look(after_s=1)
    assert states(found) == {"0": "ok", "1": "reset_required"}
    assert found["gpu_recovery_action", "1", nvml.gpus[1].uuid, "reset"] == 1
    assert found["gpu_recovery_action", "1", nvml.gpus[1].uuid, "none"] == 0


def test_the_drivers_wish_for_a_reset_shows_in_the_next_look():
    nvml = fake_nvml.FakeNvml(1)
    rig = stub.Rig(nvml)
    rig.look()
    nvml.gpus[0].fields[226] = 1
    rig.look(after_s=1)
    assert states(rig.look(after_s=1)) == {"0": "reset_required"}


def test_a_gpu_that_answers_nothing_is_in_error():
    nvml = fake_nvml.FakeNvml(2)
    rig = stub.Rig(nvml)
    rig.look()
    nvml.gpus[0].fault = 999
    assert states(rig.look("nvml-device", after_s=1)) == {"0": "error", "1": "ok"}


def test_without_a_gpu_that_hangs_nobody_touches_it():
    nvml = fake_nvml.FakeNvml(4)
    rig = stub.Rig(nvml)
    rig.look()
    handed_on = rig.place.board["gpus"]
    for board in ({}, {"gpus": handed_on}):
        new = fake_nvml.FakeNvml(4)
        rig = stub.Rig(new, without=frozenset({2}), **board)
        found = rig.look()
        assert states(found) == {"0": "ok", "1": "ok", "3": "ok"}
        assert 2 not in {gpu for _, gpu in new.calls}
        told = {gpu["slot"]: gpu for gpu in rig.place.board["gpus"]}
        assert told.get(2) == (handed_on[2] if board else None)
        rig.place.board["without"] = frozenset()
        assert states(rig.look()) == dict.fromkeys("0123", "ok")
        assert uuids(rig)[2] == new.gpus[2].uuid


def test_slots_outlive_the_process_through_the_board():
    nvml = fake_nvml.FakeNvml(4)
    rig = stub.Rig(nvml)
    rig.look()
    new = fake_nvml.FakeNvml(4)
    new.order = [1, 2, 3]
    later = stub.Rig(new, gpus=rig.place.board["gpus"])
    assert states(later.look("nvml-device")) == {"0": "lost", "1": "ok", "2": "ok", "3": "ok"}
    assert uuids(later) == uuids(rig)


def test_nvml_is_started_again_after_the_driver_was_reloaded_and_counts_go_on():
    nvml = fake_nvml.FakeNvml(2)
    rig = stub.Rig(nvml)
    rig.look()
    nvml.events.append((1, 8, 79))
    key = ("gpu_xid_errors_total", "1", nvml.gpus[1].uuid, "79", "nvml")
    assert rig.look(after_s=1)[key] == 1
    nvml.running = False
    rig.look(after_s=1)
    nvml.events.append((1, 8, 79))
    found = rig.look(after_s=1)
    found = rig.look(after_s=1) if key not in found else found
    assert nvml.starts == 2
    assert states(found) == dict.fromkeys("01", "ok")
    nvml.events.append((1, 8, 79))
    assert rig.look(after_s=1)[key] >= 2


def test_when_all_gpus_are_lost_nvml_is_started_again_but_not_each_second():
    nvml = fake_nvml.FakeNvml(2)
    rig = stub.Rig(nvml)
    rig.look("nvml-device")
    for gpu in nvml.gpus:
        gpu.fault = fake_nvml.GPU_IS_LOST
    for _ in range(60):
        assert states(rig.look("nvml-device", after_s=1)) == dict.fromkeys("01", "lost")
    assert 3 <= nvml.starts <= 8
    for gpu in nvml.gpus:
        gpu.fault = 0
    for _ in range(35):
        found = rig.look("nvml-device", after_s=1)
    assert states(found) == dict.fromkeys("01", "ok")


def pci_bus(root: Path) -> Path:
    device = root / "bus/pci/devices/0000:1b:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    return root


def test_a_node_without_gpus_has_nothing_and_one_with_gpus_has_a_fault(tmp_path: Path):
    nvml = fake_nvml.FakeNvml(1)
    nvml.init_fault = LIBRARY_NOT_FOUND
    rig = stub.Rig(nvml, sys=tmp_path)
    assert rig.look("nvml-device") == {} and "no NVIDIA GPU" in rig.reasons["nvml-device"]
    rig = stub.Rig(nvml, sys=pci_bus(tmp_path))
    with pytest.raises(Unreadable, match="it is tried again"):
        rig.look("nvml-device")


def test_attempts_to_start_without_a_library_leave_nothing_behind():
    nvml, made = fake_nvml.FakeNvml(0), []

    def failing() -> None:  # as ctypes does, which makes a class for each library before it loads it
        made.append(weakref.ref(type("Pointer", (), {})))
        raise nvml.NVMLError(LIBRARY_NOT_FOUND)

    nvml.nvmlInit = failing
    rig = stub.Rig(nvml)
    for _ in range(5):
        rig.look("nvml-device", after_s=60)
    assert len(made) == 5 and [kind() for kind in made[:-1]] == [None] * 4


def test_an_empty_node_and_a_place_without_nvml_have_nothing():
    rig = stub.Rig(fake_nvml.FakeNvml(0))
    assert rig.look("nvml-device", "nvml-fields") == {}
    with pytest.raises(NoData):
        inventory.devices(Place())


def test_the_start_is_tried_for_ever_less_and_less_often():
    nvml = fake_nvml.FakeNvml(1)
    nvml.init_fault = DRIVER_NOT_LOADED
    rig = stub.Rig(nvml)
    failed = 0
    for _ in range(120):
        with pytest.raises(Unreadable):
            rig.look("nvml-device", after_s=1)
        failed = inventory.devices(rig.place).calls.errors["Init", "DriverNotLoaded"]
    assert 5 <= failed <= 9
    nvml.init_fault = 0
    assert states(rig.look("nvml-device", after_s=30)) == {"0": "ok"}


def test_an_updated_driver_asks_for_a_new_process():
    nvml = fake_nvml.FakeNvml(1)
    rig = stub.Rig(nvml)
    rig.look("nvml-device")
    nvml.gpus[0].fault = VERSION_MISMATCH
    nvml.init_fault = VERSION_MISMATCH
    rig.look("nvml-device", after_s=2)
    with pytest.raises(Unreadable, match="differ in version"):
        rig.look("nvml-device", after_s=1)
    assert rig.place.board["nvml-restart"]


def test_what_is_not_supported_is_asked_once_in_ten_minutes_and_is_no_error():
    nvml = fake_nvml.FakeNvml(1)
    nvml.gpus[0].faults = {"GetMarginTemperature": fake_nvml.NOT_SUPPORTED}
    rig = stub.Rig(nvml)
    for _ in range(100):
        rig.look("nvml-device", after_s=1)
    asked = [call for call, _ in nvml.calls].count("GetMarginTemperature")
    assert asked == 1
    assert not inventory.devices(rig.place).calls.errors
    nvml.gpus[0].faults = {}
    found = rig.look("nvml-device", after_s=600)
    assert found["gpu_temperature_margin_celsius", "0", nvml.gpus[0].uuid] == 32


def test_a_refused_permission_is_counted_and_the_rest_goes_on():
    nvml = fake_nvml.FakeNvml(1)
    nvml.gpus[0].faults = {"GetUtilizationRates": fake_nvml.NO_PERMISSION}
    rig = stub.Rig(nvml)
    for _ in range(5):
        found = rig.look(after_s=1)
    assert found["nvml_errors_total", "GetUtilizationRates", "NoPermission"] == 1
    assert states(found) == {"0": "ok"} and ("gpu_clock_hertz", "0", nvml.gpus[0].uuid, "sm") in found


def test_each_call_is_told_before_it_is_made():
    nvml = fake_nvml.FakeNvml(2)
    told: list[tuple[int, str]] = []
    rig = stub.Rig(nvml, calling=lambda slot, call: told.append((slot, call)))
    nvml.gpus[1].on_call = lambda call: told.append((-9, call)) if told[-1][0] != 1 else None
    rig.look()
    assert told[0] == (-1, "Init") and (1, "GetFieldValues") in told
    assert not [call for slot, call in told if slot == -9], "a call came before it was told"
    assert max(len(call) for _, call in told) <= 32


def test_calls_are_timed_and_the_longest_is_forgotten_after_a_minute():
    nvml = fake_nvml.FakeNvml(1)
    rig = stub.Rig(nvml)
    rig.look("nvml-device")
    found = rig.look("nvml-calls")
    assert found["nvml_call_seconds_count", "GetClockInfo"] == 2
    assert found["nvml_call_seconds_sum", "GetClockInfo"] >= found["nvml_call_max_seconds", "GetClockInfo"] > 0
    rig.look("nvml-calls", after_s=30)
    assert rig.look("nvml-calls")["nvml_call_max_seconds", "GetClockInfo"] > 0
    assert rig.look("nvml-calls", after_s=40)["nvml_call_max_seconds", "GetClockInfo"] == 0
