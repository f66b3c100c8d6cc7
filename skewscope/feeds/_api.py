"""The HTTP API of Prometheus and of servers that speak it: asks, tries again, and says what went wrong."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from skewscope.errors import SkewscopeError, UsageError

from ..web.access import Access
from ..web.shown import without_login

AGAIN = (408, 425, 429, 500, 502, 503, 504)
TOO_MUCH = (413, 422)
LONGEST_PAUSE_S = 8.0
FIRST_PAUSE_S = 0.25
MOST_BYTES = 1 << 29
BLOCK_BYTES = 1 << 20


class Asked(SkewscopeError):
    """A query was not answered; the text says why."""


class TooMuch(Asked):
    """The server refuses to give so much at once: ask for less."""


class Slow(Asked):
    """The server did not answer in time."""


class Row(msgspec.Struct):
    """One series of an answer: its labels as they came, and its samples (time in s, value)."""

    metric: msgspec.Raw
    values: list[tuple[float, str]] = []
    value: tuple[float, str] = (0.0, "NaN")


class _Data(msgspec.Struct):
    result: list[Row] | None = None


class _Answer(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""
    warnings: list[str] | None = None
    isPartial: bool = False  # noqa: N815 - as VictoriaMetrics writes it


_DECODER = msgspec.json.Decoder(_Answer)


@dataclass
class Reply:
    """Rows of an answer, and what the server warned of: where it warned, some of them may be missing."""

    rows: list[Row]
    warnings: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not self.warnings


class Api:
    """Asks one server; not more than one thread at a time may.

    `deadline` is a time of the monotonic clock: nothing is tried after it. `stopped` ends a pause.
    """

    def __init__(self, url: str, access: Access, timeout_s: float, tries: int) -> None:
        self.url = without_login(url).rstrip("/")  # as it is shown
        try:
            parts = urlsplit(url)
            host, self.port = parts.hostname, parts.port
        except ValueError:  # its text holds what stands where a port should
            host = None
        if host is None or parts.scheme not in ("http", "https") or parts.username is not None:
            raise UsageError(f"{self.url!r} is no address of a server: give http[s]://HOST:PORT[/PATH]")
        self.host, self.path = host, parts.path.rstrip("/")
        self.access = access
        self.tls = access.tls() if parts.scheme == "https" else None
        self.timeout_s, self.tries = timeout_s, tries
        self.deadline = float("inf")
        self.most_bytes = MOST_BYTES
        self.stopped = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def query(self, query: str, time_s: float, *, patient: bool = True) -> Reply:
        """Return the answer of an instant query at `time_s`; raises Asked.

        What takes too long is asked again only if `patient`: a large query would take as long again.
        """
        # nocache: VictoriaMetrics moves the time of a query for the newest data otherwise.
        form = {"query": query, "time": f"{time_s:.3f}", "timeout": f"{self.timeout_s:g}s", "nocache": "1"}
        answer = self._answer("/api/v1/query", urlencode(form).encode(), patient=patient)
        warnings = [f"{self.url}: {warning}" for warning in answer.warnings or ()]
        if answer.isPartial:
            warnings.append(f"{self.url}: a partial answer: part of the data is missing")
        return Reply(answer.data.result or [], warnings)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _answer(self, path: str, form: bytes, *, patient: bool) -> _Answer:
        pause_s, reason, failure = FIRST_PAUSE_S, "", Asked
        for tried in range(self.tries):
            if tried and not self._pause(pause_s):
                break
            try:
                status, headers, body = self._post(path, form)
            except (OSError, http.client.HTTPException) as error:
                reason, pause_s = f"{self.url}: {_reason(error, self.timeout_s)}", pause_s * 2
                failure = Slow if isinstance(error, TimeoutError) else Asked
                if failure is Slow and not patient:
                    break
                continue
            if status in AGAIN:
                reason = f"{self.url}: HTTP status {status}{_said(body)}"
                pause_s = _retry_after_s(headers) or pause_s * 2
                continue
            try:
                return self._understood(status, body)
            except msgspec.DecodeError as error:
                reason, pause_s = f"{self.url}: no answer that can be read ({error})", pause_s * 2
        raise failure(reason or f"{self.url}: no time is left to ask")

    def _understood(self, status: int, body: bytes) -> _Answer:
        if status in TOO_MUCH:
            raise TooMuch(f"{self.url}: HTTP status {status}{_said(body)}")
        if status != http.client.OK:
            raise Asked(f"{self.url}: HTTP status {status}{_said(body)}")
        answer = _DECODER.decode(body)
        if answer.status != "success":
            raise Asked(f"{self.url}: {answer.error or answer.status}")
        return answer

    def _pause(self, seconds: float) -> bool:
        """Wait; return whether there is time for another try."""
        seconds = min(seconds, LONGEST_PAUSE_S)
        if time.monotonic() + seconds >= self.deadline:
            return False
        return not self.stopped.wait(seconds)

    def _post(self, path: str, form: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Return (status, headers, body); the connection is kept where all went well."""
        left_s = min(self.timeout_s, self.deadline - time.monotonic())
        if left_s <= 0:
            raise TimeoutError
        reused = self._connection is not None
        connection = self._connection or self._opened()
        self._connection = None
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "skewscope"}
        until = time.monotonic() + left_s
        try:
            connection.timeout = left_s
            if connection.sock is not None:
                connection.sock.settimeout(left_s)
            connection.request("POST", self.path + path, form, {**headers, **self.access.lines()})
            response = connection.getresponse()
            body = _body(response, until, self.most_bytes)
        except (TooMuch, http.client.HTTPException, OSError) as error:
            connection.close()
            if reused and isinstance(error, ConnectionError):  # closed while it was kept
                return self._post(path, form)
            raise
        if response.will_close:
            connection.close()
        else:
            self._connection = connection
        return response.status, dict(response.headers.items()), body

    def _opened(self) -> http.client.HTTPConnection:
        if isinstance(self.tls, ssl.SSLContext):
            return http.client.HTTPSConnection(self.host, self.port, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port)


def _body(response: http.client.HTTPResponse, until: float, most_bytes: int) -> bytes:
    parts, size = [], 0
    while block := response.read(BLOCK_BYTES):
        parts.append(block)
        size += len(block)
        if size > most_bytes:
            raise TooMuch(f"an answer of more than {most_bytes} bytes")
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(parts)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    told: Any = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(told) if told.isdecimal() else 0.0


def _said(body: bytes) -> str:
    """Return what a server says of its refusal, for the end of a line.

    >>> _said(b'{"status": "error", "error": "too many samples"}'), _said(b"<html>no</html>"), _said(b"")
    (': too many samples', ': <html>no</html>', '')
    """
    try:
        text = msgspec.json.decode(body, type=dict[str, Any]).get("error", "")
    except msgspec.DecodeError:
        text = body[:200].decode("utf-8", "replace").strip()
    return f": {text}" if text else ""


def _reason(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
