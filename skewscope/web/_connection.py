"""One connection: reads requests in its own thread, answers each, and ends when its client is done or too slow."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._reply import Pages, Reply, head, said
from ._request import Inbox, Request

if TYPE_CHECKING:
    from .web_config import WebConfig

RECEIVE_BYTES = 16_384
GREETING_MS = 250  # a head comes right behind the handshake
TLS_HEAD_BYTES = 5  # type, version, length of a record
LINGER_S = 0.5
LINGER_BYTES = 1 << 20
STREAMS = 8
HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR

log = logging.getLogger("skewscope.web")


@dataclass(frozen=True)
class Rules:
    """What holds for all connections of a server; `streams` counts down those that may still begin."""

    pages: Pages
    on_reply: Callable[[str, int], None]
    header_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    web: WebConfig | None = None
    streams: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(STREAMS))


class Connection:
    """Serves one client. `idle_since_s` is when it began to wait for a further request, 0 while it is busy.

    `speaking_since_s` is when the client began a request that is not whole yet, 0 where there is none.
    """

    def __init__(self, sock: socket.socket, rules: Rules) -> None:
        self._sock = sock
        self._rules = rules
        self._inbox = Inbox()
        self.idle_since_s = 0.0
        self.speaking_since_s = time.monotonic()

    def has_said_all(self) -> bool:
        """Return whether a whole head lies there unread: in TLS, the whole first record."""
        line = select.poll()
        line.register(self._sock, select.POLLIN)
        if not line.poll(GREETING_MS):
            return False
        said = socket.socket.recv(self._sock, RECEIVE_BYTES, socket.MSG_PEEK)
        if self._rules.web is not None and self._rules.web.tls:
            return len(said) >= TLS_HEAD_BYTES + int.from_bytes(said[3:TLS_HEAD_BYTES])
        return b"\r\n\r\n" in said

    def run(self) -> None:
        """Serve until the end; raises OSError where the connection breaks."""
        try:
            if self._open():
                self._serve()
        finally:
            self._inbox.close()
            if self._rules.web:
                self._rules.web.taken_leave(self._sock)
            self._sock.close()

    def turn_away(self) -> None:
        """Say 503 without waiting, where that can be said without TLS, and end."""
        self._rules.on_reply("", 503)
        self._inbox.close()
        with self._sock as sock:
            sock.setblocking(False)
            try:
                sock.recv(65_536)  # what lies unread at the end would turn the reply into a reset
            except OSError:
                pass  # nothing came yet
            if self._rules.web is None or not self._rules.web.tls:
                reply = said(503)
                sock.sendall(head(reply, connection="close") + reply.body)
            sock.shutdown(socket.SHUT_WR)

    def shut(self, how: int) -> None:
        """End it from another thread."""
        try:
            # Not the method of a TLS socket: that would drop the cipher while its thread still writes.
            socket.socket.shutdown(self._sock, how)
        except OSError:
            pass  # it is over already

    def _open(self) -> bool:
        """Return whether the client may speak: TLS is agreed on here, within the time that a head has."""
        web = self._rules.web
        if web is None or not web.tls:
            return True
        self._sock.settimeout(self._rules.header_timeout_s)
        self._sock = web.wrapped(self._sock)
        try:
            return web.shaken(self._sock)
        except TimeoutError:
            raise
        except OSError:
            self._linger()
            raise

    def _serve(self) -> None:
        header_s = self._rules.header_timeout_s
        until_s = time.monotonic() + header_s
        while data := self._received(until_s):
            if not self._inbox.begun:
                until_s = min(until_s, time.monotonic() + header_s)
            requests = self._inbox.feed(data)
            self.speaking_since_s = 0.0 if requests else self.speaking_since_s or time.monotonic()
            if not all(self._answer(request) for request in requests):
                return
            if self._inbox.refused:
                self._refuse(self._inbox.refused)
                return
            if requests and self._inbox.begun:
                self.speaking_since_s = time.monotonic()
                until_s = self.speaking_since_s + header_s
            elif requests:
                until_s = self._idle()

    def _idle(self) -> float:
        self.idle_since_s = time.monotonic()
        return self.idle_since_s + self._rules.idle_timeout_s

    def _received(self, until_s: float) -> bytes:
        """Return the next bytes, none at the end or when it took too long."""
        left_s = until_s - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError
            self._sock.settimeout(left_s)
            return self._sock.recv(RECEIVE_BYTES)
        except TimeoutError:
            if self._inbox.begun:
                self._refuse(408)
            return b""
        finally:
            self.idle_since_s = 0.0

    def _answer(self, request: Request) -> bool:
        """Send the reply to one request and return whether the connection goes on."""
        reply = self._reply(request)
        if reply.parts is None:
            self._begin(request, reply, goes_on=request.keep_alive)
            return request.keep_alive
        with closing(reply.parts):
            if request.method == "HEAD":
                self._begin(request, reply, goes_on=request.keep_alive)
                return request.keep_alive
            if not self._rules.streams.acquire(blocking=False):
                self._begin(request, said(503), goes_on=request.keep_alive)
                return request.keep_alive
            try:
                return self._stream(request, reply, reply.parts)
            finally:
                self._rules.streams.release()

    def _begin(self, request: Request, reply: Reply, *, goes_on: bool) -> None:
        """Send the head, and the body where there is one and it was asked for."""
        web, old = self._rules.web, request.version == "1.0"
        connection = ("keep-alive" if old else "") if goes_on else "close"
        self._rules.on_reply(request.path, reply.status)
        lines = head(reply, connection=connection, extra=web.lines if web else "", chunked=not old)
        self._send(lines, b"" if request.method == "HEAD" else reply.body)

    def _stream(self, request: Request, reply: Reply, parts: Generator[bytes, None, None]) -> bool:
        """Send parts while they come and the client is there; return whether the connection goes on."""
        chunked = request.version != "1.0"
        goes_on = request.keep_alive and chunked
        self._begin(request, reply, goes_on=goes_on)
        line = select.poll()
        line.register(self._sock, HUNG_UP)
        for part in parts:
            if part:
                self._send(b"%x\r\n" % len(part) if chunked else b"", part + b"\r\n" if chunked else part)
            if line.poll(0):  # the server's own stop shows so, too: it ends the reading of every connection
                goes_on = False
                break
        if chunked:
            self._send(b"0\r\n\r\n", b"")
        return goes_on

    def _reply(self, request: Request) -> Reply:
        try:
            status = self._rules.web.admitted(request.headers) if self._rules.web else 200
            where = f"{request.path}?{request.query}" if request.query else request.path
            return self._rules.pages(where, request.headers) if status == 200 else said(status)
        except Exception:
            log.exception("no reply could be made for %r", request.path[:80])
            return said(500)

    def _refuse(self, status: int) -> None:
        """Say what is wrong and end."""
        web = self._rules.web
        self._rules.on_reply("", status)
        reply = said(status)
        self._send(head(reply, connection="close", extra=web.lines if web else ""), reply.body)
        self._linger()

    def _linger(self) -> None:
        """End the sending and read on for a while: bytes left unread would make a reset that overtakes the reply."""
        self.shut(socket.SHUT_WR)
        until_s, left_bytes = time.monotonic() + LINGER_S, LINGER_BYTES
        while (left_s := until_s - time.monotonic()) > 0 and left_bytes > 0:
            self._sock.settimeout(left_s)
            data = socket.socket.recv(self._sock, RECEIVE_BYTES)
            if not data:
                break
            left_bytes -= len(data)

    def _send(self, lines: bytes, body: bytes) -> None:
        """Send all within the time for it, in one go where the client reads fast; copies no body."""
        until_s = time.monotonic() + self._rules.write_timeout_s
        self._sock.settimeout(self._rules.write_timeout_s)
        if self._rules.web and self._rules.web.tls:  # a TLS socket has no sendmsg
            sent = self._sock.send(lines or body)
        else:
            sent = self._sock.sendmsg((lines, body))
        for part in (lines, body):
            left = memoryview(part)[sent:]
            sent = max(sent - len(part), 0)
            while left:
                self._sock.settimeout(max(until_s - time.monotonic(), 0.001))
                left = left[self._sock.send(left) :]
