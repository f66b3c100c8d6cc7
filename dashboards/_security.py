"""Who may see and act, what a request must look like, and the headers of every reply.

Behind a proxy that signs people in, `auth_header` names the header that holds the person's name; then only requests
from `proxies` are answered. With passwords (`web`) people sign in here. With neither, whoever reaches the address is
"local", so without them the address is a loopback one (see `_server`).
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import flask
from werkzeug.exceptions import HTTPException

from skewscope.errors import UsageError
from skewscope.web.accept import gzipped, takes_gzip
from skewscope.web.web_config import WebConfig

from ._plain import refusal
from ._sessions import COOKIE, Sessions

LOCAL = "local"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MOST_BYTES = 512 * 1024  # of a request
PACK_BYTES = 1_000
OPEN = ("/login", "/assets/dashboard.css", "/healthz")
CALLBACK, CATCH_ALL = "/_dash-update-component", "/<path:path>"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
log = logging.getLogger("skewscope.dashboard")


@dataclass(frozen=True)
class Person:
    """Who asks: a viewer, or an `operator`, who may answer recommendations."""

    name: str
    operator: bool = False


@dataclass(frozen=True)
class Guard:
    """How people are known. `hosts` are the names by which the server may be called, any where it is empty."""

    web: WebConfig | None = None
    auth_header: str = ""
    proxies: tuple[Network, ...] = ()
    operators: frozenset[str] = frozenset()
    hosts: frozenset[str] = LOOPBACK
    external: str = ""  # where people reach it, as "https://ops.example"
    secure: bool = False  # TLS here, or at the proxy
    sessions: Sessions = field(default_factory=Sessions)
    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)

    @property
    def signing_in(self) -> bool:
        """Whether people sign in here."""
        return self.web is not None and bool(self.web.users) and not self.auth_header

    def person(self) -> Person:
        """Return who asks in the request under way."""
        return flask.g.person if flask.has_request_context() and "person" in flask.g else Person(LOCAL)

    def known(self) -> Person | None:
        """Return who asks, by the request's own signs; None for nobody who may."""
        if self.auth_header:
            name = flask.request.headers.get(self.auth_header, "").strip() if self._from_proxy() else ""
        elif self.web is not None and self.signing_in:
            self.web.refresh()
            name = self.sessions.name(flask.request.cookies.get(COOKIE, ""))
            name = name if name in self.web.users else ""
        else:
            name = LOCAL
        return Person(name[:200], name in self.operators) if name else None

    def token(self) -> str:
        """Return the token that forms of this person must carry."""
        seal = f"{self.person().name}\n{flask.request.cookies.get(COOKIE, '') if self.signing_in else ''}"
        return hmac.new(self.key, seal.encode(), sha256).hexdigest()

    def token_fits(self, given: str) -> bool:
        """Return whether a form's token is this person's."""
        return hmac.compare_digest(given.encode(), self.token().encode())

    def _from_proxy(self) -> bool:
        try:
            peer = ipaddress.ip_address(flask.request.remote_addr or "")
        except ValueError:
            return False
        return any(peer in network for network in self.proxies)

    def host_fits(self) -> bool:
        """Return whether the request calls the server by one of its names: a foreign page's name would not do."""
        if not self.hosts:
            return True
        host = urlsplit(f"//{flask.request.host}").hostname or ""
        return host in self.hosts or host == (urlsplit(self.external).hostname or None)

    def origin_fits(self) -> bool:
        """Return whether a request that changes something comes from this server's own pages, or from no browser."""
        if flask.request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = flask.request.headers.get("Origin")
        if origin is None:
            return True
        scheme = "https" if self.secure else "http"
        return origin in (f"{scheme}://{flask.request.host}", self.external.rstrip("/") or None)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks from texts as 10.0.0.0/8; raises UsageError.

    >>> networks(["10.0.0.1"])[0].num_addresses
    1
    """
    try:
        return tuple(ipaddress.ip_network(one, strict=False) for one in texts)
    except ValueError as error:
        raise UsageError(f"--trusted-proxy: {error}; give addresses as 10.0.0.5 or 10.0.0.0/24") from None


def install(server: flask.Flask, guard: Guard, script_hashes: Sequence[str], paths: Collection[str]) -> None:
    """Put the guard before every request of `server`, and headers on every reply; `paths` are the pages."""
    server.config.update(MAX_CONTENT_LENGTH=MOST_BYTES, MAX_FORM_MEMORY_SIZE=MOST_BYTES, MAX_FORM_PARTS=50)
    policy = (
        f"default-src 'none'; script-src 'self' {' '.join(script_hashes)}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src blob:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    )
    server.before_request(lambda: _admit(guard, paths))
    server.after_request(lambda reply: _dressed(reply, policy, guard))
    server.register_error_handler(Exception, _failed)
    server.add_url_rule("/healthz", "healthz", lambda: flask.Response("alive\n", content_type="text/plain"))


def _admit(guard: Guard, paths: Collection[str]) -> flask.typing.ResponseReturnValue | None:
    """Return a refusal, or None for a request that may go on."""
    request = flask.request
    if not guard.host_fits():
        return refusal(400, "This server is not called by that name; give it with --external-url.")
    reading = request.method in ("GET", "HEAD", "OPTIONS")
    if not reading and not guard.origin_fits():
        return refusal(403, "The request comes from another site.")
    if request.path in OPEN:
        return None
    person = guard.known()
    if person is None:
        if guard.signing_in and reading and request.path in paths:
            return flask.redirect("/login")
        return refusal(401, "Sign in first." if guard.signing_in else "Only the trusted proxy may ask, with a name.")
    flask.g.person = person
    if request.path == CALLBACK and request.method == "POST":
        return _callback_fits()
    if request.path not in paths and request.url_rule is not None and request.url_rule.rule == CATCH_ALL:
        return refusal(404, "There is no such page.")
    return None


def _callback_fits() -> flask.Response | None:
    body: Any = flask.request.get_json(silent=True)
    right = isinstance(body, dict) and isinstance(body.get("output"), str) and isinstance(body.get("inputs"), list)
    return None if right else refusal(400, "That is no request of the dashboard.")


def _failed(error: Exception) -> flask.typing.ResponseReturnValue:
    """Return what is said of an error: a foreign body is the sender's fault, anything else is ours and is logged."""
    if isinstance(error, HTTPException):
        return refusal(error.code or 500, error.description or "")
    path = flask.request.path
    if path == CALLBACK:
        log.info("a request for %s was not understood: %s", path, type(error).__name__)
        return refusal(400, "That is no request of the dashboard.")
    if path.startswith("/_dash"):
        return refusal(404, "There is no such part.")
    log.exception("%s failed", path, exc_info=error)
    return refusal(500, "The server's log says why.")


def _dressed(reply: flask.Response, policy: str, guard: Guard) -> flask.Response:
    headers = reply.headers
    headers["Content-Security-Policy"] = policy
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "same-origin"  # with no-referrer, browsers post our own forms with Origin: null
    headers["Cross-Origin-Opener-Policy"] = headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if guard.secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if not flask.request.path.startswith(("/_dash-component-suites", "/assets")):
        headers["Cache-Control"] = "no-store"
    return _packed(reply)


def _packed(reply: flask.Response) -> flask.Response:
    kind = reply.mimetype or ""
    wanted = kind.startswith("text/") or kind in ("application/json", "application/javascript")
    if not wanted or reply.status_code != 200 or reply.is_streamed or "Content-Encoding" in reply.headers:
        return reply
    if not takes_gzip(flask.request.headers.get("Accept-Encoding", "")):
        return reply
    body = reply.get_data()
    if len(body) >= PACK_BYTES:
        reply.set_data(gzipped(body))
        reply.headers["Content-Encoding"] = "gzip"
        reply.headers.add("Vary", "Accept-Encoding")
    return reply
