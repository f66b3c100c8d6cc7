"""The engine: a turn takes cases, asks the policy, and carries out what it grants, each act written down before it.

All that matters is in the audit, so that a crash at any place loses nothing: the next turn, of this process or of
another that took the lease, reads it and looks at the cluster before it does anything. Dry run is the default.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from ..acts import Actuator, Fleet, Outcome
from ..policy.breaker import trips
from ..policy.cases import Around, Case, Decision
from ..policy.decide import decide
from ..policy.settings import Policy
from . import approvals, recovery
from .audit import Audit, Record
from .book import Book
from .entry import Fields, of_command, of_decision, of_outcome
from .lease import Held, Lease
from .naming import named
from .pace import Pace
from .performing import Performer
from .proof import Proofs
from .retesting import Judge, Trials
from .returning import take_back
from .trust import Trust

SECOND_NS = 10**9
MOST_ACTS = 16  # of one scheduler in one turn
TRIES = 3  # of one act in one turn
log = logging.getLogger("skewscope.acting")


@dataclass(frozen=True)
class Extras:
    """What an engine may be given besides: people's answers, how tests are judged and where they run, how fast to ask.

    `executor` runs re-tests beside the turns (None: within them). `dry_run` keeps every act from being carried out,
    also where the policy would let it.
    """

    dry_run: bool = True
    answers: approvals.Answers | None = None
    judge: Judge | None = None
    executor: Executor | None = None
    pace: Pace | None = None


class Engine:
    """Acts on schedulers by one policy and one audit. `turn` does it once; nothing runs between two turns."""

    def __init__(
        self, policy: Policy, actuators: Mapping[str, Actuator], audit: Audit, lease: Lease,
        extras: Extras | None = None,
    ) -> None:  # fmt: skip
        self.policy, self._lease, self._extras = policy, lease, extras or Extras()
        self.book = Book(audit)
        pace = self._extras.pace or Pace(policy.rate.per_s)
        known = self.book, pace, policy.version, TRIES
        self.hands = {name: Performer(name, one, *known) for name, one in actuators.items()}
        self.held = Held(False)
        self.turned_ns = -1
        self.decisions: dict[str, list[Decision]] = {}  # of the last turn, by scheduler
        self.proofs, self.trust = Proofs(), Trust(policy.economics.trust)
        self._tests = Trials(self._extras.judge or Judge(), policy.retest, self._extras.executor)
        self._trusted, self._reconciled_ns = 0, -1
        self._names: dict[str, str] = {}  # of jobs, as telemetry knows them, by the scheduler's id

    def close(self) -> None:
        """Give the lease back, so that another takes it at once."""
        self._lease.release()

    def turn(self, cases: Sequence[Case], around: Around, steps: Mapping[str, float] | None = None) -> list[Record]:
        """Do what is due at `around.now_ns`; return the records that were written, none where another holds the lease.

        `steps` are the step times (s) of jobs in this window. Raises AuditError where nothing can be written down:
        then nothing is done.
        """
        self.held = self._lease.take()
        if not self.held.mine:
            self.book.catch_up()  # who waits shows what the other does
            return []
        with self._lease.working():
            self.book.catch_up()
            start = self.book.count
            self._turn(cases, around, steps or {})
            self.turned_ns = around.now_ns
            return list(self.book.audit.records()[start:])

    def _turn(self, cases: Sequence[Case], around: Around, steps: Mapping[str, float]) -> None:
        if self.held.taken_from:
            self.book.append("lease", result="taken", detail=f"{self.held.taken_from} is gone; {self.held.owner} acts")
        self.proofs.see(steps, around.now_ns)
        around = self._seen(around)
        self._answers(around)
        due = self._is_due(around.now_ns)
        for hand in self.hands.values():
            fleet = hand.look()
            if fleet is not None:
                self._serve(hand, fleet, cases, around, due)

    def _seen(self, around: Around) -> Around:
        """Return the world with what the engine itself knows: the kill switch, and what promises were worth so far."""
        records = self.book.audit.records()
        for place in range(self._trusted, len(records)):
            self.trust.add(records[place])
        self._trusted = len(records)
        trust = {**self.trust.all(), **around.trust}
        return replace(around, stopped=around.stopped or stop_reason(self.policy), trust=trust)

    def _answers(self, around: Around) -> None:
        if self._extras.answers is not None:
            approvals.take(self._extras.answers, self.book, around.now_ns)
        approvals.expire(self.book, around.now_ns)

    def _serve(self, hand: Performer, fleet: Fleet, cases: Sequence[Case], around: Around, due: bool) -> None:
        """Do one scheduler's turn: first what was left open, then returns, then new acts."""
        dry_run = self.is_dry_run(hand.name, around.now_ns)
        cases, around, self._names = named(cases, around, fleet)
        recovery.recover(hand, fleet)
        if not around.stopped:
            looked = self._returned(hand, fleet, cases, around, due=due, dry_run=dry_run)
            if looked is None:
                return
            fleet = looked
        self.proofs.settle(self.book, hand.name, fleet, around.now_ns)
        self._decide(hand, fleet, cases, around, dry_run)

    def _returned(
        self, hand: Performer, fleet: Fleet, cases: Sequence[Case], around: Around, *, due: bool, dry_run: bool
    ) -> Fleet | None:
        """Go on with what waits, take back what is over, mend what was lost; return the fleet after it, None: away."""
        sent = recovery.retry(hand, self.policy, cases, fleet, around, dry_run=dry_run)
        looked = hand.look() if sent else fleet
        if looked is not None:
            looked = take_back(hand, self.policy, self._tests, cases, looked, around, dry_run=dry_run)
        if looked is not None and due and recovery.reconcile(hand, looked, dry_run=dry_run):
            looked = hand.look()
        return looked

    def _is_due(self, now_ns: int) -> bool:
        """Return whether marks are to be looked after; a clock that went back makes it due, too."""
        if self._reconciled_ns >= 0 and 0 <= now_ns - self._reconciled_ns < self.policy.reconcile.every_s * SECOND_NS:
            return False
        self._reconciled_ns = now_ns
        return True

    def is_dry_run(self, scheduler: str, now_ns: int) -> bool:
        """Return whether acts on a scheduler are only gone through."""
        return self._extras.dry_run or self.policy.is_dry_run(scheduler, self.book.journal.began_ns, now_ns)

    def _decide(self, hand: Performer, fleet: Fleet, cases: Sequence[Case], around: Around, dry_run: bool) -> None:
        """Carry out what is granted, one by one: after each act the world is looked at and the policy asked anew."""
        tried: set[str] = set()
        decisions: list[Decision] = []
        for _ in range(MOST_ACTS):
            self._see_breaker(fleet, around.now_ns)
            decisions = decide(self.policy, hand.name, cases, fleet, self.book.ledger, around, hand.actuator.verbs)
            granted = next((one for one in decisions if _is_granted(one) and _act(one) not in tried), None)
            if dry_run or granted is None or around.stopped or not self._may_go_on():
                break
            tried.add(_act(granted))
            self._act(hand, fleet, granted, around.now_ns)
            looked = hand.look()
            if looked is None:
                break
            fleet = looked
        self.decisions[hand.name] = decisions
        self._tell(hand, fleet, decisions, dry_run, around.now_ns)

    def _may_go_on(self) -> bool:
        """Renew the lease right before an act, and see that it is still ours."""
        self.held = self._lease.take()
        return self.held.mine

    def _act(self, hand: Performer, fleet: Fleet, decision: Decision, now_ns: int) -> None:
        request, journal = decision.request, self.book.journal
        if request is None or request.act in journal.done or request.act in journal.intents:
            return
        told = of_decision(decision)
        job = self._names.get(request.job, request.job)
        told["predicted"] |= {"step_s": self.proofs.before(job, now_ns), "step_job": job}
        hand.act(told, hand.command(request, fleet))

    def _tell(self, hand: Performer, fleet: Fleet, decisions: Sequence[Decision], dry_run: bool, now_ns: int) -> None:
        """Write down what was not done, and why: once for each change."""
        for one in decisions:
            if one.case.healthy or (one.verdict == "hold" and one.request is None):
                continue  # it is over, or an act stands and waits for its time
            told = of_decision(one)
            if one.verdict in ("hold", "leave"):
                self._once(hand, "held", {**told, "result": one.verdict})
            elif one.verdict == "ask" and _act(one) not in self.book.journal.proposals:
                self._propose(hand, fleet, one, now_ns)
            elif one.verdict == "observe":
                self._observe(hand, fleet, one)
            elif one.verdict == "act" and dry_run and self._is_new("observed", told) and one.request is not None:
                hand.rehearse(told, hand.command(one.request, fleet))

    def _observe(self, hand: Performer, fleet: Fleet, decision: Decision) -> None:
        told = of_decision(decision)
        if decision.request is not None and self._is_new("observed", told):
            command = hand.command(decision.request, fleet)
            told |= {**of_command(command), "dry_run": True, "detail": command.refused or None}
            hand.write("observed", **told, policy=hand.policy)

    def _propose(self, hand: Performer, fleet: Fleet, decision: Decision, now_ns: int) -> None:
        if decision.request is None:
            return
        told, command = of_decision(decision), hand.command(decision.request, fleet)
        refused = command.refused or ("it is so already" if command.nothing else "")
        checked = Outcome("refused", refused) if refused else hand.send(command, dry_run=True)
        if checked.result not in ("done", "nothing"):
            self._once(hand, "held", {**told, **of_outcome(checked)})
            return
        told |= {**of_command(command), "detail": checked.detail or None, "policy": hand.policy}
        hand.write("proposed", **told, expires_ns=now_ns + int(self.policy.approval.expires_s * SECOND_NS))

    def _see_breaker(self, fleet: Fleet, now_ns: int) -> None:
        """Write down that the breaker opens, so that it stays open until a person closes it."""
        if self.policy.is_looking_on(fleet.scheduler):
            return
        ledger = self.book.ledger
        why = "" if ledger.breaker else trips(self.policy, fleet, ledger, now_ns)
        if why:
            self.book.append("breaker", result="open", detail=why, scheduler=fleet.scheduler)

    def _once(self, hand: Performer, phase: str, told: Fields) -> None:
        if self._is_new(phase, told):
            hand.write(phase, **told, policy=hand.policy)

    def _is_new(self, phase: str, told: Fields) -> bool:
        return self.book.journal.is_new({**told, "phase": phase})


def _is_granted(decision: Decision) -> bool:
    return decision.verdict == "act" and decision.request is not None


def _act(decision: Decision) -> str:
    return decision.request.act if decision.request is not None else ""


def stop_reason(policy: Policy) -> str:
    """Return why everything stops: the kill switch exists, or cannot be looked at; "" where it does not."""
    name = policy.calendar.stop_file
    if not name:
        return ""
    try:
        Path(name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"{name} cannot be looked at: {error.strerror or error}"
    return f"{name} exists"
