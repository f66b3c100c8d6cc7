"""Live windows from a Prometheus, or a server that speaks its API: VictoriaMetrics, Thanos, Mimir.

Samples are asked for by range selectors in instant queries (`metric[30s]` at the end of a window), not by query_range:
what comes are the scraped values at the times of their scrapes. query_range would give the last value of up to five
minutes ago at every step: it invents data for targets that are gone, and moves growth to other windows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

from skewscope.errors import SkewscopeError

from ..web.access import Access
from ._api import Api, Asked, Reply, Slow, TooMuch
from ._cutter import Cutter, Renumbered
from ._labels import Labels
from ._pages import Page, plan
from ._up import Up
from .contract import WINDOW_NS, Told, ends, lines
from .wanted import wanted

NS = 10**9
PLAN_NS = 20 * WINDOW_NS  # how long a plan of pages holds
BUDGET_S = 25.0  # a window is given up after so long
MOST_REFUSED = 24  # in a row: one metric of one of 10,000 instances would have been reached
SLOW_WINDOWS = 10  # so often a metric that takes the server too long is tried
FOREIGN = "(?:DCGM_FI_|DCGM_EXP_|node_).+"


class Prometheus:
    """A feed that asks a server.

    `selector` are matchers that all series of the fleet have, as `job="skewscope"`. `query_series` bounds the series of
    one answer; pages that the server still refuses are halved. `settle_s` passes after a window before it is asked
    for: a scrape counts from its begin and is stored at its end. `node_label` names the label that holds the node,
    instead of those that usually do. `foreign` asks for dcgm-exporter and node_exporter too.
    """

    def __init__(
        self, url: str, *, selector: str = "", access: Access | None = None, query_series: int = 50_000,
        timeout_s: float = 10.0, tries: int = 4, settle_s: float = 3.0, node_label: str = "", foreign: bool = True,
        metrics: Collection[str] = (), clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        self._api = Api(url, access or Access(), timeout_s, tries)
        self._selector = selector.strip().removeprefix("{").removesuffix("}").strip().rstrip(",")
        self._most, self._settle_s, self._clock_ns = query_series, settle_s, clock_ns
        self._names = tuple(sorted(metrics or wanted()))
        self._foreign = foreign
        self._cutter = Cutter(self._renumber)
        self._labels = Labels(self._cutter, node_label)
        self._up = Up(node_label)
        self._pages: list[Page] = []
        self._slow: set[str] = set()  # metrics that the server does not give in time
        self._planned_ns = self._last_ns = -PLAN_NS
        self._whole = True  # whether nothing is missing in a window's answers
        self._lock = threading.Lock()

    def start(self) -> None:
        """Check the login; raises UsageError for secrets that cannot be read."""
        self._api.access.lines()

    def stop(self) -> None:
        """End waiting and asking."""
        self._api.stopped.set()

    def window(self, end_ns: int) -> Told:
        """Return the window, once its end and the time to settle have passed."""
        patience = time.monotonic() + 2 * WINDOW_NS / NS  # the clock may have been set back
        while (left_s := (end_ns - self._clock_ns()) / NS + self._settle_s) > 0 and time.monotonic() < patience:
            if self._api.stopped.wait(min(left_s, 1.0)):
                break
        return self._told(end_ns)

    def history(self, begin_ns: int, end_ns: int) -> Iterator[Told]:
        """Yield the windows of the past that the server still has, oldest first; those without data are left out."""
        for end in ends(begin_ns, end_ns):
            told = self._told(end)
            if told.samples or told.errors:
                yield told
            if self._api.stopped.is_set():
                return

    def _told(self, end_ns: int) -> Told:
        with self._lock:
            self._api.deadline = time.monotonic() + BUDGET_S
            errors: list[str] = []
            self._whole = True
            try:
                self._collect(end_ns, errors)
            except SkewscopeError as error:
                self._whole = False
                errors.append(str(error))
            self._last_ns = end_ns
            errors += self._labels.end_window()
            cut = self._cutter.cut(end_ns)
            told = None if self._whole else set(cut.tables["windows"]["node"].astype(str))
            targets, stale = self._up.window(self._labels.jobs, told)
        return Told(end_ns, cut.tables, targets, targets - len(stale), stale, lines(errors), cut.samples)

    def _collect(self, end_ns: int, errors: list[str]) -> None:
        """Ask for all pages; of what fails the rest of the pages is still taken."""
        end_s, length_s = end_ns / NS, WINDOW_NS // NS
        # Where counters stood before: known from the last window, else asked for.
        span_s = length_s if self._last_ns == end_ns - WINDOW_NS else 2 * length_s
        self._up.forget()
        reply = self._ask(f"up{{{self._selector}}}[{length_s}s]", end_s, errors)
        self._up.take(reply.rows, end_s - length_s, whole=reply.whole)
        if not self._pages or not 0 <= end_ns - self._planned_ns < PLAN_NS:
            self._plan(end_ns, errors)
        todo, failed, refused = self._todo(end_ns, errors), 0, 0
        while todo and failed < 2:  # twice: the server is gone, so nobody waits for each page
            page = todo.pop(0)
            try:
                reply = self._ask(f"{page.selector(self._selector)}[{span_s}s]", end_s, errors, patient=False)
            except TooMuch as error:
                refused += 1
                if refused > MOST_REFUSED:
                    self._pages = []
                    raise Asked(f"{error} (and so the parts of it, however small)") from None
                todo = self._parted(page, error, errors) + todo
            except Asked as error:
                self._whole = False
                errors.append(str(error))
                failed += 1
                if isinstance(error, Slow):
                    self._later(page)
            else:
                refused = 0
                self._slow.difference_update(page.metrics)
                self._cutter.add(*self._labels.samples(reply.rows))

    def _parted(self, page: Page, error: TooMuch, errors: list[str]) -> list[Page]:
        """Return the halves of a page that is too much, and ask for those from now on; none where it has no halves."""
        halves = page.halves(self._up.instances)
        if len(halves) == 1:
            errors.append(str(error))
            return []
        self._pages = [part for one in self._pages for part in (halves if one == page else [one])]
        return halves

    def _todo(self, end_ns: int, errors: list[str]) -> list[Page]:
        """Return the pages to ask for in a window: those with a slow metric now and then only."""
        if not self._slow or end_ns // WINDOW_NS % SLOW_WINDOWS == 0:
            return list(self._pages)
        errors.append(f"{self._api.url}: left out, they take the server too long: {', '.join(sorted(self._slow))}")
        return [page for page in self._pages if page.metrics[0] not in self._slow]

    def _later(self, page: Page) -> None:
        """Ask for a page that took too long in two halves, in another window, and behind the others."""
        parts = page.halves(())
        self._pages = [one for one in self._pages if one != page] + parts
        if len(parts) == 1:
            self._slow.update(page.metrics)

    def _ask(self, query: str, time_s: float, errors: list[str], *, patient: bool = True) -> Reply:
        reply = self._api.query(query, time_s, patient=patient)
        errors += reply.warnings
        self._whole &= reply.whole
        return reply

    def _plan(self, end_ns: int, errors: list[str]) -> None:
        """Count the series of each metric, and make pages of them."""
        names = [f"(?:{'|'.join(self._names)})", *([FOREIGN] if self._foreign else [])]
        more = f",{self._selector}" if self._selector else ""
        counts = self._counts(names, more, end_ns / NS, errors)
        known = {name: count for name, count in counts.items() if self._labels.means(name)}
        # Metrics that nobody tells yet may come at any time: they cost nothing until they do.
        wanted = {name: count for name, count in (dict.fromkeys(self._names, 0) | known).items()
                  if name not in self._slow}  # fmt: skip
        self._pages = plan(wanted, self._most, self._up.instances) + [Page((name,)) for name in sorted(self._slow)]
        self._planned_ns = end_ns if known else -PLAN_NS

    def _counts(self, names: list[str], more: str, time_s: float, errors: list[str]) -> dict[str, int]:
        query = f'count by (__name__) ({{__name__=~"{"|".join(names)}"{more}}})'
        try:
            rows = self._ask(query, time_s, errors).rows
        except TooMuch as error:
            errors.append(str(error))
            return {}
        return {self._labels.name(row): int(float(row.value[1])) for row in rows}

    def _renumber(self, renumbered: Renumbered) -> None:
        self._labels.renumber(renumbered)
