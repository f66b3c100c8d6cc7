"""Who may ask, and how often: passwords checked with bcrypt, once, and a token bucket."""

from __future__ import annotations

import binascii
import os
import threading
import time
from collections.abc import Callable, Mapping

PATIENCE_S = 5.0  # for the check of another
REFUSED_KEPT = 256
PASSWORD_BYTES = 72  # bcrypt looks no further, and htpasswd and Go cut there in silence


class Login:
    """Checks names and passwords.

    A check takes tens of milliseconds of CPU by design, so only one runs at a time, and its outcome is kept as a keyed
    hash: one for each user let in, the latest few of those refused. The key lives as long as the process, and no
    password is kept. An unknown user costs as much as a known one.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._key = os.urandom(32)
        self._one_check = threading.Lock()
        self._passed: dict[bytes, bytes] = {}
        self._refused: dict[bytes, None] = {}
        self.set_users(users)

    def set_users(self, users: Mapping[str, str]) -> None:
        """Take other users and passwords; what was kept of changed ones counts no more."""
        import bcrypt

        cost = max((int(hashed[4:6]) for hashed in users.values()), default=10)
        self._nobody = bcrypt.gensalt(cost) + b"." * 31
        self._users = {name.encode(): hashed.encode() for name, hashed in users.items()}
        self._passed = {user: mark for user, mark in self._passed.items() if user in self._users}

    def status(self, authorization: str) -> int:
        """Return 200, 401 or 503 (too busy to tell) for the value of an Authorization field, "" where none came."""
        given = _credentials(authorization)
        if given is None:
            return 401
        user, password = given
        hashed = self._users.get(user)
        mark = self._mark(user, hashed or self._nobody, password)
        if (known := self._remembered(user, mark)) is not None:
            return known
        import bcrypt

        if not self._one_check.acquire(timeout=PATIENCE_S):
            return 503
        try:
            if (known := self._remembered(user, mark)) is not None:
                return known
            right = bcrypt.checkpw(password[:PASSWORD_BYTES], hashed or self._nobody) and hashed is not None
            self._remember(user, mark, right)
        finally:
            self._one_check.release()
        return 200 if right else 401

    def _mark(self, user: bytes, hashed: bytes, password: bytes) -> bytes:
        import hmac

        return hmac.digest(self._key, b"%d:%b%b%b" % (len(user), user, hashed, password), "sha256")

    def _remembered(self, user: bytes, mark: bytes) -> int | None:
        import hmac

        if hmac.compare_digest(self._passed.get(user, b""), mark):
            return 200
        return 401 if mark in self._refused else None

    def _remember(self, user: bytes, mark: bytes, right: bool) -> None:
        if right:
            self._passed[user] = mark
            return
        self._refused[mark] = None
        if len(self._refused) > REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return (user, password), None where there are none.

    >>> _credentials("Basic cHJvbTpwYXNz")
    (b'prom', b'pass')
    """
    scheme, _, packed = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = binascii.a2b_base64(packed.strip(), strict_mode=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if colon else None


class Bucket:
    """A token bucket: one more request every `interval_s`, at most `burst` at once."""

    def __init__(self, interval_s: float, burst: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.interval_s, self.burst = interval_s, burst
        self._clock_s = clock_s
        self._tokens, self._at_s = float(burst), clock_s()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether one more request is due."""
        if not self.interval_s:
            return True
        with self._lock:
            now_s = self._clock_s()
            self._tokens = min(float(self.burst), self._tokens + (now_s - self._at_s) / self.interval_s)
            self._at_s = now_s
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
