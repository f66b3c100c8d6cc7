"""PCIe and NVLink: lanes, links and what goes wrong on them."""

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


def test_a_drop_of_lanes_shows_in_the_next_look(nvml, rig):
    rig.look("nvml-pcie")
    nvml.gpus[0].pcie |= {"width": 4, "gen": 3}
    found = rig.look("nvml-pcie", after_s=1)
    assert found["gpu_pcie_link_width_lanes", *GPU, "current"] == 4
    assert found["gpu_pcie_link_width_lanes", *GPU, "max"] == 16
    assert found["gpu_pcie_link_generation", *GPU, "current"] == 3


def test_pcie_errors_by_kind(nvml, rig):
    nvml.gpus[0].fields |= {94: 5, 169: 6, 173: 1, 180: 2, 177: 3, 183: 4}
    found = rig.look("nvml-pcie")
    assert found["gpu_pcie_replays_total", *GPU] == 5
    assert found["gpu_pcie_recovery_entries_total", *GPU] == 6
    kinds = {"correctable": 1, "fatal": 2, "naks_sent": 3, "lane": 4}
    assert {kind: found["gpu_pcie_errors_total", *GPU, kind] for kind in kinds} == kinds


def test_replays_have_a_call_of_their_own_on_older_drivers(nvml, rig):
    del nvml.gpus[0].fields[94]
    assert rig.look("nvml-pcie")["gpu_pcie_replays_total", *GPU] == 0
    assert ("GetPcieReplayCounter", 0) in nvml.calls


def test_a_gpu_without_pcie_is_no_fault(nvml, rig):
    absent = ("GetCurrPcieLinkGeneration", "GetCurrPcieLinkWidth", "GetMaxPcieLinkGeneration", "GetMaxPcieLinkWidth",
              "GetFieldValues", "GetPcieReplayCounter")  # fmt: skip
    nvml.gpus[0].faults = dict.fromkeys(absent, fake_nvml.NOT_SUPPORTED)
    assert rig.look("nvml-pcie") == {} and "PCIe" in rig.reasons["nvml-pcie"]


def links(found, metric="gpu_nvlink_links"):
    return {key[-1]: value for key, value in found.items() if key[0] == metric}


def test_links_that_go_down_or_to_sleep_show_in_the_next_look(nvml, rig):
    assert links(rig.look("nvml-nvlink")) == {"active": 18, "inactive": 0, "sleep": 0, "expected": 18}
    for at, state in ((3, 0), (4, 0), (5, 2)):
        nvml.gpus[0].links[at].state = state
        nvml.gpus[0].links[at].megabytes_per_s = 0
    found = rig.look("nvml-nvlink", after_s=1)
    assert links(found) == {"active": 15, "inactive": 2, "sleep": 1, "expected": 18}
    assert found["gpu_nvlink_speed_bytes_per_second", *GPU] == 15 * 26_562e6


def test_a_driver_without_the_field_is_asked_link_by_link(nvml, rig):
    nvml.gpus[0].field_faults = {165: fake_nvml.NOT_SUPPORTED}
    nvml.gpus[0].links[0].state = 0
    assert links(rig.look("nvml-nvlink")) == {"active": 17, "inactive": 1, "sleep": 0, "expected": 18}


def test_no_links_is_no_fault(nvml, rig):
    nvml.gpus[0].links = []
    assert rig.look("nvml-nvlink") == {} and "NVLink" in rig.reasons["nvml-nvlink"]


def per_link(found):
    return {key[3:]: value for key, value in found.items() if key[0] == "gpu_nvlink_link_errors_total"}


def test_errors_are_totals_and_then_by_link(nvml, rig):
    gpu = nvml.gpus[0]
    found = rig.look("nvml-nvlink")
    assert found["gpu_nvlink_errors_total", *GPU, "replay"] == 0 and not per_link(found)
    gpu.fields[52] = 7
    gpu.links[2].errors[161] = 7
    found = rig.look("nvml-nvlink", after_s=1)
    assert found["gpu_nvlink_errors_total", *GPU, "replay"] == 7
    assert per_link(found) == {("2", "replay"): 7}


def test_links_are_asked_one_by_one_at_most_every_five_seconds_and_only_after_a_change(nvml, rig):
    gpu = nvml.gpus[0]
    rig.look("nvml-nvlink")
    seconds = []
    for second in range(1, 13):
        gpu.fields[52] += second <= 6
        gpu.links[1].errors[161] = gpu.fields[52]
        found = rig.look("nvml-nvlink", after_s=1)
        seconds.append(per_link(found)["1", "replay"])
    assert seconds == [1, 1, 1, 1, 1, 6, 6, 6, 6, 6, 6, 6]
    nvml.calls.clear()
    rig.look("nvml-nvlink", after_s=1)
    assert nvml.calls == [("GetFieldValues", 0)]


def test_older_drivers_count_the_errors_of_a_link_by_a_call(nvml, rig):
    gpu = nvml.gpus[0]
    gpu.field_faults = dict.fromkeys((161, 162, 163), fake_nvml.NOT_SUPPORTED)
    gpu.fields[59] = 4
    gpu.links[9].errors[162] = 4
    assert per_link(rig.look("nvml-nvlink")) == {("9", "recovery"): 4}


def test_the_newest_links_count_symbols_and_recoveries_and_give_bit_error_ratios(nvml, rig):
    gpu = nvml.gpus[0]
    for number in (38, 45, 52, 59, 160):
        del gpu.fields[number]
    gpu.fields |= {221: 11, 219: 0, 208: 2, 213: 3, 214: 1}
    gpu.links = [fake_nvml.FakeLink(errors={161: 0, 162: 0, 163: 0, 220: 0x10F, 222: 0x50C}) for _ in range(2)]
    gpu.links[1].errors[220] = 0x207
    gpu.links[1].errors[222] = 0
    nvml.gpus[0].value = newest(gpu)
    found = rig.look("nvml-nvlink")
    assert found["gpu_nvlink_errors_total", *GPU, "symbol"] == 11
    assert found["gpu_nvlink_recovery_events_total", *GPU, "successful"] == 3
    assert found["gpu_nvlink_recovery_events_total", *GPU, "failed"] == 1
    assert found["gpu_nvlink_bit_error_ratio", *GPU, "effective"] == 2e-7
    assert found["gpu_nvlink_bit_error_ratio", *GPU, "symbol"] == 5e-12


def newest(gpu):
    """Give 220 and 222 of each link, as the newest GPUs do."""
    plain = gpu.value

    def value(number: int, scope: int):
        if number in (220, 222):
            return gpu.links[scope].errors[number] if scope < len(gpu.links) else None
        return plain(number, scope)

    return value


def test_links_to_the_cpu_have_a_metric_of_their_own(nvml, rig):
    nvml.gpus[0].links = []
    nvml.gpus[0].fields |= {170: 2, 171: 1}
    found = rig.look("nvml-nvlink")
    assert links(found, "gpu_c2c_links") == {"active": 2, "inactive": 0, "expected": 2}
    assert not links(found)
