"""Acting beside watching: each window's incidents are handed to the engine, which works in a thread of its own.

A scheduler that takes long, or a re-test of minutes, holds no window up; where the engine is still at work, the newest
window waits for it and older ones are left out.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..acting import rooms
from ..acting.account import Account, account
from ..acting.approvals import AnswerFile
from ..acting.audit import Audit
from ..acting.cases import Known, Sightings, of_incident
from ..acting.engine import Engine, Extras
from ..acting.lease import BothLeases, FileLease, Lease
from ..acting.retesting import Beside, Judge
from ..errors import UsageError
from ..policy.cases import Around, Case
from ..policy.settings import Policy
from . import checkpoints
from .alarms import Alarms
from .incidents import MITIGATED, Board, Seen
from .jobs import Job

log = logging.getLogger("skewscope.watch")
Document = Mapping[str, Any]


@dataclass(frozen=True)
class ActOptions:
    """Which schedulers are acted on, by which policy, and where audit and people's decisions stand (None: nowhere).

    `lease` names the scheduler that keeps a lease for watchers on several hosts ("": the file beside the audit does).
    """

    schedulers: Sequence[str]
    audit: Path
    policy: Path | None = None
    decisions: Path | None = None
    lease: str = ""


def engine_of(options: ActOptions) -> Engine:
    """Return an engine for a live service; raises UsageError or SkewscopeError for files that cannot be used."""
    policy = Policy() if options.policy is None else Policy.load(options.policy)
    answers = None if options.decisions is None else AnswerFile(options.decisions)
    healthy = Path(policy.retest.references) if policy.retest.references else None
    judge = Judge(options.audit.with_name(f"{options.audit.name}.retests"), healthy)
    actuators = rooms.actuators(policy, options.schedulers)
    extras = Extras(dry_run=False, answers=answers, judge=judge, executor=Beside())
    return Engine(policy, actuators, Audit(options.audit), _lease(options, actuators), extras)


def _lease(options: ActOptions, actuators: Mapping[str, Any]) -> Lease:
    here = FileLease(options.audit.with_name(f"{options.audit.name}.lease"))
    if not options.lease:
        return here
    keeper = getattr(actuators.get(options.lease), "lease", None)
    if keeper is None:
        raise UsageError(f"--lease {options.lease}: wants a scheduler of --act that keeps leases, as kubernetes")
    return BothLeases(here, keeper(here.owner))


@dataclass
class Looks:
    """Turns the board of each window into cases: in how many windows each was seen, and what cannot be trusted."""

    _sightings: Sightings = field(default_factory=Sightings)
    _last: dict[str, Seen] = field(default_factory=dict)

    def cases(
        self, board: Board, documents: Sequence[Document], jobs: Sequence[Job], unknown: Collection[str]
    ) -> list[Case]:
        """Return the case of each live incident; `unknown` are hosts that told nothing."""
        live = {one.id: one for one in board.live}
        seen = {name: self._last.get(name) is not one.seen for name, one in live.items()}
        self._last = {name: one.seen for name, one in live.items()}
        self._sightings.note(seen)
        steps = {job.name: job.step_s for job in jobs}
        told = {one["id"]: one for one in documents if one["id"] in live}
        return [
            of_incident(told[name], Known(
                board.time_ns if seen[name] else one.seen_ns, *self._sightings.counts(name), one.seen.ranks,
                steps.get(one.seen.job, math.nan), one.state == MITIGATED and not seen[name],
                f"{one.root.subject.node} does not tell anything now" if one.root.subject.node in unknown else "",
            )) for name, one in live.items()
        ]  # fmt: skip


@dataclass(frozen=True)
class _Window:
    """What the engine is told of one window."""

    cases: Sequence[Case]
    around: Around
    steps: Mapping[str, float]


class Acting:
    """An engine in a thread. `tell` hands a window over and returns at once; `account` is what it last told."""

    def __init__(
        self, engine: Engine, alarms: Alarms | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:  # fmt: skip
        self._engine, self._alarms, self._clock_ns = engine, alarms or Alarms(()), clock_ns
        self._looks = Looks()
        self._cases: Sequence[Case] = ()
        self.account: Account = account(engine, clock_ns())
        self.trouble = ""
        self.took_s = 0.0
        self._next: _Window | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="acting", daemon=True)

    def start(self) -> None:
        """Begin to act."""
        self._thread.start()

    def window(
        self, board: Board, documents: Sequence[Document], jobs: Sequence[Job], unknown: Collection[str], doubt: str,
        windows: pd.DataFrame,
    ) -> None:  # fmt: skip
        """Hand a window over: the board after it, its documents and jobs; `doubt` says why it was not analysed."""
        if not doubt:
            self._cases = self._looks.cases(board, documents, jobs, unknown)
        since = {} if doubt else checkpoints.since_s(windows, board.time_ns)
        steps = {job.name: job.step_s for job in jobs if not doubt and math.isfinite(job.step_s)}
        self.tell(self._cases, Around(self._clock_ns(), doubt=doubt, since_checkpoint_s=since), steps)

    def tell(self, cases: Sequence[Case], around: Around, steps: Mapping[str, float]) -> None:
        """Hand a window over: the cases, the world, and the step times (s) of jobs."""
        with self._changed:
            self._next = _Window(cases, around, steps)
            self._changed.notify()

    def stop(self, wait_s: float = 60.0) -> None:
        """End after the turn under way, and give the lease back."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(wait_s)
        else:
            self._engine.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._stopping)
                window, self._next = self._next, None
                if self._stopping:
                    break
            if window is not None:
                self.turn(window.cases, window.around, window.steps)
        self._engine.close()

    def turn(self, cases: Sequence[Case], around: Around, steps: Mapping[str, float]) -> None:
        """Do one turn; a fault becomes `trouble`, for the next window to try again."""
        begun_s = time.monotonic()
        try:
            burning, unknown = self._alarms.burning()
            doubt = around.doubt or unknown
            self._engine.turn(cases, replace(around, alarms=burning, doubt=doubt, now_ns=self._clock_ns()), steps)
            self.trouble = ""
        except Exception as error:  # the loop must go on: the next window has another chance
            said = f"nothing is acted on: {type(error).__name__}: {error}"
            if said != self.trouble:
                log.exception("%s", said)
            self.trouble = said
        self.took_s = time.monotonic() - begun_s
        self.account = account(self._engine, self._clock_ns())
