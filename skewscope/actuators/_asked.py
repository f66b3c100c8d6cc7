"""Asks a server for a JSON document: bounded in time and size, no redirect followed."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from ..errors import SkewscopeError
from ..web.access import Access
from ..web.post import check
from ..web.shown import hidden

MOST_BYTES = 64 << 20


def asked(url: str, access: Access | None = None, *, timeout_s: float = 10.0) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON at an address, None where the server answers 404; raises SkewscopeError for anything else."""
    access = access or Access()
    parts = urlsplit(check(url))
    host = parts.hostname or ""
    connection = (
        HTTPSConnection(host, parts.port, timeout=timeout_s, context=access.tls())
        if parts.scheme == "https" else HTTPConnection(host, parts.port, timeout=timeout_s)
    )  # fmt: skip
    where = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", where, headers={"Accept": "application/json", **access.lines()})
        reply = connection.getresponse()
        body = reply.read(MOST_BYTES)
        status = reply.status
    except (OSError, HTTPException, ValueError) as error:
        raise SkewscopeError(f"{hidden(url)}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()
    if status == 404:
        return None
    if status != 200:
        raise SkewscopeError(f"{hidden(url)}: status {status}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SkewscopeError(f"{hidden(url)}: no JSON: {error}") from None
