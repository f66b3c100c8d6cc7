import dataclasses

import numpy as np
import pytest

from skewscope.catalogue import load, room

WORLDS = load("detectors._live_worlds")
Fleet, EPOCH_NS, WINDOW_S = WORLDS.Fleet, WORLDS.EPOCH_NS, WORLDS.WINDOW_S
LINKS, STATE, ERRORS = (
    "skewscope_gpu_nvlink_links", "skewscope_gpu_fabric_state", "skewscope_gpu_nvlink_errors_total",
)  # fmt: skip
BY_LINK, RATIO = "skewscope_gpu_nvlink_link_errors_total", "skewscope_gpu_nvlink_bit_error_ratio"
ONE = {"nodes": ["n1"], "devices": ["gpu2"], "since": 10}
ROOMS = ("nvlink-down", "nvlink-error-rate")


def find(name, tables, **thresholds):
    return list(dataclasses.replace(room("detectors", name).load(), **thresholds).detect(tables))


def ids(found):
    return {one.subject.id for one in found}


def world(name, which):
    return next(one for one in room("detectors", name).load().cases() if one.name == which).tables


def bad(by_s=0.0, *, fleet=None):
    fleet = fleet or Fleet(windows_count=30)
    fleet.put(ERRORS, 0.0, labels="error=replay", devices=fleet.gpus)
    return fleet.put(ERRORS, 6.0, labels="error=replay", **ONE).slow_transfer(by_s)


MUTATIONS = [
    ("nvlink-down", "near-miss", {"held_count": 1}, True),
    ("nvlink-down", "down", {"links_count": 2.0}, False),
    ("nvlink-error-rate", "near-miss", {"grows_count": 7}, True),
    ("nvlink-error-rate", "replays", {"grows_count": 15, "of_count": 14}, False),
    ("nvlink-error-rate", "replays", {"errors_count": 4.0}, False),
    ("nvlink-error-rate", "all-alike", {"times_ratio": 0.9}, True),
    ("nvlink-error-rate", "few-bit-errors", {"bit_error_ratio": 5e-7}, True),
    ("nvlink-error-rate", "bit-errors", {"bit_error_ratio": 1e-5}, False),
    ("nvlink-error-rate", "bit-errors", {"held_count": 5}, False),
    ("nvlink-error-rate", "bit-errors", {"ratio_of_count": 2}, False),
]


@pytest.mark.parametrize(("name", "which", "thresholds", "fires"), MUTATIONS)
def test_every_threshold_is_felt(name, which, thresholds, fires):
    tables = world(name, which)
    assert bool(find(name, tables)) != fires
    assert bool(find(name, tables, **thresholds)) == fires


@pytest.mark.parametrize("by_s", [0.05, 0.2])
def test_bad_links_cost_what_the_job_lost(by_s):
    (found,) = find("nvlink-error-rate", bad(by_s).tables())
    assert found.subject.id == "n1/gpu2" and found.role == "culprit"
    assert found.lost_s == pytest.approx(by_s, rel=0.15)
    assert (found.window.start_ns, found.window.end_ns) == (EPOCH_NS + 10 * int(30e9), EPOCH_NS + 30 * int(30e9))
    assert found.severity == ("S2" if by_s == 0.2 else "S3")


def test_bad_links_that_cost_nothing_are_a_note():
    (note,) = find("nvlink-error-rate", bad().tables())
    assert (note.role, note.severity) == ("context", "S4") and "12 replays and recoveries a minute" in note.summary
    (alone,) = find("nvlink-error-rate", bad().tables(job=False))
    assert alone.role == "culprit"  # nobody can say that it costs nothing
    assert find("nvlink-error-rate", bad(0.05).tables(), cost_ratio=0.5)[0].role == "context"


def test_the_link_with_most_errors_is_named():
    fleet = bad()
    for link, count in ((3, 1.0), (11, 5.0)):
        fleet.put(BY_LINK, count, labels=f"link={link},error=replay", **ONE)
    fleet.put(BY_LINK, 9.0, labels="link=7,error=replay", nodes=["n0"], devices=["gpu0"])
    (found,) = find("nvlink-error-rate", fleet.tables())
    assert "most on link 11" in found.summary


@pytest.mark.parametrize(
    ("name", "metric", "value", "labels"),
    [("nvlink-down", LINKS, 0.0, "state=active"), ("nvlink-down", STATE, 0.0, "state=completed"),
     ("nvlink-error-rate", ERRORS, 9.0, "error=recovery")],
)  # fmt: skip
def test_most_gpus_of_hosts_are_one_finding(name, metric, value, labels):
    fleet = Fleet(10, 4, windows_count=30)
    usual = {LINKS: 18.0, STATE: 1.0, ERRORS: 0.0}[metric]
    fleet.put(metric, usual, labels=labels, devices=fleet.gpus)
    whole = {"labels": labels, "devices": fleet.gpus, "since": 10}
    (host,) = find(name, fleet.put(metric, value, nodes=["n3"], **whole).tables())
    assert (host.subject.kind, host.subject.id) == ("node", "n3") and "4 GPUs" in host.summary
    (wide,) = find(name, fleet.put(metric, value, nodes=["n4", "n5"], **whole).tables())
    assert (wide.subject.kind, wide.subject.id) == ("rack", "n3..n5")


def test_a_switch_and_the_links_that_it_took_are_one_finding():
    fleet = Fleet().put(LINKS, 18.0, labels="state=active", devices=Fleet().gpus)
    fleet.put(LINKS, 9.0, labels="state=active", nodes=["n1"], devices=fleet.gpus, since=10)
    text = "nvidia-nvswitch2: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
    (found,) = find("nvlink-down", fleet.event("kernel", node="n1", message=text).tables())
    assert found.subject.id == "n1" and found.severity == "S1"
    mild = text.replace("Fatal", "Non-fatal")
    assert find("nvlink-down", Fleet().event("kernel", node="n1", message=mild).tables()) == []
    lines = Fleet().put("skewscope_kernel_messages_total", 2.0, labels="category=nvswitch_sxid", nodes=["n1"],
                        since=10, until=11)  # fmt: skip
    (note,) = find("nvlink-down", lines.tables())
    assert (note.subject.id, note.role, note.severity) == ("n1", "context", "S4")


def test_what_a_switch_says_while_one_gpu_has_links_down_is_about_that_gpu():
    fleet = Fleet().put(LINKS, 18.0, labels="state=active", devices=Fleet().gpus)
    fleet.put(LINKS, 16.0, labels="state=active", **ONE)
    text = "nvidia-nvswitch2: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
    (found,) = find("nvlink-down", fleet.event("kernel", node="n1", message=text).tables())
    assert found.subject.id == "n1/gpu2" and "2 NVLinks are down; SXid 20034" in found.summary
    early = Fleet().put(LINKS, 18.0, labels="state=active", devices=fleet.gpus).put(
        LINKS, 16.0, labels="state=active", **ONE).event("kernel", node="n1", message=text, window=2)  # fmt: skip
    assert ids(find("nvlink-down", early.tables())) == {"n1", "n1/gpu2"}


def test_a_link_that_is_down_is_a_culprit_without_a_price():
    (found,) = find("nvlink-down", world("nvlink-down", "down"))
    assert (found.role, found.severity, found.lost_s) == ("culprit", "S1", 0.0)
    assert found.window.start_ns == EPOCH_NS + 10 * int(30e9)
    fleet = Fleet().put(LINKS, 18.0, labels="state=active", devices=Fleet().gpus).put(
        LINKS, 17.0, labels="state=active", **ONE)  # fmt: skip
    fleet.put("skewscope_gpu_recovery_action", 1.0, labels="action=none", devices=fleet.gpus)
    (calm,) = find("nvlink-down", fleet.tables(), recent_s=0.0)
    assert calm.severity == "S1" and "drain" not in calm.advice
    assert calm.window.end_ns == found.window.end_ns - int(600e9)


@pytest.mark.parametrize("code", [74, 144, 150])
def test_codes_of_links_count_when_they_come_again(code):
    labels = f"xid={code},source=kmsg"
    fleet = Fleet().put("skewscope_gpu_xid_errors_total", 1.0, labels=labels, until=11, **ONE)
    assert find("nvlink-down", fleet.tables()) == []
    again = fleet.put("skewscope_gpu_xid_errors_total", 1.0, labels=labels, nodes=["n1"], devices=["gpu2"], since=16,
                      until=17)  # fmt: skip
    (found,) = find("nvlink-down", again.tables())
    assert found.role == "culprit" and f"XID {code}" in found.summary
    asked = Fleet().put("skewscope_gpu_xid_errors_total", 1.0, labels=labels, until=11, **ONE)
    asked.put("skewscope_gpu_recovery_action", 1.0, labels="action=reset", **ONE)
    assert ids(find("nvlink-down", asked.tables())) == {"n1/gpu2"}  # the driver wants it at the first


@pytest.mark.parametrize("name", ROOMS)
def test_values_that_are_unknown_and_metrics_that_are_missing_say_nothing(name):
    for one in room("detectors", name).load().cases():
        table = one.tables["windows"]
        rows = table["metric"].astype(str).str.startswith("skewscope_gpu_").to_numpy()
        columns = [column for column in table.columns if column.endswith("_value")]
        blind = table.assign(**{column: np.where(rows, np.nan, table[column]) for column in columns})
        assert find(name, {"windows": blind, "events": one.tables["events"].iloc[:0]}) == []
    assert find(name, Fleet().tables()) == [] and find(name, Fleet().tables(job=False)) == []


def test_a_gap_in_the_scrapes_is_no_lost_link():
    fleet = Fleet().put(LINKS, 18.0, labels="state=active", devices=Fleet().gpus)
    fleet.put(LINKS, np.nan, labels="state=active", nodes=["n1"], devices=["gpu2"], since=8, until=14)
    assert find("nvlink-down", fleet.tables()) == []
