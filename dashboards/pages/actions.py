"""Actions: what waits for an answer, what to do, what it would bring, what was answered and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import plotly.graph_objects as go

from skewscope.reports import wording

from .._act_log import log_blocks
from .._act_proof import proof_blocks
from .._act_waiting import waiting_blocks
from .._chart import BLUE, GREEN, label, layout
from .._culprits import FRESH, condition, counted, who
from .._page import HOW, Block, Cell, Form, Link, nothing
from .._selection import Selection
from .._view import View

MOST = 12
TITLE = "What to do"


class Actions:
    """The proposals, the recommendations, the answers and the acts."""

    path: ClassVar[str] = "/actions"
    title: ClassVar[str] = "Actions"
    order: ClassVar[int] = 4
    needs: ClassVar[tuple[str, ...]] = ()

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the proposals that wait, the recommendations, the answers, then what was done."""
        if view.empty and view.acts is None:
            return (nothing("gains", TITLE, "nothing is loaded", HOW),)
        advised = () if view.empty else _advised(view, selection)
        waiting, done = waiting_blocks(view, selection), (*proof_blocks(view, selection), *log_blocks(view, selection))
        made = (*waiting, *advised[:1], *_answers(view), *done, *advised[1:])
        return tuple(sorted(made, key=lambda one: one.name != "life"))  # the act that is asked for comes first


def _advised(view: View, selection: Selection) -> tuple[Block, ...]:
    """Return the gains side by side, then one block a recommendation, the largest gain first."""
    found = sorted(view.report["recommendations"], key=_left)
    if not found:
        return (_none(selection),)
    named = {one["id"]: one for one in view.report["findings"]}
    single = [_one(answer, [named[one] for one in answer["for"] if one in named], selection) for answer in found]
    return (_gains(found, named, selection), *single[:MOST])


def _left(answer: Mapping[str, Any]) -> tuple[float, str]:
    return float(answer["predicted"]["step_time_ratio"]), str(answer["id"])


def _answers(view: View) -> tuple[Block, ...]:
    """Return what people answered, newest first; nothing where nobody did."""
    if not view.decisions:
        return ()
    rows = tuple(
        (
            wording.clock(one["time_ns"]) if isinstance(one.get("time_ns"), int) else wording.UNKNOWN,
            *(str(one.get(name, wording.UNKNOWN)) for name in ("person", "decision")),
            str(one.get("recommendation", one.get("act", wording.UNKNOWN))),
            *(str(one.get(name, wording.UNKNOWN)) for name in ("action", "reason")),
        )
        for one in view.decisions[:MOST]
    )
    said = f"{counted(len(view.decisions), 'answer')}; the latest, {rows[0][2]} of {rows[0][3]}, is by {rows[0][1]}."
    columns = ("when (UTC)", "who", "answer", "id", "action", "reason")
    note = "An id names a recommendation of the report that was shown then, or an act. The file has all answers."
    return (Block("answers", "What was answered", said, columns=columns, rows=rows, note=note),)


def _none(selection: Selection) -> Block:
    links = (Link("Findings", selection.link("/", **FRESH)),)
    return Block(
        "gains", TITLE, "Nothing to repair: no rank, link, stage or host was found guilty.", links=links,
        advice="Look at the Ranks page for who is nearest to it.",
    )  # fmt: skip


def _gains(found: Sequence[Mapping[str, Any]], named: Mapping[str, Mapping[str, Any]], selection: Selection) -> Block:
    shown = found[:MOST]
    names = [label(f"{one['id']}: {one['action']}, {one['params'].get('subject', '')}", 56) for one in shown]
    saved = [100 * (1 - float(one["predicted"]["step_time_ratio"])) for one in shown]
    figure = go.Figure(
        go.Bar(
            orientation="h", y=names, x=saved, width=0.5,
            marker={"color": [GREEN if value > 0 else BLUE for value in saved]},
            hovertemplate="%{y}<br>at best %{x:.1f} % of the step<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, "step time saved at best (%)", "").update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=max(220, 120 + 34 * len(names)))
    rows = tuple(_row(one, named, selection) for one in shown)
    best = shown[0]
    said = (
        f"{counted(len(found), 'recommendation')}; the best, {best['action']} of "
        f"{best['params'].get('subject', '-')}, {_saves(best)}."
    )
    note = f"{len(found) - MOST} smaller ones are in the report." if len(found) > MOST else ""
    columns = ("id", "action", "whom", "condition", "step saved", "GPU-hours saved", "confidence", "cost", "risk")
    return Block("gains", TITLE, said, figure, columns, rows, note)


def _row(answer: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]], selection: Selection) -> tuple[Cell, ...]:
    told, first = answer["predicted"], named.get(next(iter(answer["for"]), ""))
    whom: Cell = who(first, selection) if first else str(answer["params"].get("subject", "-"))
    what: Cell = condition(first["condition"], selection) if first else "-"
    return (
        answer["id"], answer["action"], whom, what, wording.share(1 - told["step_time_ratio"]),
        wording.hours(told["gpu_hours_saved"] or None), wording.share(told["confidence"]), answer["cost"],
        answer["risk"],
    )  # fmt: skip


def _one(answer: Mapping[str, Any], found: Sequence[Mapping[str, Any]], selection: Selection) -> Block:
    told = answer["predicted"]
    rows: list[tuple[Cell, ...]] = [
        ("action", answer["action"]), ("worked out by", answer["planner"]),
        *((name, str(value)) for name, value in answer["params"].items()),
        ("step today to then", f"100 % to {wording.share(told['step_time_ratio'])} at best"),
        ("GPU-hours saved", _hours(told["gpu_hours_saved"])),
        ("confidence", wording.share(told["confidence"])), ("cost", answer["cost"]), ("risk", answer["risk"]),
    ]  # fmt: skip
    if replayed := wording.replayed(answer):
        rows.append(("replayed on the recorded rounds", replayed.removeprefix("replayed: ")))
    for one in found:
        rows += [("because of", who(one, selection)), ("condition", condition(one["condition"], selection))]
        rows += [("what the runbook says", one["advice"])] if one.get("advice") else []
    reason = found[0].get("summary") if found else ""
    said = (
        f"{answer['action']} of {answer['params'].get('subject', '-')} {_saves(answer)}"
        f"{': ' + reason if reason else ''}".rstrip(".")
        + "."
    )
    fields = {"recommendation": str(answer["id"])}
    forms = (Form("approve", "Approve", fields), Form("snooze", "Snooze", fields), Form("reject", "Reject", fields))
    note = "Nothing is changed by an answer: it is written down. An engine that acts (`watch --act`) asks on its own."
    return Block(
        f"action-{_plain(answer['id'])}", f"{answer['id']}: {answer['action']}", said, columns=("what", "value"),
        rows=tuple(rows), note=note, forms=forms,
    )  # fmt: skip


def _saves(answer: Mapping[str, Any]) -> str:
    told = answer["predicted"]
    if told["step_time_ratio"] < 1:
        return f"saves at most {wording.share(1 - told['step_time_ratio'])} of the step"
    if told["gpu_hours_saved"]:
        return f"saves {wording.hours(told['gpu_hours_saved'])} GPU-hours, once"
    return "has no price yet: nothing was slower for it"


def _hours(saved: float | None) -> str:
    return f"{wording.hours(saved)} of the recorded time" if saved else "not known"


def _plain(name: object) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in str(name).lower())
