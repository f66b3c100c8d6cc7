from __future__ import annotations

import json
import logging
import threading
from functools import partial
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.watch.notify import outbox as module
from skewscope.watch.notify.messages import notification
from skewscope.watch.notify.outbox import Outbox
from skewscope.web.post import Undelivered, post

incident = run_path(str(Path(__file__).parents[1] / "_incidents.py"))["incident"]
receiver = run_path(str(Path(__file__).with_name("_receiver.py")))["receiver"]
OPEN, CLOSED = incident(), incident(state="closed", changed_ns=2_000)


class Sent:
    """A receiver that answers as a test says: None takes it, an error refuses it."""

    def __init__(self, *answers: Undelivered | None) -> None:
        self.answers, self.got, self.arrived = list(answers), [], threading.Event()

    def __call__(self, body: bytes, key: str) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.got.append((json.loads(body)["event"], key))
        self.arrived.set()


def outbox(send, folder=None, **kw) -> Outbox:
    return Outbox("hook", partial(notification, link=""), send, folder, **kw)


def sent(box: Outbox) -> None:
    while box.waiting:
        assert box.send_next() == 0.0


def test_each_change_is_told_once_and_in_order():
    send = Sent()
    box = outbox(send)
    for told in ([OPEN], [OPEN], [CLOSED, incident("b1", 1_500)], [CLOSED, incident("b1", 1_500, "mitigated")]):
        box.tell(told)
    sent(box)
    assert send.got == [
        ("opened", "a7-1000-opened"), ("opened", "b1-1500-opened"), ("closed", "a7-2000-closed")
    ]  # fmt: skip
    assert dict(box.counts) == {"sent": 3}


def test_what_returns_is_told_again_with_another_key():
    send = Sent()
    box = outbox(send)
    for told in (OPEN, CLOSED, incident(changed_ns=3_000), incident(state="closed", changed_ns=4_000)):
        box.tell([told])
    sent(box)
    assert [event for event, _ in send.got] == ["opened", "closed", "reopened", "closed"]
    assert len({key for _, key in send.got}) == 4


def test_pauses_grow_up_to_a_limit_and_heed_the_receiver():
    send = Sent(*[Undelivered("503")] * 9, Undelivered("429", after_s=1000.0))
    box, pauses = outbox(send), [0.0]
    box.tell([OPEN])
    for _ in range(10):
        pauses.append(box.send_next(pauses[-1]))
    assert pauses[1:] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 1000]
    assert box.send_next(pauses[-1]) == 0.0
    assert (send.got, dict(box.counts)) == ([("opened", "a7-1000-opened")], {"retried": 10, "sent": 1})


def test_what_is_refused_for_good_is_kept_aside_and_the_rest_goes_on(tmp_path):
    send = Sent(Undelivered("status 400: no", final=True))
    box = outbox(send, tmp_path)
    box.tell([OPEN, incident("b1", 1_500)])
    sent(box)
    assert send.got == [("opened", "b1-1500-opened")]
    (dead,) = map(json.loads, (tmp_path / "dead-letters-hook.jsonl").read_text().splitlines())
    assert (dead["key"], dead["reason"]) == ("a7-1000-opened", "status 400: no")
    assert dead["body"]["incident"] == OPEN
    assert dict(box.counts) == {"failed": 1, "sent": 1}


def test_what_could_not_be_sent_for_a_day_is_given_up(tmp_path):
    now_s = [1_000.0]
    box = outbox(Sent(*[Undelivered("away")] * 3), tmp_path, clock_s=lambda: now_s[0])
    box.tell([OPEN])
    assert box.send_next() > 0
    now_s[0] += 86_399.0
    assert box.send_next() > 0
    now_s[0] += 1.0
    assert box.send_next() == 0.0
    assert (box.waiting, dict(box.counts)) == (0, {"retried": 2, "failed": 1})
    assert "away" in (tmp_path / "dead-letters-hook.jsonl").read_text()


def test_nothing_is_lost_or_told_twice_over_a_crash(tmp_path):
    outbox(Sent(), tmp_path).tell([OPEN])  # the process ends before it could send
    send = Sent()
    box = outbox(send, tmp_path)
    box.tell([OPEN])
    sent(box)
    box = outbox(send, tmp_path)  # and once more, after
    box.tell([OPEN])
    sent(box)
    assert send.got == [("opened", "a7-1000-opened")]
    box.tell([CLOSED])
    sent(outbox(send, tmp_path))
    assert [event for event, _ in send.got] == ["opened", "closed"]


def test_a_crash_between_sending_and_noting_it_repeats_the_key(tmp_path, monkeypatch):
    send, box = Sent(), outbox(Sent(), tmp_path)
    box.tell([OPEN])
    monkeypatch.setattr(box, "_save", lambda: None)
    sent(box)
    sent(outbox(send, tmp_path))
    assert send.got == [("opened", "a7-1000-opened")]  # the receiver can see that it knows this key


@pytest.mark.parametrize(
    "damage", ["", "{", "[1]", '"x"', '{"told": {"a": 1}, "waiting": []}', '{"told": {}, "waiting": [{"key": 1}]}'],
)  # fmt: skip
def test_a_damaged_file_tells_open_incidents_again(tmp_path, damage, caplog):
    (tmp_path / "outbox-hook.json").write_text(damage)
    send = Sent()
    with caplog.at_level(logging.ERROR):
        box = outbox(send, tmp_path)
    assert "is damaged" in caplog.text
    box.tell([OPEN, incident("b1", 1_500, "closed")])
    sent(box)
    assert send.got == [("opened", "a7-1000-opened")]


def test_a_disk_that_takes_nothing_stops_no_notification(tmp_path):
    send = Sent(Undelivered("no", final=True))
    box = outbox(send, tmp_path / "gone")
    box.tell([OPEN, incident("b1", 1_500)])
    sent(box)
    assert send.got == [("opened", "b1-1500-opened")]


def test_of_too_many_the_oldest_are_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    box = outbox(Sent(), tmp_path)
    box.tell([incident(f"i{at}", at) for at in range(5)])
    assert box.waiting == 3
    assert (tmp_path / "dead-letters-hook.jsonl").read_text().count("too many wait") == 2


def test_closed_incidents_are_forgotten_when_too_many_are_known(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    box = outbox(Sent(), tmp_path)
    box.tell([incident(f"i{at}", at) for at in range(4)])
    box.tell([incident(f"i{at}", 10 + at, "closed") for at in range(3)])
    assert set(json.loads((tmp_path / "outbox-hook.json").read_text())["told"]) == {"i2", "i3"}


class TestThread:
    def test_it_sends_by_itself_and_tries_again(self):
        send = Sent(Undelivered("503"), Undelivered("503"))
        box = outbox(send, first_s=0.01)
        box.start()
        box.tell([OPEN])
        assert send.arrived.wait(10)
        box.stop()
        assert not box._thread.is_alive()
        assert box.counts["retried"] == 2

    def test_what_can_be_sent_at_once_is_sent_before_it_ends(self):
        send = Sent()
        box = outbox(send)
        box.tell([incident(f"i{at}", at) for at in range(20)])
        box.start()
        box.stop()
        assert len(send.got) == 20

    def test_it_ends_while_a_receiver_is_away(self, tmp_path):
        send = Sent(*[Undelivered("503", after_s=1000.0)] * 5)
        box = outbox(send, tmp_path)
        box.start()
        box.tell([OPEN])
        while not box.counts["retried"]:
            threading.Event().wait(0.01)
        box.stop()
        assert not box._thread.is_alive()
        assert outbox(send, tmp_path).waiting == 1

    def test_a_fault_in_sending_does_not_end_it(self):
        calls = []

        def send(body: bytes, key: str) -> None:
            calls.append(key)
            if len(calls) == 1:
                raise RuntimeError("a fault")
            arrived.set()

        arrived = threading.Event()
        box = outbox(send, first_s=0.01)
        box.start()
        box.tell([OPEN])
        assert arrived.wait(10)
        box.stop()

    def test_a_real_receiver_gets_what_it_refused_at_first(self, tmp_path):
        with receiver() as server:
            server.answers = [(503, {}, ""), (429, {"Retry-After": "0"}, "")]
            box = outbox(lambda body, key: post(server.url, body, key=key), tmp_path, first_s=0.01)
            box.start()
            box.tell([OPEN])
            while box.waiting:
                threading.Event().wait(0.01)
            box.stop()
            assert [headers["Idempotency-Key"] for _, headers, _ in server.seen] == ["a7-1000-opened"] * 3
            assert json.loads(server.seen[-1][2])["incident"] == OPEN
