"""Sends one JSON document to one address; says whether it is worth trying again."""

from __future__ import annotations

import urllib.error
from http.client import HTTPException
from urllib.parse import urlsplit

from ..errors import SkewscopeError, UsageError
from .access import Access
from .opened import opened
from .shown import hidden

TIMEOUT_S = 10.0
AGAIN = (408, 425, 429)
READ_BYTES = 4096


class Undelivered(SkewscopeError):
    """A document was not taken; `final` where it never will be, `after_s` when to try again at the earliest."""

    def __init__(self, reason: str, *, final: bool = False, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.final, self.after_s = final, after_s


def check(url: str) -> str:
    """Return the address as it is; raises UsageError for what cannot be posted to."""
    try:
        parts = urlsplit(url)
    except ValueError:  # as of a bracket that is not closed
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{hidden(url)}: wants an address as http://HOST:PORT/PATH or https://...")
    if parts.username is not None:
        raise UsageError(f"the address of {hidden(url)} holds a login, which others may read: leave it out")
    return url


def post(url: str, body: bytes, access: Access | None = None, *, key: str = "", timeout_s: float = TIMEOUT_S) -> None:
    """Post JSON; raises Undelivered. `key` lets a receiver see that it got the same twice."""
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    try:
        with opened(
            url, access or Access(), timeout_s=timeout_s, method="POST", body=body, headers=headers, follow=False
        ) as reply:
            reply.read(READ_BYTES)
    except UsageError as error:  # a secret is written anew just now, or gone
        raise Undelivered(str(error)) from None
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
