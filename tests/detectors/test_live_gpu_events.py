import dataclasses

import numpy as np
import pytest

from skewscope.catalogue import load, room
from skewscope.frames import all_tables, concat, frame
from skewscope.signals.windows import windows

WORLDS = load("detectors._live_worlds")
Fleet, EPOCH_NS, WINDOW_S = WORLDS.Fleet, WORLDS.EPOCH_NS, WORLDS.WINDOW_S
XIDS, ASKED = "skewscope_gpu_xid_errors_total", "skewscope_gpu_recovery_action"
ONE = {"nodes": ["n1"], "devices": ["gpu2"], "since": 10}
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


@pytest.mark.parametrize(("name", "code"), XID_ROOMS)
def test_a_node_is_not_drained_where_the_driver_asks_for_nothing(name, code):
    fleet = xid(Fleet(), code).put(ASKED, 1.0, labels="action=none", devices=Fleet().gpus)
    (found,) = find(name, fleet.tables())
    assert found.severity == ("S2" if code == 64 else "S1") and found.role == "culprit"
    assert "drain" not in found.advice and "no recovery" in found.summary
    fleet.put(ASKED, 1.0, labels="action=node_reboot", nodes=["n1"], devices=["gpu2"], since=11)
    fleet.put(ASKED, 0.0, labels="action=none", nodes=["n1"], devices=["gpu2"], since=11)
    (found,) = find(name, fleet.tables())
    assert found.severity == "S1" and "reboot" in found.advice


def test_a_contained_error_ends_the_program_and_a_second_one_wants_a_reset():
    (once,) = find("gpu-ecc-uncorrectable", xid(Fleet(), 94).tables())
    assert (once.role, once.severity) == ("culprit", "S1") and "restart" in once.advice and "drain" not in once.advice
    (twice,) = find("gpu-ecc-uncorrectable", xid(xid(Fleet(), 94), 94, window=17).tables())
    assert "idle" in twice.advice and "2 times within 24 h" in twice.summary


def test_those_who_tell_of_one_xid_are_not_added_up():
    fleet = xid(xid(Fleet(), 79), 79, source="kmsg", window=11).event("xid", node="n1", device="gpu2", code=79)
    (found,) = find("gpu-off-bus", fleet.tables())
    assert [item.value for item in found.evidence if item.signal == "xid_79"] == [1.0]


@pytest.mark.parametrize(
    ("metric", "value"), [(XIDS, 1.0), ("skewscope_gpu_xid_last_timestamp_seconds", EPOCH_NS / 1e9 + 310.0),
                          ("skewscope_kernel_xid_last_timestamp_seconds", EPOCH_NS / 1e9 + 310.0)],
)  # fmt: skip
def test_a_code_that_appears_in_the_middle_of_a_recording_is_seen(metric, value):
    t_ns = EPOCH_NS + (np.arange(1, 41) * 15e9).astype(np.int64)
    power = frame("samples", {"t_ns": t_ns, "node": "n0", "device": "gpu0", "metric": "skewscope_gpu_power_watts",
                              "value": 600.0})  # fmt: skip
    labels = "xid=79,source=nvml" if metric == XIDS else "xid=79"
    late = frame("samples", {"t_ns": t_ns[20:], "node": "n0", "device": "gpu3", "metric": metric, "labels": labels,
                             "value": value})  # fmt: skip
    tables = all_tables({"windows": windows(concat("samples", [power, late]))})
    (found,) = find("gpu-off-bus", tables)
    assert found.subject.id == "n0/gpu3"
    assert found.window.start_ns == pytest.approx(EPOCH_NS + 310e9, abs=31e9)
    old = late.assign(value=value - 4000 if value > 1e6 else value, t_ns=late["t_ns"])
    early = all_tables({"windows": windows(concat("samples", [power, old.assign(t_ns=t_ns[:20])]))})
    assert find("gpu-off-bus", early) == []  # it was there when the recording began


def test_faults_of_programs():
    (found,) = find("gpu-app-fault", world("gpu-app-fault", "again"))
    assert (found.role, found.severity) == ("culprit", "S2") and "diagnostics" in found.advice
    (spread,) = find("gpu-app-fault", world("gpu-app-fault", "program"))
    assert (spread.role, spread.severity) == ("context", "S4") and "no node" in spread.advice
    slow = Fleet()
    for place, gpu in enumerate(("gpu0", "gpu1", "gpu2")):
        slow.event("xid", device=gpu, code=31, window=3 + 8 * place)
    (moves,) = find("gpu-app-fault", slow.tables())
    assert moves.subject.id == "llm" and moves.role == "context"
    assert find("gpu-app-fault", slow.tables(job=False)) == []
    jobless = {**world("gpu-app-fault", "program"), "windows": slow.tables(job=False)["windows"]}
    jobless["events"] = Fleet().event("xid", code=31).event("xid", device="gpu1", code=31).event(
        "xid", device="gpu2", code=31).tables()["events"]  # fmt: skip
    assert ids(find("gpu-app-fault", jobless)) == {"n0"} and find("gpu-app-fault", jobless, spread_count=4) == []
    hosts = all_tables({"events": slow.tables()["events"]})
    assert ids(find("gpu-app-fault", hosts, together_s=600.0)) == {"n0"}


def test_bursts_of_one_code_are_one_fault_while_they_last():
    fleet = Fleet()
    for window in (3, 5, 8):  # a burst of XID 31 lasts three minutes
        fleet.event("xid", node="n1", device="gpu2", code=31, window=window)
    assert find("gpu-app-fault", fleet.tables()) == []
    assert ids(find("gpu-app-fault", fleet.event("xid", node="n1", device="gpu2", code=31, window=18).tables()))


def test_a_loading_driver_is_waited_out_but_not_for_ever():
    fleet = Fleet()
    for source, count in (("nvml", 3.0), ("expected", 4.0)):
        fleet.put("skewscope_gpu_devices", count, labels=f"source={source}", nodes=["n1"])
    (found,) = find("gpu-off-bus", fleet.tables())
    assert found.subject.id == "n1" and found.window.start_ns == when(10)[0]
    named = fleet.put("skewscope_gpu_access_state", 1.0, labels="state=lost", **ONE)
    assert ids(find("gpu-off-bus", named.tables())) == {"n1/gpu2"}


def test_wrong_numbers():
    (once,), (twice,) = (find("gpu-sdc-suspect", world("gpu-sdc-suspect", which)) for which in ("once", "twice"))
    assert (once.role, twice.role, twice.severity) == ("context", "culprit", "S1")
    assert find("gpu-sdc-suspect", world("gpu-sdc-suspect", "twice"), again_count=3)[0].role == "context"
    assert find("gpu-sdc-suspect", world("gpu-sdc-suspect", "checksum"))[0].role == "culprit"
    everybody = world("gpu-sdc-suspect", "everybody")
    assert find("gpu-sdc-suspect", everybody)[0].role == "context"
    assert len(find("gpu-sdc-suspect", everybody, minority_ratio=1.0)) == 8
    fleet = Fleet().event("mark", node="n1", device="rank6", message="nan")
    fleet.put("skewscope_gpu_events_total", 1.0, labels="event=nonfatal_poison", until=11, **ONE)
    (found,) = find("gpu-sdc-suspect", fleet.tables())
    assert found.role == "culprit" and "poison 1 times" in found.summary
    nowhere = all_tables({"events": fleet.tables()["events"], "ranks": frame("ranks", {"job": "j", "rank": range(8)})})
    assert ids(find("gpu-sdc-suspect", nowhere)) == {"job/rank6"}
    late = Fleet().event("mark", node="n0", device="rank0", message="nan")
    for rank in (1, 2):
        late.event("mark", node="n0", device=f"rank{rank}", message="nan", window=10 + rank)
    assert ids(find("gpu-sdc-suspect", late.tables(), together_s=10.0)) == {"n0/gpu0", "n0/gpu1", "n0/gpu2"}
    assert ids(find("gpu-sdc-suspect", late.tables(), together_s=120.0)) == {"llm"}
