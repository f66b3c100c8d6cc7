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

CPU = "some avg10=1.00 avg60=0.50 avg300=0.10 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500\n"


def test_totals_are_told_in_seconds(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "pressure/cpu", CPU)
    fake.write(host.proc / "pressure/irq", "full avg10=0.00 avg60=0.00 avg300=0.00 total=30\n")
    collector = host.collector("host-pressure")
    assert fake.values(collector) == {
        "host_pressure_seconds_total": {("cpu", "some"): 2.5, ("cpu", "full"): 0.0005, ("irq", "full"): 0.00003}
    }
    fake.write(host.proc / "pressure/cpu", CPU.replace("2500000", "3500000"))
    assert fake.values(collector)["host_pressure_seconds_total"]["cpu", "some"] == 3.5


def test_a_file_that_comes_later_is_seen(tmp_path):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "pressure/cpu", CPU)
    collector = host.collector("host-pressure")
    fake.values(collector)
    fake.write(host.proc / "pressure/io", CPU)
    host.clocks.pass_s(31)
    assert ("io", "some") in fake.values(collector)["host_pressure_seconds_total"]


def test_without_psi_there_is_nothing_and_never_zero(tmp_path):
    host = fake.FakeHost(tmp_path)
    with pytest.raises(NoData, match="psi=1"):
        host.collector("host-pressure").collect()


@pytest.mark.parametrize("text", ["", "some avg10=0\n", "some avg10=0.00 total=x\n", "\x00\xff"])
def test_one_damaged_file_hides_no_other(tmp_path, text):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "pressure/cpu", text)
    fake.write(host.proc / "pressure/io", CPU)
    assert {
        resource for resource, _ in fake.values(host.collector("host-pressure"))["host_pressure_seconds_total"]
    } == {"io"}


@pytest.mark.skipif(not Path("/proc/pressure/cpu").exists(), reason="this kernel has no PSI")
def test_this_host_tells_its_pressure():
    found = fake.values(room("agents.collectors", "host-pressure").kind()(Place()))
    assert found["host_pressure_seconds_total"]["cpu", "some"] >= 0
