import dataclasses

import numpy as np
import pandas as pd
import pytest

from skewscope.catalogue import load, room
from skewscope.frames import frame

WORLDS = load("detectors._live_worlds")
Fleet, EPOCH_NS, WINDOW_S = WORLDS.Fleet, WORLDS.EPOCH_NS, WORLDS.WINDOW_S
XIDS, ASKED = "skewscope_gpu_xid_errors_total", "skewscope_gpu_recovery_action"
SECONDS = "skewscope_gpu_clock_event_seconds_total"
ONE = {"nodes": ["n1"], "devices": ["gpu2"], "since": 10}
GPU_ROOMS = (
    "gpu-app-fault", "gpu-clock-pinned-low", "gpu-ecc-sbe-storm", "gpu-ecc-uncorrectable", "gpu-gsp-timeout",
    "gpu-hw-slowdown", "gpu-off-bus", "gpu-power-cap", "gpu-row-remap", "gpu-sdc-suspect", "gpu-slow-silent",
)  # fmt: skip
XID_ROOMS = (  # room, a code that drains at once
    ("gpu-ecc-uncorrectable", 95), ("gpu-off-bus", 79), ("gpu-gsp-timeout", 119), ("gpu-row-remap", 64),
)  # fmt: skip


def find(name, tables, **thresholds):
    return list(dataclasses.replace(room("detectors", name).load(), **thresholds).detect(tables))


def ids(found):
    return {one.subject.id for one in found}


def world(name, which):
    return next(one for one in room("detectors", name).load().cases() if one.name == which).tables


def when(first, last=20):
    """Return (start, end) in ns of windows first..last-1 of a small fleet."""
    return EPOCH_NS + int(first * WINDOW_S * 1e9), EPOCH_NS + int(last * WINDOW_S * 1e9)


def xid(fleet, code, *, node="n1", device="gpu2", window=10, source="nvml", count=1.0):
    labels = f"xid={code},source={source}"
    return fleet.put(XIDS, count, labels=labels, nodes=[node], devices=[device], since=window, until=window + 1)


# --- price, subject, window


def slow_world(name, late_s):
    fleet = Fleet().late(6, late_s)
    if name == "gpu-hw-slowdown":
        fleet.put(SECONDS, 9.0, labels="reason=hw_thermal", **ONE)
    if name == "gpu-power-cap":
        fleet.put(SECONDS, 24.0, labels="reason=sw_power_cap", devices=fleet.gpus)
        fleet.put("skewscope_gpu_power_limit_watts", 700.0, labels="kind=enforced", devices=fleet.gpus)
        fleet.put("skewscope_gpu_power_limit_watts", 500.0, labels="kind=enforced", **ONE)
    if name in ("gpu-power-cap", "gpu-clock-pinned-low"):
        fleet.put("skewscope_gpu_clock_hertz", 1.3e9, labels="domain=sm", **ONE)
    return fleet.tables()


@pytest.mark.parametrize("late_s", [0.06, 0.2])
@pytest.mark.parametrize("name", ["gpu-hw-slowdown", "gpu-power-cap", "gpu-clock-pinned-low", "gpu-slow-silent"])
def test_the_price_is_what_the_rank_is_late(name, late_s):
    (found,) = find(name, slow_world(name, late_s))
    assert found.subject.id == "n1/gpu2"
    assert found.lost_s == pytest.approx(late_s, rel=0.15)
    assert found.lost_share == pytest.approx(late_s / (0.5 + late_s), rel=0.15)
    assert (found.window.start_ns, found.window.end_ns) == when(10)
    assert found.severity == ("S2" if late_s == 0.2 else "S3") or name == "gpu-hw-slowdown"
    assert "ms" in found.summary


def test_hard_events_have_no_price_and_speak_for_the_time_after_them():
    for name, code in XID_ROOMS:
        (found,) = find(name, xid(Fleet().late(6, 0.3), code).tables())
        assert (found.subject.id, found.role, found.severity, found.lost_s) == ("n1/gpu2", "culprit", "S1", 0.0)
        assert found.window.start_ns <= when(10, 11)[1] and found.window.end_ns >= when(10)[0] + 600e9
        (short,) = find(name, xid(Fleet(), code).tables(), recent_s=60.0)
        assert found.window.end_ns - short.window.end_ns == 540e9


# --- every threshold counts

MUTATIONS = [
    ("gpu-hw-slowdown", "near-miss", {"slowed_ratio": 0.03}, True),
    ("gpu-hw-slowdown", "hot", {"slowed_ratio": 0.4}, False),
    ("gpu-hw-slowdown", "one-burst", {"held_count": 2}, True),
    ("gpu-hw-slowdown", "hot", {"held_count": 12, "of_count": 13}, False),
    ("gpu-hw-slowdown", "hot", {"of_count": 2}, False),
    ("gpu-power-cap", "near-miss", {"above_peers_ratio": 0.1}, True),
    ("gpu-power-cap", "capped-more", {"above_peers_ratio": 0.6}, False),
    ("gpu-power-cap", "clock-only-a-little-lower", {"clock_ratio": 0.98}, True),
    ("gpu-power-cap", "lower-limit", {"limit_ratio": 0.5}, False),
    ("gpu-power-cap", "lower-limit", {"mostly_ratio": 1.1}, False),
    ("gpu-power-cap", "lower-limit", {"held_count": 12, "of_count": 13}, False),
    ("gpu-clock-pinned-low", "near-miss", {"clock_ratio": 0.93}, True),
    ("gpu-clock-pinned-low", "locked", {"clock_ratio": 0.5}, False),
    ("gpu-clock-pinned-low", "setting-near-miss", {"drift_hz": 60e6}, True),
    ("gpu-clock-pinned-low", "set-lower", {"drift_hz": 150e6}, False),
    ("gpu-clock-pinned-low", "set-lower", {"setting_ratio": 1.1}, False),
    ("gpu-clock-pinned-low", "power-capped", {"power_cap_ratio": 0.95}, True),
    ("gpu-clock-pinned-low", "dip", {"held_count": 2}, True),
    ("gpu-slow-silent", "near-miss", {"slow_ratio": 1.08}, True),
    ("gpu-slow-silent", "slow", {"slow_ratio": 1.5}, False),
    ("gpu-slow-silent", "input", {"explained_ratio": 0.95}, True),
    ("gpu-slow-silent", "little", {"held_count": 11, "of_count": 12}, False),
    ("gpu-slow-silent", "little", {"of_count": 3}, False),
    ("gpu-ecc-uncorrectable", "counted", {"errors_count": 2.0}, False),
    ("gpu-ecc-uncorrectable", "worn", {"held_count": 16}, False),
    ("gpu-ecc-sbe-storm", "near-miss", {"storm_per_s": 0.8}, True),
    ("gpu-ecc-sbe-storm", "storm", {"storm_per_s": 10.0}, False),
    ("gpu-ecc-sbe-storm", "burst", {"held_count": 2}, True),
    ("gpu-ecc-sbe-storm", "storm", {"of_count": 3}, False),
    ("gpu-ecc-sbe-storm", "all-alike", {"times_ratio": 0.5}, True),
    ("gpu-row-remap", "near-miss", {"held_count": 1}, True),
    ("gpu-row-remap", "pending", {"state_count": 2.0}, False),
    ("gpu-row-remap", "no-spares", {"banks_count": 2.0}, False),
    ("gpu-off-bus", "near-miss", {"held_count": 1}, True),
    ("gpu-off-bus", "missing", {"missing_count": 2.0}, False),
    ("gpu-off-bus", "driver-loads", {"grace_s": 60.0}, True),
    ("gpu-gsp-timeout", "near-miss", {"call_s": 4.5}, True),
    ("gpu-gsp-timeout", "slow-calls", {"call_s": 7.0}, False),
    ("gpu-gsp-timeout", "one-slow-call", {"slow_count": 3}, True),
    ("gpu-gsp-timeout", "slow-calls", {"of_count": 3}, False),
    ("gpu-gsp-timeout", "hung", {"held_count": 11}, False),
    ("gpu-app-fault", "near-miss", {"bursts_count": 1}, True),
    ("gpu-app-fault", "again", {"bursts_count": 3}, False),
    ("gpu-app-fault", "again", {"within_s": 120.0}, False),
    ("gpu-sdc-suspect", "few-ranks", {"ranks_count": 1, "minority_ratio": 0.6}, True),
    ("gpu-sdc-suspect", "once", {"ranks_count": 9}, False),
    ("gpu-sdc-suspect", "poison", {"poison_count": 2.0}, False),
]


@pytest.mark.parametrize(("name", "which", "thresholds", "fires"), MUTATIONS)
def test_every_threshold_is_felt(name, which, thresholds, fires):
    tables = world(name, which)
    assert bool(find(name, tables)) != fires
    assert bool(find(name, tables, **thresholds)) == fires


def test_who_is_nearly_alone_with_a_fault_is_suspected():
    for which, line, who in (
        ("nearly-alone", 4 / 3, "n1/gpu2"), ("nearly-alone", 1.2, "llm"), ("mostly-one", 4 / 3, "llm"),
        ("mostly-one", 2.0, "n1/gpu2"),
    ):  # fmt: skip
        assert ids(find("gpu-app-fault", world("gpu-app-fault", which), alone_ratio=line)) == {who}


def test_every_threshold_has_its_test():
    felt = {(name, field) for name, _, thresholds, _ in MUTATIONS for field in thresholds}
    elsewhere = {"severe_ratio", "power_ratio", "peers_count", "spread_z", "confirmed_ratio", "crowd_ratio",
                 "cost_ratio", "recent_s", "together_s", "again_count", "minority_ratio", "spread_count",
                 "strong_ratio", "alone_ratio"}  # fmt: skip
    for name in GPU_ROOMS:
        fields = {field.name for field in dataclasses.fields(room("detectors", name).load())}
        assert fields - {field for of, field in felt if of == name} - elsewhere <= {"of_count", "held_count"}


# --- many at once are one


@pytest.mark.parametrize(
    ("name", "put"),
    [("gpu-hw-slowdown", (SECONDS, 12.0, "reason=hw_power_brake")),
     ("gpu-clock-pinned-low", ("skewscope_gpu_clock_hertz", 1.2e9, "domain=sm")),
     ("gpu-off-bus", ("skewscope_gpu_access_state", 1.0, "state=lost")),
     ("gpu-gsp-timeout", ("skewscope_gpu_access_state", 1.0, "state=hung"))],
)  # fmt: skip
def test_most_gpus_of_a_host_or_a_rack_are_one_finding(name, put):
    metric, value, labels = put
    fleet = Fleet(10, 4)
    whole = fleet.gpus
    (host,) = find(name, fleet.put(metric, value, labels=labels, nodes=["n3"], devices=whole, since=10).tables())
    assert (host.subject.kind, host.subject.id) == ("node", "n3") and "4 GPUs" in host.summary
    for node in ("n4", "n5"):
        fleet.put(metric, value, labels=labels, nodes=[node], devices=whole, since=10)
    (rack,) = find(name, fleet.tables())
    assert (rack.subject.kind, rack.subject.id) == ("rack", "n3..n5") and "12 GPUs" in rack.summary
    fleet.put(metric, value, labels=labels, nodes=["n8"], devices=["gpu1"], since=10)
    assert ids(find(name, fleet.tables())) == {"n3..n5", "n8/gpu1"}


def test_a_quarter_of_a_large_fleet_is_about_the_fleet():
    fleet = Fleet(8, 4).put(SECONDS, 12.0, labels="reason=hw_thermal", devices=["gpu1"], since=10)
    (found,) = find("gpu-hw-slowdown", fleet.tables())
    assert found.subject.id == "n0..n7" and "8 GPUs" in found.summary


def test_hosts_that_are_hot_at_different_times_are_told_apart():
    fleet = Fleet(6, 4, windows_count=40)
    for node, since in (("n1", 5), ("n4", 25)):
        fleet.put(SECONDS, 12.0, labels="reason=hw_thermal", nodes=[node], devices=fleet.gpus, since=since,
                  until=since + 10)  # fmt: skip
    assert ids(find("gpu-hw-slowdown", fleet.tables())) == {"n1", "n4"}
    few = Fleet().put(SECONDS, 12.0, labels="reason=hw_thermal", nodes=["n1"], devices=["gpu0", "gpu1"], since=10)
    assert ids(find("gpu-hw-slowdown", few.tables())) == {"n1/gpu0", "n1/gpu1"}


def test_a_braked_rack_costs_what_the_job_lost():
    fleet = Fleet().slow_transfer(0.0)
    fleet.late(list(range(8)), 0.2).put(SECONDS, 12.0, labels="reason=hw_power_brake", devices=fleet.gpus, since=10)
    (found,) = find("gpu-hw-slowdown", fleet.tables())
    assert found.subject.id == "n0..n1" and found.lost_s == pytest.approx(0.2, rel=0.15)


# --- what only one room knows


def test_the_gravest_reason_is_named_and_old_drivers_are_heard():
    fleet = Fleet().put(SECONDS, 6.0, labels="reason=sw_thermal", **ONE)
    fleet.put(SECONDS, 2.0, labels="reason=hw_power_brake", **ONE)
    (found,) = find("gpu-hw-slowdown", fleet.tables())
    assert "below its limit" in found.summary and found.severity == "S2"
    assert {item.signal for item in found.evidence} >= {"slowed_by_sw_thermal", "slowed_by_hw_power_brake", "sm_clock"}
    assert find("gpu-hw-slowdown", fleet.tables(), severe_ratio=0.5)[0].severity == "S3"
    seen = Fleet().put("skewscope_gpu_clock_event_active", 1.0, labels="reason=hw_slowdown", **ONE)
    assert ids(find("gpu-hw-slowdown", seen.tables())) == {"n1/gpu2"}


def test_a_gpu_that_is_capped_because_it_works_more_is_context():
    fleet = Fleet().put(SECONDS, 9.0, labels="reason=sw_power_cap", devices=Fleet().gpus)
    fleet.put(SECONDS, 27.0, labels="reason=sw_power_cap", **ONE)
    fleet.put("skewscope_gpu_clock_hertz", 1.5e9, labels="domain=sm", **ONE)
    assert find("gpu-power-cap", fleet.tables())[0].role == "culprit"
    assert find("gpu-power-cap", fleet.tables(), peers_count=8)[0].role == "context"
    fleet.put("skewscope_gpu_power_watts", 690.0, labels="kind=average", **ONE)
    assert find("gpu-power-cap", fleet.tables())[0].role == "context"
    assert find("gpu-power-cap", fleet.tables(), power_ratio=1.1)[0].role == "culprit"


def test_other_models_and_few_peers_do_not_make_a_low_clock():
    fleet = Fleet().put("skewscope_gpu_clock_hertz", 1.2e9, labels="domain=sm", nodes=["n1"], devices=Fleet().gpus)
    fleet.put("skewscope_gpu_clock_limit_hertz", 1.41e9, labels="domain=sm", nodes=["n1"], devices=fleet.gpus)
    assert find("gpu-clock-pinned-low", fleet.tables()) == []
    tables = world("gpu-clock-pinned-low", "locked")
    assert find("gpu-clock-pinned-low", tables)[0].role == "culprit"
    assert find("gpu-clock-pinned-low", tables, peers_count=8)[0].role == "context"


def test_a_silent_slow_gpu_is_a_culprit_only_with_proof():
    with_gpm, without = world("gpu-slow-silent", "slow"), world("gpu-slow-silent", "no-gpm")
    (sure,), (unsure,) = find("gpu-slow-silent", with_gpm), find("gpu-slow-silent", without)
    assert (sure.role, unsure.role) == ("culprit", "context") and sure.confidence > unsure.confidence
    assert sure.lost_s == pytest.approx(0.15, rel=0.15)
    assert find("gpu-slow-silent", with_gpm, confirmed_ratio=2.0)[0].role == "context"
    fleet = Fleet().late(6, 0.15).put("skewscope_rank_run_delay_seconds_total", 0.1, devices=Fleet().gpus)
    assert find("gpu-slow-silent", fleet.tables())[0].role == "culprit"  # the host is watched and is not the reason
    fleet.put("skewscope_rank_run_delay_seconds_total", 5.0, **ONE)
    assert find("gpu-slow-silent", fleet.tables()) == []
    (little,) = find("gpu-slow-silent", Fleet().late(6, 0.05).put(
        "skewscope_rank_run_delay_seconds_total", 0.1, devices=Fleet().gpus).tables())  # fmt: skip
    assert little.severity == "S3"


def test_ranks_that_differ_anyway_and_stages_are_no_slow_gpus():
    fleet = Fleet(4, 4)
    for rank in range(1, 16, 2):
        fleet.late(rank, 0.01 * rank, since=0)
    fleet.late(6, 0.08)
    assert find("gpu-slow-silent", fleet.tables(), spread_z=0.2, crowd_ratio=1.0)
    assert find("gpu-slow-silent", fleet.tables()) == []
    staged = Fleet(4, 4).late([8, 9, 10, 11], 0.15)
    ranks = frame("ranks", {"job": "llm", "rank": range(16), "pp": [0] * 8 + [1] * 4 + [2] * 4})
    assert find("gpu-slow-silent", {**staged.tables(), "ranks": ranks}) == []
    assert find("gpu-slow-silent", staged.tables(), crowd_ratio=0.1) == []


def test_a_storm_that_makes_the_rank_late_is_more_than_a_note():
    labels = "severity=corrected,lifetime=volatile,location=dram"
    fleet = Fleet().put("skewscope_gpu_ecc_errors_total", 0.0, labels=labels, devices=Fleet().gpus)
    fleet.put("skewscope_gpu_ecc_errors_total", 300.0, labels=labels, **ONE)
    (note,) = find("gpu-ecc-sbe-storm", fleet.tables())
    assert (note.role, note.severity) == ("context", "S4")
    (late,) = find("gpu-ecc-sbe-storm", fleet.late(6, 0.1).tables())
    assert (late.role, late.severity) == ("culprit", "S3") and late.lost_s == pytest.approx(0.1, rel=0.15)
    assert find("gpu-ecc-sbe-storm", fleet.tables(), cost_ratio=0.5)[0].role == "context"


def test_remapping_waits_or_has_failed():
    (waits,), (failed,) = (find("gpu-row-remap", world("gpu-row-remap", which)) for which in ("pending", "failed"))
    assert (waits.role, waits.severity) == ("context", "S3") and "idle" in waits.advice
    assert (failed.role, failed.severity) == ("culprit", "S1") and "serviced" in failed.advice
    both = Fleet().put("skewscope_gpu_row_remap_pending", 1.0, **ONE)
    both.put("skewscope_gpu_row_remap_failure", 1.0, **ONE)
    assert [one.severity for one in find("gpu-row-remap", both.tables())] == ["S1"]
    asked = Fleet().put("skewscope_gpu_row_remap_pending", 1.0, **ONE).put(ASKED, 1.0, labels="action=reset", **ONE)
    assert find("gpu-row-remap", asked.tables())[0].role == "context"  # the error before it is why, not this


# --- what is unknown is silent


@pytest.mark.parametrize("name", GPU_ROOMS)
def test_values_that_are_unknown_say_nothing(name):
    for one in room("detectors", name).load().cases():
        table = one.tables["windows"]
        rows = table["metric"].astype(str).str.startswith("skewscope_gpu_").to_numpy()
        columns = [column for column in table.columns if column.endswith("_value")]
        blind = table.assign(**{column: np.where(rows, np.nan, table[column]) for column in columns})
        found = find(name, {**one.tables, "windows": blind, "events": one.tables["events"].iloc[:0]})
        assert {(each.condition, each.role) for each in found} <= {("gpu-slow-silent", "context"),
                                                                   ("gpu-gsp-timeout", "context")}  # fmt: skip


@pytest.mark.parametrize("name", GPU_ROOMS)
def test_a_fleet_without_the_metrics_of_a_room_is_silent(name):
    tables = Fleet().tables()
    table = tables["windows"]
    kept = table["metric"].isin(["skewscope_gpu_utilization_ratio", "skewscope_steps_total"]).to_numpy()
    assert find(name, {**tables, "windows": pd.DataFrame(table[kept])}) == []
    assert find(name, Fleet().tables(job=False)) == []
