"""Requests out of the bytes of a connection, within limits; nothing that comes can raise or grow without bound."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

HEAD_BYTES = 16_384
TARGET_BYTES = 8_192
FIELDS = 100
BODY_BYTES = 4_096  # read and dropped
A_METHOD = re.compile(rb"\s*[A-Z]{1,24} /")
A_SERVER = re.compile(rb"https?://[^/?]*")


@dataclass(frozen=True)
class Request:
    """One request: `path` and `query` (after the "?", "" for none), `headers` in lower case, and whether to go on."""

    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    version: str
    query: str = ""


class _Refused(Exception):
    """Ends the parsing from inside a callback."""


class Inbox:
    r"""Collects requests. `refused` is the status of what is wrong with the last one, 0 where nothing is.

    >>> inbox = Inbox()
    >>> inbox.feed(b"GET /metrics HTTP/1.1\r\nHost: a\r\n")
    []
    >>> [request.path for request in inbox.feed(b"\r\n")]
    ['/metrics']
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._done: list[Request] = []
        self._fed_bytes = 0  # since the last whole request
        self.refused = 0
        self.on_message_begin()
        self._inside = False

    @property
    def begun(self) -> bool:
        """Whether part of a request is here."""
        return self._inside or self._fed_bytes > 0

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes and return the requests that are whole now. What comes after `refused` is set is dropped."""
        self._fed_bytes += len(data)
        try:
            if not self.refused:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as if it had not asked for another protocol
        except httptools.HttpParserInvalidMethodError:
            self.refused = 405 if A_METHOD.match(data) else 400
        except httptools.HttpParserError:
            self.refused = self.refused or 400
        if self._fed_bytes > HEAD_BYTES + (BODY_BYTES if self._head_over else 0):
            self.refused = self.refused or 431
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Let go of the parser: the two hold each other. No more can be fed."""
        del self._parser

    def _refuse(self, status: int) -> None:
        self.refused = status
        raise _Refused

    def on_message_begin(self) -> None:
        """Start a request."""
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = self._fields = self._body_bytes = 0
        self._head_over = False
        self._inside = True

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self._target += part
        if len(self._target) > TARGET_BYTES:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take one field; what comes after the body counts for nothing."""
        value = value or b""
        self._head_bytes += len(name) + len(value) + 4
        self._fields += 1
        if self._fields > FIELDS or self._head_bytes > HEAD_BYTES:
            self._refuse(431)
        if self._head_over:
            return
        field, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if field in self._headers:
            if field in ("host", "authorization"):
                self._refuse(400)
            text = f"{self._headers[field]}, {text}"
        self._headers[field] = text

    def on_headers_complete(self) -> None:
        """Judge the head, before any body is waited for."""
        self._head_over = True
        if self._parser.get_method() not in (b"GET", b"HEAD"):
            self._refuse(405)
        if self._head_bytes + len(self._target) > HEAD_BYTES:
            self._refuse(431)
        if "host" not in self._headers and self._parser.get_http_version() != "1.0":
            self._refuse(400)
        length = self._headers.get("content-length", "0")
        if length.isdecimal() and int(length) > BODY_BYTES:
            self._refuse(413)

    def on_body(self, part: bytes) -> None:
        """Drop a part of a body."""
        self._body_bytes += len(part)
        if self._body_bytes > BODY_BYTES:
            self._refuse(413)

    def on_message_complete(self) -> None:
        """Keep the request."""
        target = A_SERVER.sub(b"", self._target, count=1) if self._target[:1] != b"/" else self._target
        path, _, query = target.partition(b"?")
        path = path or b"/"
        if path[:1] != b"/":
            self._refuse(400)
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        self._done.append(
            Request(
                self._parser.get_method().decode(), path.decode("latin-1"), self._headers, keep_alive,
                self._parser.get_http_version(), query.decode("latin-1"),
            )
        )  # fmt: skip
        self._fed_bytes = 0
        self._inside = False
