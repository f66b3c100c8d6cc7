from __future__ import annotations

import json
import threading
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.watch.changes import HEARTBEAT, RETRY, Changes

incident = run_path(str(Path(__file__).with_name("_incidents.py")))["incident"]


def events(wire: bytes) -> list[tuple[str, str, dict]]:
    """Return (event, id, data) of what came over the wire."""
    found = []
    for block in wire.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


def begun(changes: Changes, after: str = ""):
    """Return a stream that has found its place."""
    stream = changes.stream(after, turn_s=0.0)
    assert next(stream) == RETRY
    return stream


def names(wire: bytes) -> list[str]:
    return [f"{kind} {name}" for kind, name, _ in events(wire)]


def test_what_is_new_or_changed_is_told_once_and_oldest_first():
    changes = Changes()
    changes.tell([incident("old", 5)])
    stream = begun(changes)
    assert next(stream) == b""
    changes.tell([incident("new", 9), incident("old", 8, "growing"), incident("third", 7)])
    wire = next(stream)
    assert names(wire) == ["incident 7-third", "incident 8-old", "incident 9-new"]
    assert events(wire)[1][2] == incident("old", 8, "growing")
    assert changes.last == "9-new"
    changes.tell([incident("new", 9), incident("old", 8, "growing", summary="another sentence")])
    assert next(stream) == b"" == next(stream)


def test_an_incident_that_is_gone_and_comes_back_is_told_again():
    changes = Changes()
    stream = begun(changes)
    changes.tell([])
    assert next(stream) == b""
    for told in ([incident("a", 1)], [], [incident("a", 3)]):
        changes.tell(told)
    assert names(next(stream)) == ["incident 1-a", "incident 3-a"]


def test_who_comes_back_gets_what_was_missed():
    changes = Changes()
    changes.tell([incident("a", 1)])
    for at in range(2, 6):
        changes.tell([incident("a", at, "growing")])
    assert names(next(begun(changes, "3-a"))) == ["incident 4-a", "incident 5-a"]
    assert next(begun(changes, "5-a")) == b""


def test_a_restart_of_the_service_changes_nothing():
    before, after = Changes(), Changes()
    told = [incident("a", 1), incident("b", 4)]
    before.tell(told)
    last = before.last
    waiting = begun(after, last)
    assert next(waiting) == b"", "there is no telling before the first snapshot"
    after.tell(told)
    assert next(waiting) == b"", "nothing changed meanwhile"
    after.tell([incident("a", 6, "closed"), incident("b", 4)])
    assert names(next(waiting)) == ["incident 6-a"]
    late = Changes()
    late.tell([incident("a", 6, "closed"), incident("b", 4), incident("c", 5)])
    assert names(next(begun(late, last))) == ["incident 5-c", "incident 6-a"]
    changed = Changes()
    changed.tell([incident("a", 1), incident("b", 7, "closed")])
    assert names(next(begun(changed, last))) == ["incident 7-b"]


def test_a_clock_that_is_set_back_loses_nothing():
    changes = Changes()
    changes.tell([incident("a", 50)])
    changes.tell([incident("a", 3, "growing")])
    changes.tell([incident("a", 4, "closed")])
    assert names(next(begun(changes, "50-a"))) == ["incident 3-a", "incident 4-a"]


def test_who_comes_without_a_place_hears_only_of_what_follows():
    changes = Changes()
    early = begun(changes)
    assert next(early) == b""
    changes.tell([incident("a", 1)])
    late = begun(changes)
    assert next(early) == next(late) == b""
    changes.tell([incident("a", 2, "closed")])
    assert names(next(early)) == names(next(late)) == ["incident 2-a"]


@pytest.mark.parametrize("after", ["1-a", "nonsense", "x-a", "-5-a", "\u0661-a"])
def test_what_cannot_be_told_any_more_is_said(after: str):
    changes = Changes(ring=2)
    for at in range(1, 5):
        changes.tell([incident("a", at)])
    stream = begun(changes, after)
    assert events(next(stream)) == [("reset", "4-a", {"last_event": "4-a"})]
    changes.tell([incident("a", 5)])
    assert names(next(stream)) == ["incident 5-a"]


def test_a_stream_that_falls_behind_is_told_so():
    changes = Changes(ring=2)
    changes.tell([])
    stream = begun(changes)
    assert next(stream) == b""
    changes.tell([incident(f"i{at}", at) for at in range(1, 4)])
    assert names(next(stream)) == ["reset 3-i3"]
    assert next(stream) == b""


def test_silence_is_broken_now_and_then_and_a_stream_ends_after_its_time():
    now_s = 0.0
    changes = Changes(heartbeat_s=15.0, stream_s=40.0, clock_s=lambda: now_s)
    changes.tell([])
    stream = begun(changes)
    heard = []
    for later_s in (1.0, 14.0, 15.0, 16.0, 30.0, 39.0):
        now_s = later_s
        heard.append(next(stream))
    assert heard == [b"", b"", HEARTBEAT, b"", HEARTBEAT, b""]
    now_s = 40.0
    assert next(stream, None) is None


def test_a_stream_waits_for_news_and_ends_when_all_is_closed():
    changes = Changes()
    changes.tell([])
    got = []
    stream = changes.stream(turn_s=10.0)
    assert next(stream) == RETRY and next(stream) == b""
    thread = threading.Thread(target=lambda: got.extend(stream))
    thread.start()
    changes.tell([incident("a", 1)])
    for _ in range(1000):
        if got:
            break
        thread.join(0.005)
    changes.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert names(b"".join(got)) == ["incident 1-a"]


def test_numbers_that_json_lacks_become_null():
    changes = Changes()
    stream = begun(changes)
    changes.tell([])
    next(stream)
    changes.tell([incident("a", 1, peak_share=float("nan"))])
    assert events(next(stream))[0][2]["peak_share"] is None
