"""What goes back over a connection: the reply and the bytes of its head."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

TEXT = "text/plain; charset=utf-8"
REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
FIELDS = {
    401: 'WWW-Authenticate: Basic realm="skewscope", charset="UTF-8"\r\n',
    405: "Allow: GET, HEAD\r\n",
    429: "Retry-After: 1\r\n",
}
STREAMED = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n"  # the second is for nginx, which else waits for more
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Reply:
    """What is said to one request. `encoding` is "gzip" where the body is packed so, else "".

    With `parts` there is no body, but a stream that goes on while they come. Each part must come within a second;
    b"" says that there is nothing yet, and lets the server see whether the client is still there.
    """

    status: int
    content_type: str
    body: bytes
    encoding: str = ""
    parts: Generator[bytes, None, None] | None = None


# (path with its query, lower-case request headers) -> reply; it must return at once.
Pages = Callable[[str, Mapping[str, str]], Reply]


def said(status: int) -> Reply:
    """Return a reply that says no more than its status.

    >>> said(404).body.decode().strip()
    '404 Not Found'
    """
    return Reply(status, TEXT, f"{status} {REASONS.get(status, '')}\n".encode())


def date(now_s: float) -> str:
    """Return a time (s since the epoch) as HTTP writes it, whatever the locale.

    >>> date(784111777.0)
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(now_s)
    return f"{DAYS[weekday]}, {day:02} {MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02} GMT"


def head(reply: Reply, *, connection: str = "", extra: str = "", chunked: bool = True) -> bytes:
    r"""Return the head of a reply: `connection` is what to say of it ("" nothing), `extra` are whole lines more.

    A stream goes in chunks, or up to the end of the connection for a client of HTTP/1.0, which knows no chunks.

    >>> head(Reply(200, "text/plain", b"one\n"), connection="close").split(b"\r\n")[0]
    b'HTTP/1.1 200 OK'
    """
    lines = (
        f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, '')}\r\nDate: {date(time.time())}\r\n"
        f"Content-Type: {reply.content_type}\r\nVary: Accept, Accept-Encoding\r\n"
    )
    if reply.parts is None:
        lines += f"Content-Length: {len(reply.body)}\r\n"
    else:
        lines += f"{STREAMED}Transfer-Encoding: chunked\r\n" if chunked else STREAMED
    encoding = f"Content-Encoding: {reply.encoding}\r\n" if reply.encoding else ""
    kept = f"Connection: {connection}\r\n" if connection else ""
    return f"{lines}{encoding}{kept}{FIELDS.get(reply.status, '')}{extra}\r\n".encode("latin-1")
