from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import jsonschema
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from skewscope.catalogue import room
from skewscope.reports.json_schema import schema
from skewscope.store.failures import StoreFull

W = SimpleNamespace(**run_path(str(Path(__file__).with_name("_watched.py"))))
HOT = "gpu-hw-slowdown"
SLOW = "host-launch-bound"  # its price is known from what was before only
GPU = (HOT, "n001/gpu5")
ONLY = (HOT,)


def hot(first: int, last: int, **kw):
    return W.told(HOT, first, last, **kw)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(HOT, [GPU]), ("nic-link-down", [("nic-link-down", "n001/mlx5_0")]), ("gpu-squatter", None), ("healthy-rl", [])],
)
def test_each_fault_is_one_incident_at_its_place_and_health_is_none(name, expected):
    if expected is None:
        expected = [(name, W.simulated(name).truth["faults"][0]["subject"])]
    watched = W.Watched().turn(*W.told(name, -7, 4))
    assert watched.opened() == expected
    assert watched.ready == ()
    last = watched.snapshots[-1]
    assert last.time_ns == watched.service.board.time_ns
    assert [one["condition"] for one in last.incidents] == [condition for condition, _ in expected]
    jsonschema.Draft202012Validator(schema("report")).validate(json.loads(json.dumps(dict(last.report))))
    list(text_string_to_metric_families(watched.metrics))


def test_an_incident_ends_when_its_fault_does():
    windows = hot(-8, 4)
    length_ns = windows[-1].end_ns - windows[0].end_ns + 30 * 10**9
    watched = W.Watched(only=ONLY).turn(*windows)
    assert watched.snapshots[-1].incidents[0]["state"] in ("open", "growing")
    healthy = [W.moved(one, length_ns + 4 * 30 * 10**9) for one in windows[:8]]
    watched.turn(*healthy)
    assert [one["state"] for one in watched.snapshots[-1].incidents] == ["closed"]
    assert watched.opened() == [GPU]


def test_a_fault_that_outlasts_the_horizon_does_not_become_usual():
    watched = W.Watched(only=(SLOW,), length=14)
    shares = []
    for one in W.told(SLOW, -9, 34, steps=1500):
        watched.turn(one)
        shares += [found.root.lost_share for found in watched.service.board.live]
    (only,) = watched.service.board.incidents
    assert (only.state in ("open", "growing"), only.flaps) == (True, 0)
    assert min(shares[-10:]) > 0.7 * max(shares[:10]) > 0.1


class TestParts:
    def test_a_failing_room_is_told_until_it_works_and_closes_nothing(self, monkeypatch):
        windows = hot(-8, 20, steps=1500)
        watched = W.Watched(only=(HOT, "nic-link-down")).turn(*windows[:12])
        assert watched.opened() == [GPU]
        detector = type(room("detectors", HOT).load())

        def broken(*_):
            raise ZeroDivisionError("by nothing")

        monkeypatch.setattr(detector, "detect", broken)
        watched.turn(*windows[12:24])
        assert watched.ready == (f"{HOT} is not looked for: ZeroDivisionError: by nothing",)
        assert [one.state for one in watched.service.board.incidents] != ["closed"]
        monkeypatch.undo()
        watched.turn(windows[24])
        assert watched.ready == ()
        assert 'skewscope_watch_cycles_total{result="failed"} 0.0' in watched.metrics

    def test_a_window_that_cannot_be_analysed_costs_a_window(self, monkeypatch):
        def broken(*_, **__):
            raise MemoryError("too much")

        windows = hot(-8, 6)
        watched = W.Watched(only=ONLY).turn(*windows[:12])
        monkeypatch.setattr("skewscope.watch.service.analyze", broken)
        watched.turn(windows[12])
        assert watched.ready == ("the last window could not be analysed: MemoryError: too much",)
        assert 'skewscope_watch_cycles_total{result="failed"} 1.0' in watched.metrics
        assert watched.snapshots[-1].incidents == watched.snapshots[-2].incidents
        monkeypatch.undo()
        watched.turn(windows[13])
        assert (watched.opened(), watched.ready) == ([GPU], ())

    def test_a_window_that_is_none_costs_the_past_and_not_the_service(self):
        windows = hot(-8, 6)
        watched = W.Watched(only=ONLY).turn(*windows[:12])
        strange = windows[12].tables["windows"].drop(columns="value", errors="ignore").drop(columns="last_value")
        watched.turn(replace(windows[12], tables={"windows": strange}))
        assert "could not be taken in" in watched.ready[0] and len(watched.service.horizon) == 0
        watched.turn(windows[13])
        assert (watched.ready, len(watched.service.horizon)) == ((), 1)

    def test_a_full_disk_costs_the_store_and_not_the_verdict(self):
        class Shelf:
            full = False

            def __init__(self):
                self.kept = []

            def append(self, windows, events=None):
                if self.full:
                    raise StoreFull("disk full")
                self.kept.append(windows["t_ns"].iloc[0])

            def windows(self, begin_ns, end_ns, metrics=None):
                raise OSError("damaged")

            def events(self, begin_ns, end_ns):
                raise OSError("damaged")

            def compact(self):
                pass

            def size_bytes(self):
                return 77

        shelf, windows = Shelf(), hot(-8, 4)
        watched = W.Watched(only=ONLY, store=shelf).turn(*windows[:4])
        shelf.full = True
        watched.turn(*windows[4:-1])
        assert watched.ready == ("the store does not take windows: disk full",)
        assert watched.opened() == [GPU]
        shelf.full = False
        watched.turn(windows[-1])
        assert watched.ready == ()
        assert shelf.kept == [one.end_ns for one in (*windows[:4], windows[-1])]
        assert "skewscope_watch_store_bytes 77.0" in watched.metrics
        W.Watched(windows[:2], only=ONLY, store=shelf).run()  # one that cannot be read does not end it either

    def test_a_window_is_safe_before_it_is_told_and_files_are_joined_after(self, monkeypatch):
        done = []

        class Shelf:
            def append(self, windows, events=None):
                done.append("append")

            def compact(self):
                done.append("compact")
                raise OSError("no room")

            def size_bytes(self):
                return 77

        class Receiver:
            name, counts, waiting = "one", {}, 0

            def tell(self, documents):
                done.append("tell")

        monkeypatch.setattr("skewscope.watch.service.COMPACT_CYCLES", 2)
        watched = W.Watched(only=ONLY, store=Shelf(), outboxes=[Receiver()]).turn(*hot(-8, -5))
        assert done == ["append", "tell", "compact", "append", "tell", "append", "tell", "compact"]
        assert watched.ready == ("the store's files cannot be joined: no room",)
        assert watched.turn(*hot(-5, -4)).ready == ()

    def test_a_folder_that_takes_nothing_is_told_and_forgiven(self, tmp_path):
        folder, windows = tmp_path / "state", hot(-8, 4)
        folder.mkdir()
        watched = W.Watched(only=ONLY, folder=folder).turn(*windows[:4])
        shutil.rmtree(folder)
        watched.turn(*windows[4:11])
        assert watched.ready == (f"the state cannot be kept in {folder}: No such file or directory",)
        assert watched.opened() == [GPU]
        folder.mkdir()
        watched.turn(windows[11])
        assert watched.ready == ()
        assert (folder / "state.json").is_file()


class TestSilence:
    def test_a_dead_source_is_one_incident_that_ends_with_it(self):
        windows = hot(-8, 30, steps=1500)
        watched = W.Watched(only=ONLY).turn(*windows[:12])
        watched.turn(*(W.nothing(one.end_ns) for one in windows[12:24]))
        assert watched.opened() == [GPU, ("telemetry-stale", "fleet")]
        assert watched.ready == ("no agent answered in the last window",)
        assert {one.root.condition: one.state for one in watched.service.board.incidents}[HOT] != "closed"
        assert "skewscope_watch_targets_stale 2.0" in watched.metrics
        assert "skewscope_watch_feed_errors_total 12.0" in watched.metrics
        watched.turn(*windows[24:])
        assert {one.root.condition: one.state for one in watched.service.board.incidents} == {
            HOT: "open", "telemetry-stale": "closed"
        }  # fmt: skip
        assert watched.ready == ()

    def test_an_incident_on_a_host_that_went_silent_waits_for_it(self):
        windows = hot(-8, 30, steps=1500)
        watched = W.Watched(only=ONLY).turn(*windows[:12])
        watched.turn(*(W.without(one, "n001") for one in windows[12:24]))
        states = {one.root.subject.id: one.state for one in watched.service.board.incidents}
        assert states["n001/gpu5"] in ("open", "growing")
        assert ("telemetry-stale", "n001") in watched.opened() or ("telemetry-stale", "fleet") in watched.opened()
        watched.turn(*windows[24:28])
        assert watched.opened()[0] == GPU
        assert len(watched.opened()) == 2


def test_names_of_jobs_are_shown_as_they_are():
    job = 'a"b\\c\nd{e="f"}'
    watched = W.Watched(only=ONLY).turn(*(W.renamed(one, job) for one in hot(-8, 5)))
    found = {
        sample.labels["job_id"]: sample.value
        for family in text_string_to_metric_families(watched.metrics) if family.name == "skewscope_job_lost_gpus"
        for sample in family.samples
    }  # fmt: skip
    assert found[job] > 0
    assert watched.snapshots[-1].incidents[0]["job"] == job
    assert watched.service.totals.job_lost_gpu_s[job] > 0


def test_the_loop_starts_and_ends_its_feed_once():
    watched = W.Watched(hot(-8, -4), hot(-12, -8), only=ONLY).run()
    assert watched.feed.states == ["started", "stopped"]
    assert [one.ready for one in watched.snapshots[:2]] == [("the past is being read",), ()]
    assert watched.snapshots[1].time_ns == watched.snapshots[2].time_ns - 30 * 10**9
    assert len(watched.service.horizon) == 8
    watched.service.stop()
    assert watched.feed.states == ["started", "stopped"]


def test_what_the_past_says_is_said_at_once():
    watched = W.Watched(hot(4, 5), hot(-8, 4), only=ONLY).run()
    past = watched.snapshots[1]
    assert ([one["condition"] for one in past.incidents], past.ready) == ([HOT], ())
    assert past.report["findings"][0]["condition"] == HOT


def test_losses_of_jobs_are_remembered_of_the_latest(monkeypatch):
    monkeypatch.setattr("skewscope.watch.service.MOST_JOBS", 2)
    watched = W.Watched(only=ONLY)
    watched.service.totals.job_lost_gpu_s = {"old": 1.0, "older": 2.0}
    watched.turn(*hot(-2, 0))
    assert list(watched.service.totals.job_lost_gpu_s) == ["older", "job"]


def test_no_table_of_a_window_is_changed():
    windows = hot(-8, -5)
    before = [one.tables["windows"].copy() for one in windows]
    W.Watched(only=ONLY).turn(*windows)
    for one, same in zip(windows, before, strict=True):
        pd.testing.assert_frame_equal(one.tables["windows"], same)
