"""Inference engines on this node: vLLM, SGLang and TensorRT-LLM under common names.

`serving.urls` lists the metrics pages of the engines, separated by commas. They are fetched every 5 s; an engine under
load may need seconds to answer, and nobody waits for it. Pages of other machines are refused unless
`serving.allow-remote` is on: an agent speaks for its own node.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import ClassVar
from urllib.parse import urlsplit

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData, Unreadable, UsageError
from skewscope.metrics.engine_names import EXPORTS
from skewscope.web.shown import without_login

from ._aside import Aside

INTERVAL_S = 5.0
DEADLINE_S = 2.0
LARGEST_BYTES = 4 << 20
MOST_ENDPOINTS = 16
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Serving:
    """Fetches all endpoints, each in a thread of its own."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (*EXPORTS, "skewscope_serving_endpoint_up")

    def __init__(self, place: Place) -> None:
        self._place = place
        self._questions: dict[str, Aside[list[Sample]]] | None = None

    def collect(self) -> Iterable[Sample]:
        """Return what the engines told last; raises NoData where none is named."""
        if self._questions is None:
            self._questions = self._named()
        if not self._questions:
            raise NoData("serving.urls is not set")
        found: list[Sample] = []
        now_s = self._place.clock_s()
        for replica, question in self._questions.items():
            try:
                answer = question.look(now_s)
            except Exception:  # noqa: BLE001 - whatever it is, this endpoint is down and the others are not
                found.append(("skewscope_serving_endpoint_up", (replica,), 0))
                continue
            if answer is not None:
                found.append(("skewscope_serving_endpoint_up", (replica,), 1))
                found += answer
        return found

    def wait(self, timeout_s: float) -> None:
        """Wait for the fetches that are under way."""
        for question in (self._questions or {}).values():
            question.wait(timeout_s)

    def _named(self) -> dict[str, Aside[list[Sample]]]:
        urls = [url.strip() for url in self._place.options.get("serving.urls", "").split(",") if url.strip()]
        remote = self._place.options.get("serving.allow-remote", "").lower() in ("1", "on", "true", "yes")
        if len(urls) > MOST_ENDPOINTS:
            raise UsageError(f"serving.urls names {len(urls)} pages, at most {MOST_ENDPOINTS} are read")
        return {checked(url, remote=remote): Aside(partial(_told, url), INTERVAL_S) for url in urls}


def checked(url: str, *, remote: bool = False) -> str:
    """Return host:port of a page; raises UsageError for what is no page of this node.

    >>> checked("http://127.0.0.1:8000/metrics")
    '127.0.0.1:8000'
    """
    shown = without_login(url)
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise UsageError(f"serving.urls: {shown!r} is no address") from None
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"serving.urls: {shown!r} is no address such as http://127.0.0.1:8000/metrics")
    if parts.hostname not in LOOPBACK and not remote:
        raise UsageError(f"serving.urls: {shown!r} is not on this node; serving.allow-remote=1 reads it all the same")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def _told(url: str) -> list[Sample]:
    from . import _engine_page

    return _engine_page.samples(fetch(url), checked(url, remote=True))


def fetch(url: str) -> str:
    """Return a page as text; raises OSError where it does not come within 2 s, Unreadable where it is too large."""
    from http.client import HTTPConnection, HTTPException

    parts, shown = urlsplit(url), without_login(url)
    deadline_s = time.monotonic() + DEADLINE_S
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=DEADLINE_S)
    try:
        connection.request("GET", (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else ""),
                           headers={"Accept": "text/plain; version=0.0.4"})  # fmt: skip
        response = connection.getresponse()
        if response.status != 200:
            raise Unreadable(f"{shown} answers {response.status}")
        page = bytearray()
        while chunk := response.read1(1 << 16):
            page += chunk
            if len(page) > LARGEST_BYTES:
                raise Unreadable(f"{shown} is larger than {LARGEST_BYTES} bytes")
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{shown} did not come within {DEADLINE_S} s")
        return page.decode("utf-8", "replace")
    except HTTPException as error:
        raise Unreadable(f"{shown}: {error or type(error).__name__}") from None
    finally:
        connection.close()
