from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from skewscope.catalogue import load, room
from skewscope.contracts import Place

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

clock_offset = load("agents.collectors.clock_offset")


def _timex(offset=0, maximum_us=0, estimated_us=0, status=0):
    return clock_offset.TIMEX.pack(0, offset, 0, maximum_us, estimated_us, status).ljust(208, b"\0")


def _one(found, name):
    return found[f"host_clock_{name}"][()]


def test_units_follow_the_status(tmp_path):
    host = fake.FakeHost(tmp_path)
    states = iter([_timex(-1500, 16_000, 20), _timex(-1500, status=0x2000), _timex(status=0x0040)])
    collector = host.collector("clock-offset", lambda: next(states))
    found = fake.values(collector)
    assert (_one(found, "offset_seconds"), _one(found, "max_error_seconds")) == (-0.0015, 0.016)
    assert (_one(found, "estimated_error_seconds"), _one(found, "synchronized")) == (0.00002, 1)
    host.clocks.pass_s(5)
    assert _one(fake.values(collector), "offset_seconds") == -0.0000015
    host.clocks.pass_s(5)
    assert _one(fake.values(collector), "synchronized") == 0


def test_a_forbidden_call_leaves_steps(tmp_path):
    def forbidden():
        raise PermissionError(1, "adjtimex")

    found = fake.values(fake.FakeHost(tmp_path).collector("clock-offset", forbidden))
    assert found == {"host_clock_steps_total": {(): 0}}


@pytest.mark.parametrize(("jump_s", "steps"), [(0.0, 0), (0.0009, 0), (0.0011, 1), (-2.5, 1)])
def test_steps_of_the_wall_clock(tmp_path, jump_s, steps):
    host = fake.FakeHost(tmp_path)
    collector = host.collector("clock-offset", _timex)
    fake.values(collector)
    host.clocks.pass_s(1)
    host.clocks.now_s += jump_s
    found = fake.values(collector)
    assert found["host_clock_steps_total"] == {(): steps}
    assert ("host_clock_last_step_seconds" in found) == bool(steps)
    if steps:
        assert _one(found, "last_step_seconds") == pytest.approx(jump_s, abs=1e-5)
    host.clocks.pass_s(1)
    assert fake.values(collector)["host_clock_steps_total"] == {(): steps}


def test_a_pause_between_the_clocks_is_no_step(tmp_path):
    host = fake.FakeHost(tmp_path)
    pauses = [0.0]

    def now_s():
        host.clocks.pass_s(pauses[0])
        return host.clocks.now_s

    place = Place(proc=host.proc, sys=host.sys, now_s=now_s, clock_s=lambda: host.clocks.clock_s)
    collector = room("agents.collectors", "clock-offset").kind()(place, _timex)
    fake.values(collector)
    pauses[0] = 0.4  # the wall clock is read, then 0.4 s pass until the monotonic clock is
    assert fake.values(collector)["host_clock_steps_total"] == {(): 0}
    pauses[0] = 0.0
    assert fake.values(collector)["host_clock_steps_total"] == {(): 0}


def test_the_hardware_clock_is_named(tmp_path):
    host = fake.FakeHost(tmp_path)
    file = fake.write(host.sys / "devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
    collector = host.collector("clock-offset", _timex)
    assert fake.values(collector)["host_clocksource_info"] == {("tsc",): 1}
    fake.write(file, "hpet\n")
    host.clocks.pass_s(61)
    assert fake.values(collector)["host_clocksource_info"] == {("hpet",): 1}


def test_this_kernel_answers_anybody():
    found = fake.values(room("agents.collectors", "clock-offset").kind()(Place()))
    assert _one(found, "max_error_seconds") > 0 and _one(found, "synchronized") in (0, 1)
    assert abs(_one(found, "offset_seconds")) < 1
