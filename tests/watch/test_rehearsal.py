from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from skewscope import frames
from skewscope.errors import UsageError
from skewscope.feeds.contract import WINDOW_NS
from skewscope.feeds.scrape import Scrape
from skewscope.signals.windows import is_counter
from skewscope.watch.rehearsal import QUIET_WINDOWS, SEEN_WINDOWS, Rehearsal, WithPast, told_of

W = SimpleNamespace(**run_path(str(Path(__file__).with_name("_watched.py"))))
SERIES = ["metric", "labels", "node", "device", "job", "rank"]
HOT = "gpu-hw-slowdown"


class Clock:
    now_ns = W.START_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def rehearsal(clock):
    one = Rehearsal(HOT, 5, 16, clock_ns=clock)
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def scraped(clock, rehearsal):
    """Return the windows that a scraper at 15 s sees, the first of them without counters."""
    feed = Scrape(rehearsal.targets, interval_s=0.0, clock_ns=lambda: clock.now_ns + 10**9)
    feed.start()
    found, begun_ns = [], clock.now_ns
    for half in range(1, 9):
        clock.now_ns = begun_ns + half * WINDOW_NS // 2 - 1
        feed.ask(clock.now_ns)
        if half % 2 == 0:
            found.append(feed.window(clock.now_ns + 1))
    feed.stop()
    return found[1:]


def test_it_begins_some_windows_after_its_fault(rehearsal):
    (fault,) = rehearsal.simulation.faults
    assert rehearsal.begin == int(fault.onset_s // 30) + SEEN_WINDOWS
    assert rehearsal.end_ns == rehearsal.start_ns + rehearsal.simulation.windows * WINDOW_NS
    assert rehearsal.start_ns % WINDOW_NS == 0
    assert Rehearsal("healthy-rl", 0, 16).begin <= QUIET_WINDOWS
    assert Rehearsal(HOT, 0, 16, begin=3).begin == 3


def test_a_scenario_that_is_not_there():
    with pytest.raises(UsageError, match="no scenario"):
        Rehearsal("gpu-too-fast")


def test_a_scraper_sees_what_was_simulated(rehearsal, scraped):
    expected = list(told_of(rehearsal.simulation, rehearsal.start_ns, rehearsal.begin + 1, rehearsal.begin + 4))
    assert [one.end_ns for one in scraped] == [one.end_ns for one in expected]
    for told, true in zip(scraped, expected, strict=True):
        assert (told.stale, told.errors) == (true.stale, ())
        one, other = (table.set_index(SERIES) for table in (plain(told), plain(true)))
        assert one.index.is_unique and other.index.is_unique
        shared = one.index.intersection(other.index)
        assert len(shared) > 0.95 * len(one) > 1000
        counter = np.array([is_counter(name) for name in shared.get_level_values("metric")])
        for column, some in (("increase_value", counter), ("mean_value", ~counter)):
            ours, theirs = (table.loc[shared[some], column].to_numpy() for table in (one, other))
            assert len(ours) > 300
            # The scrapes of the simulation are not at the same moments as ours.
            near = np.isclose(ours, theirs, rtol=0.15, atol=2.0)
            assert near.mean() > 0.97, (column, shared[some][~near][:5].tolist())


def plain(told) -> pd.DataFrame:
    table = told.tables["windows"]
    return table.assign(**{name: table[name].astype(str) for name in SERIES if name != "rank"})


def test_the_past_is_told_as_a_feed_would(rehearsal):
    past = list(rehearsal.past())
    assert len(past) == rehearsal.begin
    assert past[-1].end_ns == rehearsal.start_ns + rehearsal.begin * WINDOW_NS
    for one in past:
        for name, table in one.tables.items():
            frames.check(name, table)
        assert set(one.tables["windows"]["t_ns"]) <= {one.end_ns}
        times = one.tables["events"]["t_ns"]
        assert ((times > one.end_ns - WINDOW_NS) & (times <= one.end_ns)).all()
        assert one.answered + len(one.stale) == one.targets == 3


def test_unknown_and_silent_nodes_have_no_page(rehearsal, clock):
    def status(path: str) -> int:
        base = rehearsal.targets[0].partition("=")[2].rsplit("/", 2)[0]
        try:
            with urllib.request.urlopen(base + path, timeout=5) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return int(error.code)

    now_ns = clock.now_ns
    assert [status(path) for path in ("/n000/metrics", "/n999/metrics", "/")] == [200, 404, 404]
    window, node = np.argwhere(rehearsal.simulation.world.replies <= 0)[0]
    clock.now_ns = rehearsal.start_ns + int((window + 0.5) * WINDOW_NS)
    assert status(f"/{rehearsal.simulation.world.fleet.nodes[node]}/metrics") == 503
    clock.now_ns = now_ns


def test_a_feed_with_a_past_tells_it_first(rehearsal):
    past = list(rehearsal.past())
    feed = W.Feed([W.nothing(past[-1].end_ns + WINDOW_NS)], [W.nothing(past[-1].end_ns)])
    both = WithPast(feed, rehearsal.past)
    found = list(both.history(past[3].end_ns, past[-1].end_ns))
    assert [one.end_ns for one in found] == [one.end_ns for one in past[4:]] + [past[-1].end_ns]
    both.start()
    assert both.window(0).end_ns == past[-1].end_ns + WINDOW_NS
    both.stop()
    assert feed.states == ["started", "stopped"]
