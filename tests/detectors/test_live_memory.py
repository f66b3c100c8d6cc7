"""Rooms about memory, power, storage, reinforcement learning and neighbours: prices, and thresholds that matter."""

import dataclasses
from functools import cache
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.catalogue import load, room

T = run_path(str(Path(__file__).with_name("_thresholds.py")))

Fleet = load("detectors._live_worlds").Fleet
mem_skew, mem_oom_risk = load("detectors.mem_skew"), load("detectors.mem_oom_risk")
power, ckpt = load("detectors.power_oversubscribed"), load("detectors.ckpt_stall")
noisy, rl = load("detectors.host_noisy_neighbour"), load("detectors._rl")
WEIGHTS = load("detectors._noisy_model").WEIGHTS
LATE = np.arange(20) >= 10
GIB = 2.0**30
NAMES = (
    "mem-skew", "mem-oom-risk", "power-oversubscribed", "ckpt-stall", "rl-rollout-tail", "rl-phase-idle",
    "host-noisy-neighbour",
)  # fmt: skip


def detector(name):
    return room("detectors", name).load()


def find(name, fleet, **job):
    return list(detector(name).detect(fleet.tables(**job)))


def one(name, fleet, **job):
    (found,) = find(name, fleet, **job)
    return found


def states(rooms_detector, cases):
    return [
        sorted((one.subject.id, one.role, one.severity, one.lost_s, one.window) for one in rooms_detector.detect(world))
        for world in cases
    ]


def waited(seconds, count=20):
    """Return a job whose GPU memory, as it is, grows by so much of the device in each window from 10 on."""
    return mem_oom_risk._grown(seconds * np.arange(10), count=count)


MORE = {  # worlds beside those of the room, for thresholds that need one
    "mem-skew": lambda: [
        mem_skew._held(76.0).late(1, 0.015).tables(), mem_skew._held(76.5, 74.0).tables(),
        mem_skew._held(76.5, 70.0).tables(), mem_skew._held(77.0, 67.0).tables(),
        mem_skew._held(75.0, until=12).tables(),
        mem_skew._held(75.0, until=12).put(mem_skew.USED, 60 * GIB, nodes=["n0"], devices=["gpu1"], since=11,
                                           until=12).tables(),
        mem_skew._held(75.0, until=13).put(mem_skew.USED, 60 * GIB, nodes=["n0"], devices=["gpu1"], since=11,
                                           until=12).tables(),
    ],
    "mem-oom-risk": lambda: [
        waited(0.0015).tables(), waited(0.0011).tables(), waited(0.004).tables(),
        mem_oom_risk._grown(0.2 * (1 - np.exp(-np.arange(12) / 6.0))).tables(),
        mem_oom_risk._grown(0.02 * np.array([0, 0, 0, 0.5, 1, 1.2, 2.9, 3.1, 3.4, 5.0, 5.2, 5.4])).tables(),
        mem_oom_risk._grown(np.array([0.03 * n for n in range(7)] + [-0.7] * 5), before=0.765).tables(),
        mem_oom_risk._grown(np.array([0.03 * n for n in range(7)] + [-0.7] * 5), before=0.40).tables(),
        mem_oom_risk._grown(0.0007 * np.arange(14), before=0.94, count=24).tables(),
        host_grows(0.015).tables(), host_grows(0.03).tables(),
    ],
    "power-oversubscribed": lambda: [
        power._racks(0.86, until=13).tables(), power._racks(0.93, until=12).tables(),
        power._braking(0.85, ("n0", "n1")).put(power.HELD, 0.9, labels=f"reason={power.BRAKE}", since=10,
                                               devices=["gpu0", "gpu1"]).tables(),
        blinking(0.93, [10, 12]).tables(), blinking(0.93, [10, 13]).tables(),
    ],
    "ckpt-stall": lambda: [
        ckpt._saved([3.0, 3.0, 3.0, 5.9, 6.1]).tables(), ckpt._saved([0.2, 0.2, 0.2, 3.0, 3.2]).tables(),
        ckpt._saved([18.0, 18.0]).tables(), ckpt._saved([3.0, 9.0, 3.0]).tables(), ckpt._saved([11.0] * 4).tables(),
        ckpt._saved([14.0] * 3).tables(),
    ],
    "rl-rollout-tail": lambda: [
        rl.reinforced(generating_s=3.4 - 0.95 * LATE, tail_s=0.2 + 1.15 * LATE).tables(),
        rl.reinforced(generating_s=2.9, tail_s=0.4 + 0.3 * LATE).tables(),
        rl.reinforced(generating_s=2.4, tail_s=0.2 + 1.2 * (np.arange(20) % 3 == 0)).tables(),
        rl.reinforced(generating_s=2.4, tail_s=0.9 + 0.06 * LATE).tables(),
        rl.reinforced(generating_s=2.4, tail_s=0.2 + 1.2 * ((np.arange(20) >= 10) & (np.arange(20) < 13))).tables(),
        rl.reinforced(generating_s=2.4, tail_s=0.2 + 1.2 * np.isin(np.arange(20), [10, 11, 13])).tables(),
    ],
    "rl-phase-idle": lambda: [
        nearly_as_long().tables(),
        rl.reinforced(generating_s=5.0, pools=True, behind_s=2.2 + 0.05 * LATE).tables(),
        rl.reinforced(generating_s=5.0, pools=True, behind_s=2.5 * np.isin(np.arange(20), [10, 11, 13])).tables(),
        rl.reinforced(generating_s=5.0, pools=True, behind_s=2.5 * np.isin(np.arange(20), [10, 11, 12])).tables(),
    ],
    "host-noisy-neighbour": lambda: [
        noisy._shared(steal=0.15).late(5, 0.015).tables(),
        noisy._shared(steal=0.15).late(5, 0.1).put(noisy.DELAY, 0.0, devices=["gpu0", "gpu1", "gpu2", "gpu3"]).put(
            noisy.DELAY, 1.0, nodes=["n1"], devices=["gpu1"], since=10).tables(),
        noisy._shared(steal=0.08).late(5, 0.08).tables(), noisy._shared(steal=0.15, until=13).late(5, 0.1).tables(),
        noisy._shared(steal=0.06, until=13).late(5, 0.02, until=13).tables(),
    ],
}  # fmt: skip


def host_grows(share):
    """Return a fleet of which one host's memory fills by so much in each of the last ten windows."""
    host = Fleet().put(mem_oom_risk.HOST, 2.0**41, labels="kind=total")
    host.put(mem_oom_risk.HOST, 2.0**40, labels="kind=available")
    left = 2.0**40 * (1 - share * np.arange(10))
    return host.put(mem_oom_risk.HOST, left, labels="kind=available", nodes=["n1"], since=10)


def nearly_as_long():
    """Return pools of which one begins to wait while the step grows by 0.2 s only: the other phase became shorter."""
    fleet = rl.reinforced(generating_s=5.0, pools=True, behind_s=2.5 * LATE)
    fleet._step_s[:10] += 2.3
    return fleet


def blinking(load_ratio, windows):
    """Return a rack that is near its budget in some windows only."""
    fleet = power._racks(0.5)
    for at in windows:
        fleet.put(power.POWER, 1000 * load_ratio, labels="kind=average", nodes=fleet.nodes[:4], devices=fleet.gpus,
                  since=at, until=at + 1)  # fmt: skip
    return fleet


@cache
def judged(name):
    """Return the worlds of a room."""
    return [world.tables for world in detector(name).cases()] + MORE[name]()


@pytest.mark.parametrize(("name", "field"), [
    (name, field.name) for name in NAMES for field in dataclasses.fields(detector(name))
])  # fmt: skip
def test_every_threshold_matters(name, field):
    assert T["matters"](detector(name), field, judged(name), states), f"{name}.{field} may be anything"


def test_a_full_rank_costs_what_it_is_late():
    found = one("mem-skew", mem_skew._held(76.0).late(1, 0.1))
    assert (found.subject.id, found.role) == ("n0/gpu1", "culprit")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)
    assert "76.0 GiB" in found.summary
    assert one("mem-skew", mem_skew._held(76.0)).role == "context"


def test_the_time_that_is_left_is_told():
    found = one("mem-oom-risk", waited(0.01))
    assert found.evidence[0].value == pytest.approx((1 - 0.85) / 0.01 * 30, rel=0.05)
    assert (found.severity, found.role, found.lost_s) == ("S2", "culprit", 0.0)


@pytest.mark.parametrize(("load_ratio", "role", "severity"), [(0.84, "context", "S4"), (0.92, "culprit", "S3")])
def test_a_rack_near_its_budget_is_told_before_it_costs(load_ratio, role, severity):
    found = one("power-oversubscribed", power._racks(load_ratio))
    assert (found.subject.kind, found.subject.id, found.role, found.severity) == ("rack", "r0", role, severity)
    assert found.lost_s == 0.0
    assert found.evidence[0].value == pytest.approx(load_ratio)


def test_a_brake_is_priced_by_the_ranks_of_the_rack():
    found = one("power-oversubscribed", power._braking(0.85, ("n0", "n1")))
    assert (found.role, found.severity) == ("culprit", "S2")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)


def test_savings_are_priced_over_the_steps_between():
    found = one("ckpt-stall", ckpt._saved([3.0, 3.0, 3.0, 12.0, 12.0]))
    assert found.lost_s == pytest.approx(9.0 / 240, rel=0.01)
    assert found.lost_share == pytest.approx(9.0 / 120, rel=0.01)
    assert found.evidence[0].baseline == 3.0


def test_only_a_whole_file_system_accuses():
    found = one("ckpt-stall", Fleet().put(ckpt.MESSAGES, 1.0, labels="category=readonly_fs", nodes=["n1"], since=10))
    assert (found.subject.id, found.role) == ("n1", "culprit")
    found = one("ckpt-stall", Fleet().put(ckpt.MESSAGES, 1.0, labels="category=nfs", nodes=["n1"], since=10))
    assert (found.subject.id, found.role) == ("n1", "context")


@pytest.mark.parametrize(("name", "fleet", "lost_s"), [
    ("rl-rollout-tail", lambda: rl.reinforced(generating_s=2.4, tail_s=0.2 + 1.2 * LATE), 1.2),
    ("rl-rollout-tail", lambda: rl.reinforced(generating_s=2.4, tail_s=1.4), 1.4),
    ("rl-phase-idle", lambda: rl.reinforced(generating_s=5.0, pools=True, behind_s=2.5 * LATE), 2.5),
    ("rl-phase-idle", lambda: rl.reinforced(generating_s=5.0, pools=True, behind_s=2.5), 1.25),
])  # fmt: skip
def test_phases_are_priced_by_growth_or_by_what_evening_out_saves(name, fleet, lost_s):
    found = one(name, fleet())
    assert (found.subject.kind, found.subject.id, found.role) == ("job", "llm", "culprit")
    assert found.lost_s == pytest.approx(lost_s, rel=0.05)


def test_the_model_says_what_theft_costs():
    hosts = noisy.signals(noisy._shared(steal=0.1).tables())
    said = noisy.predicted(hosts)
    assert said[15, list(hosts.told.node).index("n1")] == pytest.approx(0.1 * WEIGHTS["steal"])
    assert said[15].sum() == pytest.approx(0.1 * WEIGHTS["steal"])
    assert said[:10].sum() == 0


def test_a_neighbour_is_priced_by_its_host():
    found = one("host-noisy-neighbour", noisy._shared(steal=0.15).late([4, 5, 6, 7], 0.1))
    assert (found.subject.kind, found.subject.id, found.role) == ("node", "n1", "culprit")
    assert found.lost_s == pytest.approx(0.1, rel=0.15)
