"""The lease: of several watchers on one audit only one acts, and nobody acts while another is at it.

A watcher holds the lease file locked as long as it lives, and renews a number in it. Where the lock says that nobody is
there (another host on a file system that does not share locks), the number has to stand still for the whole time of a
lease, by our own clock, before the holder counts as gone: clocks of two hosts are never compared. A command of a person
(`act`, `undo`) does not need the lease; it takes turns with the watcher by a second lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import SkewscopeError

LEASE_S, TURN_S = 60.0, 60.0  # a holder unheard for so long is gone; so long a command waits for its turn
POLL_S = 0.05


@dataclass(frozen=True)
class Held:
    """Whether we may act. `owner` holds the lease now ("" nobody); `taken_from` held it and is gone."""

    mine: bool
    owner: str = ""
    taken_from: str = ""


class Lease(Protocol):
    """Decides who acts. Kubernetes' Lease objects may stand behind it as well."""

    def take(self) -> Held:
        """Take or renew the lease, without waiting."""

    def working(self) -> Any:  # noqa: ANN401 - a context manager
        """Give a block in which nobody else acts; raises SkewscopeError where another does not end."""

    def release(self) -> None:
        """Give the lease back."""


def here() -> str:
    """Return a name for this process: host and number."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass
class Turns:
    """Lets one after the other work, by a lock on `path`.turn; `take` is always granted: for commands of people."""

    path: Path
    wait_s: float = TURN_S
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic

    def take(self) -> Held:
        """Return that we may act, in turn."""
        return Held(True, here())

    def release(self) -> None:
        """Do nothing."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """Give a block in which nobody else acts; raises SkewscopeError after `wait_s`."""
        file = _opened(self.path.with_name(f"{self.path.name}.turn"))
        try:
            until_s = self.clock_s() + self.wait_s
            while not _locked(file):
                if self.clock_s() >= until_s:
                    raise SkewscopeError(f"another one acts since more than {self.wait_s:g} s ({self.path}); try later")
                self.sleep(POLL_S)
            yield
        finally:
            os.close(file)


@dataclass
class FileLease(Turns):
    """A lease in a file. `owner` is a name of our own, `host` where we are; times are of our clock, in seconds."""

    owner: str = field(default_factory=here)
    host: str = field(default_factory=socket.gethostname)
    lease_s: float = LEASE_S
    _file: int = -1
    _count: int = 0
    _seen: tuple[str, int] | None = None  # owner and number of another
    _seen_s: float = 0.0

    def take(self) -> Held:
        """Take or renew the lease; raises SkewscopeError where the file cannot be used."""
        fresh = self._file < 0
        if fresh:
            file = _opened(self.path)
            if not _locked(file):
                owner = _told(file)["owner"]
                os.close(file)
                return Held(False, owner)
            self._file = file
        return self._renewed(fresh)

    def _renewed(self, fresh: bool) -> Held:
        told = _told(self._file)
        owner = told["owner"]
        if owner not in ("", self.owner) and not self._is_gone(told):
            self._drop()
            return Held(False, owner)
        self._count = max(self._count, told["count"]) + 1
        self._seen = None
        _write(self._file, {"owner": self.owner, "host": self.host, "count": self._count})
        return Held(True, self.owner, owner if fresh and owner != self.owner else "")

    def _is_gone(self, told: dict[str, Any]) -> bool:
        """Return whether another holder is gone: its lock is free on our own host, or its number stands still."""
        if told["host"] == self.host:
            return True
        now_s, seen = self.clock_s(), (told["owner"], told["count"])
        if seen != self._seen:
            self._seen, self._seen_s = seen, now_s
        return now_s - self._seen_s >= self.lease_s

    def release(self) -> None:
        """Give the lease back, so that another takes it at once."""
        if self._file >= 0:
            _write(self._file, {"owner": "", "host": "", "count": self._count + 1})
            self._drop()

    def _drop(self) -> None:
        file, self._file = self._file, -1
        os.close(file)


class Taken(Protocol):
    """A lease that is kept elsewhere, as an object of Kubernetes; what `take` returns has the fields of `Held`."""

    def take(self) -> Any:  # noqa: ANN401 - `Held` or alike
        """Take or renew it, without waiting; raises SkewscopeError where it cannot be asked."""

    def release(self) -> None:
        """Give it back."""


@dataclass
class BothLeases:
    """A lease that is ours only while both are: the file's, for those here, and one that other hosts see."""

    here: FileLease
    there: Taken

    def take(self) -> Held:
        """Take or renew both; raises SkewscopeError where the other cannot be asked: then nobody acts here."""
        held = self.here.take()
        if not held.mine:
            return held
        other = self.there.take()
        return Held(other.mine, other.owner, other.taken_from or held.taken_from if other.mine else "")

    def working(self) -> Any:  # noqa: ANN401 - a context manager
        """Give a block in which nobody else acts here."""
        return self.here.working()

    def release(self) -> None:
        """Give both back."""
        self.here.release()
        self.there.release()


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SkewscopeError(f"{path}: the lease cannot be used: {error.strerror or error}") from None


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(file: int) -> dict[str, Any]:
    try:
        told = json.loads(os.pread(file, 4096, 0) or b"{}")
        return {"owner": str(told.get("owner", "")), "host": str(told.get("host", "")), "count": int(told["count"])}
    except (ValueError, AttributeError, KeyError, TypeError):  # new, or half written
        return {"owner": "", "host": "", "count": 0}


def _write(file: int, told: dict[str, Any]) -> None:
    line = json.dumps(told).encode() + b"\n"
    os.pwrite(file, line, 0)
    os.ftruncate(file, len(line))
    os.fsync(file)
