"""Two places where collectors run and can be given up: a thread of the agent, and the driver's own process.

A lane runs one turn at a time: `start(due)` begins it, outcomes come out of `outcomes()`, `busy()` says which
collector is running since when, and `give_up()` ends a turn whose collector does not return.
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

    def give_up(self) -> list[str]:
        """Give up the running collector; return those of the turn that have not run yet."""

    def stop(self) -> None:
        """Let go of everything."""


class ThreadLane:
    """Runs collectors in a daemon thread; a collector that hangs keeps its thread and a new one goes on.

    A hung collector is not started again before it came back, so at most one thread a collector can be lost.
    """

    def __init__(self, rooms: Mapping[str, Room], place: Place, most_series: int, wake: Callable[[], None]) -> None:
        self._crew = Crew(rooms, place, most_series)
        self._wake = wake
        self._outcomes: deque[Outcome] = deque()
        self._lock = threading.Condition()
        self._turn: list[str] = []
        self._running: tuple[str, float] | None = None
        self._away: set[str] = set()
        self._worker: threading.Thread | None = None
        self._stopped = False

    def start(self, due: Iterable[str]) -> bool:
        """Begin a turn with those collectors that are not hanging still."""
        with self._lock:
            if self._stopped or self._turn or self._running:
                return False
            self._turn = [collector for collector in due if collector not in self._away]
            if self._turn and self._worker is None:
                self._worker = threading.Thread(target=self._work, name="collectors", daemon=True)
                self._worker.start()
            self._lock.notify()
        return True

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

    def give_up(self) -> list[str]:
        """Leave the running collector to its thread and start another thread at the next turn."""
        with self._lock:
            left, self._turn = self._turn, []
            if self._running:
                collector, since_s = self._running
                self._away.add(collector)
                self._crew.forget(collector)
                self._outcomes.append(Outcome(collector, HUNG, time.monotonic() - since_s, "it does not return"))
                self._running, self._worker = None, None
        return left

    def stop(self) -> None:
        """End the thread after the collector that it is running."""
        with self._lock:
            self._stopped, self._turn = True, []
            self._lock.notify_all()

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
                if self._worker is not me:  # it was given up and came back
                    self._away.discard(collector)
                    return
                self._running = None
                self._outcomes.append(outcome)
                done = not self._turn
            if done:
                self._wake()
