"""What people answered to a proposal so far, and the questions that its form asks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flask

from skewscope.reports import wording

from ._act_diff import KINDS, lines
from ._act_records import Acts, Record, moment, number, said, what, whole, words
from ._plain import refusal, text

Decision = Mapping[str, Any]
PERSONS = re.compile(r"\b(\d{1,2}) persons?\b")


@dataclass(frozen=True)
class Answers:
    """The answers to one proposal: who approved, who rejected or snoozed it ("" nobody), until when (-1 not).

    `persons` must approve, 0 is not known. The engine has the last word: another person may approve while it waits.
    """

    approved: tuple[str, ...] = ()
    rejected: str = ""
    snoozed: str = ""
    until_ns: int = -1
    persons: int = 0

    @property
    def over(self) -> bool:
        """Whether the engine will no longer take an answer.

        >>> Answers(("ann",)).over, Answers(("ann",), rejected="bob").over
        (False, True)
        """
        return bool(self.rejected or self.snoozed)

    @property
    def told(self) -> str:
        """How it stands, in words.

        >>> Answers(("ann",), persons=2).told
        'approved by ann, one more person must approve'
        """
        if self.rejected:
            return f"rejected by {self.rejected}"
        if self.snoozed:
            return f"snoozed by {self.snoozed} until {moment(self.until_ns)}"
        if not self.approved:
            return "a person must approve" if self.persons < 2 else f"{self.persons} people must approve"
        left = self.persons - len(self.approved)
        more = "one more person must approve" if left == 1 else f"{left} more people must approve"
        return f"approved by {', '.join(self.approved)}, {more if left > 0 else 'the engine takes it up'}"


def answers(decisions: Sequence[Decision], proposal: Record, records: Sequence[Record] = ()) -> Answers:
    """Return the answers to a proposal as it stands now; both `decisions` and `records` are the newest first.

    A decision counts for what was shown: `seen` is the hash of the record. Of the records those count that say, after
    the proposal, who approved it: other dashboards may have other decisions.
    """
    act, mark = proposal["act"], proposal.get("hash")
    mine = [one for one in decisions if one.get("act") == act and one.get("seen") == mark]
    taken = [one for one in records if one.get("act") == act and one["seq"] > proposal["seq"]]
    approved = [words(one, "actor") for one in reversed(taken) if one["phase"] == "approved"]
    known = proposal.get("approved_by")
    approved += [str(one) for one in known] if isinstance(known, list) else []
    approved += [words(one, "person") for one in reversed(mine) if one.get("decision") == "approve"]
    rejected, snoozed = ([one for one in mine if one.get("decision") == name] for name in ("reject", "snooze"))
    until = [(whole(one, "time_ns") or 0) + (whole(one, "seconds") or 0) * 10**9 for one in snoozed]
    return Answers(
        tuple(dict.fromkeys(approved)), _first(rejected), _first(snoozed), max(until, default=-1), _persons(proposal)
    )


def _first(told: Sequence[Decision]) -> str:
    return words(told[0], "person") if told else ""


def _persons(proposal: Record) -> int:
    """Return how many must approve, by the record or else by what its safe-guard says; 0 where neither tells.

    >>> _persons({"why": [{"guard": "approval", "text": "wants the yes of 2 persons"}]})
    2
    """
    found = [PERSONS.search(told) for guard, told in said(proposal) if guard == "approval"]
    return whole(proposal, "persons") or next((int(one[1]) for one in found if one), 0)


@dataclass(frozen=True)
class Question:
    """What a form asks about: a title, words as HTML, what of it the form carries, and what is written down of it."""

    title: str
    words: str
    kept: Mapping[str, str]
    told: Mapping[str, Any]
    refused: flask.Response | None = None


def asked(
    given: Mapping[str, str], acts: Acts | None, decisions: Sequence[Decision], person: str, now_ns: int, action: str
) -> Question:
    """Return the question about the proposal that `given` names by `act`; refused where it cannot be answered now."""
    found = [one for one in (acts.waiting if acts else ()) if one["act"] == given.get("act")]
    if not found:
        return _refused(404, "This proposal does not wait any more; look at the Actions page.")
    one = found[0]
    mark, expires_ns = words(one, "hash", ""), whole(one, "expires_ns")
    if expires_ns is not None and expires_ns <= now_ns:
        return _refused(409, f"It expired at {moment(expires_ns)}. If the case stands, it is proposed anew.")
    if given.get("seen", mark) != mark:
        return _refused(409, "The proposal is another since you looked; read it again on the Actions page.")
    so_far = answers(decisions, one, acts.records if acts else ())
    if so_far.over:
        return _refused(409, f"It is answered: {so_far.told}.")
    if action == "approve" and person in so_far.approved:
        return _refused(409, f"You approved it already: {so_far.told}.")
    return Question(what(one), _words(one, so_far, action), {"act": one["act"], "seen": mark}, _told(one))


def _refused(status: int, why: str) -> Question:
    return Question("", "", {}, {}, refusal(status, why))


def _words(one: Record, so_far: Answers, action: str) -> str:
    gain, cost = number(one, "predicted", "gain_gpu_hours"), number(one, "predicted", "cost_gpu_hours")
    guards = "".join(f"<li>{text(guard)}: {text(told)}</li>" for guard, told in said(one))
    diff = "\n".join(f'<span class="{KINDS.get(line[:2], "")}">{text(line)}</span>' for line in lines(one))
    return (
        f"<p>{text(words(one, 'scheduler'))}: {text(words(one, 'reason'))}. Would save {wording.hours(gain)} GPU-hours "
        f"and cost {wording.hours(cost)}. Expires at {moment(one.get('expires_ns'))}; {text(so_far.told)}.</p>"
        f'<pre class="diff" tabindex="0" role="region" aria-label="what changes and what is sent">{diff}</pre>'
        f"{f'<ul>{guards}</ul>' if guards else ''}<p>{_meaning(one, action)}</p>"
    )


def _meaning(one: Record, action: str) -> str:
    if action == "reject":
        return "The engine then leaves it; nothing is sent."
    if action == "snooze":
        return "The engine leaves it so long; where the case still stands then, it asks again. Nothing is sent."
    if one.get("dry_run"):
        return "This is a dry run: even approved, nothing is changed on the cluster."
    return "Approved, it is sent at the engine's next turn, if its safe-guards still agree and the state is as shown."


def _told(one: Record) -> dict[str, Any]:
    return {
        "act": one["act"], "seen": words(one, "hash", ""), "incident": words(one, "incident", ""),
        "finding": words(one, "finding", ""), "scheduler": words(one, "scheduler", ""), "action": what(one),
    }  # fmt: skip
