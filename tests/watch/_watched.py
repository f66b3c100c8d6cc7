"""A feed that tells windows which a test gives it, and a clock that goes with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pandas as pd

from skewscope.feeds.contract import WINDOW_NS, Told
from skewscope.frames import empty
from skewscope.simulate import scenario, simulate
from skewscope.watch.rehearsal import told_of
from skewscope.watch.service import Plan, Service
from skewscope.watch.snapshot import Snapshot

START_NS = 1_750_000_020 * 10**9


@cache
def simulated(name: str, ranks: int = 16, seed: int = 5, steps: int = 0):
    return simulate(scenario(name).sized(ranks, steps), seed)


@cache
def told(name: str, first: int = 0, last: int = 0, **kw) -> tuple[Told, ...]:
    """Return windows of a simulation; counted from the window in which its first fault begins, where there is one."""
    made = simulated(name, **kw)
    onset = int(made.faults[0].onset_s // 30) if made.faults else 20
    return tuple(told_of(made, START_NS, onset + first, onset + last))


def nothing(end_ns: int, targets: int = 2) -> Told:
    """Return a window that nobody told anything in."""
    stale = tuple(f"n{at:03}" for at in range(targets))
    return Told(end_ns, {"windows": empty("windows"), "events": empty("events")}, targets, 0, stale, ("refused",), 0)


def without(one: Told, *nodes: str) -> Told:
    """Return a window in which these hosts were silent."""
    kept = {name: table[~table["node"].isin(nodes)].reset_index(drop=True) for name, table in one.tables.items()}
    return replace(one, tables=kept, answered=one.targets - len(nodes), stale=nodes)


def renamed(one: Told, job: str) -> Told:
    """Return a window in which the only job has another name."""
    tables = dict(one.tables)
    for name in ("windows", "ranks"):
        named = tables[name]["job"].astype(str)
        tables[name] = tables[name].assign(job=pd.Categorical(named.where(named == "", job)))
    return replace(one, tables=tables)


def moved(told: Told, shift_ns: int) -> Told:
    """Return a window of another time."""
    tables = {name: table.assign(t_ns=table["t_ns"] + shift_ns) if "t_ns" in table else table
              for name, table in told.tables.items()}  # fmt: skip
    return told.__class__(**{**vars(told), "end_ns": told.end_ns + shift_ns, "tables": tables})


class Feed:
    """Tells windows in order and then stops the service; `now_ns` is two seconds after the last."""

    def __init__(self, windows: Iterable[Told], past: Iterable[Told] = ()) -> None:
        self.windows, self.past = list(windows), list(past)
        self.now_ns = (self.windows or self.past)[0].end_ns - WINDOW_NS + 1
        self.asked: list[int] = []
        self.histories: list[tuple[int, int]] = []
        self.states: list[str] = []
        self.service: Service | None = None

    def start(self) -> None:
        self.states.append("started")

    def window(self, end_ns: int) -> Told:
        self.asked.append(end_ns)
        if not self.windows:
            self.service.stop()
            return nothing(end_ns)
        one = self.windows.pop(0)
        self.now_ns = one.end_ns + 2 * 10**9
        return one

    def history(self, begin_ns: int, end_ns: int):
        self.histories.append((begin_ns, end_ns))
        return iter([one for one in self.past if begin_ns < one.end_ns <= end_ns])

    def stop(self) -> None:
        self.states.append("stopped")


class Watched:
    """A service over windows; `turn` takes them one by one, `run` all."""

    def __init__(self, windows: Iterable[Told] = (), past: Iterable[Told] = (), **plan) -> None:
        windows = list(windows)
        self.feed = Feed(windows, past) if windows or past else None
        self.now_ns = START_NS
        self.snapshots: list[Snapshot] = []
        feed = self.feed or Feed([nothing(START_NS)])
        self.service = Service(Plan(feed, self.snapshots.append, clock_ns=self.clock_ns, **plan))
        feed.service = self.service

    def clock_ns(self) -> int:
        return self.feed.now_ns if self.feed else self.now_ns

    def turn(self, *windows: Told) -> Watched:
        for one in windows:
            self.now_ns = one.end_ns + 2 * 10**9
            self.service.turn(one)
        return self

    def run(self) -> Watched:
        self.service.run()
        return self

    @property
    def ready(self) -> tuple[str, ...]:
        return self.snapshots[-1].ready

    @property
    def metrics(self) -> str:
        return self.snapshots[-1].metrics.decode()

    def opened(self) -> list[tuple[str, str]]:
        """Return (condition, place) of all incidents, those of hosts that are silent too."""
        return sorted((one.root.condition, one.root.subject.id) for one in self.service.board.incidents)


class Receiver:
    """What a webhook gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, str]] = []

    def __call__(self, body: bytes, key: str) -> None:
        one = json.loads(body)
        self.got.append((one["event"], one["incident"]["condition"], one["incident"]["id"]))
