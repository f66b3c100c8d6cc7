from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from skewscope.catalogue import room
from skewscope.contracts import Place
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

STAT = """cpu  100 20 300 4000 50 6 7 8 0 0
cpu0 50 10 150 2000 25 3 4 4 0 0
cpu1 50 10 150 2000 25 3 3 4 0 0
intr 12345 0 0 7
ctxt 99
btime 1700000000
processes 321
procs_running 3
procs_blocked 1
softirq 1 2 3
"""


def test_modes_tasks_and_switches(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "stat", STAT)
    found = fake.values(host.collector("host-cpu"))
    seconds = found["host_cpu_seconds_total"]
    assert (seconds["user",], seconds["idle",], seconds["steal",]) == (1.0, 40.0, 0.08)
    assert found["host_cpus"] == {(): 2}
    assert found["host_tasks"] == {("runnable",): 3, ("blocked",): 1}
    assert found["host_context_switches_total"] == {(): 99}
    assert "host_hung_tasks_total" not in found  # this kernel does not count them


def test_what_is_dear_to_read_is_not_read_each_second(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "stat", STAT)
    collector = host.collector("host-cpu")
    fake.values(collector)
    fake.write(host.proc / "stat", STAT.replace("ctxt 99", "ctxt 100"))
    host.clocks.pass_s(1)
    assert fake.values(collector)["host_context_switches_total"] == {(): 99}
    host.clocks.pass_s(4)
    assert fake.values(collector)["host_context_switches_total"] == {(): 100}


def test_many_interrupts_do_not_cut_the_file(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "stat", STAT.replace("intr 12345", "intr 12345" + " 0" * 100_000))
    assert fake.values(host.collector("host-cpu"))["host_tasks"]["runnable",] == 3


@pytest.mark.parametrize("text", ["", "garbage\n", "cpu  a b c\ncpu0 1\n"])
def test_a_damaged_stat_hides_nothing_else(tmp_path, text):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "stat", text)
    fake.write(host.proc / "sys/kernel/hung_task_detect_count", "4\n")
    found = fake.values(host.collector("host-cpu"))
    assert found["host_hung_tasks_total"] == {(): 4}
    assert not {"host_cpu_seconds_total", "host_tasks", "host_context_switches_total"} & found.keys()


def test_nothing_readable_is_no_data(tmp_path):
    with pytest.raises(NoData, match="stat cannot be read"):
        fake.FakeHost(tmp_path).collector("host-cpu").collect()


def test_heat_counts_once_a_core_and_once_a_package(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "stat", STAT)
    for cpu, core, package, events in ((0, 0, 0, 5), (1, 1, 0, 7), (2, 0, 0, 5), (3, 0, 1, 2)):
        folder = host.sys / f"devices/system/cpu/cpu{cpu}"
        fake.write(folder / "topology/core_id", f"{core}\n")
        fake.write(folder / "topology/physical_package_id", f"{package}\n")
        fake.write(folder / "thermal_throttle/core_throttle_count", f"{events}\n")
        fake.write(folder / "thermal_throttle/core_throttle_total_time_ms", "1500\n")
        fake.write(folder / "thermal_throttle/package_throttle_count", f"{10 + package}\n")
    fake.write(host.sys / "devices/system/cpu/cpufreq/boost", "1\n")
    found = fake.values(host.collector("host-cpu"))
    assert found["host_cpu_throttle_events_total"] == {("core",): 14, ("package",): 21}
    assert found["host_cpu_throttle_seconds_total"] == {("core",): 4.5}


def test_clocks_are_read_in_turns_and_offline_processors_left_out(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "stat", STAT)
    folder = host.sys / "devices/system/cpu/cpufreq"
    for policy in range(40):
        fake.write(folder / f"policy{policy}/scaling_cur_freq", f"{3_000_000 if policy else 800_000}\n")
    collector = host.collector("host-cpu")
    first = fake.values(collector)["host_cpu_frequency_hertz"]
    assert first["min",] == 8e8 and first["max",] == 3e9
    assert first["mean",] == pytest.approx((31 * 3e9 + 8e8) / 32)
    (folder / "policy0/scaling_cur_freq").unlink()
    for _ in range(2):
        host.clocks.pass_s(5)
        found = fake.values(collector)["host_cpu_frequency_hertz"]
    assert found["min",] == 3e9


def test_this_host():
    found = fake.values(room("agents.collectors", "host-cpu").kind()(Place()))
    assert found["host_cpus"][()] >= 1 and found["host_cpu_seconds_total"]["user",] > 0
