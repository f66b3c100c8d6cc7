"""What `watch` answers over HTTP: findings as metrics, the report, the incidents and their changes, the catalogue.

Every page is made from one snapshot, which the service swaps as a whole. A form of a page is made when it is first
asked for, once per snapshot. Errors of the API are problem documents (RFC 9457).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

from ..reports.json_schema import INCIDENT_STATES
from ..web.accept import gzipped, takes_gzip
from ..web.server import Reply
from .changes import Changes, as_json
from .conditions import listed, one_condition
from .openapi import CONDITIONS, INCIDENTS, document
from .snapshot import Snapshot

STANDS_S = 150.0  # five windows
PACK_BYTES = 1_000  # below that, packing is not worth it
JSON, PROBLEM, PROMETHEUS = "application/json", "application/problem+json", "text/plain; version=0.0.4; charset=utf-8"
PLAIN, EVENTS = "text/plain; charset=utf-8", "text/event-stream"
V1 = "/api/v1"
WAITING = "no window has been analysed yet; ask again in a moment"
Query = Mapping[str, list[str]]
Filters: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "state": lambda one: str(one["state"]),
    "job": lambda one: one["job"] or "",
    "condition": lambda one: str(one["condition"]),
}


@dataclass
class _View:
    """A snapshot and the bodies that were made of it."""

    snapshot: Snapshot
    made: dict[tuple[str, bool], bytes] = field(default_factory=dict)
    making: threading.Lock = field(default_factory=threading.Lock)

    def body(self, name: str, make: Callable[[], bytes], *, packed: bool) -> bytes:
        """Return a body, made once."""
        with self.making:
            if (name, False) not in self.made:
                self.made[name, False] = make()
            if packed and (name, True) not in self.made:
                self.made[name, True] = gzipped(self.made[name, False])
            return self.made[name, packed]


class _Wrong(Exception):
    """Ends an answer with a status and what is wrong."""


@dataclass(frozen=True)
class _Asked:
    """One request: the last part of its path, the query, and the headers."""

    name: str
    query: Query
    headers: Mapping[str, str]

    def only(self, *allowed: str) -> None:
        """Refuse parameters that are none: a misspelt filter must not answer with everything."""
        for name in self.query:
            if name not in allowed:
                there = f"there is {', '.join(allowed)}" if allowed else "this page has none"
                raise _Wrong(400, f"{name!r} is no parameter here; {there}")


class Api:
    """Answers requests from the latest snapshot; it is alive while a new one comes at least every `stands_s` (s)."""

    def __init__(
        self, changes: Changes | None = None, *, stands_s: float = STANDS_S,
        clock_s: Callable[[], float] = time.monotonic, acts: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self.acts = acts  # the account of the engine, where there is one
        self.changes = changes or Changes()
        self._stands_s, self._clock_s = stands_s, clock_s
        self._view: _View | None = None
        self._updated_s = clock_s()
        self._routes: Mapping[str, Callable[[_Asked], Reply]] = {
            "/": self._index,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            f"{V1}/report": self._report,
            f"{V1}/incidents": self._incidents,
            f"{V1}/incidents/{{id}}": self._incident,
            f"{V1}/ranks": self._ranks,
            f"{V1}/conditions": self._conditions,
            f"{V1}/conditions/{{id}}": self._condition,
            f"{V1}/acts": self._acts,
            f"{V1}/events": self._events,
            f"{V1}/openapi.json": self._openapi,
        }

    @property
    def routes(self) -> tuple[str, ...]:
        """The paths that are answered, with `{id}` for what varies."""
        return tuple(self._routes)

    def label(self, path: str) -> str:
        """Return the route of a path, "other" for none: few values, whatever clients ask for.

        >>> Api().label("/api/v1/incidents/a7"), Api().label("/etc/passwd")
        ('/api/v1/incidents/{id}', 'other')
        """
        if path in self._routes and "{" not in path:
            return path
        above, _, name = path.rpartition("/")
        route = f"{above}/{{id}}"
        return route if name and route in self._routes else "other"

    def update(self, snapshot: Snapshot) -> None:
        """Take a new snapshot and tell what changed since the one before."""
        self._view = _View(snapshot)  # first: who hears of a change and asks at once must find it
        self.changes.tell(snapshot.incidents)
        self._updated_s = self._clock_s()

    def close(self) -> None:
        """End all streams; call it before the server's stop."""
        self.changes.close()

    def pages(self, path: str, headers: Mapping[str, str]) -> Reply:
        """Answer one request: `path` with its query as it came, `headers` with lower-case names."""
        place, _, query = path.partition("?")
        try:
            route = self._routes.get(self.label(place))
            if route is None:
                raise _Wrong(404, f"there is {', '.join(self._routes)}")
            return route(_Asked(unquote(place.rpartition("/")[2]), parse_qs(query, keep_blank_values=True), headers))
        except _Wrong as wrong:
            return problem(*wrong.args)

    def _seen(self) -> _View:
        view = self._view
        if view is None:
            raise _Wrong(503, WAITING)
        return view

    def _index(self, asked: _Asked) -> Reply:
        lines = ["skewscope watch", *(path for path in self._routes if path != "/")]
        return _said(200, "\n".join(lines))

    def _metrics(self, asked: _Asked) -> Reply:
        view = self._seen()
        return _kept(view, asked, "metrics", lambda: view.snapshot.metrics, PROMETHEUS)

    def _alive(self) -> bool:
        return self._clock_s() - self._updated_s < self._stands_s

    def _healthz(self, asked: _Asked) -> Reply:
        return _said(200, "alive") if self._alive() else _said(503, f"no new snapshot for {self._stands_s:g} s")

    def _readyz(self, asked: _Asked) -> Reply:
        view = self._view
        reasons = (WAITING,) if view is None else view.snapshot.ready
        if not self._alive():
            reasons = (*reasons, f"no new snapshot for {self._stands_s:g} s")
        return _said(503, "\n".join(reasons)) if reasons else _said(200, "ready")

    def _report(self, asked: _Asked) -> Reply:
        asked.only()
        view = self._seen()
        return _kept(view, asked, "report", lambda: as_json(view.snapshot.report))

    def _incidents(self, asked: _Asked) -> Reply:
        asked.only(*Filters)
        last = self.changes.last  # first: a change told twice does less harm than one that is missed
        view = self._seen()
        wanted = {name: {part for text in texts for part in text.split(",")} for name, texts in asked.query.items()}
        if wrong := sorted(wanted.get("state", set()) - set(INCIDENT_STATES)):
            raise _Wrong(400, f"{wrong[0]!r} is no state; there is {', '.join(INCIDENT_STATES)}")
        if not wanted:
            return _kept(view, asked, "incidents", lambda: _list(view, wanted, last))
        return _answer(_list(view, wanted, last), asked)

    def _incident(self, asked: _Asked) -> Reply:
        asked.only()
        found = [one for one in self._seen().snapshot.incidents if one["id"] == asked.name]
        if not found:
            raise _Wrong(404, f"no incident is called {asked.name[:80]!r}; {V1}/incidents lists them")
        return _answer(as_json(found[0]), asked)

    def _ranks(self, asked: _Asked) -> Reply:
        asked.only()
        view = self._seen()
        return _kept(view, asked, "ranks", lambda: as_json(view.snapshot.ranks.document(view.snapshot.time_ns)))

    def _conditions(self, asked: _Asked) -> Reply:
        asked.only()
        return _answer(_catalogue(), asked)

    def _condition(self, asked: _Asked) -> Reply:
        asked.only()
        found = one_condition(asked.name)
        if found is None:
            raise _Wrong(404, f"no condition is called {asked.name[:80]!r}; {V1}/conditions lists them")
        return _answer(as_json(found), asked)

    def _acts(self, asked: _Asked) -> Reply:
        asked.only()
        if self.acts is None:
            raise _Wrong(404, "this watch acts on no scheduler; --act NAME lets it")
        return _answer(as_json(self.acts()), asked)

    def _events(self, asked: _Asked) -> Reply:
        asked.only("after")
        after = asked.headers.get("last-event-id", "") or asked.query.get("after", [""])[-1]
        return Reply(200, EVENTS, b"", parts=self.changes.stream(after))

    def _openapi(self, asked: _Asked) -> Reply:
        return _answer(_described(), asked)


@cache
def _catalogue() -> bytes:
    return as_json({"schema": CONDITIONS, "conditions": listed()})


@cache
def _described() -> bytes:
    return as_json(document())


def _list(view: _View, wanted: Mapping[str, set[str]], last: str) -> bytes:
    some = [
        one for one in view.snapshot.incidents if all(Filters[name](one) in texts for name, texts in wanted.items())
    ]
    head = {"schema": INCIDENTS, "time_ns": view.snapshot.time_ns, "last_event": last}
    return as_json({**head, "incidents": some})


def problem(status: int, detail: str) -> Reply:
    """Return a problem document.

    >>> problem(404, "there is /metrics").body
    b'{"status":404,"detail":"there is /metrics"}'
    """
    return Reply(status, PROBLEM, as_json({"status": status, "detail": detail}))


def _kept(view: _View, asked: _Asked, name: str, make: Callable[[], bytes], kind: str = JSON) -> Reply:
    """Return a reply whose body is made once per snapshot."""
    packed = takes_gzip(asked.headers.get("accept-encoding", ""))
    return Reply(200, kind, view.body(name, make, packed=packed), "gzip" if packed else "")


def _said(status: int, text: str) -> Reply:
    return Reply(status, PLAIN, f"{text}\n".encode())


def _answer(body: bytes, asked: _Asked) -> Reply:
    if len(body) >= PACK_BYTES and takes_gzip(asked.headers.get("accept-encoding", "")):
        return Reply(200, JSON, gzipped(body), "gzip")
    return Reply(200, JSON, body)
