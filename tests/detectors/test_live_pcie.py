"""Rooms about PCIe: prices, subjects and windows, thresholds that matter, and silence where nothing is known."""

import dataclasses
from functools import cache
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.catalogue import load, room
from skewscope.frames import all_tables

T = run_path(str(Path(__file__).with_name("_thresholds.py")))

worlds, pci = load("detectors._live_worlds"), load("detectors._live_pci")
Fleet, EPOCH_NS = worlds.Fleet, worlds.EPOCH_NS
PHASES, PINNED, LOCAL = (
    "skewscope_phase_seconds_total", "skewscope_rank_pinned_memory_bytes", "skewscope_rank_numa_local",
)  # fmt: skip
SENT, RECEIVED = "skewscope_gpu_pcie_transmit_bytes_total", "skewscope_gpu_pcie_receive_bytes_total"
WIDTH, GENERATION = "skewscope_gpu_pcie_link_width_lanes", "skewscope_gpu_pcie_link_generation"
LANES, SPEED = "skewscope_pcie_link_width_lanes", "skewscope_pcie_link_transfers_per_second"
REPLAYS, ERRORS, AER = (
    "skewscope_gpu_pcie_replays_total", "skewscope_gpu_pcie_errors_total", "skewscope_pcie_aer_errors_total",
)  # fmt: skip
STALLED, PAUSED = "skewscope_nic_pcie_stalled_seconds_total", "skewscope_nic_pause_seconds_total"
MAPPED, AFFINITY = "skewscope_gpu_bar1_used_bytes", "skewscope_gpu_nic_affinity_info"
BUSY, CPU = "skewscope_gpu_utilization_ratio", "skewscope_rank_cpu_seconds_total"
TOKENS = "skewscope_serving_inter_token_latency_seconds"
GPU1, NIC1 = {"nodes": ["n0"], "devices": ["gpu1"]}, {"nodes": ["n0"], "devices": ["mlx5_1"]}
GPUS = ["gpu0", "gpu1", "gpu2", "gpu3"]
CURRENT = "kind=current"
NAMES = (
    "pcie-h2d-starvation", "pcie-d2h-bottleneck", "pcie-link-degraded", "pcie-error-replay", "pcie-saturation",
    "pcie-nic-backpressure", "pcie-p2p-misroute", "pcie-mr-churn",
)  # fmt: skip


def detector(name):
    return room("detectors", name).load()


def find(name, fleet, **job):
    return list(detector(name).detect(fleet.tables(**job)))


def one(name, fleet, **job):
    (found,) = find(name, fleet, **job)
    return found


def copies(share=0.2):
    fleet = Fleet().put(PHASES, 0.3, labels="phase=h2d", devices=GPUS)
    return fleet.put(PHASES, share * 30, labels="phase=h2d", **GPU1, since=10)


def moves(metric, own, usual=1e9):
    return Fleet().put(metric, usual * 30, devices=GPUS).put(metric, own * 30, **GPU1, since=10)


def narrow(lanes=8.0):
    return Fleet().put(WIDTH, lanes, labels=CURRENT, **GPU1, since=10)


def replays(count=300.0, metric=REPLAYS, where=GPU1, labels=""):
    return Fleet().put(metric, count, labels=labels, **where, since=10)


def stalls(seconds=20.0):
    fleet = Fleet().put(STALLED, 0.0, labels="direction=write", devices=["mlx5_0", "mlx5_1"])
    return fleet.put(STALLED, seconds, labels="direction=write", **NIC1, since=10)


def maps(mib=6.0, since=10):
    fleet = Fleet(nodes=4).put(MAPPED, 2.0**28, devices=GPUS)
    return fleet.put(MAPPED, mib * 2**20, nodes=["n2"], devices=GPUS, since=since)


def churns(values=(1.0, 0.55, 0.9, 0.5), metric=PINNED):
    fleet = Fleet().put(metric, 2.0**30, devices=GPUS)
    return fleet.put(metric, np.resize(values, 10) * 2.0**30, **GPU1, since=10)


def pins(own, usual):
    fleet = Fleet().put(PINNED, np.resize(usual, 20) * 2.0**30, devices=GPUS)
    return fleet.put(PINNED, np.resize(own, 20) * 2.0**30, **GPU1)


OF_RANKS = {
    "pcie-h2d-starvation": copies, "pcie-d2h-bottleneck": lambda: moves(SENT, 10e9), "pcie-link-degraded": narrow,
    "pcie-error-replay": replays, "pcie-saturation": lambda: moves(RECEIVED, 45e9), "pcie-mr-churn": churns,
}  # fmt: skip
OF_LINKS = {
    "pcie-link-degraded": (narrow, "n0/gpu1"), "pcie-error-replay": (replays, "n0/gpu1"),
    "pcie-saturation": (lambda: moves(RECEIVED, 45e9), "n0/gpu1"), "pcie-nic-backpressure": (stalls, "n0/mlx5_1"),
    "pcie-p2p-misroute": (maps, "n2"),
}  # fmt: skip


@pytest.mark.parametrize("late_s", [0.05, 0.2])
@pytest.mark.parametrize("name", OF_RANKS)
def test_the_price_is_what_the_rank_is_late(name, late_s):
    found = one(name, OF_RANKS[name]().late(1, late_s))
    assert (found.role, found.subject.kind, found.subject.id) == ("culprit", "gpu", "n0/gpu1")
    assert found.lost_s == pytest.approx(late_s, rel=0.15)
    assert found.severity == ("S3" if late_s < 0.1 else "S2")
    assert found.window.start_ns in (EPOCH_NS + 300 * 10**9, EPOCH_NS + 330 * 10**9)
    assert found.window.end_ns == EPOCH_NS + 600 * 10**9


@pytest.mark.parametrize("late_s", [0.05, 0.2])
@pytest.mark.parametrize("name", OF_LINKS)
def test_a_link_that_slows_all_alike_is_priced_by_the_shift(name, late_s):
    make, subject = OF_LINKS[name]
    found = one(name, make().slow_transfer(late_s))
    assert (found.role, found.subject.id) == ("culprit", subject)
    assert found.lost_s == pytest.approx(late_s, rel=0.15)


@pytest.mark.parametrize("name", {**OF_RANKS, **OF_LINKS})
def test_what_costs_nothing_is_context(name):
    make = OF_RANKS.get(name) or OF_LINKS[name][0]
    found = one(name, make())
    assert (found.role, found.lost_s) == ("context", 0.0)
    assert found.severity in ("S3", "S4")
    other = one(name, make().late(6, 0.2))
    assert (other.role, other.lost_s) == ("context", 0.0), "somebody else is late, and no transfer is longer"


def states(room_detector, cases):
    return [
        sorted((found.subject.id, found.role, found.severity, found.window) for found in room_detector.detect(world))
        for world in cases
    ]


def of_adapters(metric=SPEED, own=16e9, usual=32e9, load=0.1):
    fleet, address = Fleet(), "0000:2b:00.0"
    fleet.put("skewscope_rdma_rate_bytes_per_second", 50e9, devices=fleet.nics)
    fleet.put("skewscope_rdma_receive_bytes_total", load * 50e9 * 30, devices=fleet.nics)
    fleet.put("skewscope_rdma_info", 1.0, labels=f"board=x,pci_bus_id={address}", **NIC1)
    for kind in ("max", "current"):
        fleet.put(metric, usual, labels=f"kind={kind}", devices=[address, "0000:1b:00.0"])
    return fleet.put(metric, own, labels=CURRENT, nodes=["n0"], devices=[address], since=10)


def switch(gpu=14e9, nic=0.0):
    fleet = moves(RECEIVED, 2e9, 2e9).put(RECEIVED, gpu * 30, nodes=["n1"], devices=["gpu0", "gpu1"], since=10)
    fleet.put("skewscope_rdma_receive_bytes_total", nic * 30, nodes=["n1"], devices=["mlx5_0"], since=10)
    return fleet.put(AFFINITY, 1.0, labels="device=mlx5_0,level=same_switch", devices=["gpu0", "gpu1"])


MORE = {  # worlds beside those of the room, for thresholds that need one
    "pcie-h2d-starvation": lambda: [
        copies().late(1, 0.015), copies(0.09), copies().put(LOCAL, 0.06, **GPU1),
        Fleet().put(PHASES, 4.0, labels="phase=h2d", devices=GPUS, since=10),
    ],
    "pcie-d2h-bottleneck": lambda: [
        moves(SENT, 10e9).late(1, 0.015), moves(SENT, 8e9), moves(SENT, 20e9, 8e9),
        copies(0.09).put(SENT, 30e9, devices=GPUS).put(SENT, 300e9, **GPU1, since=10).late(1, 0.1),
    ],
    "pcie-link-degraded": lambda: [
        narrow().late(1, 0.015), narrow().put(BUSY, 0.15, **GPU1), of_adapters(load=0.015),
        narrow().put(WIDTH, 16.0, labels=CURRENT, **GPU1, since=13),
    ],
    "pcie-error-replay": lambda: [
        replays().late(1, 0.004), replays().late(1, 0.002), replays(0.8), replays(45.0).late(1, 0.1),
        replays(1.0, ERRORS, labels="error=nonfatal").put(ERRORS, 0.0, labels="error=nonfatal", **GPU1, since=13),
        replays(1.5, ERRORS, labels="error=fatal"), replays().put(REPLAYS, 20.0, devices=["gpu0", "gpu2", "gpu3"]).put(
            REPLAYS, 20.0, nodes=["n1"], devices=GPUS),
        replays(np.resize([3.0, 0.0], 10)), replays(np.resize([45.0, 0.0, 0.0], 10)),
    ],
    "pcie-saturation": lambda: [
        moves(RECEIVED, 45e9).late(1, 0.015), moves(RECEIVED, 30e9), moves(RECEIVED, 30e9, 12e9), moves(RECEIVED, 24e9),
    ],
    "pcie-nic-backpressure": lambda: [
        stalls().slow_transfer(0.015), stalls(4.0),
        stalls().put(STALLED, 5.0, labels="direction=write", nodes=["n1"], devices=["mlx5_0", "mlx5_1"]).put(
            STALLED, 5.0, labels="direction=write", nodes=["n0"], devices=["mlx5_0"]),
    ],
    "pcie-p2p-misroute": lambda: [
        maps().slow_transfer(0.015), maps(40.0), maps(1.0).put(MAPPED, 100 * 2.0**20, nodes=["n0", "n1", "n3"],
                                                               devices=GPUS),
        maps(since=0).put(CPU, 29.0, devices=GPUS).put(CPU, 42.0, nodes=["n2"], devices=GPUS),
        maps(since=15), maps(np.resize([6.0, 256.0], 10)),
    ],
    "pcie-mr-churn": lambda: [
        churns().late(1, 0.015), churns((1.0, 0.85)), churns((1.0, 0.5, 0.5, 0.5, 0.5, 1.0)),
        churns((0.2, 0.4, 0.6, 0.8, 1.0, 0.7, 0.9, 1.1, 1.3, 1.5)),
        pins([25 / 1024, 12 / 1024], usual=[25 / 1024]), pins([1.0, 0.6], usual=[1.0, 0.85]),
    ],
}  # fmt: skip


@cache
def judged(name):
    """Return the worlds of a room."""
    return [world.tables for world in detector(name).cases()] + [fleet.tables() for fleet in MORE[name]()]


@pytest.mark.parametrize(("name", "field"), [
    (name, field.name) for name in NAMES for field in dataclasses.fields(detector(name))
])  # fmt: skip
def test_every_threshold_matters(name, field):
    assert T["matters"](detector(name), field, judged(name), states), f"{name}.{field} may be anything"


def test_what_all_hosts_show_is_one_finding():
    every = Fleet(nodes=4)
    assert one("pcie-link-degraded", every.put(WIDTH, 8.0, labels=CURRENT, devices=GPUS)).subject.id == "llm"
    beaten = Fleet(nodes=4).put(ERRORS, 1.0, labels="error=fatal", devices=["gpu0", "gpu1"], since=10, until=11)
    assert one("pcie-error-replay", beaten).subject.id == "llm"
    sending = Fleet(nodes=4).put(SENT, 3e10, devices=GPUS).put(SENT, 4e11, devices=GPUS, since=10)
    found = one("pcie-d2h-bottleneck", sending.slow_transfer(0.1))
    assert (found.subject.id, found.role) == ("llm", "culprit")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)


def test_counters_that_never_grew_are_not_told_and_count_as_healthy():
    fleet = Fleet(nodes=4, nics=8)
    fleet.put("skewscope_rdma_rate_bytes_per_second", 50e9, devices=fleet.nics)
    for node in ("n0", "n1", "n2"):
        fleet.put(REPLAYS, 300.0, nodes=[node], devices=["gpu1"], since=10)
        fleet.put(STALLED, 20.0, labels="direction=write", nodes=[node], devices=["mlx5_1"], since=10)
    for name, device in (("pcie-error-replay", "gpu1"), ("pcie-nic-backpressure", "mlx5_1")):
        found = sorted(found.subject.id for found in find(name, fleet))
        assert found == [f"n0/{device}", f"n1/{device}", f"n2/{device}"]
    fleet.put(STALLED, 20.0, labels="direction=write", nodes=["n0"], devices=["mlx5_2"], since=10)
    assert "n0" not in {found.subject.id for found in find("pcie-nic-backpressure", fleet)}, "two of eight"


def test_a_host_of_lesser_links_is_one_finding():
    fleet = Fleet().put(WIDTH, 8.0, labels=CURRENT, nodes=["n0"], devices=["gpu0", "gpu1"], since=10)
    found = one("pcie-link-degraded", fleet.late(1, 0.1))
    assert (found.subject.kind, found.subject.id, found.role) == ("node", "n0", "culprit")


@pytest.mark.parametrize("name", OF_LINKS)
def test_without_a_job_a_broken_link_is_still_told(name):
    make, subject = OF_LINKS[name]
    found = find(name, make(), job=False)
    if name == "pcie-p2p-misroute":
        assert found == [], "without a job nobody is a peer"
        return
    assert [(one_found.subject.id, one_found.lost_s) for one_found in found] == [(subject, 0.0)]
    assert found[0].role == ("culprit" if name in ("pcie-link-degraded", "pcie-error-replay") else "context")


def test_idle_links_rest():
    fleet = Fleet().put(GENERATION, 1.0, labels=CURRENT, devices=GPUS).put(BUSY, 0.02, devices=GPUS)
    assert find("pcie-link-degraded", fleet) == []
    assert find("pcie-link-degraded", of_adapters(load=0.0)) == []


def test_one_look_at_full_width_in_a_window_clears_it():
    tables = narrow().tables()
    rows = tables["windows"]
    rows.loc[((rows["metric"] == WIDTH) & (rows["mean_value"] == 8.0)).to_numpy(), "high_value"] = 16.0
    assert list(detector("pcie-link-degraded").detect(tables)) == []


@pytest.mark.parametrize(("metric", "own", "usual"), [(SPEED, 16e9, 32e9), (LANES, 8.0, 16.0)])
def test_the_link_of_an_adapter(metric, own, usual):
    found = one("pcie-link-degraded", of_adapters(metric, own, usual).slow_transfer(0.1))
    assert (found.subject.kind, found.subject.id, found.role) == ("nic", "n0/mlx5_1", "culprit")
    assert found.evidence[0].value == (16.0 if metric == SPEED else 8.0)
    assert find("pcie-link-degraded", of_adapters(metric, own, own)) == [], "all slots are so"


def test_the_generation_and_what_is_left():
    found = one("pcie-link-degraded", Fleet().put(GENERATION, 4.0, labels=CURRENT, **GPU1, since=10).late(1, 0.1))
    assert [(one_proof.signal, one_proof.value) for one_proof in found.evidence] == [
        ("link_generation", 4.0), ("bandwidth_left", 0.5),
    ]  # fmt: skip


def test_everybody_copies_for_long():
    fleet = Fleet().put(PHASES, 0.3, labels="phase=h2d", devices=GPUS)
    found = one(
        "pcie-h2d-starvation", fleet.put(PHASES, 5.4, labels="phase=h2d", devices=GPUS, since=10).slow_transfer(0.1)
    )
    assert (found.subject.id, found.role) == ("llm", "culprit")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)
    assert found.evidence[0].value == pytest.approx(0.18)


def test_long_copies_cost_no_more_than_they_take():
    fleet = Fleet().put(PHASES, 0.3, labels="phase=h2d", devices=GPUS)
    fleet.put(PHASES, 3.6, labels="phase=h2d", devices=GPUS, since=10).slow_transfer(0.5)
    assert one("pcie-h2d-starvation", fleet).lost_share == pytest.approx(0.11, abs=0.005)


def test_tokens_price_copies_where_there_are_no_steps():
    fleet = moves(SENT, 10e9).put(f"{TOKENS}_count", 1000.0).put(f"{TOKENS}_sum", 20.0)
    found = one("pcie-d2h-bottleneck", fleet.put(f"{TOKENS}_sum", 26.0, nodes=["n0"], since=10), job=False)
    assert (found.role, found.severity) == ("culprit", "S2")
    assert found.lost_s == pytest.approx(0.006)
    assert one("pcie-d2h-bottleneck", moves(SENT, 10e9), job=False).role == "context"


def hard(severity, windows, metric=ERRORS):
    labels = f"error={severity}" if metric == ERRORS else f"role=upstream,severity={severity}"
    where = GPU1 if metric == ERRORS else {"nodes": ["n0"], "devices": ["0000:1a:00.0"]}
    fleet = Fleet()
    for window in windows:
        fleet.put(metric, 1.0, labels=labels, **where, since=window, until=window + 1)
    return fleet


@pytest.mark.parametrize(("severity", "windows", "role", "level"), [
    ("fatal", [9], "culprit", "S1"), ("nonfatal", [9, 14], "culprit", "S2"), ("nonfatal", [9], "context", "S3"),
])  # fmt: skip
def test_errors_that_the_link_cannot_mend(severity, windows, role, level):
    found = one("pcie-error-replay", hard(severity, windows))
    assert (found.subject.id, found.role, found.severity) == ("n0/gpu1", role, level)
    bridge = one("pcie-error-replay", hard(severity, windows, AER))
    assert (bridge.subject.id, bridge.role) == ("n0/0000:1a:00.0", role)


def test_both_ends_of_a_link_are_one_finding():
    fleet = replays().put(AER, 300.0, labels="role=upstream,severity=correctable", nodes=["n0"],
                          devices=["0000:1a:00.0"], since=10)  # fmt: skip
    assert one("pcie-error-replay", fleet.late(1, 0.1)).subject.id == "n0/gpu1"
    nic = replays(300.0, "skewscope_nic_errors_total", NIC1, "error=pcie_signal_receive")
    assert one("pcie-error-replay", nic.slow_transfer(0.1)).subject.id == "n0/mlx5_1"


@pytest.mark.parametrize(("lines", "role", "level"), [
    (["Uncorrected (Fatal)"], "culprit", "S1"), (["Uncorrectable (Non-Fatal)"], "context", "S3"),
    (["Uncorrected (Non-Fatal)"] * 2, "culprit", "S2"),
])  # fmt: skip
def test_kernel_lines(lines, role, level):
    fleet = Fleet().put("skewscope_gpu_info", 1.0, labels="pci_bus_id=00000000:1B:00.0", **GPU1)
    for place, severity in enumerate(lines):
        text = f"nvidia 0000:1b:00.0: PCIe Bus Error: severity={severity}, type=Data Link Layer"
        fleet.event("kernel", message=text, window=3 + place)
    found = one("pcie-error-replay", fleet)
    assert (found.subject.id, found.role, found.severity) == ("n0/gpu1", role, level)


def test_the_port_of_a_switch():
    found = one("pcie-saturation", switch().late(4, 0.1))
    assert (found.subject.id, found.evidence[0].signal) == ("n1", "switch_load")
    assert found.evidence[0].value == pytest.approx(0.56)
    assert find("pcie-saturation", switch(nic=20e9)) == [], "the adapter gave them most of it below the switch"


def test_pauses_that_it_sends_make_it_the_source():
    quiet = one("pcie-nic-backpressure", stalls().slow_transfer(0.1))
    assert quiet.confidence < 0.9
    source = one("pcie-nic-backpressure", stalls().put(PAUSED, 3.0, labels="priority=3,direction=transmit", **NIC1,
                                                       since=10), job=False)  # fmt: skip
    assert (source.role, source.severity, source.evidence[1].value) == ("culprit", "S3", pytest.approx(0.1))


def test_a_host_that_was_so_from_the_start_is_known_by_its_copying_cores():
    fleet = maps(since=0).put(CPU, 29.0, devices=GPUS)
    assert one("pcie-p2p-misroute", fleet).role == "context"
    found = one("pcie-p2p-misroute", fleet.put(CPU, 50.0, nodes=["n2"], devices=GPUS))
    assert (found.subject.id, found.role, found.lost_s) == ("n2", "culprit", 0.0)


def test_memory_within_a_window_counts_too():
    tables = Fleet().put(PINNED, 2.0**30, devices=GPUS).tables()
    rows = tables["windows"]
    own = (rows["metric"] == PINNED) & (rows["node"] == "n0") & (rows["device"] == "gpu1")
    rows.loc[own.to_numpy(), "low_value"] = 2.0**29
    assert [found.subject.id for found in detector("pcie-mr-churn").detect(tables)] == ["n0/gpu1"]


def test_addresses():
    assert pci.device_at(Fleet().tables(), "n0", "0000:1b:00.0") == "0000:1b:00.0"
    fleet = Fleet().put("skewscope_gpu_info", 1.0, labels="pci_bus_id=00000000:1B:00.0", **GPU1)
    tables = fleet.tables()
    assert pci.device_at(tables, "n0", "0000:1b:00.0") == "gpu1"
    assert pci.device_at(tables, "n1", "0000:1b:00.0") == "0000:1b:00.0"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_unknown_is_not_told(name):
    room_detector = detector(name)
    for world in room_detector.cases():
        tables = {key: table.copy() for key, table in world.tables.items()}
        for column in ("mean_value", "low_value", "high_value", "last_value", "increase_value"):
            tables["windows"][column] = np.nan
        if world.expect and not len(tables["events"]):
            assert list(room_detector.detect(all_tables(tables))) == [], world.name
    assert list(room_detector.detect(Fleet(windows_count=1).tables())) == []
    assert list(room_detector.detect(Fleet().tables(job=False))) == []
