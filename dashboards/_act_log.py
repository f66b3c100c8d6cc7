"""What was done and what was not: the log of acts with its filter, the life of one act, the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from skewscope.reports import wording

from ._act_diff import lines
from ._act_records import FENCED, OVER, Acts, Record, Story, moment, number, said, stories, undo_hint, what, words
from ._act_waiting import because, life, where
from ._culprits import FRESH, counted
from ._page import Block, Cell, Control, Link
from ._selection import Selection
from ._view import View

MOST, MOST_HELD = 50, 30
LOG, HELD, LIMITS = "Log of acts", "Held back by safe-guards", "Modes, budget and breaker"
HOLDING = ("held back", "left alone")
FILTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "standing": ("stands now", FENCED), "undone": ("taken back", (OVER,)),
    "not-done": ("not done", ("failed", "refused", "rejected", "expired", "not done")),
    "looked-on": ("would be done", ("would be done", *HOLDING)),
}  # fmt: skip
LIFE = "act/"
SPENT = ", spent"


def log_blocks(view: View, selection: Selection) -> tuple[Block, ...]:
    """Return the life of the selected act, who is held back, the limits and the log; nothing without an engine."""
    if view.acts is None:
        return ()
    told = stories(view.acts.records)
    one = [story for story in told if selection.show == f"{LIFE}{story.act}"]
    return (
        *(_life(story, selection) for story in one), *_held(told, selection), _limits(view.acts),
        _log([story for story in told if story.state], selection),
    )  # fmt: skip


def _life(story: Story, selection: Selection) -> Block:
    first, newest = story.main, story.records[-1]
    rows, before = [], ""
    for one in story.records:
        now = _told(one)
        rows.append((moment(one["time_ns"]), words(one, "phase"), words(one, "result"), words(one, "actor"),
                     _brought(one) or (now if now != before else wording.UNKNOWN)))  # fmt: skip
        before = now
    verdict = f"{what(first)} on {words(first, 'scheduler')}: {story.state or words(newest, 'phase')}. {_told(first)}."
    hint = undo_hint(story)
    return Block(
        "life", f"Act {story.act}", verdict, columns=("when (UTC)", "phase", "result", "by", "what it says"),
        rows=tuple(rows),
        note="" if hint == wording.UNKNOWN else f"Take it back: {hint} (with --apply; else it only shows what changes)",
        links=(Link("All acts", selection.link("/actions", **FRESH)),), lines=lines(first),
    )  # fmt: skip


def _log(told: list[Story], selection: Selection) -> Block:
    if not told:
        return Block("acts", LOG, "Nothing was done to the cluster, and nothing was to be done.")
    kept = [one for one in told if _chosen(one, selection)]
    rows = tuple(_row(one, selection) for one in kept[:MOST])
    standing = sum(one.state in FENCED for one in told)
    newest = f"; the newest, {what(kept[0].main)}, is: {kept[0].state}" if kept else "; none is of the chosen kind"
    verdict = f"{counted(len(told), 'act')}, {standing} of them on the cluster now{newest}."
    there = [name for name, (_, states) in FILTERS.items() if any(one.state in states for one in told)]
    options = (("", "all"), *((name, FILTERS[name][0]) for name in there))
    controls = [Control("Show", "show", options, selection.show if selection.show in FILTERS else "")]
    if selection.node:
        controls.append(Control("Host", "node", (("", "all hosts"), (selection.node, selection.node)), selection.node))
    left = f" {len(kept) - MOST} older ones are in the audit file." if len(kept) > MOST else ""
    columns = ("last (UTC)", "act", "verb", "whom", "scheduler", "state", "condition", "incident", "by", "to undo")
    note = f"`skewscope audit verify FILE` checks that no line of the audit file was changed.{left}"
    return Block("acts", LOG, verdict, columns=columns, rows=rows, note=note, controls=tuple(controls))


def _chosen(story: Story, selection: Selection) -> bool:
    _, states = FILTERS.get(selection.show, ("", ()))
    at_host = not selection.node or words(story.main, "target", "") == selection.node
    return at_host and (not states or story.state in states)


def _row(story: Story, selection: Selection) -> tuple[Cell, ...]:
    first, newest = story.main, story.records[-1]
    return (
        moment(newest["time_ns"]), life(story.act, selection), words(first, "verb"), where(first, selection),
        words(first, "scheduler"), f"{story.state}, dry run" if story.is_dry_run else story.state,
        because(first, selection), words(first, "incident"), _by(story), undo_hint(story),
    )  # fmt: skip


def _told(one: Record) -> str:
    guards = "; ".join(f"{guard}: {text}" for guard, text in said(one))
    parts = [words(one, "reason", ""), words(one, "detail", ""), guards]
    return ". ".join(part for part in parts if part) or wording.UNKNOWN


def _brought(one: Record) -> str:
    """Return what an act brought, where the record says it."""
    before, after = number(one, "predicted", "step_share"), number(one, "observed", "step_share")
    if after is None:
        return ""
    return f"{wording.share(after)} of the step was saved, {wording.share(before)} was predicted"


def _by(story: Story) -> str:
    """Return who let an act be done, or kept it from being done."""
    return words(story.latest("approved", "rejected") or story.records[-1], "actor")


def _held(told: list[Story], selection: Selection) -> tuple[Block, ...]:
    newest: dict[tuple[str, str], int] = {}
    for one in (record for story in told for record in story.records):
        case = (words(one, "scheduler"), words(one, "incident"))
        newest[case] = max(newest.get(case, -1), one["seq"])
    held = [
        (one, last) for one in told if one.state in HOLDING and (last := one.latest("held"))
        and newest[words(last, "scheduler"), words(last, "incident")] == last["seq"]
    ]  # fmt: skip
    guards = [(one, last, guard, text) for one, last in held for guard, text in said(last)]
    if not guards:
        return ()
    rows = tuple(
        (moment(last["time_ns"]), what(last), words(last, "scheduler"), because(last, selection), guard, text,
         life(one.act, selection))
        for one, last, guard, text in guards[:MOST_HELD]
    )  # fmt: skip
    often, count = Counter(guard for *_, guard, _ in guards).most_common(1)[0]
    is_held = "act is held" if len(held) == 1 else "acts are held"
    verdict = f"{len(held)} {is_held} back; {often} speaks against {count} of them."
    columns = ("since (UTC)", "what", "scheduler", "condition", "safe-guard", "what it says", "act")
    note = "`skewscope policy check FILE` prints what each safe-guard does, and its values."
    return (Block("held", HELD, verdict, columns=columns, rows=rows, note=note),)


def _limits(acts: Acts) -> Block:
    names = sorted({*acts.modes, *acts.budget, *acts.troubles})
    rows = tuple((name, *_limit(acts, name)) for name in names)
    full = [row[0] for row in rows if any(cell.endswith(SPENT) for cell in row[3:5])]
    parts = [
        f"The breaker is open, {acts.breaker}: nothing new is done, what stands is still taken back." if acts.breaker
        else "The breaker is closed: the safe-guards decide.",
        f"The budget of {', '.join(full)} is spent." if full else "",
        "Another engine holds the lease: this one looks on." if acts.mine is False else "",
    ]  # fmt: skip
    note = "A person closes it: `skewscope policy reset-breaker --audit FILE --reason TEXT`." if acts.breaker else ""
    columns = ("scheduler", "mode", "dry run", "hosts out now", "hosts within a day", "out by others", "answers")
    return Block("limits", LIMITS, " ".join(one for one in parts if one), columns=columns if rows else (), rows=rows,
                 note=note)  # fmt: skip


def _limit(acts: Acts, name: str) -> tuple[str, ...]:
    dry, trouble, held = (part.get(name) for part in (acts.dry_run, acts.troubles, acts.budget))
    spent = held if isinstance(held, Mapping) else {}
    return (
        _mode(acts.modes.get(name)), "yes" if dry is True else "no" if dry is False else wording.UNKNOWN,
        _spent(spent, "out", "at_once"), _spent(spent, "day", "per_day"), _count(spent.get("foreign")),
        str(trouble) if trouble else "yes",
    )  # fmt: skip


def _mode(mode: object) -> str:
    """Return a mode, or the modes of groups.

    >>> _mode("act"), _mode({"": "observe", "gpu": "act"})
    ('act', 'observe, gpu: act')
    """
    if isinstance(mode, Mapping):
        return ", ".join(f"{group}: {one}" if group else str(one) for group, one in mode.items())
    return str(mode) if mode else wording.UNKNOWN


def _spent(spent: Mapping[str, Any], used: str, most: str) -> str:
    """Return how much of a limit is used.

    >>> _spent({"out": 1, "at_once": 1}, "out", "at_once")
    '1 of 1, spent'
    """
    now, limit = spent.get(used), spent.get(most)
    full = isinstance(now, int | float) and isinstance(limit, int | float) and now >= limit
    return wording.UNKNOWN if now is None else f"{_count(now)} of {_count(limit)}{SPENT if full else ''}"


def _count(value: object) -> str:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return wording.number(float(value)) if known and isinstance(value, int | float) else wording.UNKNOWN
