"""A simulated fleet in the place of a real one: agents' pages on loopback as time goes by, and what came before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..feeds.contract import WINDOW_NS, Feed, Told
from ..signals.windows import WINDOW_S
from ..simulate import Simulation, scenario, simulate
from ..simulate.live_pages import LivePages
from ..web.server import Reply, Server

TEXT = "text/plain; version=0.0.4; charset=utf-8"
SEEN_WINDOWS = 8  # after the onset, when it begins: the fault is there to be seen
QUIET_WINDOWS = 30  # where there is none
CONNECTIONS = 256


class Rehearsal:
    """Serves the nodes of a scenario at http://127.0.0.1:PORT/NODE/metrics; the fault began a few minutes ago."""

    def __init__(
        self, name: str, seed: int = 0, ranks: int = 0, *, begin: int = -1, listen: str = "127.0.0.1:0",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        """Simulate; raises UsageError for a scenario that is not there. `begin` is the window to begin with."""
        self.simulation = simulate(scenario(name).sized(ranks, 0), seed)
        self.begin = begin if begin >= 0 else _begin(self.simulation)
        self.start_ns = clock_ns() // WINDOW_NS * WINDOW_NS - self.begin * WINDOW_NS
        self._pages = LivePages(self.simulation)
        self._clock_ns = clock_ns
        self._server = Server(listen, self._reply, max_connections=CONNECTIONS)

    def start(self) -> None:
        """Open the door."""
        self._server.start()

    def stop(self) -> None:
        """Close it."""
        self._server.stop()

    @property
    def targets(self) -> tuple[str, ...]:
        """What `feeds.scrape.Scrape` takes: NODE=URL of each node."""
        host, port = self._server.address
        return tuple(f"{node}=http://{host}:{port}/{node}/metrics" for node in self._pages.nodes)

    @property
    def end_ns(self) -> int:
        """When the simulated run is over, and stands still."""
        return self.start_ns + self.simulation.windows * WINDOW_NS

    def _reply(self, path: str, headers: Mapping[str, str]) -> Reply:
        node = path.partition("?")[0].strip("/").partition("/")[0]
        try:
            body = self._pages.page(node, (self._clock_ns() - self.start_ns) / 1e9)
        except KeyError:
            return Reply(404, TEXT, b"no such node\n")
        return Reply(200, TEXT, body) if body else Reply(503, TEXT, b"this node is silent\n")

    def past(self) -> Iterator[Told]:
        """Yield the windows before the beginning, as a feed would have told them."""
        yield from told_of(self.simulation, self.start_ns, 0, self.begin)


def told_of(simulation: Simulation, start_ns: int, first: int, last: int) -> Iterator[Told]:
    """Yield the windows `first` to `last` (not included) of a simulation as if it had begun at `start_ns`."""
    shift_ns = start_ns - simulation.world.scenario.start_ns
    moved = {name: _shifted(simulation.tables[name], shift_ns) for name in ("windows", "events", "ranks")}
    times, events_ns = moved["windows"]["t_ns"].to_numpy(), moved["events"]["t_ns"].to_numpy()
    nodes = frozenset(simulation.world.fleet.nodes)
    for window in range(first, last):
        end_ns = start_ns + (window + 1) * WINDOW_NS
        rows = moved["windows"][times == end_ns].reset_index(drop=True)
        inside = (events_ns > end_ns - WINDOW_NS) & (events_ns <= end_ns)
        there = set(rows["node"].astype(str).unique())
        tables = {"windows": rows, "events": moved["events"][inside].reset_index(drop=True), "ranks": moved["ranks"]}
        silent = tuple(sorted(nodes - there))
        yield Told(end_ns, tables, len(nodes), len(nodes) - len(silent), silent, (), int(rows["samples_count"].sum()))


def _shifted(table: pd.DataFrame, shift_ns: int) -> pd.DataFrame:
    moved = {
        name: np.where(table[name] >= 0, table[name] + shift_ns, -1) for name in ("t_ns", "start_ns", "end_ns")
        if name in table
    }  # fmt: skip
    return table.assign(**moved)


def _begin(simulation: Simulation) -> int:
    """Return the window to begin with: a few after the first fault, in the middle of the run where there is none."""
    onsets = [int(fault.onset_s // WINDOW_S) + SEEN_WINDOWS for fault in simulation.faults]
    wanted = max(min(onsets, default=QUIET_WINDOWS), 2 * SEEN_WINDOWS)
    return min(wanted, simulation.windows - 2)


@dataclass
class WithPast:
    """A feed that also knows what was before it began."""

    feed: Feed
    past: Callable[[], Iterator[Told]]

    def start(self) -> None:
        """Begin to collect."""
        self.feed.start()

    def window(self, end_ns: int) -> Told:
        """Return the window that ends at `end_ns`."""
        return self.feed.window(end_ns)

    def history(self, begin_ns: int, end_ns: int) -> Iterator[Told]:
        """Yield the past that lies in that time."""
        for told in self.past():
            if begin_ns < told.end_ns <= end_ns:
                yield told
        yield from self.feed.history(begin_ns, end_ns)

    def stop(self) -> None:
        """End collecting."""
        self.feed.stop()
