from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.store import Store
from skewscope.watch.notify.messages import notification
from skewscope.watch.notify.outbox import Outbox

W = SimpleNamespace(**run_path(str(Path(__file__).with_name("_watched.py"))))
HOT = "gpu-hw-slowdown"
SLOW = "host-launch-bound"  # its price is known from what was before only
GPU = (HOT, "n001/gpu5")
ONLY = (HOT,)


def hot(first: int, last: int, **kw):
    return W.told(HOT, first, last, **kw)


def outbox(folder, receiver) -> Outbox:
    return Outbox("webhook-0", partial(notification, link=""), receiver, folder)


class TestRestart:
    def test_it_changes_nothing_and_tells_nothing_twice(self, tmp_path):
        windows = hot(-8, 8)
        receiver = W.Receiver()
        box = outbox(tmp_path, receiver)
        whole = W.Watched(only=ONLY, folder=tmp_path, outboxes=[box]).turn(*windows)
        while box.waiting:
            box.send_next()
        assert [event for event, *_ in receiver.got] == ["opened"]

        again, parted = W.Receiver(), tmp_path / "parted"
        parted.mkdir()
        for first, last in ((0, 12), (12, 16)):
            box = outbox(parted, again)
            watched = W.Watched(windows[first:last], windows[:first], only=ONLY, folder=parted, outboxes=[box]).run()
        assert again.got == receiver.got
        assert [one.id for one in watched.service.board.incidents] == [one.id for one in whole.service.board.incidents]
        assert [one.opened_ns for one in watched.service.board.incidents] == [
            one.opened_ns for one in whole.service.board.incidents
        ]
        assert watched.service.totals.job_lost_gpu_s == pytest.approx(whole.service.totals.job_lost_gpu_s, rel=0.1)

    def test_what_the_past_shows_is_kept_before_it_is_told(self, tmp_path):
        windows, published = hot(-8, 8), []

        def told(snapshot):
            path = tmp_path / "state.json"
            kept = json.loads(path.read_bytes())["board"]["incidents"] if path.exists() else []
            published.append((len(snapshot.incidents), len(kept)))

        watched = W.Watched(windows[12:14], windows[:12], only=ONLY, folder=tmp_path)
        watched.service.plan = replace(watched.service.plan, publish=told)
        watched.run()
        assert (1, 1) in published and all(shown == kept for shown, kept in published)

    def test_without_a_past_nothing_is_closed_for_want_of_it(self, tmp_path):
        windows = hot(-8, 24, steps=1500)
        before = W.Watched(only=ONLY, folder=tmp_path).turn(*windows[:13])
        (one,) = before.service.board.live
        after = W.Watched(only=ONLY, folder=tmp_path).turn(*windows[20:23])  # 3.5 minutes later, and no store
        assert [(live.id, live.opened_ns) for live in after.service.board.live] == [(one.id, one.opened_ns)]

    def test_a_store_brings_the_past_back(self, tmp_path):
        windows = hot(-8, 8)
        for first, last in ((0, 12), (12, 16)):
            store = Store(tmp_path / "store")
            watched = W.Watched(windows[first:last], only=ONLY, folder=tmp_path, store=store).run()
            store.close()
        assert watched.opened() == [GPU]
        assert len(watched.service.horizon) >= 16
        assert "skewscope_watch_store_bytes" in watched.metrics

    def test_what_was_usual_before_an_old_incident_is_fetched_again(self, tmp_path):
        windows = W.told(SLOW, -9, 38, steps=1500)
        W.Watched(only=(SLOW,), folder=tmp_path, length=14).turn(*windows[:32])
        watched = W.Watched(windows[32:], windows[:32], only=(SLOW,), folder=tmp_path, length=14).run()
        (older, onset), recent = watched.feed.histories
        assert older < onset < windows[10].end_ns < recent[0]
        (one,) = watched.service.board.live
        assert one.state in ("open", "growing")
        assert one.root.lost_share > 0.7 * one.peak_share > 0.1

    @pytest.mark.parametrize(
        "damage", ["", "{", "[]", "null", '{"schema": "other"}', '{"schema": "skewscope.watch-state/1"}',
                   '{"schema": "skewscope.watch-state/1", "board": {"incidents": [{}], "time_ns": 1}}'],
    )  # fmt: skip
    def test_a_damaged_state_is_put_aside(self, tmp_path, damage):
        (tmp_path / "state.json").write_text(damage)
        watched = W.Watched(only=ONLY, folder=tmp_path).turn(*hot(-1, 0))
        assert watched.service.board.incidents == ()
        kept = json.loads((tmp_path / "state.json").read_text())
        assert kept["schema"] == "skewscope.watch-state/1"
        aside = tmp_path / "state.damaged.json"
        assert aside.read_text() == damage if damage != "null" else not aside.exists()


class TestClock:
    def test_after_a_jump_forward_the_present_is_watched(self):
        windows = hot(-8, 8)
        shift_ns = 7200 * 10**9
        later = [W.moved(one, shift_ns) for one in windows[12:]]
        watched = W.Watched([*windows[:12], *later], only=ONLY).run()
        assert watched.service.board.time_ns == later[-1].end_ns
        assert watched.opened() == [GPU]
        assert watched.feed.asked[13] > windows[11].end_ns

    def test_after_a_jump_back_the_present_is_watched(self, caplog):
        windows = hot(-8, 12)
        shift_ns = 3600 * 10**9
        future = [W.moved(one, shift_ns) for one in windows[:12]]
        watched = W.Watched([*future, *windows[12:]], only=ONLY)
        told = watched.feed.window

        def window(end_ns: int):
            one = told(end_ns)
            if one is future[-1]:
                watched.feed.now_ns = windows[12].end_ns - 10**9
            return one

        watched.feed.window = window
        with caplog.at_level(logging.ERROR):
            watched.run()
        assert "the clock went back by" in caplog.text
        assert watched.service.board.time_ns == windows[-1].end_ns
        assert watched.service.horizon.end_ns == windows[-1].end_ns
        assert all(one.seen_ns <= windows[-1].end_ns for one in watched.service.board.incidents)
        assert watched.opened() == [GPU]

    def test_a_state_of_the_future_is_brought_back(self, tmp_path):
        windows = hot(-8, 12)
        shift_ns = 3600 * 10**9
        W.Watched(only=ONLY, folder=tmp_path).turn(*(W.moved(one, shift_ns) for one in windows[:12]))
        watched = W.Watched(windows[12:], only=ONLY, folder=tmp_path).run()
        assert watched.service.board.time_ns == windows[-1].end_ns
