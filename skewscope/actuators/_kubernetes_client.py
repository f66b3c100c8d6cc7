"""Speaks to a Kubernetes API server: plain REST over http.client, one connection a request, no redirects followed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..errors import SkewscopeError
from ._kubernetes_login import Login

MANAGER = "skewscope"
PAGE = 500
MOST_BYTES = 256 << 20
PIECE_BYTES = 1 << 20
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
Object = dict[str, Any]


class NoAnswer(SkewscopeError):
    """The API server could not be reached, or broke off."""


class Refusal(SkewscopeError):
    """The API server said no: `status` and `reason` are its own, `after_s` when to try again at the earliest."""

    def __init__(self, status: int, reason: str, text: str, after_s: float = 0.0) -> None:
        super().__init__(f"Kubernetes: {status} {reason}: {text}" if reason else f"Kubernetes: {status}: {text}")
        self.status, self.reason, self.after_s = status, reason, after_s


def path(*parts: str) -> str:
    """Return a path whose parts are quoted, so that no name can lead elsewhere.

    >>> path("api", "v1", "nodes", "../n 1")
    '/api/v1/nodes/..%2Fn%201'
    """
    return "/" + "/".join(quote(part, safe="") for part in parts)


class _Named(HTTPSConnection):
    """Expects another name in the server's certificate than that of the host."""

    def __init__(self, host: str, port: int | None, name: str, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(host, port, **options)
        self._name, self._trust = name, options["context"]

    def connect(self) -> None:
        HTTPConnection.connect(self)
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._name)


@dataclass
class Client:
    """One API server. Each request ends within about twice `timeout_s`."""

    login: Login
    timeout_s: float = 10.0
    kept: dict[str, Any] = field(default_factory=dict, repr=False)  # what does not change: the server's version

    def get(self, where: str, **query: str) -> Object:
        """Return an object; raises Refusal (404 where there is none) and NoAnswer."""
        return self._object(self._said("GET", where, query))

    def text(self, where: str, **query: str) -> str:
        """Return a text, as the log of a pod."""
        return self._said("GET", where, query).decode("utf-8", "replace")

    def found(self, where: str, **query: str) -> Object | None:
        """Return an object, None where there is none."""
        try:
            return self.get(where, **query)
        except Refusal as error:
            if error.status != 404:
                raise
            return None

    def listed(self, where: str, **query: str) -> Iterator[Object]:
        """Yield all objects of a list, page by page."""
        query = {**query, "limit": str(PAGE)}
        while True:
            page = self.get(where, **query)
            yield from page.get("items") or ()
            query["continue"] = str((page.get("metadata") or {}).get("continue") or "")
            if not query["continue"]:
                return

    def send(self, method: str, where: str, body: Any, *, dry_run: bool = False) -> Object:  # noqa: ANN401 - any JSON
        """Create, change or delete; with `dry_run` the server checks it and keeps nothing.

        Raises Refusal and NoAnswer. A patch of a node's or pod's status merges lists by key, any other replaces them.
        """
        query = {"dryRun": "All"} if dry_run else {}
        if method in ("POST", "PATCH", "PUT"):
            query["fieldManager"] = MANAGER
        kind = "application/json"
        if method == "PATCH":
            kind = STRATEGIC if where.endswith("/status") else MERGE
        return self._object(self._said(method, where, query, body, kind))

    def _object(self, said: bytes) -> Object:
        try:
            found = json.loads(said)
        except ValueError:
            raise NoAnswer(f"{self.login.server}: the answer is no JSON") from None
        if not isinstance(found, dict):
            raise NoAnswer(f"{self.login.server}: the answer is no object")
        return found

    def _said(
        self, method: str, where: str, query: Mapping[str, str], body: object = None, kind: str = "application/json"
    ) -> bytes:
        try:
            return self._once(method, where, query, body, kind)
        except Refusal as error:
            if error.status != 401:
                raise
            self.login.forget()  # a token that ended early: once more, with a fresh one
            return self._once(method, where, query, body, kind)

    def _once(self, method: str, where: str, query: Mapping[str, str], body: object, kind: str) -> bytes:
        base = urlsplit(self.login.server)
        asked = base.path.rstrip("/") + where + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "User-Agent": MANAGER, **self.login.headers()}
        sent = None if body is None else json.dumps(body).encode()
        if sent is not None:
            headers["Content-Type"] = kind
        connection = self._connection()
        try:
            connection.request(method, asked, sent, headers)
            reply = connection.getresponse()
            said = self._read(reply)
        except (OSError, HTTPException, ValueError) as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())
            raise NoAnswer(f"{base.scheme}://{base.netloc}: no answer: {told}") from None
        finally:
            connection.close()
        if reply.status >= 300:
            raise _refusal(reply, said)
        return said

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.login.server)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return HTTPConnection(host, parts.port, timeout=self.timeout_s)
        if self.login.server_name:
            return _Named(host, parts.port, self.login.server_name, timeout=self.timeout_s, context=self.login.tls())
        return HTTPSConnection(host, parts.port, timeout=self.timeout_s, context=self.login.tls())

    def _read(self, reply: HTTPResponse) -> bytes:
        """Return the body; a server that trickles, or never ends, is left."""
        pieces, size, until_s = [], 0, time.monotonic() + self.timeout_s
        while piece := reply.read1(PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES or time.monotonic() > until_s:
                raise TimeoutError("the answer is too long")
        said = b"".join(pieces)
        if reply.length:  # of what was announced; reading in pieces does not say so by itself
            raise IncompleteRead(said, reply.length)
        return said


def _refusal(reply: HTTPResponse, said: bytes) -> Refusal:
    """Return what a status of 300 and above means; the body is a `Status` object, or of a proxy on the way."""
    try:
        told = json.loads(said)
        reason, text = str(told.get("reason") or ""), str(told.get("message") or "")
    except (ValueError, AttributeError):
        reason, text = "", said[:200].decode("utf-8", "replace")
    after = reply.headers.get("Retry-After", "")
    return Refusal(reply.status, reason, " ".join(text.split())[:300], float(after) if after.isdecimal() else 0.0)
