"""Two places where collectors run and can be given up: a thread of the agent, and the driver's own process.

A lane runs one turn at a time: `start(due)` begins it, outcomes come out of `outcomes()`, `busy()` says which
collector is running since when, and `hurry()` sees to those that take long or do not return.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from skewscope.catalogue import Room
from skewscope.contracts import Place

from .crew import HUNG, Crew, Outcome

STOP_WITHIN_S = 2.0


@dataclass(frozen=True)
class Busy:
    """What a lane is doing: the collector, since when (monotonic s), and on what if it knows."""

    collector: str
    since_s: float
    detail: str = ""


class Lane(Protocol):
    """What the node asks of a lane."""

    def start(self, due: Iterable[str]) -> bool:
        """Begin a turn; False where the lane cannot run now."""

    def busy(self) -> Busy | None:
        """Return what is running, None between turns."""

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes that came since the last call."""

    def hurry(self, now_s: float, patience_s: float, deadline_s: float) -> list[str]:
        """Let nobody wait for what runs longer than `patience_s`; give up what is past the deadline.

        Return those of the turn that have not run because of it.
        """

    def stop(self) -> None:
        """Let go of everything."""


class ThreadLane:
    """Runs collectors in a daemon thread; one that takes long keeps its thread, and a new thread goes on without it.

    Until its deadline it may still answer; then it counts as hung. It is not started again before it came back, so at
    most one thread a collector can be lost.
    """

    def __init__(self, rooms: Mapping[str, Room], place: Place, most_series: int, wake: Callable[[], None]) -> None:
        self._crew = Crew(rooms, place, most_series)
        self._wake = wake
        self._outcomes: deque[Outcome] = deque()
        self._lock = threading.Condition()
        self._turn: list[str] = []
        self._running: tuple[str, float] | None = None
        self._overtaken: dict[str, float] = {}  # collector -> since when it runs
        self._away: set[str] = set()  # given up
        self._worker: threading.Thread | None = None
        self._stopped = False

    def start(self, due: Iterable[str]) -> bool:
        """Begin a turn with those collectors that are not hanging still."""
        with self._lock:
            if self._stopped or self._turn or self._running:
                return False
            self._turn = [collector for collector in due if collector not in self._away | self._overtaken.keys()]
            self._go_on()
        return True

    def _go_on(self) -> None:
        if self._turn and self._worker is None:
            self._worker = threading.Thread(target=self._work, name="collectors", daemon=True)
            self._worker.start()
        self._lock.notify_all()

    def busy(self) -> Busy | None:
        """Return the running collector."""
        with self._lock:
            if self._running:
                return Busy(*self._running)
            return Busy(self._turn[0], time.monotonic()) if self._turn else None

    def outcomes(self) -> list[Outcome]:
        """Return what came since the last call."""
        taken = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        return taken

    def hurry(self, now_s: float, patience_s: float, deadline_s: float) -> list[str]:
        """Let the others overtake a collector that runs long, and give up those past the deadline."""
        with self._lock:
            if self._running and now_s - self._running[1] > min(patience_s, deadline_s):
                collector, since_s = self._running
                self._overtaken[collector] = since_s
                self._running, self._worker = None, None
                self._go_on()
            for collector, since_s in list(self._overtaken.items()):
                if now_s - since_s > deadline_s:
                    del self._overtaken[collector]
                    self._away.add(collector)
                    self._crew.forget(collector)
                    self._outcomes.append(Outcome(collector, HUNG, now_s - since_s, "it does not return"))
        return []

    def stop(self) -> None:
        """End the thread; the collector that it is running is waited for, if not for long."""
        with self._lock:
            self._stopped, self._turn = True, []
            self._lock.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join(STOP_WITHIN_S)

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._lock:
                while not self._turn and not self._stopped and self._worker is me:
                    self._lock.wait()
                if self._stopped or self._worker is not me:
                    return
                collector = self._turn.pop(0)
                self._running = (collector, time.monotonic())
            outcome = self._crew.run(collector)
            with self._lock:
                if self._worker is not me:
                    self._came_back(outcome)
                    return
                self._running = None
                self._outcomes.append(outcome)
                done = not self._turn
            if done:
                self._wake()

    def _came_back(self, outcome: Outcome) -> None:
        """Take the answer of one that was overtaken; that of one that was given up is too old."""
        if self._overtaken.pop(outcome.collector, None) is not None:
            self._outcomes.append(outcome)
        else:
            self._away.discard(outcome.collector)
