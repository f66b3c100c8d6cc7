"""Who is signed in, and who tried too often. Held in memory: a restart signs everybody out."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

COOKIE = "skewscope"
LASTS_S, IDLE_S = 12 * 3600.0, 2 * 3600.0
MOST = 2_000


class Sessions:
    """Sessions by the hash of their secret; one ends after 12 hours, or 2 without a request."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, tuple[str, float, float]] = OrderedDict()  # name, begun, seen

    def begin(self, name: str) -> str:
        """Return the secret of a new session."""
        secret, now_s = secrets.token_urlsafe(32), self._clock_s()
        with self._lock:
            self._open[_mark(secret)] = (name, now_s, now_s)
            while len(self._open) > MOST:
                self._open.popitem(last=False)
        return secret

    def name(self, secret: str) -> str:
        """Return who holds a secret, "" for nobody.

        >>> sessions = Sessions(); sessions.name(sessions.begin("ann")), sessions.name("x")
        ('ann', '')
        """
        mark, now_s = _mark(secret), self._clock_s()
        with self._lock:
            name, begun_s, seen_s = self._open.get(mark, ("", 0.0, 0.0))
            if not name:
                return ""
            if now_s - begun_s > LASTS_S or now_s - seen_s > IDLE_S:
                del self._open[mark]
                return ""
            self._open[mark] = (name, begun_s, now_s)
            return name

    def end(self, secret: str) -> None:
        """Sign out."""
        with self._lock:
            self._open.pop(_mark(secret), None)


class Attempts:
    """Counts failures by address: after `most` of them within `within_s` seconds the address must wait.

    >>> attempts = Attempts(most=1, clock_s=lambda: 0.0); attempts.failed("a"); attempts.may("a"), attempts.may("b")
    (False, True)
    """

    def __init__(self, most: int = 8, within_s: float = 60.0, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._most, self._within_s, self._clock_s = most, within_s, clock_s
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def may(self, address: str) -> bool:
        """Return whether an address may try."""
        with self._lock:
            return len(self._recent(address)) < self._most

    def failed(self, address: str) -> None:
        """Note a failure."""
        with self._lock:
            self._failed[address] = [*self._recent(address), self._clock_s()][-self._most :]
            self._failed.move_to_end(address)
            while len(self._failed) > MOST:
                self._failed.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        now_s = self._clock_s()
        return [at_s for at_s in self._failed.get(address, []) if now_s - at_s < self._within_s]


def _mark(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
