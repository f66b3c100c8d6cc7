"""What is served: pages made when samples come, and given away as they are.

A form of a page (path, format, compression) is made at each tick only while somebody asks for it; the first to ask
waits until it is made once.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from .exposition import OPENMETRICS, TEXT, Block, page
from .server import Reply

compression: ModuleType = zlib
try:  # seven times faster on x86 and ARM; elsewhere there may be none
    from isal import isal_zlib

    compression = isal_zlib
except ImportError:
    pass

KEEP_FORM_S = 300.0
FIRST_WITHIN_S = 2.0  # who asks before there are samples waits for them so long
PARTS = {"/metrics": ("fast", "slow"), "/metrics/fast": ("fast",), "/metrics/slow": ("slow",)}

Form = tuple[str, bool, bool]  # path, OpenMetrics, gzip


class Pages:
    """Answers requests. `ready` returns the reasons why the node is not ready, `alive` whether its loop goes round."""

    def __init__(self, ready: Callable[[], Sequence[str]], alive: Callable[[], bool]) -> None:
        self._ready, self._alive = ready, alive
        self._blocks: Mapping[str, Sequence[Block]] = {"fast": (), "slow": ()}
        self._made: dict[Form, bytes] = {}
        self._asked: dict[Form, float] = {}
        self._making = threading.Lock()
        self._begun = threading.Event()

    def update(self, blocks: Mapping[str, Sequence[Block]]) -> None:
        """Take new blocks by group and make the pages that were asked for lately."""
        with self._making:
            self._blocks = blocks
            oldest_s = time.monotonic() - KEEP_FORM_S
            made: dict[Form, bytes] = {}
            for form in [form for form, asked_s in list(self._asked.items()) if asked_s >= oldest_s]:
                self._make(form, made)
            self._made = made
        self._begun.set()

    def text(self, path: str = "/metrics", *, openmetrics: bool = False) -> bytes:
        """Return one page now."""
        with self._making:
            return self._make((path, openmetrics, False), self._made)

    def reply(self, path: str, headers: Mapping[str, str]) -> Reply:
        """Answer one request."""
        path = path.split("?", 1)[0]
        if path in PARTS:
            return self._metrics(path, headers)
        if path == "/healthz":
            return _said(200, "alive") if self._alive() else _said(503, "the agent's loop stands still")
        if path == "/readyz":
            reasons = self._ready()
            return _said(503, "\n".join(reasons)) if reasons else _said(200, "ready")
        if path == "/":
            return _said(200, "skewscope agent: /metrics, /metrics/fast, /metrics/slow, /healthz, /readyz")
        return _said(404, "there is /metrics, /metrics/fast, /metrics/slow, /healthz and /readyz")

    def _metrics(self, path: str, headers: Mapping[str, str]) -> Reply:
        if not self._begun.is_set() and not self._begun.wait(FIRST_WITHIN_S):
            return _said(503, "there are no samples yet")
        openmetrics = wants_openmetrics(headers.get("accept", ""))
        squeezed = takes_gzip(headers.get("accept-encoding", ""))
        form = (path, openmetrics, squeezed)
        self._asked[form] = time.monotonic()
        body = self._made.get(form)
        if body is None:
            with self._making:
                body = self._make(form, self._made)
        return Reply(200, OPENMETRICS if openmetrics else TEXT, body, "gzip" if squeezed else "")

    def _make(self, form: Form, made: dict[Form, bytes]) -> bytes:
        if form not in made:
            path, openmetrics, squeezed = form
            body = made.get((path, openmetrics, False)) or page(
                (block for group in PARTS[path] for block in self._blocks[group]), openmetrics=openmetrics
            )
            made[form] = gzipped(body) if squeezed else body
        return made[form]


def gzipped(body: bytes) -> bytes:
    """Return the body in gzip form, quickly rather than tightly."""
    squeeze = compression.compressobj(1, zlib.DEFLATED, 31)
    made: bytes = squeeze.compress(body) + squeeze.flush()
    return made


def _said(status: int, text: str) -> Reply:
    return Reply(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def takes_gzip(accepted: str) -> bool:
    """Return whether a client takes gzip, from its Accept-Encoding.

    >>> takes_gzip("gzip, deflate"), takes_gzip("gzip;q=0"), takes_gzip("")
    (True, False, False)
    """
    return any(name in ("gzip", "*") and quality > 0 for name, quality in _choices(accepted))


def wants_openmetrics(accepted: str) -> bool:
    """Return whether a client likes OpenMetrics at least as well as plain text, from its Accept.

    >>> wants_openmetrics("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4")
    True
    >>> wants_openmetrics("text/plain"), wants_openmetrics("*/*")
    (False, False)
    """
    liked = {name: quality for name, quality in _choices(accepted)}
    openmetrics = liked.get("application/openmetrics-text", 0.0)
    return openmetrics > 0 and openmetrics >= liked.get("text/plain", 0.0)


def _choices(accepted: str) -> list[tuple[str, float]]:
    found = []
    for choice in accepted.split(","):
        name, *parameters = (part.strip().lower() for part in choice.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found.append((name, float(quality)))
        except ValueError:
            found.append((name, 0.0))
    return found
