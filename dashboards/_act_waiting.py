"""Proposals that wait for a person: one line each, then each with what it changes, what is sent, and why."""

from __future__ import annotations

from collections.abc import Mapping

from skewscope.reports import wording

from ._act_answers import Answers, answers
from ._act_diff import lines
from ._act_records import Record, moment, number, said, what, whole, words
from ._culprits import FRESH, condition, host
from ._page import Block, Cell, Form, Link
from ._selection import Selection
from ._view import View

MOST = 8
TITLE = "Waits for an answer"
EVIDENCE = (
    ("confidence", "confidence", wording.share),
    ("share", "share of the step it costs", wording.share),
    ("lost_gpus", "GPU-hours lost an hour", wording.hours),
)


def waiting_blocks(view: View, selection: Selection) -> tuple[Block, ...]:
    """Return the list of proposals and a block for each, answered ones last; nothing where no engine is seen."""
    if view.acts is None:
        return ()
    told = [(one, answers(view.decisions, one, view.acts.records)) for one in view.acts.waiting]
    told.sort(key=lambda pair: pair[1].over)
    if not told:
        return (Block("waits", TITLE, "No proposal waits for an answer."),)
    return (_list(told, selection), *(_one(one, so_far, selection) for one, so_far in told[:MOST]))


def block_name(act: str) -> str:
    """Return the name of the block of an act.

    >>> block_name("C0ffee.1 x")
    'waits-c0ffee-1-x'
    """
    return "waits-" + "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in act.lower())[:60]


def where(record: Record, selection: Selection) -> Cell:
    """Return the target of an act: a host as a link to its page, a job as text."""
    target = words(record, "target", "")
    return words(record, "target") if words(record, "verb") in ("requeue", "advise") else host(target, selection)


def because(record: Record, selection: Selection) -> Cell:
    """Return the condition for which an act was done, as a link to its runbook."""
    name = words(record, "finding", "")
    return condition(name, selection) if name else wording.UNKNOWN


def life(act: str, selection: Selection) -> Link:
    """Return the link to all that happened to an act."""
    return Link(act, selection.link("/actions", **{**FRESH, "show": f"act/{act}"}))


def price(record: Record, name: str) -> str:
    """Return predicted GPU-hours."""
    return wording.hours(number(record, "predicted", name))


def _list(told: list[tuple[Record, Answers]], selection: Selection) -> Block:
    rows = tuple(
        (
            life(one["act"], selection), words(one, "verb"), where(one, selection), words(one, "scheduler"),
            because(one, selection), price(one, "gain_gpu_hours"), price(one, "cost_gpu_hours"),
            moment(one.get("expires_ns")), so_far.told,
        )
        for one, so_far in told
    )  # fmt: skip
    first = min(told, key=lambda pair: whole(pair[0], "expires_ns") or 2**63)[0]
    verb = "proposal waits" if len(told) == 1 else "proposals wait"
    verdict = (
        f"{len(told)} {verb} for an answer; {what(first)} is the first to expire, at {moment(first.get('expires_ns'))}."
    )
    note = f"The first {MOST} are shown below." if len(told) > MOST else ""
    columns = ("act", "verb", "whom", "scheduler", "condition", "saves (GPU-hours)", "costs (GPU-hours)",
               "expires (UTC)", "answers")  # fmt: skip
    return Block("waits", TITLE, verdict, columns=columns, rows=rows, note=note)


def _one(one: Record, so_far: Answers, selection: Selection) -> Block:
    name, scheduler = what(one), words(one, "scheduler")
    verdict = (
        f"{words(one, 'reason')}: would save {price(one, 'gain_gpu_hours')} GPU-hours and cost "
        f"{price(one, 'cost_gpu_hours')}. It expires at {moment(one.get('expires_ns'))}; {so_far.told}."
    )
    fields = {"act": one["act"], "seen": words(one, "hash", "")}
    forms = tuple(
        Form(action, f"{label} {name}", fields)
        for action, label in (("approve", "Approve"), ("snooze", "Snooze"), ("reject", "Reject"))
    )
    note = "Was (-), becomes (+), is sent (>). The state is looked at again just before anything is sent."
    if one.get("dry_run"):
        note += " Dry run: nothing is changed, even if approved."
    return Block(
        block_name(one["act"]), f"{name} on {scheduler}?", verdict, columns=("what", "value"),
        rows=(*_evidence(one, selection), *said(one)), note=note, forms=() if so_far.over else forms,
        lines=lines(one),
    )  # fmt: skip


def _evidence(one: Record, selection: Selection) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = [
        ("act", life(one["act"], selection)), ("incident", words(one, "incident")),
        ("condition", because(one, selection)), ("whom", where(one, selection)), ("job", words(one, "job")),
    ]  # fmt: skip
    rows += [
        (label, told(value)) for name, label, told in EVIDENCE if (value := number(one, "evidence", name)) is not None
    ]
    held = one.get("evidence")
    if isinstance(held, Mapping):
        seen, windows, steps, peers = (whole(held, name) for name in ("seen_count", "of_count", "steps", "peers"))
        rows += [("seen in", f"{seen} of {windows} windows")] if windows else []
        rows += [("compared", f"{wording.number(steps)} steps, {wording.number(peers)} peers")] if steps else []
    rows += [("proposed (UTC)", moment(one.get("time_ns"))), ("policy", words(one, "policy"))]
    return tuple(row for row in rows if row[1] != wording.UNKNOWN)
