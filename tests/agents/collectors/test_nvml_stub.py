"""The collectors on the real wrapper and a driver library of C: all metrics, and each fault by the next look."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skewscope.metrics import AREAS

_spec = importlib.util.spec_from_file_location("nvml_stub", Path(__file__).parents[2] / "nvml_stub/__init__.py")
stub = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stub)
pytestmark = pytest.mark.skipif(stub.compiler() is None, reason="no C compiler to build the driver's stand-in with")

GPU = ("3", "GPU-00000003-0000")
PATIENCE_S = 20.0
CHILD = """
import json, os, sys
import pynvml
from skewscope import catalogue
from skewscope.contracts import Place
from skewscope.errors import NoData
note = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
def calling(slot, call):
    os.pwrite(note, f"{slot} {call}".ljust(64).encode(), 0)
place = Place(nvml=pynvml, board={"calling": calling})
kinds = {room.id: room.kind() for room in catalogue.rooms("agents.collectors")}
made = {name: kind(place) for name, kind in kinds.items() if kind.process == "nvml"}
for line in sys.stdin:
    found = []
    for name, collector in made.items():
        try:
            found += collector.collect()
        except NoData as nothing:
            print(nothing, file=sys.stderr)
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return stub.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path):
    with stub.Machine(tmp_path / "machine") as machine:
        machine.clock_ns = 10**12
        yield machine


@pytest.fixture
def rig(library, machine, monkeypatch):
    monkeypatch.setenv(stub.VARIABLE, str(machine.path))
    nvml = stub.fresh_pynvml(library)
    yield stub.Rig(nvml)
    nvml.nvmlLib.stub_forget()


def passed(machine, rig, seconds: float = 1.0, *rooms: str):
    machine.clock_ns += int(seconds * 1e9)
    return rig.look(*rooms, after_s=seconds)


def test_every_metric_of_nvml_comes(machine, rig):
    gpu = machine.gpu[3]
    gpu.process[0], gpu.processes = stub.Process(4242, 0, 1 << 30), 1
    for number in (*range(161, 164), 202, 204, *range(206, 215), 219, 220, 221, 222):
        gpu.set_field(number, 0)
    gpu.set_field(170, 1)
    gpu.set_field(171, 1)
    gpu.link[2].add(161)
    gpu.fields[52] = 1
    passed(machine, rig)
    machine.push(3, 8, 79)
    found = passed(machine, rig)
    elsewhere = {
        "gpu_job_info", "gpu_nic_affinity_info", "gpu_job_memory_bytes", "gpu_foreign_processes", "gpu_allocated",
        "gpu_allocated_idle_seconds_total",
    }  # fmt: skip
    declared = {metric.name.removeprefix("skewscope_") for metric in AREAS["gpu"]}
    assert declared - {key[0] for key in found} == elsewhere
    assert len({key[0] for key in found}) >= 60
    of_it = {key[0] for key in found if key[1:2] == ("3",)}
    assert of_it >= declared - elsewhere - {"gpu_devices", "driver_info"}


def test_counters_grow_as_a_machines_do(machine, rig):
    gpu = machine.gpu[3]
    passed(machine, rig)
    before = passed(machine, rig)
    gpu.reasons, gpu.utilization_percent = 0x40, 25
    after = passed(machine, rig, 2.0)

    def grown(*key):
        return after[key] - before[key]

    assert grown("gpu_energy_joules_total", *GPU) == pytest.approx(820, rel=0.01)
    assert grown("gpu_clock_event_seconds_total", *GPU, "hw_thermal") == pytest.approx(2, rel=0.01)
    assert grown("gpu_pcie_receive_bytes_total", *GPU) == pytest.approx(2e9, rel=0.01)
    assert grown("gpu_busy_seconds_total", *GPU) == pytest.approx(0.5, abs=0.05)
    assert grown("gpu_sm_active_seconds_total", *GPU) == pytest.approx(1.6)


def test_a_narrow_value_is_read_without_the_rubbish_above_it(machine, rig):
    machine.gpu[3].types[94] = stub.NARROW
    machine.gpu[3].fields[94] = 17
    assert rig.look("nvml-pcie")["gpu_pcie_replays_total", *GPU] == 17


def lose(machine):
    machine.gpu[3].lost = 1


def ask_for_reset(machine):
    machine.gpu[3].reset_required = 1


def throttle(machine):
    machine.gpu[3].reasons |= 0x80


def spoil_memory(machine):
    machine.gpu[3].fields[4] = machine.gpu[3].ecc[1][0][0] = 1


def fall_off(machine):
    machine.push(3, 8, 79)


def drop_link(machine):
    machine.gpu[3].link[7].state = 0


def drop_lanes(machine):
    machine.gpu[3].pcie_width = 8


def want_drain(machine):
    machine.gpu[3].fields[230] = 3


@pytest.mark.parametrize(
    ("fault", "key", "value"),
    [
        (lose, ("gpu_access_state", *GPU, "lost"), 1),
        (ask_for_reset, ("gpu_access_state", *GPU, "reset_required"), 1),
        (throttle, ("gpu_clock_event_active", *GPU, "hw_power_brake"), 1),
        (spoil_memory, ("gpu_ecc_errors_total", *GPU, "uncorrected", "volatile", "dram"), 1),
        (fall_off, ("gpu_xid_errors_total", *GPU, "79", "nvml"), 1),
        (drop_link, ("gpu_nvlink_links", *GPU, "inactive"), 1),
        (drop_lanes, ("gpu_pcie_link_width_lanes", *GPU, "current"), 8),
        (want_drain, ("gpu_recovery_action", *GPU, "drain_p2p"), 1),
    ],
)
def test_a_fault_is_seen_by_the_next_look_of_the_fast_collectors(machine, rig, fault, key, value):
    fast = [name for name, room in rig.rooms.items() if room.kind().group == "fast"]
    passed(machine, rig, 1.0, *fast)
    before = passed(machine, rig, 1.0, *fast)
    assert before.get(key, 0) != value
    fault(machine)
    after = passed(machine, rig, 1.0, *fast)
    assert after[key] == value
    others = {key for key in before if key[1:2] not in (("3",), ()) and not key[0].startswith("nvml")}
    assert others <= set(after), "the other GPUs go on"


@pytest.mark.parametrize("group", stub.GROUPS[1:])
@pytest.mark.parametrize("way", ["refuse", "deny"])
def test_a_gpu_without_a_group_of_calls_is_silent_there_and_nowhere_else(machine, rig, group: str, way: str):
    getattr(machine.gpu[3], way)(group)
    passed(machine, rig)
    found = passed(machine, rig)
    assert found["gpu_access_state", *GPU, "ok"] == 1
    of_it = {key[0] for key in found if key[1:2] == ("3",)}
    of_another = {key[0] for key in found if key[1:2] == ("4",)}
    assert len(of_another) - len(of_it) <= 15
    errors = {key[2]: value for key, value in found.items() if key[0] == "nvml_errors_total"}
    assert set(errors) <= ({"NoPermission"} if way == "deny" else set())


def test_indices_that_shift_and_a_count_that_shrinks_move_nobody(machine, rig):
    before = passed(machine, rig)
    machine.order[:7] = [0, 1, 2, 4, 5, 6, 7]
    machine.count = 7
    machine.gpu[3].lost = 1
    after = passed(machine, rig)
    assert after["gpu_devices", "nvml"] == 7
    assert after["gpu_access_state", *GPU, "lost"] == 1
    for slot in "012456":
        name = ("gpu_memory_used_bytes", slot, f"GPU-0000000{slot}-0000")
        assert after[name] == before[name]


def test_a_reloaded_driver_is_met_again(machine, rig):
    passed(machine, rig)
    machine.reloads += 1
    passed(machine, rig)
    found = passed(machine, rig)
    assert machine.starts == 2
    assert found["gpu_access_state", *GPU, "ok"] == 1
    machine.push(3, 8, 119)
    assert passed(machine, rig)["gpu_xid_errors_total", *GPU, "119", "nvml"] == 1


def test_a_tick_makes_few_calls(machine, rig):
    fast = [name for name, room in rig.rooms.items() if room.kind().group == "fast"]
    for _ in range(3):
        passed(machine, rig, 1.0, *fast)
    counts = []
    for _ in range(2):
        found = passed(machine, rig, 1.0, *fast)
        counts.append(sum(value for key, value in found.items() if key[0] == "nvml_call_seconds_count"))
    assert counts[1] - counts[0] <= 8 * 18 + 2


class Child:
    """A process with the unmodified wrapper, which finds the library by LD_LIBRARY_PATH."""

    def __init__(self, machine, library, folder):
        self.note = folder / "calling"
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.note)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=machine.environ(library),
        )  # fmt: skip
        self.buffer = b""

    def look(self, patience_s: float = PATIENCE_S):
        """Return the samples, None where they do not come in time, or the process ended."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], patience_s)[0]:
                return None
            some = os.read(self.process.stdout.fileno(), 1 << 20)
            if not some:
                return None
            self.buffer += some
        line, _, self.buffer = self.buffer.partition(b"\n")
        return {(name.removeprefix("skewscope_"), *labels): value for name, labels, value in json.loads(line)}


@pytest.fixture
def child(machine, library, tmp_path):
    machine.clock_ns = 0
    child = Child(machine, library, tmp_path)
    yield child
    child.process.kill()
    child.process.communicate()


def test_the_wrapper_finds_the_library_as_it_would_the_drivers(machine, child):
    found = child.look()
    assert found["gpu_devices", "nvml"] == 8
    assert found["driver_info", "580.65.06", "13.580.65.06", "13.0"] == 1
    machine.gpu[3].sm_mhz = 345
    assert child.look()["gpu_clock_hertz", *GPU, "sm"] == 345e6


def test_a_hang_is_told_by_slot_and_call_and_ends_with_it(machine, child):
    child.look()
    machine.gpu[3].hang = 1
    assert child.look(patience_s=0.4) is None
    slot, call = child.note.read_text().split()
    assert slot == "3" and call
    machine.gpu[3].hang = 0
    child.process.stdin.flush()
    assert select.select([child.process.stdout], [], [], PATIENCE_S)[0], "it goes on when the driver does"


def test_a_slow_driver_shows_in_the_longest_call(machine, child):
    child.look()
    machine.gpu[3].slow_us = 20_000
    child.look()
    machine.gpu[3].slow_us = 0
    assert child.look()["nvml_call_max_seconds", "GetClockInfo"] >= 0.02


def test_a_crash_of_the_library_takes_the_process_and_nothing_else(machine, child):
    child.look()
    machine.gpu[3].crash = 1
    assert child.look() is None
    assert child.process.wait(PATIENCE_S) == -signal.SIGSEGV


def test_without_the_library_there_is_nothing_and_no_fault(tmp_path):
    environ = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "calling")]
    done = subprocess.run(command, input="\n", capture_output=True, text=True, env=environ, timeout=PATIENCE_S)
    if "no NVIDIA GPU" not in done.stderr:
        pytest.skip("this machine has an NVIDIA driver or GPU")
    assert done.returncode == 0
