"""Asks again and again, and shows the last answer; a source that fails leaves what was shown, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import SkewscopeError
from .frame import Frame, merged

TICK_S = 0.1


class Source(Protocol):
    """Something that knows how a job is."""

    def frame(self) -> Frame:
        """Return how it is now; raises SkewscopeError where that cannot be told."""


class Asking:
    """What was heard last of all sources together, and what is wrong since when; asked by a thread of its own."""

    def __init__(self, sources: Sequence[Source], clock_s: Callable[[], float] = time.time) -> None:
        self._sources, self._clock_s = tuple(sources), clock_s
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._last: dict[int, Frame] = {}
        self._heard: tuple[Frame | None, str, float] = (None, "", 0.0)
        self.rounds = 0

    @property
    def heard(self) -> tuple[Frame | None, str, float]:
        """The last frame, what is wrong ("" for nothing), and since when (s since the epoch)."""
        with self._lock:
            return self._heard

    def look(self) -> None:
        """Ask every source once; one that fails keeps what it said last."""
        troubles = []
        for place, source in enumerate(self._sources):
            try:
                self._last[place] = source.frame()
            except SkewscopeError as error:
                troubles.append(str(error))
            except Exception as error:  # noqa: BLE001 - a view that lives for days must outlive any answer
                troubles.append(f"unexpected {type(error).__name__}: {error}")
        frame = merged([self._last[place] for place in sorted(self._last)]) if self._last else None
        trouble = "; ".join(troubles)
        with self._lock:
            since_s = self._heard[2] if self._heard[1] and trouble else self._clock_s()
            self._heard = frame, trouble, since_s if trouble else 0.0
        self.rounds += 1

    def keep_on(self, interval_s: float) -> threading.Thread:
        """Look every `interval_s` seconds until `end`, in a thread."""

        def run() -> None:
            while not self._ended.is_set():
                began_s = time.monotonic()
                self.look()
                self._ended.wait(max(TICK_S, interval_s - (time.monotonic() - began_s)))

        thread = threading.Thread(target=run, name="top", daemon=True)
        thread.start()
        return thread

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
