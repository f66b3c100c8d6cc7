"""Runs collectors one after another and turns whatever happens into an outcome."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from skewscope.catalogue import Room, rooms
from skewscope.contracts import Collector, Place
from skewscope.errors import NoData

from .exposition import MOST_SERIES, Block, Renderer

OK, NO_DATA, FAILED, HUNG = "ok", "no data", "failed", "hung"
REASON_LETTERS = 300
EMPTY: Block = {}


@dataclass(frozen=True)
class Outcome:
    """What one run of one collector came to; `reason` says why there is nothing."""

    collector: str
    state: str
    seconds: float
    reason: str = ""
    block: Block = field(default_factory=dict)
    series: int = 0
    dropped: int = 0
    group: str = ""  # of the collector: the node does not import those of another process


class Crew:
    """The collectors that run in one place. They are made at their first run."""

    def __init__(self, collectors: Mapping[str, Room], place: Place, most_series: int = MOST_SERIES) -> None:
        self._rooms = collectors
        self._place = place
        self._most_series = most_series
        self._made: dict[str, tuple[Collector, Renderer]] = {}

    def run(self, collector: str) -> Outcome:
        """Run one collector; never raises."""
        start_s = time.perf_counter()
        try:
            reader, renderer = self._made.get(collector) or self._make(collector)
            block, series, dropped = renderer.block(reader.collect())
        except NoData as nothing:
            return self._outcome(collector, NO_DATA, start_s, str(nothing))
        except Exception as error:  # the agent's loop: a fault becomes a metric
            return self._outcome(collector, FAILED, start_s, f"{type(error).__name__}: {error}")
        return self._outcome(collector, OK, start_s, "", block, series, dropped)

    def _outcome(
        self, collector: str, state: str, start_s: float, reason: str, block: Block = EMPTY, series: int = 0,
        dropped: int = 0,
    ) -> Outcome:  # fmt: skip
        made = self._made.get(collector)
        group = made[0].group if made else ""
        seconds = time.perf_counter() - start_s
        return Outcome(collector, state, seconds, reason[:REASON_LETTERS], block, series, dropped, group)

    def forget(self, collector: str) -> None:
        """Drop a collector that may be in any state; its next run makes a new one."""
        self._made.pop(collector, None)

    def _make(self, collector: str) -> tuple[Collector, Renderer]:
        made = self._rooms[collector].kind()(self._place), Renderer(self._most_series)
        self._made[collector] = made
        return made


def collectors(wanted: Iterable[str] = ()) -> dict[str, Room]:
    """Return the collectors by id: all of them, or those in `wanted`; "-nfs" in it takes one away.

    Raises UsageError naming near ids for one that does not exist.
    """
    from skewscope.catalogue import room

    names = list(wanted)
    without = {room("agents.collectors", name[1:]).id for name in names if name.startswith("-")}
    kept = {room("agents.collectors", name).id for name in names if name and not name.startswith("-") and name != "all"}
    everything = {found.id: found for found in rooms("agents.collectors")}
    return {key: found for key, found in everything.items() if (not kept or key in kept) and key not in without}


def process_of(collector: str) -> str:
    """Return the process that a collector runs in, which its name tells: "nvml" for those that call the driver.

    >>> process_of("nvml-device"), process_of("gpm-activity"), process_of("rdma")
    ('nvml', 'nvml', 'host')
    """
    return "nvml" if collector.startswith(("nvml-", "gpm-")) else "host"
