"""Where clients of the dashboard wait until they have said all: a thread is given to nobody who still speaks.

Each of the few threads could be held by a client that sends a byte a second, for ever. So a connection stays with the
selector until its request lies in the kernel's buffer as a whole: head and body, or in TLS one whole record. How much
is to come is told to the kernel (SO_RCVLOWAT), so that single bytes wake nobody. Who needs too long is let go.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from typing import Any

from cheroot import wsgi

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n", re.IGNORECASE)
AWAITS = re.compile(rb"\r\n(expect:|transfer-encoding:)", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"
TLS_HEAD_BYTES = 5  # type, version, length of a record
TLS_TYPES = range(20, 24)
MOST_WAITING = 512


def missing_bytes(said: bytes, most_head: int, most_body: int, *, tls: bool) -> int:
    """Return how many bytes more a request must have at least before it is whole; 0 where a thread may read it.

    >>> missing_bytes(b"GET / HT", 99, 99, tls=False), missing_bytes(HEAD, 99, 99, tls=False)
    (1, 3)
    >>> missing_bytes(bytes((22, 3, 1, 0, 9)), 99, 99, tls=True), missing_bytes(b"GET / HT", 99, 99, tls=True)
    (9, 0)
    """
    if tls and said and said[0] not in TLS_TYPES:  # spoken plainly: its handshake fails at once
        return 0
    if tls:
        whole = (
            TLS_HEAD_BYTES + int.from_bytes(said[3:TLS_HEAD_BYTES]) if len(said) >= TLS_HEAD_BYTES else 1 + len(said)
        )
        return max(whole - len(said), 0)
    end = said.find(HEAD_END)
    if end < 0:
        return 1 if len(said) < most_head else 0
    head = said[: end + 2]
    told = LENGTH.search(head)
    if told is None or AWAITS.search(head):
        return 0
    body = int(told[1])
    return max(end + len(HEAD_END) + body - len(said), 0) if body <= most_body else 0


HEAD = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"


class Patient(wsgi.Server):
    """A server of cheroot whose threads read only what is there."""

    _connections: Any

    def process_conn(self, conn: Any) -> None:  # noqa: ANN401 - a connection of cheroot
        """Give a connection to a thread, or let it wait on."""
        if conn.rfile.has_data() or not (more := self._missing(conn)):
            socket.socket.setsockopt(conn.socket, socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            conn.said_bytes = -1
            super().process_conn(conn)
            return
        socket.socket.setsockopt(conn.socket, socket.SOL_SOCKET, socket.SO_RCVLOWAT, more + max(conn.said_bytes, 0))
        chosen = self._connections._selector
        chosen.register(conn.socket.fileno(), selectors.EVENT_READ, data=conn)
        if len(chosen) > MOST_WAITING:
            self._let_go()

    def _missing(self, conn: Any) -> int:  # noqa: ANN401
        """Return how much must still come. Woken without a further byte, the client is at its end: a thread sees it."""
        before = getattr(conn, "said_bytes", -1)
        if before < 0:
            conn.last_used = time.time()  # so long it may take from now on: see `timeout`
        most_head, most_body = self.max_request_header_size, self.max_request_body_size
        said = peeked(conn.socket, most_head + most_body)
        if said is None:
            conn.said_bytes = 0
            return 1
        if len(said) <= before or not said:
            return 0
        conn.said_bytes = len(said)
        return missing_bytes(said, most_head, most_body, tls=self.ssl_adapter is not None)

    def _let_go(self) -> None:
        """Close who waits longest."""
        waiting = [(conn.last_used, number, conn) for number, conn in self._connections._selector.connections
                   if conn is not self]  # fmt: skip
        _, number, conn = min(waiting, key=lambda told: told[:2])
        self._connections._selector.unregister(number)
        conn.close()


def peeked(sock: socket.socket, most: int) -> bytes | None:
    """Return what lies unread, b"" at the end or where the line broke; None where nothing came yet."""
    timeout_s = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        return socket.socket.recv(sock, most, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    finally:
        sock.settimeout(timeout_s)
