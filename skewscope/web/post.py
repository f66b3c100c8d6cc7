"""Sends one JSON document to one address; says whether it is worth trying again."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from ..errors import SkewscopeError, UsageError
from .access import Access

TIMEOUT_S = 10.0
AGAIN = (408, 425, 429)
READ_BYTES = 4096


class Undelivered(SkewscopeError):
    """A document was not taken; `final` where it never will be, `after_s` when to try again at the earliest."""

    def __init__(self, reason: str, *, final: bool = False, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.final, self.after_s = final, after_s


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a POST would become a GET, and secrets would go elsewhere."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def check(url: str) -> str:
    """Return the address as it is; raises UsageError for what cannot be posted to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{hidden(url)}: wants an address as http://HOST:PORT/PATH or https://...")
    return url


def hidden(url: str) -> str:
    """Return an address without what may be secret in it: the path of a chat's webhook is its password.

    >>> hidden("https://hooks.slack.com/services/T0/B0/secret"), hidden("http://u:p@h:1/x")
    ('https://hooks.slack.com/...', 'http://h:1/...')
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/..." if parts.path.strip("/") or parts.query else f"{parts.scheme}://{host}"


def post(url: str, body: bytes, access: Access | None = None, *, key: str = "", timeout_s: float = TIMEOUT_S) -> None:
    """Post JSON; raises Undelivered. `key` lets a receiver see that it got the same twice."""
    headers = {"Content-Type": "application/json", "User-Agent": "skewscope"}
    if key:
        headers["Idempotency-Key"] = key
    handlers: list[urllib.request.BaseHandler] = [_Straight(), urllib.request.ProxyHandler()]
    try:
        access = access or Access()
        headers |= access.lines()
        if url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=access.tls()))
    except UsageError as error:  # a secret is written anew just now, or gone
        raise Undelivered(str(error)) from None
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as reply:
            reply.read(READ_BYTES)
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Undelivered(f"{type(reason).__name__}: {reason}") from None


def _refused(error: urllib.error.HTTPError) -> Undelivered:
    with error:
        told = error.read(200).decode("utf-8", "replace").strip()
    after = error.headers.get("Retry-After", "")
    final = 300 <= error.code < 500 and error.code not in AGAIN
    text = f"status {error.code}" + (f": {told}" if told else "")
    return Undelivered(text, final=final, after_s=float(after) if after.isdecimal() else 0.0)
