"""Rooms about hosts: prices, subjects and windows, thresholds that matter, and silence where nothing is known."""

import dataclasses
from functools import cache
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.catalogue import load, room
from skewscope.frames import all_tables

T = run_path(str(Path(__file__).with_name("_thresholds.py")))

worlds = load("detectors._live_worlds")
Fleet, EPOCH_NS = worlds.Fleet, worlds.EPOCH_NS
DELAY, THROTTLED = "skewscope_rank_run_delay_seconds_total", "skewscope_rank_cpu_throttled_seconds_total"
PRESSURE, LOCAL = "skewscope_host_pressure_seconds_total", "skewscope_rank_numa_local"
PHASES, PINNED, LOCKED = (
    "skewscope_phase_seconds_total", "skewscope_rank_pinned_memory_bytes", "skewscope_rank_locked_memory_bytes",
)  # fmt: skip
ACTIVE, CPU, BUSY = (
    "skewscope_gpu_sm_active_ratio", "skewscope_rank_cpu_seconds_total", "skewscope_gpu_utilization_ratio",
)  # fmt: skip
STUCK, MESSAGES = "skewscope_rank_uninterruptible", "skewscope_kernel_messages_total"
FOREIGN, MEMORY = "skewscope_gpu_foreign_processes", "skewscope_gpu_job_memory_bytes"
OFFSET, RECEIVED = "skewscope_host_clock_offset_seconds", "skewscope_gpu_pcie_receive_bytes_total"
SENT = "skewscope_gpu_pcie_transmit_bytes_total"
GPU1 = {"nodes": ["n0"], "devices": ["gpu1"]}
NAMES = (
    "host-cpu-contention", "host-numa-misbinding", "host-pinned-memory-shortage", "host-launch-bound",
    "host-process-stuck", "gpu-squatter",
)  # fmt: skip


def detector(name):
    return room("detectors", name).load()


def find(name, fleet, **job):
    return list(detector(name).detect(fleet.tables(**job)))


def one(name, fleet, **job):
    (found,) = find(name, fleet, **job)
    return found


def delays(share=0.4, since=10):
    fleet = Fleet()
    fleet.put(DELAY, 0.09, devices=fleet.gpus)
    return fleet.put(DELAY, share * 30, **GPU1, since=since)


def far(since=0):
    fleet = Fleet()
    fleet.put(LOCAL, 1.0, devices=fleet.gpus)
    return fleet.put(LOCAL, 0.0, **GPU1, since=since)


def short_of_pinned(own=2.0**24):
    fleet = Fleet()
    fleet.put(PHASES, 0.6, labels="phase=h2d", devices=fleet.gpus).put(PINNED, 2.0**30, devices=fleet.gpus)
    return fleet.put(PHASES, 6.0, labels="phase=h2d", **GPU1, since=10).put(PINNED, own, **GPU1, since=10)


def gaps(own=0.6, others=0.85):
    fleet = Fleet()
    fleet.put(CPU, 29.0, devices=fleet.gpus).put(ACTIVE, 0.85, devices=fleet.gpus)
    fleet.put(ACTIVE, others, devices=fleet.gpus, since=10)
    return fleet.put(ACTIVE, own, **GPU1, since=10)


def squatted(memory=2.0**30):
    fleet = Fleet()
    fleet.put(FOREIGN, 0.0, devices=fleet.gpus)
    return fleet.put(FOREIGN, 1.0, **GPU1, since=10).put(MEMORY, memory, **GPU1, since=10)


PRICED = {
    "host-cpu-contention": delays, "host-numa-misbinding": lambda: far(10),
    "host-pinned-memory-shortage": short_of_pinned, "host-launch-bound": gaps, "gpu-squatter": squatted,
}  # fmt: skip


@pytest.mark.parametrize("late_s", [0.05, 0.2])
@pytest.mark.parametrize("name", PRICED)
def test_the_price_is_what_the_rank_is_late(name, late_s):
    found = one(name, PRICED[name]().late(1, late_s))
    assert (found.role, found.subject.kind, found.subject.id) == ("culprit", "gpu", "n0/gpu1")
    assert found.lost_s == pytest.approx(late_s, rel=0.15)
    assert found.lost_share == pytest.approx(late_s / (0.5 + late_s), rel=0.15)
    assert found.severity == ("S3" if late_s < 0.1 else "S2")
    assert found.window.start_ns == EPOCH_NS + 300 * 10**9
    assert found.window.end_ns == EPOCH_NS + 600 * 10**9
    assert f"{late_s * 1e3:.1f} ms" in found.summary


@pytest.mark.parametrize("name", PRICED)
def test_what_costs_nothing_is_context(name):
    found = one(name, PRICED[name]())
    assert (found.role, found.lost_s, found.severity) == ("context", 0.0, "S4")
    for other in find(name, PRICED[name]().late(6, 0.2)):
        assert (other.role, other.lost_s) == ("context", 0.0), "somebody else is late"


@pytest.mark.parametrize("name", PRICED)
def test_from_the_start_the_peers_tell_the_price(name):
    if name == "host-numa-misbinding":
        assert one(name, far().late(1, 0.1, since=0)).lost_s == pytest.approx(0.1, rel=0.15)


def states(rooms_detector, cases):
    return [
        sorted((found.subject.id, found.role, found.severity, found.window) for found in rooms_detector.detect(world))
        for world in cases
    ]


MORE = {  # worlds beside those of the room, for thresholds that need one
    "host-cpu-contention": lambda: [
        Fleet().put(DELAY, 7.5, devices=["gpu0", "gpu1", "gpu2", "gpu3"]).put(DELAY, 12.0, **GPU1, since=10).tables(),
        delays().late(1, 0.015).tables(), delays(0.07).tables(),
        Fleet().put(PRESSURE, 0.0, labels="resource=cpu,kind=some").put(
            PRESSURE, 4.5, labels="resource=cpu,kind=some", nodes=["n1"], since=10).tables(),
    ],
    "host-numa-misbinding": lambda: [far(10).late(1, 0.015).tables(), far(16).tables()],
    "host-pinned-memory-shortage": lambda: [
        short_of_pinned(0.4 * 2**30).late(1, 0.015).tables(),
        short_of_pinned().put(RECEIVED, 1.0, devices=["gpu0", "gpu1", "gpu2", "gpu3"]).put(
            RECEIVED, 1.5, **GPU1).tables(),
        short_of_pinned(1e6).put(PINNED, 100 * 2**20, nodes=["n0"], devices=["gpu0", "gpu2", "gpu3"]).put(
            PINNED, 100 * 2**20, nodes=["n1"], devices=["gpu0", "gpu1", "gpu2", "gpu3"]).tables(),
    ],
    "host-launch-bound": lambda: [
        gaps().late(1, 0.015).tables(), gaps(0.7).tables(), gaps().put(CPU, 18.0, **GPU1).tables(),
        gaps().put(DELAY, 0.0, devices=["gpu0", "gpu2", "gpu3"]).put(DELAY, 2.0, **GPU1, since=10).tables(),
        gaps().put(SENT, 6e9 * 30, **GPU1, since=10).tables(), gaps().put(BUSY, 0.84, **GPU1).tables(),
        gaps(0.65).put(ACTIVE, 0.85, **GPU1, since=12).tables(),
    ],
    "host-process-stuck": lambda: [
        Fleet().put(MESSAGES, 1.0, labels="category=hung_task", nodes=["n1"], since=10, until=11).late(5, 8.0).tables(),
    ],
    "gpu-squatter": lambda: [
        squatted().late(1, 0.015).tables(), squatted(20 * 2**20).tables(),
        squatted().put(FOREIGN, np.resize([1.0, np.nan], 10), **GPU1, since=10).tables(),
    ],
}  # fmt: skip


@cache
def judged(name):
    """Return the worlds of a room."""
    return [world.tables for world in detector(name).cases()] + MORE[name]()


@pytest.mark.parametrize(("name", "field"), [
    (name, field.name) for name in NAMES for field in dataclasses.fields(detector(name))
])  # fmt: skip
def test_every_threshold_matters(name, field):
    assert T["matters"](detector(name), field, judged(name), states), f"{name}.{field} may be anything"


def everywhere(metric, value, labels=""):
    fleet = Fleet(nodes=4)
    return fleet.put(metric, 0.0, labels=labels, devices=fleet.gpus).put(
        metric, value, labels=labels, devices=fleet.gpus, since=10
    )  # fmt: skip


def test_what_all_hosts_show_is_one_finding():
    loaded = Fleet(nodes=8)
    loaded.put(DELAY, 0.0, devices=loaded.gpus).put(
        DELAY, 12.0, nodes=loaded.nodes[:4], devices=["gpu1", "gpu2"], since=9
    )
    assert one("host-cpu-contention", loaded).subject.id == "llm"
    assert one("host-numa-misbinding", Fleet(nodes=4).put(LOCAL, 0.0, devices=["gpu0", "gpu1"])).subject.id == "llm"
    assert one("gpu-squatter", everywhere(FOREIGN, 1.0)).subject.id == "llm"
    storage = one("host-process-stuck", everywhere(STUCK, 1.0))
    assert (storage.subject.id, storage.role) == ("llm", "context"), "all at once is the storage"
    stolen = one("gpu-squatter", everywhere(FOREIGN, 1.0), job=False)
    assert (stolen.subject.kind, stolen.subject.id) == ("rack", "fleet")


def test_one_job_of_a_fleet_is_one_finding():
    fleet = Fleet(nodes=16)
    fleet.put(LOCAL, 1.0, devices=fleet.gpus).put(LOCAL, 0.0, nodes=["n3", "n4", "n5"], devices=fleet.gpus)
    tables = fleet.tables()
    small = tables["windows"]["node"].isin(["n3", "n4", "n5"]) & (tables["windows"]["rank"] >= 0)
    job = tables["windows"]["job"].astype(object)
    job[small.to_numpy()] = "small"
    tables["windows"]["job"] = job.astype("category")
    assert [found.subject.id for found in detector("host-numa-misbinding").detect(tables)] == ["small"]
    whole = sorted(found.subject.id for found in find("host-numa-misbinding", fleet))
    assert whole == ["n3", "n4", "n5"], "three of sixteen hosts of one job"


def test_a_crowded_host_is_one_finding_with_the_price_of_its_latest_rank():
    fleet = Fleet(nodes=3)
    fleet.put(DELAY, 0.09, devices=fleet.gpus).put(DELAY, 9.0, nodes=["n1"], devices=fleet.gpus, since=10)
    found = one("host-cpu-contention", fleet.late(6, 0.1))
    assert (found.subject.kind, found.subject.id, found.role) == ("node", "n1", "culprit")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)


def test_a_quota_starves_as_well_as_neighbours_do():
    fleet = delays(0.003).put(THROTTLED, 9.0, **GPU1, since=10).late(1, 0.1)
    assert one("host-cpu-contention", fleet).evidence[0].value == pytest.approx(0.303, rel=0.01)


def test_pressure_counts_only_where_no_rank_tells():
    fleet = delays(0.003).put(PRESSURE, 20.0, labels="resource=cpu,kind=some", nodes=["n1"], since=10)
    assert find("host-cpu-contention", fleet) == []


def test_locked_memory_counts_as_pinned():
    fleet = short_of_pinned().put(LOCKED, 2.0**30, **GPU1, since=10)
    assert find("host-pinned-memory-shortage", fleet) == []


@pytest.mark.parametrize("change", [
    lambda fleet: fleet.put(BUSY, 0.5, devices=fleet.gpus), lambda fleet: fleet.put(CPU, 6.0, devices=fleet.gpus),
])  # fmt: skip
def test_idle_gpus_and_sleeping_processes_do_not_lack_launches(change):
    assert find("host-launch-bound", change(gaps().late(1, 0.15))) == []


def test_servers_without_steps_are_not_judged_by_gaps():
    assert find("host-launch-bound", gaps(), job=False) == []


def test_a_job_that_becomes_launch_bound_is_priced_by_its_shift():
    fleet = gaps(0.6, others=0.6)
    fleet._step_s[10:] += 0.1
    found = one("host-launch-bound", fleet)
    assert (found.subject.id, found.role) == ("llm", "culprit")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)


def test_seconds_of_activity_go_before_samples():
    fleet = gaps(0.85).put("skewscope_gpu_sm_active_seconds_total", 25.5, devices=["gpu0", "gpu1", "gpu2", "gpu3"])
    assert find("host-launch-bound", fleet) == []
    fleet.put("skewscope_gpu_sm_active_seconds_total", 18.0, **GPU1, since=10)
    assert one("host-launch-bound", fleet).subject.id == "n0/gpu1"


def stuck(windows=6):
    fleet = Fleet()
    fleet.put(STUCK, 0.0, devices=fleet.gpus)
    return fleet.put(STUCK, 1.0, **GPU1, since=10, until=10 + windows)


def test_a_stuck_process_ends_the_job_and_has_no_price():
    found = one("host-process-stuck", stuck())
    assert (found.role, found.severity, found.lost_s) == ("culprit", "S1", 0.0)
    assert (found.window.start_ns, found.window.end_ns) == (EPOCH_NS + 300 * 10**9, EPOCH_NS + 480 * 10**9)
    assert found.evidence[0].value == 180.0


def test_a_file_server_that_does_not_answer_explains_who_stands():
    found = one("host-process-stuck", stuck().put(MESSAGES, 1.0, labels="category=nfs", nodes=["n0"], since=10))
    assert found.role == "context"
    assert "ckpt-stall" in found.advice


def test_the_process_goes_before_the_message_and_the_message_before_its_text():
    text = "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:4711]"
    both = stuck().put(MESSAGES, 1.0, labels="category=hung_task", nodes=["n0"], since=12, until=13)
    assert one("host-process-stuck", both.event("kernel", node="n0", message=text)).subject.id == "n0/gpu1"
    counted = Fleet().put(MESSAGES, 1.0, labels="category=soft_lockup", nodes=["n1"], since=12, until=13)
    found = one("host-process-stuck", counted.event("kernel", node="n1", message=text))
    assert (found.evidence[0].signal, found.role) == ("kernel_messages", "context")


@pytest.mark.parametrize(("text", "role"), [
    ("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:4711]", "culprit"),
    ("INFO: task pt_data_worker:77 blocked for more than 122 seconds.", "culprit"),
    ("INFO: task systemd-journal:77 blocked in I/O wait for more than 122 seconds.", "context"),
])  # fmt: skip
def test_the_log_says_whose_task_it_is(text, role):
    found = one("host-process-stuck", Fleet().event("kernel", node="n1", message=text, window=4), job=False)
    assert (found.subject.id, found.role) == ("n1", role)
    assert found.window.start_ns == found.window.end_ns == EPOCH_NS + 135 * 10**9
    silent = Fleet().event("kernel", node="n1", message=text).event(
        "kernel", node="n1", message="nfs: server filer not responding, still trying"
    )  # fmt: skip
    assert one("host-process-stuck", silent, job=False).role == "context"


def test_processes_are_counted_in_every_second_window_only():
    fleet = squatted().late(1, 0.1)
    fleet.put(FOREIGN, np.resize([1.0, np.nan], 10), **GPU1, since=10)
    assert one("gpu-squatter", fleet).role == "culprit"


def test_memory_of_the_job_itself_is_not_foreign():
    fleet = squatted()
    tables = fleet.tables()
    rows = (tables["windows"]["metric"] == MEMORY).to_numpy()
    job = tables["windows"]["job"].astype(object)
    job[rows] = "llm"
    tables["windows"]["job"] = job.astype("category")
    assert list(detector("gpu-squatter").detect(tables)) == []


def test_a_host_clock_is_told_once_by_whoever_sees_it():
    skewed = Fleet(nodes=4).put(OFFSET, 0.0).put(OFFSET, 0.004, nodes=["n2"], since=5)
    found = one("host-clock-skew", skewed)
    assert (found.subject.id, found.role) == ("n2", "context")
    assert found.evidence[0].value == pytest.approx(0.004)
    assert found.window.start_ns == EPOCH_NS + 150 * 10**9
    clocks = next(world for world in detector("host-clock-skew").cases() if world.name == "skewed").tables["clocks"]
    both = {**skewed.tables(), "clocks": clocks}
    assert sorted(found.subject.id for found in detector("host-clock-skew").detect(both)) == ["n1", "n2"]
    assert find("host-clock-skew", Fleet(nodes=4).put(OFFSET, 0.004, nodes=["n2"], since=5, until=6).put(
        OFFSET, 0.0, nodes=["n0", "n1", "n3"])) == []  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "host-clock-skew"])
def test_what_is_unknown_is_not_told(name):
    room_detector = detector(name)
    for world in room_detector.cases():
        tables = {key: table.copy() for key, table in world.tables.items()}
        for column in ("mean_value", "low_value", "high_value", "last_value", "increase_value"):
            tables["windows"][column] = np.nan
        if world.expect and not len(tables["events"]) and not len(tables["clocks"]):
            assert list(room_detector.detect(all_tables(tables))) == [], world.name
    assert list(room_detector.detect(Fleet(windows_count=1).tables())) == []
    assert list(room_detector.detect(Fleet().tables(job=False))) == []
