"""What is served: pages made when samples come, and given away as they are.

A form of a page (path, format, compression) is made at each tick only while somebody asks for it; the first to ask
waits until it is made once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from skewscope.web.accept import gzipped, takes_gzip, wants_openmetrics
from skewscope.web.server import Reply

from .exposition import OPENMETRICS, TEXT, Block, page

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


def _said(status: int, text: str) -> Reply:
    return Reply(status, "text/plain; charset=utf-8", f"{text}\n".encode())
