"""What was done so far: a pure fold over the records of the audit, `skewscope.action/1`.

A dry run changes nothing, so its records change nothing here; only proposals and answers to them count in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..acts import FENCES

Record = Mapping[str, Any]
STRONG = ("avoid", *FENCES, "requeue")  # what moves work
COUNTED = (*FENCES, "requeue")  # what the breaker counts
PASSING = ("requeue",)  # over once it is done: nothing of it stands

PROPOSED, REJECTED, EXPIRED = "proposed", "rejected", "expired"
INTENDED, WAITING, FAILED, REFUSED = "intended", "waiting", "failed", "refused"
STANDING, NOTHING, UNDOING, UNDONE = "standing", "nothing", "undoing", "undone"
TAKING = (INTENDED, WAITING, STANDING, UNDOING)  # states in which an act takes what it wants, or may have taken it
TRIED = (STANDING, NOTHING, REFUSED, UNDOING)  # states in which a rung of the ladder is behind us
OVER = (REJECTED, EXPIRED, FAILED, REFUSED, UNDONE)  # states after which the same may be tried anew, as another act


@dataclass
class Act:
    """One act and where it stands. Times in ns of the audit, -1 never; `approvals` are persons with the time of it.

    `expires_ns` is of a proposal, and of a no that was only for a while.
    """

    id: str
    scheduler: str = ""
    verb: str = ""
    target: str = ""
    job: str = ""
    incident: str = ""
    state: str = ""
    changed_ns: int = -1
    expires_ns: int = -1
    began_ns: int = -1  # first intended
    done_ns: int = -1
    undone_ns: int = -1
    record: Record = field(default_factory=dict)  # the last full one: proposed, intended or done
    approvals: dict[str, int] = field(default_factory=dict)
    tests: list[tuple[int, bool]] = field(default_factory=list)  # when, whether passed

    @property
    def is_fence(self) -> bool:
        """Whether it takes capacity away."""
        return self.verb in FENCES

    @property
    def touched_ns(self) -> int:
        """When it last moved something, as far as is known."""
        return max(self.began_ns, self.done_ns, self.undone_ns)

    @property
    def was_done(self) -> bool:
        """Whether it took something once, or may have: it was sent and no failure came back."""
        return self.done_ns >= 0 or self.state in TAKING


class Ledger:
    """Acts and where each stands, as the records tell in their order. `add` changes it in place and is cheap.

    `standing`: records of acts that were done, took something and are not undone; `waiting`: proposals that nobody
    answered yet; `open_intents`: intents, also of undoing, without a result, as a crash leaves them; `breaker`: why it
    is open, "" closed; `failures_ns` and `counted_ns`: when acts failed, and fences and restarts began, since a reset.

    >>> ledger = Ledger.of([{"phase": "intended", "act": "a", "verb": "drain", "target": "n3", "time_ns": 5}])
    >>> list(ledger.open_intents), list(ledger.after({"phase": "done", "act": "a", "result": "done"}).standing)
    (['a'], ['a'])
    """

    def __init__(self) -> None:
        self.acts: dict[str, Act] = {}
        self.standing: dict[str, Record] = {}
        self.waiting: dict[str, Record] = {}
        self.open_intents: dict[str, Record] = {}
        self.breaker = ""
        self.began_ns = -1  # the first record
        self.latest_ns = -1  # the latest time that any record bears
        self.counted_ns: list[int] = []
        self.failures_ns: list[int] = []
        self._by: dict[tuple[str, str], list[Act]] = {}

    @classmethod
    def of(cls, records: Iterable[Record]) -> Ledger:
        """Return the ledger of all records, the oldest first."""
        made = cls()
        for record in records:
            made.add(record)
        return made

    def after(self, record: Record) -> Ledger:
        """Return this ledger with one more record in it (the same object)."""
        self.add(record)
        return self

    def add(self, record: Record) -> None:
        """Take one more record in; phases that change nothing are skipped.

        Of `recovered`, the result "done" says that what the act did stands, "nothing" that it does not: for an intent
        to undo as well.
        """
        time_ns = int(record.get("time_ns") or 0)
        self.began_ns = time_ns if self.began_ns < 0 else self.began_ns
        self.latest_ns = max(self.latest_ns, time_ns)
        phase = str(record.get("phase"))
        if phase == "breaker":
            self._switch(record)
        elif phase in PHASES and (phase in ANSWERS or not record.get("dry_run")):
            PHASES[phase](self, self._act(record), record, time_ns)

    def on(self, node: str) -> list[Act]:
        """Return the acts on a node, the oldest first."""
        return self._by.get(("target", node), [])

    def of_incident(self, incident: str) -> list[Act]:
        """Return the acts that answer an incident, the oldest first."""
        return self._by.get(("incident", incident), [])

    def of_job(self, job: str) -> list[Act]:
        """Return the acts on nodes of a job, the oldest first."""
        return self._by.get(("job", job), []) if job else []

    def fences(self, scheduler: str) -> list[Act]:
        """Return the fences of a scheduler that stand, or may."""
        return [act for act in self._by.get(("fences", scheduler), []) if act.state in TAKING]

    def fenced(self, scheduler: str) -> list[Act]:
        """Return the fences of a scheduler that were done once, or may have been, also those taken back."""
        return [act for act in self._by.get(("fences", scheduler), []) if act.was_done]

    def proposals(self, scheduler: str, now_ns: int) -> list[Act]:
        """Return the acts of a scheduler that wait for a person's answer at `now_ns`."""
        found = [self.acts[name] for name in self.waiting]
        return [act for act in found if act.scheduler == scheduler and not 0 <= act.expires_ns <= now_ns]

    def _act(self, record: Record) -> Act:
        of = "" if record.get("phase") in OWN else record.get("of")
        name = str(of or record.get("act") or "")
        if name not in self.acts:
            scheduler, verb, target, job, incident = (str(record.get(key) or "") for key in WHAT)
            act = self.acts[name] = Act(name, scheduler, verb, target, job, incident)
            places = [("target", act.target), ("incident", act.incident), ("job", act.job)]
            places += [("fences", act.scheduler)] if act.is_fence else []
            for place in places:
                self._by.setdefault(place, []).append(act)
        return self.acts[name]

    def _move(self, act: Act, state: str, time_ns: int) -> None:
        act.state, act.changed_ns = state, time_ns
        if state != PROPOSED:
            self.waiting.pop(act.id, None)
        if state not in (INTENDED, UNDOING):
            self.open_intents.pop(act.id, None)
        if state not in (STANDING, UNDOING):
            self.standing.pop(act.id, None)

    def _switch(self, record: Record) -> None:
        if record.get("result") == "open":
            self.breaker = str(record.get("detail") or record.get("reason") or "it was opened")
        else:
            self.breaker = ""
            self.counted_ns.clear()
            self.failures_ns.clear()

    def _proposed(self, act: Act, record: Record, time_ns: int) -> None:
        self._move(act, PROPOSED, time_ns)
        expires_ns = record.get("expires_ns")
        act.record, act.expires_ns = record, -1 if expires_ns is None else int(expires_ns)
        self.waiting[act.id] = record

    def _approved(self, act: Act, record: Record, time_ns: int) -> None:
        act.approvals[str(record.get("actor") or "")] = time_ns

    def _closed(self, act: Act, record: Record, time_ns: int) -> None:
        if act.state in ("", PROPOSED):
            self._move(act, str(record["phase"]), time_ns)
            snoozed_ns = record.get("expires_ns") if record.get("result") == "snoozed" else None
            act.expires_ns = -1 if snoozed_ns is None else int(snoozed_ns)

    def _intended(self, act: Act, record: Record, time_ns: int) -> None:
        self._move(act, INTENDED, time_ns)
        if act.began_ns < 0 and act.verb in COUNTED:
            self.counted_ns.append(time_ns)
        act.record, act.began_ns = record, max(act.began_ns, time_ns)
        self.open_intents[act.id] = record

    def _done(self, act: Act, record: Record, time_ns: int) -> None:
        if record.get("result") == "nothing" or act.verb in PASSING:
            self._move(act, NOTHING, time_ns)
            act.done_ns = time_ns if record.get("result") != "nothing" else act.done_ns
            return
        self._move(act, STANDING, time_ns)
        told = {name: one for name, one in record.items() if one is not None}
        act.record, act.done_ns = {**act.record, **told}, time_ns
        self.standing[act.id] = act.record

    def _failed(self, act: Act, record: Record, time_ns: int) -> None:
        if act.state == UNDOING:
            self._still(act, record, time_ns)
        else:
            self._move(act, str(record["phase"]), time_ns)
        if record["phase"] == FAILED:
            self.failures_ns.append(time_ns)

    def _recovered(self, act: Act, record: Record, time_ns: int) -> None:
        if act.state == UNDOING:
            if record.get("result") == "done":
                self._still(act, record, time_ns)
            else:
                self._undone(act, record, time_ns)
        elif record.get("result") == "done":
            self._done(act, record, time_ns)
        else:
            self._move(act, FAILED, time_ns)

    def _tested(self, act: Act, record: Record, time_ns: int) -> None:
        act.tests.append((time_ns, record.get("result") == "pass"))

    def _undoing(self, act: Act, record: Record, time_ns: int) -> None:
        self._move(act, UNDOING, time_ns)
        self.standing.setdefault(act.id, act.record or record)
        self.open_intents[act.id] = record

    def _undone(self, act: Act, record: Record, time_ns: int) -> None:
        self._move(act, UNDONE, time_ns)
        act.undone_ns = time_ns

    def _undo_failed(self, act: Act, record: Record, time_ns: int) -> None:
        self._still(act, record, time_ns)
        self.failures_ns.append(time_ns)

    def _still(self, act: Act, record: Record, time_ns: int) -> None:
        self._move(act, STANDING, time_ns)
        self.standing.setdefault(act.id, act.record or record)


PHASES: Mapping[str, Callable[[Ledger, Act, Record, int], None]] = {
    "proposed": Ledger._proposed, "approved": Ledger._approved, "rejected": Ledger._closed, "expired": Ledger._closed,
    "intended": Ledger._intended, "done": Ledger._done, "failed": Ledger._failed, "refused": Ledger._failed,
    "waiting": Ledger._failed, "recovered": Ledger._recovered, "tested": Ledger._tested, "undoing": Ledger._undoing,
    "undone": Ledger._undone, "undo-failed": Ledger._undo_failed,
}  # fmt: skip
ANSWERS = ("proposed", "approved", "rejected", "expired")
OWN = (*ANSWERS, "intended", "done")  # phases that tell of `act` itself, never of another that stands in `of`
WHAT = ("scheduler", "verb", "target", "job", "incident")
