"""Acts as the pages read them: records of `skewscope.action/1`, put together into the story of each act.

The records come from a service or a file and may hold anything: what is no record is left out, what is no number is not
shown as one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from skewscope.errors import SkewscopeError
from skewscope.reports import wording

Record = Mapping[str, Any]
ACTS, ACTION = "skewscope.acts/1", "skewscope.action/1"
STANDS, OVER = "stands", "undone"
STATES = {
    "observed": "would be done",
    "held": "held back",
    "proposed": "waits for an answer",
    "approved": "approved",
    "rejected": "rejected",
    "expired": "expired",
    "intended": "under way",
    "done": STANDS,
    "failed": "failed",
    "refused": "refused",
    "waiting": "tries again",
    "undoing": "being undone",
    "undone": OVER,
    "undo-failed": "stands, undoing failed",
    "reapplied": STANDS,
}
RESULTS = {  # what a result makes of a phase
    ("done", "nothing"): "was so already", ("recovered", "done"): STANDS, ("recovered", "nothing"): "not done",
    ("rejected", "snoozed"): "snoozed", ("held", "leave"): "left alone",
}  # fmt: skip
FENCED = (STANDS, "being undone", "stands, undoing failed")  # it is on the cluster now
COMMAND_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")


@dataclass(frozen=True)
class Acts:
    """What an engine did, and what it asks people.

    `records` are the latest, the newest first, then those of older acts that stand; `waiting` proposals by expiry;
    `modes`, `dry_run`, `budget` and `troubles` are by scheduler, `trust` by condition; `breaker` is why it is open, ""
    closed; `mine` whether this engine holds the lease, None where that is not told.
    """

    records: tuple[Record, ...] = ()
    waiting: tuple[Record, ...] = ()
    breaker: str = ""
    modes: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    dry_run: Mapping[str, Any] = field(default_factory=dict)
    troubles: Mapping[str, Any] = field(default_factory=dict)
    trust: Mapping[str, Any] = field(default_factory=dict)
    mine: bool | None = None


@dataclass(frozen=True)
class Story:
    """One act: its records, the oldest first, never none."""

    act: str
    records: tuple[Record, ...]

    @property
    def main(self) -> Record:
        """The record that says most of what it is: the latest that says what is sent to do it, else the first."""
        own = [one for one in self.records if not one.get("of") and one.get("sent")]
        return own[-1] if own else self.records[0]

    @property
    def telling(self) -> Record | None:
        """The record that says how it stands, None for what is no act, as the breaker."""
        return next((one for one in reversed(self.records) if _state(one)), None)

    @property
    def state(self) -> str:
        """How it stands, in words; "" for what is no act.

        >>> Story("a", ({"phase": "proposed"}, {"phase": "done"}, {"phase": "tested", "result": "fail"})).state
        'stands'
        """
        return "" if self.telling is None else _state(self.telling)

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing was changed by it.

        >>> Story("a", ({"phase": "observed", "dry_run": True}, {"phase": "done", "dry_run": False})).is_dry_run
        False
        """
        return self.telling is not None and self.telling.get("dry_run") is True

    def latest(self, *phases: str) -> Record | None:
        """Return the latest record of one of these phases."""
        return next((one for one in reversed(self.records) if one.get("phase") in phases), None)


def acts_of(told: object, origin: str) -> Acts:
    """Return a document `skewscope.acts/1`; raises SkewscopeError where it is none."""
    if not isinstance(told, dict) or told.get("schema") != ACTS:
        raise SkewscopeError(f"{origin} gives no {ACTS}; the dashboard and `skewscope watch` want the same version")
    parts = {name: told.get(name) for name in ("modes", "budget", "dry_run", "troubles", "trust")}
    mine = told.get("mine")
    records = with_standing(newest_first(told.get("records")), newest_first(told.get("standing")))
    return Acts(
        records, by_expiry(told.get("waiting")), words(told, "breaker", ""),
        **{name: part for name, part in parts.items() if isinstance(part, dict)},
        mine=mine if isinstance(mine, bool) else None,
    )  # fmt: skip


def fits(one: object) -> bool:
    """Return whether this is a record.

    >>> fits({"schema": "skewscope.action/1", "seq": 0, "time_ns": 1, "phase": "lease"}), fits({"act": "a"})
    (True, False)
    """
    if not isinstance(one, dict) or one.get("schema") != ACTION:
        return False
    counted = all(isinstance(one.get(name), int) for name in ("seq", "time_ns"))
    return counted and isinstance(one.get("phase"), str) and isinstance(one.get("act") or "", str)


def newest_first(told: object) -> tuple[Record, ...]:
    """Return the records among these, the newest first."""
    found = [one for one in told if fits(one)] if isinstance(told, list | tuple) else []
    return tuple(sorted(found, key=lambda one: (one["seq"], one["time_ns"]), reverse=True))


def with_standing(records: Sequence[Record], standing: Iterable[Record]) -> tuple[Record, ...]:
    """Return records, the newest first, with those of older acts that stand to this day."""
    there = {one["seq"] for one in records}
    return newest_first([*records, *(one for one in standing if one["seq"] not in there)])


def by_expiry(told: object) -> tuple[Record, ...]:
    """Return proposals, first what expires first."""
    named = [one for one in newest_first(told) if one.get("act")]
    return tuple(sorted(named, key=lambda one: (whole(one, "expires_ns") or 2**63, one["act"])))


def stories(records: Iterable[Record]) -> list[Story]:
    """Return what happened by act, the act with the newest record first; records are the newest first.

    >>> made = stories([{"act": "u", "of": "a", "seq": 2}, {"act": "b", "seq": 1}, {"act": "a", "seq": 0}])
    >>> [(one.act, len(one.records)) for one in made]
    [('a', 2), ('b', 1)]
    """
    found: dict[str, list[Record]] = {}
    for one in records:
        found.setdefault(_act(one), []).append(one)
    return [Story(act, tuple(reversed(told))) for act, told in found.items()]


def _act(record: Record) -> str:
    """Return the act of a record; what is held back has none yet, but an incident."""
    known = words(record, "of", "") or words(record, "act", "")
    incident = words(record, "incident", "")
    return known or (f"{incident} on {words(record, 'scheduler')}" if incident else f"#{record['seq']}")


def what(record: Record) -> str:
    """Return what is done to whom.

    >>> what({"verb": "drain", "target": "n3"}), what({"phase": "breaker"})
    ('drain n3', 'breaker')
    """
    said = " ".join(part for part in (words(record, "verb", ""), words(record, "target", "")) if part)
    return said or words(record, "phase")


def words(record: Record, name: str, otherwise: str = wording.UNKNOWN) -> str:
    """Return a text of a record, `otherwise` where there is none."""
    value = record.get(name)
    return value if isinstance(value, str) and value else otherwise


def whole(record: Record, name: str) -> int | None:
    """Return a whole number of a record, None where there is none or it is negative."""
    value = record.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def number(record: Record, part: str, name: str) -> float | None:
    """Return a number of a part of a record, None where there is none.

    >>> number({"predicted": {"step_share": 0.2}}, "predicted", "step_share"), number({}, "observed", "step_share")
    (0.2, None)
    """
    held = record.get(part)
    value = held.get(name) if isinstance(held, Mapping) else None
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine and value is not None else None


def said(record: Record) -> tuple[tuple[str, str], ...]:
    """Return what the safe-guards say: (guard, text)."""
    found = record.get("why")
    kept = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list | tuple) else []
    return tuple((words(one, "guard"), words(one, "text")) for one in kept)


def moment(time_ns: object) -> str:
    """Return a day and time in UTC.

    >>> moment(86_400 * 10**9), moment(None)
    ('1970-01-02 00:00:00Z', '-')
    """
    if not isinstance(time_ns, int) or time_ns < 0:
        return wording.UNKNOWN
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{time_ns} ns"


def undo_hint(story: Story) -> str:
    """Return the command that takes an act back, a dash where it does not stand.

    >>> undo_hint(Story("c0ffee.1", ({"phase": "done"},))), undo_hint(Story("$(x)", ({"phase": "done"},)))
    ('skewscope undo c0ffee.1', 'by the id in the audit file')
    """
    if story.state not in FENCED:
        return wording.UNKNOWN
    return f"skewscope undo {story.act}" if COMMAND_WORD.fullmatch(story.act) else "by the id in the audit file"


def _state(record: Record) -> str:
    phase, result = words(record, "phase", ""), words(record, "result", "")
    if phase in ("observed", "held") and record.get("of"):  # it tells why an act that stands is not taken back
        return ""
    state = RESULTS.get((phase, result), STATES.get(phase, ""))
    return "done" if state == STANDS and words(record, "verb", "") == "requeue" else state  # it is over at once
