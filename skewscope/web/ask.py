"""Asks one page of a server, with login and TLS; what goes wrong is one line that names it."""

from __future__ import annotations

import json
import urllib.error
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from ..errors import SkewscopeError, UsageError
from .access import Access
from .opened import opened
from .shown import without_login

WAIT_S = 5.0
MOST_BYTES = 64 * 1024 * 1024


class Refused(SkewscopeError):
    """A server answers, but not with what it was asked for; `status` is of HTTP."""

    def __init__(self, place: str, status: int, said: str) -> None:
        super().__init__(f"{place} answers {status}: {' '.join(said.split())[:200]}")
        self.status = status


def checked(url: str, flag: str) -> str:
    """Return the address of a server without the slash at its end; raises UsageError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{flag} {without_login(url)!r}: wants an address as http://127.0.0.1:9710")
    if parts.username is not None:
        raise UsageError(f"{flag}: no login in the address, others can see it; use --user and --password-file")
    return url.rstrip("/")


def page(url: str, access: Access, *, accept: str = "*/*", wait_s: float = WAIT_S) -> bytes:
    """Return the body of a page; raises SkewscopeError that names the address and the reason, Refused for a status."""
    try:
        with opened(url, access, timeout_s=wait_s, headers={"Accept": accept}) as reply:
            body = reply.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode("utf-8", "replace")
        raise Refused(url, error.code, said) from None
    except (OSError, HTTPException, ValueError) as error:
        raise SkewscopeError(f"{url} does not answer: {getattr(error, 'reason', error)}") from None
    if len(body) > MOST_BYTES:
        raise SkewscopeError(f"{url} answers with more than {MOST_BYTES:,} bytes")
    return body


def told(url: str, access: Access, *, wait_s: float = WAIT_S) -> dict[str, Any]:
    """Return a JSON object; raises SkewscopeError as `page` does."""
    return parsed(page(url, access, accept="application/json", wait_s=wait_s), url)


def parsed(body: bytes, url: str) -> dict[str, Any]:
    """Return the JSON object in a body; raises SkewscopeError."""
    try:
        document = json.loads(body)
    except ValueError:
        raise SkewscopeError(f"{url} answers with something that is no JSON") from None
    if not isinstance(document, dict):
        raise SkewscopeError(f"{url} answers with JSON that is no object")
    return document
