"""Serves ready pages over HTTP/1.1: a thread for each connection, few of them, none for long but for streams.

A request is parsed by httptools and answered from bytes that are made already. What a client can cost is bounded:
heads by size and time, bodies by size, connections and streams by number; when all are taken, the one that has been
idle longest makes room, else the one that is not done with speaking, else the new client is told 503. Half of the room
is for those alone who say all at once: hundreds of slow clients keep no other from an answer.

The threads take turns: one or two wait for a client, whoever gets it serves it, and a further one is started only
when nobody waits any more. So a client is handed from thread to thread by nobody, and a scrape starts none.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from . import _address
from ._connection import STREAMS, Connection, Rules
from ._reply import Pages as Pages
from ._reply import Reply as Reply

IDLE_TIMEOUT_S = 120.0  # above every usual scrape interval, so that scrapers keep their connection
WRITE_TIMEOUT_S = 10.0
PATIENCE_S = 0.05  # a crowd is over in a few milliseconds
PAUSE_S = 0.2
STOP_S = 1.0
SPARE_THREADS = 2
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger("skewscope.web")


def reachable(listen: str) -> bool:
    """Return whether other machines reach what listens at `listen`; raises UsageError for what cannot be meant."""
    return _address.reachable(_address.parse(listen))


def _ignore(path: str, status: int) -> None:
    """Count nothing."""


class Server:
    """Serves `pages` at an address; `on_reply(path, status)` hears of every reply, with path "" where none was read.

    Raises UsageError for an address or a configuration file that cannot be meant.
    """

    def __init__(
        self, listen: str, pages: Pages, *, web_config: Path | None = None, allow_plain: bool = False,
        max_connections: int = 32, max_streams: int = STREAMS, header_timeout_s: float = 5.0,
        idle_timeout_s: float = IDLE_TIMEOUT_S, write_timeout_s: float = WRITE_TIMEOUT_S,
        on_reply: Callable[[str, int], None] = _ignore,
    ) -> None:  # fmt: skip
        self._where = _address.parse(listen)
        self._bound = (self._where.text, 0)
        web = None
        if web_config is not None:
            from .web_config import WebConfig

            web = WebConfig(web_config)
        self._rules = Rules(pages, on_reply, header_timeout_s, idle_timeout_s, write_timeout_s, web,
                            threading.Semaphore(max_streams))  # fmt: skip
        self._plain_is_fine = allow_plain or self.secure
        self._most = max_connections
        self._open: set[Connection] = set()
        self._waiting = self._threads = 0
        self._exhausted = False
        self._room = threading.Condition()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._file: tuple[int, int] | None = None

    def start(self) -> None:
        """Bind and serve; raises UsageError that names the address and what to do."""
        self._listener = _address.listener(self._where, refuse_exposed=not self._plain_is_fine)
        self._file = _address.identity(self._where)
        if not self._where.path:
            self._bound = self._listener.getsockname()[:2]
        with self._room:
            self._hire()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: (host, port), or ("unix:/path", 0)."""
        return self._bound

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._rules.web is not None and self._rules.web.tls

    def stop(self) -> None:
        """Close the listener and all connections; a reply under way is finished if that takes no second."""
        self._stopping.set()
        if self._listener is None:
            return
        _address.close(self._listener, self._where, self._file)
        with self._room:
            for how in (socket.SHUT_RD, socket.SHUT_RDWR):
                self._shut_all(how)
                self._room.wait_for(lambda: not self._threads, STOP_S)

    def _shut_all(self, how: int) -> None:
        for connection in self._open:
            connection.shut(how)

    def _hire(self) -> None:
        """Start a thread; one more than there may be connections, so that one is left to turn others away."""
        if self._threads > self._most or self._stopping.is_set():
            return
        try:
            threading.Thread(target=self._work, name="http", daemon=True).start()
        except RuntimeError as error:
            log.error("no further thread for connections: %s", error)
        else:
            self._threads += 1
            self._waiting += 1

    def _work(self) -> None:
        """Serve connections, one after another, until there is no need for this thread."""
        assert self._listener is not None  # noqa: S101 - `start` made it
        while True:
            sock = None
            try:
                sock, _ = self._listener.accept()
                self._exhausted = False
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause(error)
            self._count_in(-1)
            if sock is not None:
                self._take(sock)
            if not self._count_in(1):
                return

    def _pause(self, error: OSError) -> None:
        """Wait a little for what is used up, or accept would spin; tell it once."""
        if not self._exhausted:
            self._exhausted = True
            log.error("no connection can be taken: %s", error)
        self._stopping.wait(PAUSE_S)

    def _count_in(self, change: int) -> bool:
        """Note that a thread stops waiting or wants to wait again; return whether it may."""
        with self._room:
            if change > 0 and (self._waiting >= SPARE_THREADS or self._stopping.is_set()):
                self._threads -= 1
                self._room.notify_all()
                return False
            self._waiting += change
            if not self._waiting:
                self._hire()
            return True

    def _take(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._rules)
        try:
            if self._found_room(connection):
                connection.run()
            else:
                connection.turn_away()
        except OSError as error:
            log.debug("a connection broke: %s", error)
        except Exception:
            log.exception("a connection failed")
        finally:
            with self._room:
                self._open.discard(connection)
                self._room.notify_all()

    def _found_room(self, connection: Connection) -> bool:
        """Add a connection to the open ones where there is room within a moment."""
        if self._is_crowded() and not connection.has_said_all():
            return False
        with self._room:
            leaving = self._in_the_way() if len(self._open) >= self._most else None
            if leaving is not None:
                # It may be busy again by now: with its reading end alone it finishes the reply first.
                leaving.shut(socket.SHUT_RD)
            found = self._room.wait_for(lambda: len(self._open) < self._most, PATIENCE_S)
            if not found or self._stopping.is_set():
                return False
            self._open.add(connection)
            return True

    def _is_crowded(self) -> bool:
        """Return whether half of the room is taken by clients who still speak."""
        with self._room:
            return sum(one.speaking_since_s > 0.0 for one in self._open) >= max(self._most // 2, 1)

    def _in_the_way(self) -> Connection | None:
        """Return who is idle longest, else who speaks longest; None where all are being answered."""
        resting = [(one.idle_since_s, one) for one in self._open if one.idle_since_s]
        speaking = [(one.speaking_since_s, one) for one in self._open if one.speaking_since_s]
        return min(resting or speaking, key=lambda told: told[0], default=(0.0, None))[1]
