"""Watches a fleet: window after window it reads, looks, keeps the incidents and tells of them.

The rooms are those of the offline analysis; what makes their verdicts steady is `incidents`. One fault of one part (a
dead source, a full disk, a receiver that is away, a room that fails) never ends the service: it becomes a metric, a
reason in `/readyz` and a line in the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .. import frames, memory
from ..analysis import Analysis, analyze
from ..feeds.contract import WINDOW_NS, Told
from ..precedence import Explained
from ..recording import Recording
from ..reports.document import document as report_document
from . import act_rows, incident_document, jobs, past
from .exposition import Health, Totals, page
from .files import read_json, write
from .horizon import Horizon
from .incidents import CLOSED, Board, Seen, advance, changes, is_active, rewound
from .notify.alertmanager import Alertmanager
from .notify.outbox import Outbox
from .plan import Plan
from .rank_times import NOBODY, rank_times
from .snapshot import Snapshot
from .staleness import CONDITION as STALE
from .staleness import Staleness

STATE = "skewscope.watch-state/1"
COMPACT_CYCLES = 30  # 15 minutes
MOST_JOBS = 2_000  # whose losses are remembered
LATE_WINDOWS = 4  # further behind, windows are taken in without a look at each
ROOM = "room "
BEFORE_NS = 60 * 10**9  # onsets are told a little late
log = logging.getLogger("skewscope.watch")


class Service:
    """The loop. `turn` does one window and may be called by itself."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.board = Board()
        self.totals = Totals()
        self.horizon = Horizon(plan.length)
        self._staleness = Staleness()
        self._health = Health()
        self._documents = incident_document.Documents()
        self._troubles: dict[str, str] = {}
        self._stopping = threading.Event()
        self._ending, self._ended = threading.RLock(), False  # a signal may come while it ends
        self._began_ns = -1
        self._seen: tuple[list[Seen], list[jobs.Job]] = ([], [])
        self._report: Mapping[str, Any] = report_document(_nothing())
        self._ranks = NOBODY
        self._usual_ns = -1  # before when the past is to be fetched, too
        self._restore()

    def _restore(self) -> None:
        if self.plan.folder is None:
            return
        path = self.plan.folder / "state.json"
        try:
            kept = read_json(path, STATE)
            if kept is not None:
                if kept.get("schema") != STATE:
                    raise ValueError(f"it is no {STATE}")
                board = incident_document.restored(kept["board"])
                lost = {str(job): float(lost) for job, lost in kept["job_lost_gpu_s"].items()}
                self.board, self.totals.job_lost_gpu_s, self._usual_ns = board, lost, int(kept.get("usual_ns", -1))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = path.with_suffix(".damaged.json")
            path.replace(aside)
            log.error("%s cannot be used (%s) and was put aside as %s; incidents begin anew", path, error, aside.name)

    def run(self) -> None:
        """Watch until `stop`. The feed is started and stopped here."""
        self._began_ns = self.plan.clock_ns()
        self.plan.feed.start()
        for outbox in self.plan.outboxes:
            outbox.start()
        if self.plan.acting is not None:
            self.plan.acting.start()
        try:
            self._fill()
            memory.settle()
            while not self._stopping.is_set():
                self._round()
        finally:
            self._end_feed()
            for outbox in self.plan.outboxes:
                outbox.stop()
            if self.plan.acting is not None:
                self.plan.acting.stop()

    def stop(self) -> None:
        """End the loop after the window under way."""
        self._stopping.set()
        self._end_feed()

    def _end_feed(self) -> None:
        with self._ending:
            if not self._ended:
                self._ended = True
                self.plan.feed.stop()

    def _fill(self) -> None:
        """Take in what is known of the past, and say what can be said of it at once."""
        end_ns = self.plan.clock_ns() // WINDOW_NS * WINDOW_NS
        begin_ns = end_ns - self.plan.length * WINDOW_NS
        self._publish(begin_ns, "the past is being read")
        self._go_back(end_ns)
        self._recall(begin_ns, end_ns)
        silent: frozenset[str] = frozenset()
        for told in self.plan.feed.history(max(begin_ns, self.horizon.end_ns), end_ns):
            if len(told.tables.get("windows", ())):
                self._keep(told)
                silent = frozenset(told.stale)
        if len(self.horizon):
            self._look_safely(self.horizon.end_ns, silent, ())
            self._save()
            self._publish(self.horizon.end_ns, "")

    def _recall(self, begin_ns: int, end_ns: int) -> None:
        """Take what the store kept, and what was usual before an incident that is older than the horizon."""
        onset_ns = self._usual_ns
        older_ns = self.horizon.before(onset_ns) if 0 <= onset_ns < begin_ns and self.board.live else -1
        spans = [*([(older_ns, onset_ns)] if older_ns >= 0 else []), (begin_ns + 1, end_ns)]
        try:
            if self.plan.store is not None:
                self.horizon.fill(past.parts(self.plan.store, spans), past.events(self.plan.store, spans))
        except Exception as error:  # a store that cannot be read costs the past, not the present
            self._trouble("store", f"the store cannot be read: {error}")
        if older_ns >= 0:
            self.horizon.anchor(onset_ns, past.cuts(self.plan.feed, older_ns, onset_ns))

    def _round(self) -> None:
        """Wait for the next window and take it; far behind, the windows between are only taken in."""
        now_ns = self.plan.clock_ns()
        self._go_back(now_ns)
        next_ns = (self.horizon.end_ns // WINDOW_NS + 1) * WINDOW_NS if len(self.horizon) else 0
        if next_ns <= self._began_ns <= now_ns:  # the past was asked for already, and agents tell the present only
            next_ns = (self._began_ns // WINDOW_NS + 1) * WINDOW_NS
        if not now_ns - LATE_WINDOWS * WINDOW_NS <= next_ns <= now_ns + WINDOW_NS:
            next_ns = (now_ns // WINDOW_NS + 1) * WINDOW_NS
        told = self.plan.feed.window(next_ns)
        if not self._stopping.is_set():
            self.turn(told)

    def _go_back(self, now_ns: int) -> None:
        """Forget the windows of a future that did not come; incidents stay, as of the present."""
        last_ns = max(self.horizon.end_ns, self.board.time_ns)
        if last_ns > now_ns + WINDOW_NS:
            log.error("the clock went back by %.0f s; windows are taken from its present on", (last_ns - now_ns) / 1e9)
            self.horizon = Horizon(self.plan.length)
            self.board = rewound(self.board, now_ns // WINDOW_NS * WINDOW_NS - WINDOW_NS)

    def turn(self, told: Told) -> None:
        """Take one window: keep it, look, tell."""
        begun_s = time.monotonic()
        self.totals.feed_errors += len(told.errors)
        self.totals.samples += told.samples
        self._keep(told)
        stale = tuple(self._staleness.look(told))
        nodes = [one.root.subject.node for one in self.board.live]
        looked = self._look_safely(told.end_ns, self._staleness.unknown(nodes), [Seen(one) for one in stale])
        self.totals.cycles["done" if looked else "failed"] += 1
        self._save()
        self._tell(told.end_ns)
        self._act()
        self._compact()
        self._health = self._measured(told, time.monotonic() - begun_s)
        dead = "no agent answered in the last window" if told.targets and not told.answered else ""
        self._publish(told.end_ns, dead)
        frames.let_go()
        memory.give_back()

    def _keep(self, told: Told) -> None:
        try:
            self.horizon.add(told.end_ns, told.tables)
        except Exception as error:  # half of a window may be in it: better to begin anew than to go on with that
            log.exception("a window could not be taken in; the horizon begins anew")
            self._trouble("window", f"the window could not be taken in: {type(error).__name__}: {error}")
            self.horizon = Horizon(self.plan.length)
            return
        self._clear("window")
        try:
            if self.plan.store is not None and len(told.tables.get("windows", ())):
                self.plan.store.append(told.tables["windows"], told.tables.get("events"))
            self._clear("store")
        except Exception as error:  # a full disk costs the archive, not the verdict
            self._trouble("store", f"the store does not take windows: {error}")

    def _compact(self) -> None:
        """Join the store's files now and then, once the window is told: it takes long, and nobody waits for it."""
        due = self.totals.cycles["done"] % COMPACT_CYCLES == COMPACT_CYCLES - 1
        try:
            if due and self.plan.store is not None:
                self.plan.store.compact()
        except Exception as error:
            self._trouble("store", f"the store's files cannot be joined: {error}")

    def _look_safely(self, end_ns: int, silent: frozenset[str], more: Sequence[Seen]) -> bool:
        """Look; return whether that went well. The loop must go on: the next window has another chance."""
        try:
            self._look(end_ns, silent, more)
        except Exception as error:
            log.exception("the window could not be analysed")
            self._trouble("analysis", f"the last window could not be analysed: {type(error).__name__}: {error}")
            return False
        self._clear("analysis")
        return True

    def _look(self, end_ns: int, silent: frozenset[str], more: Sequence[Seen]) -> None:
        """Analyse the horizon and move the incidents on."""
        tables = self.horizon.tables()
        faults: dict[str, Exception] = {}
        analysis = analyze(Recording(tables, ()), only=self.plan.only, on_fault=faults.__setitem__)
        self._room_faults(faults)
        explained = Explained(analysis.findings, dict(analysis.explains))
        seen = [one for one in jobs.seen_of(explained, analysis.tables)
                if is_active(one.finding, end_ns, self.plan.patience)]  # fmt: skip
        now = jobs.jobs_now(seen, analysis.tables)
        before, self.board = (
            self.board,
            advance(self.board, end_ns, [*seen, *more], silent=silent, failed=faults, patience=self.plan.patience),
        )
        self._count(before, now, end_ns)
        self._anchor()
        self._seen = ([*seen, *more], now)
        self._report = report_document(analysis)
        self._ranks = rank_times(analysis.tables)

    def _count(self, before: Board, now: Sequence[jobs.Job], end_ns: int) -> None:
        known = {one.id for one in before.incidents}
        for one in self.board.incidents:
            if one.id not in known:
                self.totals.opened[one.root.condition] = self.totals.opened.get(one.root.condition, 0) + 1
        length_s = (end_ns - before.time_ns) / 1e9 if before.time_ns >= 0 else 0.0
        for job in now:
            if 0 < length_s <= self.plan.patience.clear_s:
                lost = self.totals.job_lost_gpu_s
                lost[job.name] = lost.pop(job.name, 0.0) + job.lost_gpus * length_s  # the last seen stand last
                for oldest in list(lost)[: max(len(lost) - MOST_JOBS, 0)]:
                    del lost[oldest]
        for one in changes(before, self.board):
            log.info("incident %s %s: %s: %s", one.id, one.state, one.root.condition, one.root.summary)

    def _anchor(self) -> None:
        """Let the horizon hold on to what was usual before the oldest incident that is not over."""
        onsets = [one.root.window.start_ns for one in self.board.live
                  if one.root.window.start_ns >= 0 and one.root.condition != STALE]  # fmt: skip
        self.horizon.anchor(min(onsets) - BEFORE_NS if onsets else -1)

    def _room_faults(self, faults: Mapping[str, Exception]) -> None:
        for part in [part for part in self._troubles if part.startswith(ROOM)]:
            if part.removeprefix(ROOM) not in faults:
                self._clear(part)
        for condition, error in faults.items():
            self._trouble(ROOM + condition, f"{condition} is not looked for: {type(error).__name__}: {error}")

    def _tell(self, end_ns: int) -> None:
        documents = self._documents.of(self.board)
        for outbox in self.plan.outboxes:
            outbox.tell(documents)
        for alertmanager in self.plan.alertmanagers:
            alertmanager.tell(documents, self.plan.clock_ns(), self.plan.link)
        try:
            if self.plan.history is not None:
                self.plan.history.note(documents)
            self._clear("history")
        except OSError as error:
            self._trouble("history", f"how incidents went cannot be kept: {error.strerror or error}")

    def _save(self) -> None:
        """Keep the incidents, before anybody hears of them: a restart must not give them other names."""
        if self.plan.folder is not None:
            kept = {"schema": STATE, "board": self._documents.saved(self.board),
                    "job_lost_gpu_s": self.totals.job_lost_gpu_s, "usual_ns": self.horizon.onset_ns}  # fmt: skip
            try:
                write(self.plan.folder / "state.json", msgspec.json.encode(kept))
                self._clear("state")
            except OSError as error:
                self._trouble("state", f"the state cannot be kept in {self.plan.folder}: {error.strerror or error}")

    def _act(self) -> None:
        """Hand the window to the engine, where there is one: it works in a thread of its own."""
        if self.plan.acting is not None:
            doubt = self._troubles.get("window") or self._troubles.get("analysis", "")
            unknown = self._staleness.unknown([one.root.subject.node for one in self.board.live])
            windows, documents = self.horizon.tables()["windows"], self._documents.of(self.board)
            self.plan.acting.window(self.board, documents, self._seen[1], unknown, doubt, windows)

    def _measured(self, told: Told, took_s: float) -> Health:
        receivers: Sequence[Alertmanager | Outbox] = (*self.plan.alertmanagers, *self.plan.outboxes)
        notified = {(one.name, result): count for one in receivers for result, count in one.counts.items()}
        size = self.plan.store.size_bytes() if self.plan.store is not None else -1
        return Health(
            took_s, self.plan.clock_ns() / 1e9, told.end_ns / 1e9, told.targets, told.stale, size, notified,
            {one.name: one.waiting for one in receivers},
        )  # fmt: skip

    def _publish(self, time_ns: int, reason: str) -> None:
        seen, now = self._seen
        live = [one for one in self.board.incidents if one.state != CLOSED]
        closed = [one for one in self.board.incidents if one.state == CLOSED]
        acts, trouble = (act_rows.rows(self.plan.acting), self.plan.acting.trouble) if self.plan.acting else ({}, "")
        body = page(seen, now, [*live, *closed], self.totals, self._health, acts)
        reasons = (*self._troubles.values(), *(one for one in (trouble, reason) if one))
        documents = self._documents.of(self.board)
        self.plan.publish(Snapshot(time_ns, self._report, documents, body, reasons, self._ranks))

    def _trouble(self, part: str, text: str) -> None:
        if self._troubles.get(part) != text:
            log.error("%s", text)
        self._troubles[part] = text

    def _clear(self, part: str) -> None:
        if self._troubles.pop(part, None):
            log.info("%s: all is well again", part)


def _nothing() -> Analysis:
    return analyze(Recording({}, ()))
