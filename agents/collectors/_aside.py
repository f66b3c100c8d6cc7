"""Questions to a server that may answer late: they are asked in a thread, so that no other collector waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Aside(Generic[Answer]):
    """Asks one question every so often; what came last can be had at any time. `ask` must end by itself."""

    def __init__(self, ask: Callable[[], Answer], interval_s: float) -> None:
        self._ask = ask
        self._interval_s = interval_s
        self._next_s: float | None = None
        self._thread: threading.Thread | None = None
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._answered_s = 0.0

    def look(self, now_s: float) -> Answer | None:
        """Return the newest answer, None before the first; raises what the newest question came to.

        An answer that is older than two intervals is none any more.
        """
        if self._thread is not None and not self._thread.is_alive():
            self._thread, self._answered_s = None, now_s
        if self._thread is None and (self._next_s is None or now_s >= self._next_s):
            self._next_s = now_s + self._interval_s
            self._thread = threading.Thread(target=self._run, name="question", daemon=True)
            self._thread.start()
        if self._error is not None:
            raise self._error.with_traceback(None)  # it is raised again and again: it must not grow
        return self._answer if now_s - self._answered_s <= 2 * self._interval_s else None

    def wait(self, timeout_s: float) -> None:
        """Wait for the question that is under way."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._answer, self._error = self._ask(), None
        except Exception as error:  # noqa: BLE001 - told by look(), in the collector's own turn
            self._answer, self._error = None, error
