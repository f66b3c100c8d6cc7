"""Where views come from: a report, recordings, a store, a watching service, a Prometheus. Each is swapped whole."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from skewscope import memory
from skewscope.analysis import Analysis, analyze
from skewscope.errors import SkewscopeError, Unreadable, UsageError
from skewscope.frames import all_tables
from skewscope.planners.advise import advised
from skewscope.recording import Recording
from skewscope.reports.document import document

from ._large import Tables
from ._view import View

HURRY_S = 3.0  # while a source does not answer
REPORT = "skewscope.report/1"
log = logging.getLogger("skewscope.dashboard")


def nobody() -> None:
    """Tell nobody."""


class Source(Protocol):
    """Gives the latest view; `live` sources swap it in a thread of their own between `start` and `stop`."""

    live: bool

    def view(self) -> View:
        """Return the latest view, at once."""

    def start(self, told: Callable[[], object] = nobody) -> None:
        """Begin to refresh; `told` is called once, in another thread, when there are data."""

    def stop(self) -> None:
        """End refreshing."""


class Fixed:
    """One view, for good."""

    live = False

    def __init__(self, view: View) -> None:
        self._view = view

    def view(self) -> View:
        """Return the view."""
        return self._view

    def start(self, told: Callable[[], object] = nobody) -> None:
        """Call `told` in another thread: the data are there."""
        threading.Thread(target=told, name="first", daemon=True).start()

    def stop(self) -> None:
        """Nothing to end."""


class Refreshing:
    """Asks `make` for a new view every `every_s` seconds; one that fails leaves the old view, which says why."""

    live = True

    def __init__(self, make: Callable[[], View], title: str, every_s: float = 15.0) -> None:
        self._make, self._every_s = make, every_s
        self._view = View(id="waiting", title=title, live=True)
        self._stopping = threading.Event()

    def view(self) -> View:
        """Return the latest view."""
        return self._view

    def refresh(self) -> None:
        """Ask once; never raises."""
        try:
            self._view = replace(self._make(), live=True)
        except Exception as error:  # whatever a server answers: the page must stay and say it
            said = f"{error}" if isinstance(error, SkewscopeError) else f"{type(error).__name__}: {error}"
            line = " ".join(said.split())[:300]
            if self._view.errors != (line,):
                log.warning("no new data: %s", line, exc_info=not isinstance(error, SkewscopeError | OSError))
                old = self._view
                mark = blake2b(line.encode(), digest_size=4).hexdigest()
                self._view = replace(old, id=f"{old.id.partition('!')[0]}!{mark}", errors=(line,))

    def start(self, told: Callable[[], object] = nobody) -> None:
        """Ask again and again in a thread, which calls `told` after the first answer."""
        threading.Thread(target=self._run, args=(told,), name="views", daemon=True).start()

    def _run(self, told: Callable[[], object]) -> None:
        while not self._stopping.is_set():
            self.refresh()
            memory.give_back()
            if not self._view.errors:
                told()
                told = nobody
            self._stopping.wait(min(self._every_s, HURRY_S) if self._view.errors else self._every_s)

    def stop(self) -> None:
        """End asking after what is under way."""
        self._stopping.set()


def from_analysis(analysis: Analysis, title: str) -> View:
    """Return the view of an analysis."""
    report = advised(document(analysis), analysis.tables, analysis.recording.parallelism)
    return View(marked(report), title, _newest(report, analysis.tables), report, analysis.tables)


def from_report(place: Path) -> View:
    """Return the view of a report and of the `tables` folder beside it; raises Unreadable or UsageError.

    `place` is the JSON file, or the folder that `analyze --out` wrote.
    """
    path = place / "report.json" if place.is_dir() else place
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--report {path}: {error.strerror or error}; make one with `analyze --out DIR`") from None
    except ValueError as error:
        raise Unreadable(f"{path} is no JSON: {error}", "make it with `skewscope analyze PATH --out DIR`") from None
    found = checked(report, str(path))
    tables = Tables(path.parent / "tables")
    return View(marked(found), f"report {path}", _newest(found, tables), found, tables)


def checked(report: object, origin: str) -> dict[str, Any]:
    """Return a report that has the schema this version reads, every part of it there; raises Unreadable."""
    schema_name = report.get("schema") if isinstance(report, dict) else None
    if not isinstance(report, dict) or schema_name != REPORT:
        raise Unreadable(f"{origin} is no {REPORT} but {schema_name!r}", "make it with this version of skewscope")
    whole = {**View().report, **report}
    wrong = [name for name, usual in View().report.items() if not isinstance(whole[name], type(usual))]
    if wrong:
        raise Unreadable(f"{origin}: {wrong[0]} is no {type(View().report[wrong[0]]).__name__}")
    whole["job"] = {**View().report["job"], **whole["job"]}
    whole["summary"] = {**View().report["summary"], **whole["summary"]}
    return whole


def from_windows(tables: dict[str, pd.DataFrame], title: str) -> View:
    """Return the view of live tables (`windows`, `events`, `ranks`), analysed as a recording is."""
    faults: list[str] = []
    analysis = analyze(
        Recording(all_tables(tables), ()), on_fault=lambda name, error: faults.append(f"{name} failed: {error}")
    )
    return replace(from_analysis(analysis, title), errors=tuple(faults))


def _newest(report: dict[str, Any], tables: Mapping[str, pd.DataFrame]) -> int:
    windows = tables.get("windows")
    latest = int(windows["t_ns"].max()) if windows is not None and len(windows) else -1
    return max(latest, report["job"]["end_ns"] or -1)


def marked(report: object) -> str:
    """Return a short text that changes with a document."""
    return blake2b(json.dumps(report, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
