"""Live windows without any server: agents are asked by ourselves.

Every agent has its own moment in the interval, so that load is even and each window holds the same number of pages. A
page counts at the time at which it was asked for, by our clock: those of the nodes may differ. One thread asks all
(asyncio); a page costs about a millisecond of it.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator

from skewscope.errors import SkewscopeError

from ..web.access import Access
from ._agent import Agent
from ._cutter import Cutter, Renumbered
from ._fetch import Fetcher
from ._health import Health
from .contract import WINDOW_NS, Told, lines
from .targets import Target, Targets

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4"
SETTLE_S = 2.0  # a window waits so long for pages that were asked for in it
LOOK_S = 5.0  # how often the list of targets is looked at
POLL_S = 0.05
NS = 10**9


class Scrape:
    """A feed that scrapes agents.

    `targets` are [NODE=]HOST:PORT or URLs, or one file with a line each, which is read again when it changes.
    `interval_s` 0 leaves asking to `ask`. `at_once` bounds requests in flight, `most_bytes` and `most_series` a page:
    longer pages count as no answer, of more series the first are taken. `clock_ns` is the time now, Unix epoch.
    """

    def __init__(
        self, targets: Iterable[str], *, access: Access | None = None, interval_s: float = 15.0, timeout_s: float = 5.0,
        at_once: int = 200, most_bytes: int = 1 << 23, most_series: int = 5000,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        self._targets = Targets(targets)
        self._access = access or Access()
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._at_once, self._most_bytes, self._most_series = at_once, most_bytes, most_series
        self._clock_ns = clock_ns
        self._cutter = Cutter(self._renumber)
        self._health = Health()
        self._agents: dict[Target, tuple[Agent, Fetcher]] = {}
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._asked: dict[Target, int] = {}  # in flight: when they were asked
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask; raises UsageError for certificates and secrets that cannot be used."""
        self._access.lines()
        self._tls: ssl.SSLContext | None = self._access.tls()
        self._loop = asyncio.new_event_loop()
        self._free = asyncio.Semaphore(self._at_once)
        self._look()
        self._thread = threading.Thread(target=self._run, name="scrape", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End asking."""
        self._stopped.set()
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def window(self, end_ns: int) -> Told:
        """Return the window, once its end has passed and pages asked for in it have come, or 2 s later."""
        self._settle(end_ns)
        cut = self._cutter.cut(end_ns)
        nodes = {target.node for target in list(self._agents)}
        missing, errors = self._health.window(end_ns)
        stale = tuple(sorted(missing & nodes))
        if self._cutter.lost:
            errors = (f"{self._cutter.lost} samples were lost: windows are not taken fast enough", *errors)
        return Told(end_ns, cut.tables, len(nodes), len(nodes) - len(stale), stale, lines(errors), cut.samples)

    def history(self, begin_ns: int, end_ns: int) -> Iterator[Told]:
        """Yield nothing: what was not scraped is not known."""
        yield from ()

    def ask(self, t_ns: int) -> None:
        """Ask every agent once, now, and take their pages as of `t_ns`; return when all have answered or failed."""
        if self._loop is None:
            raise SkewscopeError("the scraper was not started: call start() first")
        asyncio.run_coroutine_threadsafe(self._round(t_ns), self._loop).result()

    def _settle(self, end_ns: int) -> None:
        patience = time.monotonic() + 2 * WINDOW_NS / NS  # the clock may have been set back
        while (left_ns := end_ns - self._clock_ns()) > 0 and time.monotonic() < patience:
            if self._stopped.wait(min(left_ns / NS, 1.0)):
                return
        patience = time.monotonic() + SETTLE_S
        while any(t_ns <= end_ns for t_ns in list(self._asked.values())) and time.monotonic() < patience:
            if self._stopped.wait(POLL_S):
                return

    def _run(self) -> None:
        loop = self._loop
        if loop is None:
            return
        asyncio.set_event_loop(loop)
        keeper = loop.create_task(self._keep_up())
        loop.run_forever()
        tasks = [keeper, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for _, fetcher in self._agents.values():
            fetcher.close()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    async def _keep_up(self) -> None:
        """Follow the list of targets."""
        while True:
            self._look()
            for target in [target for target in self._tasks if target not in self._agents]:
                self._tasks.pop(target).cancel()
            for target in self._agents if self._interval_s else ():
                if target not in self._tasks:
                    self._tasks[target] = asyncio.create_task(self._keep_asking(target))
            await asyncio.sleep(min(LOOK_S, self._interval_s or LOOK_S))

    def _look(self) -> None:
        targets, wrong = self._targets.now()
        if wrong:
            self._health.error("", wrong, 0)
        for target in set(self._agents) - set(targets):
            self._agents.pop(target)[1].close()
        for target in targets:
            if target not in self._agents:
                agent = Agent(target, self._cutter, self._most_series)
                self._agents[target] = agent, Fetcher(target, self._most_bytes)
        self._health.expect((target.node, target.url) for target in targets)

    async def _keep_asking(self, target: Target) -> None:
        interval_s = self._interval_s
        place_s = zlib.crc32(target.url.encode()) % 1000 / 1000 * interval_s
        while target in self._agents:
            now_s = self._clock_ns() / NS
            await asyncio.sleep((place_s - now_s) % interval_s or interval_s)
            async with self._free:
                await self._visit(target, self._clock_ns())

    async def _round(self, t_ns: int) -> None:
        async def one(target: Target) -> None:
            async with self._free:
                await self._visit(target, t_ns)

        self._look()
        await asyncio.gather(*(one(target) for target in list(self._agents)))

    async def _visit(self, target: Target, t_ns: int) -> None:
        """Ask one agent; whatever goes wrong is noted and the next one is asked."""
        if target not in self._agents:
            return
        agent, fetcher = self._agents[target]
        self._asked[target] = t_ns
        try:
            headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip", "User-Agent": "skewscope", **self._access.lines()}
            page = await fetcher.fetch(headers, self._tls, self._timeout_s)
            answered, wrong = agent.take(page, t_ns)
        except SkewscopeError as error:
            answered, wrong = False, str(error)
        except Exception as error:  # noqa: BLE001 - a page that we cannot read must not end the scraping of others
            answered, wrong = False, f"fault in reading the page: {type(error).__name__}: {error}"
        finally:
            self._asked.pop(target, None)
        if answered:
            self._health.answered(target.url, t_ns)
        if wrong:
            self._health.error(target.node, wrong, t_ns)

    def _renumber(self, renumbered: Renumbered) -> None:
        for agent, _ in list(self._agents.values()):
            agent.renumber(renumbered(agent.numbers))
