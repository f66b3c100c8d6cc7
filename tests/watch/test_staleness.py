from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.feeds.contract import Told
from skewscope.watch.incidents import Seen
from skewscope.watch.staleness import AFTER_COUNT, Staleness

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))


def told(window: int, stale: tuple[str, ...], targets: int = 10, errors: tuple[str, ...] = ()) -> Told:
    return Told(F.at(window), {}, targets, targets - len(stale), stale, errors, 0)


def look(staleness: Staleness, *windows: tuple[str, ...], targets: int = 10):
    """Return what the last of the windows says."""
    found = []
    for at, stale in enumerate(windows, 1):
        found = list(staleness.look(told(at, stale, targets)))
    return found


def test_one_window_may_be_lost():
    staleness = Staleness()
    assert not look(staleness, ("n1",))
    assert not look(staleness, (), ("n1",))
    assert staleness.unknown([]) == {"n1"}


def test_a_host_that_stays_silent_is_named():
    (found,) = look(Staleness(), ("n1", "n2"), ("n1",), ("n1", "n2"))
    assert (found.condition, found.subject.id, found.severity, found.role) == ("telemetry-stale", "n1", "S3", "culprit")
    assert (found.window.start_ns, found.window.end_ns) == (F.at(0), F.at(3))
    assert "n1 told nothing for 90 s" in found.summary
    assert (found.evidence[0].value, found.evidence[0].threshold) == (3, AFTER_COUNT)


def test_most_of_the_fleet_is_one_finding():
    half = tuple(f"n{at}" for at in range(5))
    (found,) = look(Staleness(), half, half)
    assert (found.subject.id, found.subject.kind, found.severity) == ("fleet", "rack", "S2")
    assert "5 of 10 hosts (n0, n1, n2, n3, n4) told nothing for 60 s" in found.summary
    assert found.evidence[1].value == pytest.approx(0.5)
    assert len(look(Staleness(), half[:4], half[:4])) == 4


def test_many_hosts_are_one_finding_however_large_the_fleet_is():
    ten = tuple(f"n{at:02}" for at in range(10))
    (found,) = look(Staleness(), ten, ten, targets=1000)
    assert found.subject.id == "fleet" and "10 of 1000 hosts (n00, n01, n02, n03, n04 ...)" in found.summary
    assert len(look(Staleness(), ten[:9], ten[:9], targets=1000)) == 9


def test_what_was_many_stays_one_until_it_is_few():
    half = tuple(f"n{at}" for at in range(5))
    staleness = Staleness()
    look(staleness, half, half)
    (found,) = look(staleness, half[:3])
    assert found.subject.id == "fleet"
    assert [one.subject.id for one in look(staleness, half[:2])] == ["n0", "n1"]
    assert [one.subject.id for one in look(staleness, half[:3], half[:3])] == ["n0", "n1", "n2"]


@pytest.mark.parametrize("targets", [0, 1, 3])
def test_a_source_that_tells_nothing_is_one_finding(targets):
    names = tuple(f"n{at}" for at in range(targets))
    staleness = Staleness()
    (found,) = look(staleness, names, names, targets=targets)
    assert found.subject.id == "fleet"
    assert found.evidence[1].value == 1.0
    assert staleness.unknown(["n7", "n8"]) == {"n7", "n8"}


def test_the_reason_is_told():
    staleness = Staleness()
    list(staleness.look(told(1, ("n1",), 1)))
    (found,) = staleness.look(told(2, ("n1",), 1, ("http://p: refused",)))
    assert "; http://p: refused" in found.summary


def test_who_answers_again_is_forgotten():
    staleness = Staleness()
    assert look(staleness, ("n1",), ("n1",))
    assert not look(staleness, (), ("n1",))
    assert not look(staleness, ())
    assert staleness.unknown(["n1"]) == frozenset()


def test_the_fleet_and_its_hosts_are_one_incident_that_closes():
    staleness, story = Staleness(), F.Story()
    everyone = tuple(f"n{at}" for at in range(10))
    for stale in [("n1",)] * 3 + [everyone] * 3 + [("n1",)] * 2 + [()] * 6:
        found = [Seen(one) for one in staleness.look(told(story.window + 1, stale))]
        story.go(*found, silent=staleness.unknown(["n1", ""]))
    assert story.one.state == "closed"
    assert story.one.root.subject.id == "n1"
    assert {one.root.subject.id for board in story.boards for one in board.incidents} == {"n1", "fleet"}
