"""What the engine has to know of the audit: which acts are under way, what was told already, what people answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]
ENDS = ("done", "failed", "refused", "waiting", "recovered")


class Journal:
    """A fold over audit records, beside the policy's ledger. `add` changes it in place.

    `intents` and `undoings` have no result yet; `waits` are to be tried again; `first` is the first intent of each act,
    which knows the state before any try, or the one that set a lost mark again; `told` is what was last said of an
    incident on a scheduler.
    """

    def __init__(self) -> None:
        self.intents: dict[str, Record] = {}
        self.undoings: dict[str, Record] = {}
        self.waits: dict[str, Record] = {}
        self.first: dict[str, Record] = {}
        self.tries: dict[str, int] = {}
        self.done: dict[str, Record] = {}
        self.proposals: dict[str, Record] = {}
        self.approved: dict[str, set[str]] = {}
        self.answers: set[str] = set()
        self.told: dict[tuple[str, str], object] = {}
        self.testing: dict[str, Record] = {}
        self.unproved: dict[str, Record] = {}  # done, whether undone since or not, and nobody said yet what it brought
        self.reapplied: dict[str, int] = {}
        self.refusals: dict[str, str] = {}  # why an act could not be taken back, when that was last tried
        self.is_open = False  # the breaker, as was last written
        self.began_ns = -1
        self._takes: Mapping[str, Callable[[Record], None]] = {
            "intended": self._intended, "proposed": self._proposed, "approved": self._approved,
            "rejected": self._answered, "expired": self._answered, "undoing": self._undoing, "undone": self._undone,
            "undo-failed": self._undone, "testing": self._testing, "tested": self._tested, "proved": self._proved,
            "breaker": self._breaker, "reapplied": self._reapplied, "observed": self._told, "held": self._told,
            **dict.fromkeys(ENDS, self._ended),
        }  # fmt: skip

    def add(self, record: Record) -> None:
        """Take one more record in."""
        if self.began_ns < 0:
            self.began_ns = int(record["time_ns"])
        take = self._takes.get(record["phase"])
        if take is not None:
            take(record)

    def extend(self, records: Iterable[Record]) -> None:
        """Take more records in, the oldest first."""
        for record in records:
            self.add(record)

    def whole(self, record: Record) -> Record:
        """Return a record of an act with the state before its first try, which a second try no longer sees."""
        first = self.first.get(record["act"])
        if first is None or first is record or not first.get("undo"):
            return record
        return {**record, "before": first.get("before"), "undo": first["undo"]}

    def is_new(self, record: Record) -> bool:
        """Return whether a record would say something new of its incident on its scheduler."""
        return self.told.get((record["scheduler"], record["incident"])) != told_key(record)

    def _intended(self, record: Record) -> None:
        act = record["act"]
        self.intents[act] = record
        self.first.setdefault(act, record)
        self.tries[act] = self.tries.get(act, 0) + 1
        self.waits.pop(act, None)
        self.proposals.pop(act, None)
        self._told(record)

    def _ended(self, record: Record) -> None:
        act = record.get("act", "")
        if act in self.undoings and record["phase"] == "recovered":
            self._undone(record)
            return
        self.intents.pop(act, None)
        self.waits.pop(act, None)
        self.proposals.pop(act, None)
        stands = record["phase"] in ("done", "recovered") and record.get("result") != "nothing"
        if record["phase"] == "waiting":
            self.waits[act] = record
        elif stands:
            self.done[act] = record
            self.unproved[act] = record
        if record["phase"] in ("refused", "done"):
            self._told(record)

    def _proposed(self, record: Record) -> None:
        self.proposals[record["act"]] = record
        self._told(record)

    def _approved(self, record: Record) -> None:
        self.approved.setdefault(record["act"], set()).add(record["actor"])
        self.answers.add(record.get("answer", ""))

    def _answered(self, record: Record) -> None:
        self.proposals.pop(record.get("act", ""), None)
        self.answers.add(record.get("answer", ""))

    def _undoing(self, record: Record) -> None:
        self.undoings[record["of"]] = record

    def _undone(self, record: Record) -> None:
        act = record.get("of") or record["act"]
        self.undoings.pop(act, None)
        if record["phase"] == "undo-failed":
            self.refusals[act] = record.get("detail", "")
        elif record.get("result") != "done" or record["phase"] == "undone":
            self.done.pop(act, None)
            self.waits.pop(act, None)

    def _testing(self, record: Record) -> None:
        self.testing[record["of"]] = record

    def _tested(self, record: Record) -> None:
        self.testing.pop(record["of"], None)

    def _proved(self, record: Record) -> None:
        self.unproved.pop(record["of"], None)

    def _reapplied(self, record: Record) -> None:
        if record.get("result") == "intended":
            act = record["of"]
            self.reapplied[act] = self.reapplied.get(act, 0) + 1
            self.first[act] = record  # what was there before the loss will not be there again

    def _breaker(self, record: Record) -> None:
        self.is_open = record.get("result") == "open"

    def _told(self, record: Record) -> None:
        if record.get("scheduler") and record.get("incident"):
            self.told[record["scheduler"], record["incident"]] = told_key(record)


def told_key(record: Record) -> object:
    """Return what must change before the same is said again of an incident: phase, verb, place, and the guards."""
    guards = frozenset(one["guard"] for one in record.get("why") or ())
    phase = record["phase"]
    return (
        phase, record.get("verb"), record.get("target"), record.get("of"), guards if phase == "held" else None,
        record.get("result") if phase == "held" else None,
    )  # fmt: skip
