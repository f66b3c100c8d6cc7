"""TLS, passwords, headers and a rate limit out of the web configuration file that exporters share (YAML).

The file and the certificates and keys it names are looked at for every connection and request, and read again when
they have changed, so certificates rotate and users come and go without a restart. A new version that cannot be used
is logged once, and the old one stays. Only TLS itself cannot be switched on or off that way.

Of what the format knows, three things differ. HTTP/2 is not spoken. A certificate that is asked for is always checked,
so RequireAnyClientCert checks too, and RequestClientCert asks for none. A list of several curves takes effect from
Python 3.15 on; before, OpenSSL's own order holds.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from skewscope.errors import UsageError

from . import _web_file
from ._login import Bucket, Login
from ._web_file import WebFile

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("skewscope.web")
Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class _State:
    """One version of the file, ready to use."""

    file: WebFile
    context: ssl.SSLContext | None
    lines: str
    bucket: Bucket


class WebConfig:
    """Holds one file; raises UsageError where its first version cannot be used. Threads may share it."""

    def __init__(self, path: Path, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._stamps: dict[Path, Stamp] = {}
        self._login: Login | None = None
        self._state = self._read(None)
        self._use(self._state)
        self.tls = self._state.file.tls is not None

    @property
    def lines(self) -> str:
        """The header lines that every reply carries."""
        return self._state.lines

    @property
    def users(self) -> frozenset[str]:
        """The names that have a password; with none, everybody is let in."""
        return frozenset(self._state.file.users)

    def refresh(self) -> None:
        """Read the files again where one has changed; never raises for what they say."""
        if all(_stamp(path) == stamp for path, stamp in self._stamps.items()):
            return
        with self._lock:
            if all(_stamp(path) == stamp for path, stamp in self._stamps.items()):
                return
            try:
                new = self._read(self._state)
                if (new.file.tls is not None) != self.tls:
                    raise UsageError(f"{self._path}: switching TLS on or off needs a restart")
            except UsageError as error:
                log.error("the web configuration stays as it was: %s", error)
                return
            self._use(new)
        log.info("%s read again", self._path)

    def admitted(self, headers: Mapping[str, str]) -> int:
        """Return the status for a request with these headers: 200 where it may be answered."""
        self.refresh()
        if not self._state.bucket.take():
            return 429
        login = self._login
        return login.status(headers.get("authorization", "")) if login else 200

    def wrapped(self, sock: socket.socket) -> socket.socket:
        """Return a socket for TLS, its handshake still to come."""
        self.refresh()
        context = self._state.context
        assert context is not None  # noqa: S101 - asked with TLS alone
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def shaken(self, sock: socket.socket) -> bool:
        """Agree on TLS and return whether the client is let in; raises OSError."""
        from . import _tls

        tls = self._state.file.tls
        return _tls.shaken(cast("ssl.SSLSocket", sock), tls.client_allowed_sans if tls else ())

    def taken_leave(self, sock: socket.socket) -> None:
        """End TLS on a socket that is to be closed."""
        if self.tls and hasattr(sock, "unwrap"):
            from . import _tls

            _tls.taken_leave(cast("ssl.SSLSocket", sock))

    def _read(self, old: _State | None) -> _State:
        # Stamps come before contents: what changes in between is seen the next time.
        self._stamps = {**self._stamps, self._path: _stamp(self._path)}
        file = _web_file.read(self._path)
        named = file.tls.files if file.tls else ()
        self._stamps = {path: _stamp(path) for path in named} | {self._path: self._stamps[self._path]}
        bucket = old.bucket if old else None
        if bucket is None or (bucket.interval_s, bucket.burst) != (file.interval_s, file.burst):
            bucket = Bucket(file.interval_s, file.burst, self._clock_s)
        return _State(file, self._context(file), _lines(file.headers), bucket)

    def _context(self, file: WebFile) -> ssl.SSLContext | None:
        if file.tls is None:
            return None
        from . import _tls

        try:
            return _tls.context(file.tls)
        except UsageError as error:
            raise UsageError(f"{self._path}: {error}") from error

    def _use(self, new: _State) -> None:
        if new.file.http2:
            log.info("%s: HTTP/2 is not spoken here; HTTP/1.1 serves the same", self._path)
        if not new.file.users:
            self._login = None
        elif self._login:
            self._login.set_users(new.file.users)
        else:
            self._login = Login(new.file.users)
        self._state = new


def _stamp(path: Path) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
