"""Views of a fleet that runs: from a watching service, its store, or a Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from skewscope.errors import SkewscopeError, UsageError
from skewscope.feeds.contract import WINDOW_NS
from skewscope.feeds.prometheus import Prometheus
from skewscope.frames import all_tables, concat
from skewscope.store.reader import Reader
from skewscope.web import ask
from skewscope.web.access import Access
from skewscope.web.server import Pages

from ._act_records import Acts, acts_of
from ._sources import Refreshing, checked, from_windows, marked
from ._view import View

HOUR_NS = 3600 * 10**9
WAIT_S = 10.0
NOBODY = Access()
Tables = dict[str, pd.DataFrame]
Asked = Callable[[str], dict[str, Any]]  # the document at a path; raises SkewscopeError


def live(
    *, watch: str, store: Path | None, prometheus: str, selector: str, hours: float, every_s: float,
    access: Access = NOBODY, pages: Pages | None = None,
) -> Refreshing:  # fmt: skip
    """Return a source that refreshes; with `watch`, report and incidents come from there.

    The servers are asked as `access` says; a service that runs in this very process, by its `pages`.
    """
    if not 0 < hours <= 24 * 14 or not 1 <= every_s <= 3600:
        raise UsageError("--hours wants more than 0 and at most two weeks, --every 1 to 3600 s")
    asked = _within(pages) if pages else _of(watch, access) if watch else None
    title, tables = _windows(store, prometheus, selector, hours, access)
    if asked is None:
        assert tables is not None  # noqa: S101 - one source is given
        made = tables
        return Refreshing(lambda: from_windows(made(), title), title, every_s)
    said = f"from {watch}" + (f" and {title}" if title else "")
    return Refreshing(lambda: _watched(asked, watch, said, tables), said, every_s)


def _of(watch: str, access: Access) -> Asked:
    url = ask.checked(watch, "--watch")
    return lambda path: ask.told(url + path, access, wait_s=WAIT_S)


def _within(pages: Pages) -> Asked:
    """Ask past the server: its passwords keep others out, and are not known to those whom it lets in."""

    def asked(path: str) -> dict[str, Any]:
        reply = pages(path, {})
        if reply.status != 200:
            raise ask.Refused(path, reply.status, reply.body.decode())
        return ask.parsed(reply.body, path)

    return asked


def _windows(
    store: Path | None, prometheus: str, selector: str, hours: float, access: Access
) -> tuple[str, Callable[[], Tables] | None]:
    """Return the name of the source of windows and how it is read, None where there is none."""
    if store is not None:
        Reader(store)  # raises for a folder that is none
        return f"store {store}", lambda: _stored(store, hours)
    if prometheus:
        feed = Prometheus(prometheus, selector=selector, access=access)
        feed.start()
        return f"Prometheus {prometheus}", Past(feed, hours).tables
    return "", None


def _stored(store: Path, hours: float) -> Tables:
    reader = Reader(store)
    _, last_ns = reader.span()
    return reader.read(last_ns - int(hours * HOUR_NS) + 1, last_ns)


class Past:
    """The last hours of a feed: asked for once, then only what is new."""

    def __init__(self, feed: Prometheus, hours: float, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._feed, self._long_ns, self._clock_ns = feed, int(hours * HOUR_NS), clock_ns
        self._told: dict[int, Tables] = {}

    def tables(self) -> Tables:
        """Return all tables of the last hours; raises SkewscopeError where the server says nothing but errors."""
        now_ns = self._clock_ns() - 5 * 10**9  # scrapes settle
        begin_ns = now_ns - self._long_ns
        errors: list[str] = []
        for told in self._feed.history(max(begin_ns, max(self._told, default=-1)), now_ns):
            errors += told.errors
            if told.samples:
                self._told[told.end_ns] = dict(told.tables)
        self._told = {end: tables for end, tables in self._told.items() if end > begin_ns - WINDOW_NS}
        if errors and not self._told:
            raise SkewscopeError(errors[0])
        made = [self._told[end] for end in sorted(self._told)]
        found = {name: concat(name, [one[name] for one in made if name in one]) for name in ("windows", "events")}
        ranks = [one["ranks"] for one in made if "ranks" in one and len(one["ranks"])]
        return {**found, "ranks": ranks[-1]} if ranks else found


def _watched(asked: Asked, name: str, title: str, tables: Callable[[], Tables] | None) -> View:
    told = asked("/api/v1/incidents")
    incidents = told.get("incidents")
    if not isinstance(incidents, list) or not isinstance(told.get("time_ns"), int):
        raise SkewscopeError(f"{name} is no `skewscope watch`: its incidents are not understood")
    report = checked(asked("/api/v1/report"), name)
    acts, mark, wrong = _acts(asked)
    more = View(tables=all_tables(tables())) if tables else View()
    kept = tuple(one for one in incidents if isinstance(one, dict))
    return replace(
        more, id=f"{told['time_ns']}{mark}", title=title, time_ns=told["time_ns"], report=report, incidents=kept,
        acts=acts, errors=(wrong,) if wrong else (),
    )  # fmt: skip


def _acts(asked: Asked) -> tuple[Acts | None, str, str]:
    """Return what a watching service did (None: it does not act), a mark that changes with it, and what is wrong."""
    place = "/api/v1/acts"
    try:
        acts = acts_of(asked(place), place)
        return acts, f"~{marked(asdict(acts))}", ""  # of what pages show: the document's own time says nothing new
    except SkewscopeError as error:  # the incidents are worth showing all the same
        if isinstance(error, ask.Refused) and error.status == 404:
            return None, "", ""
        return None, "~?", str(error)
