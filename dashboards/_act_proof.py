"""What acts brought: predicted beside realised, and the marks that acts leave on a time line."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording

from ._act_records import Record, Story, moment, number, stories, what, words
from ._act_waiting import because, life, where
from ._chart import BLUE, GREEN, label, layout
from ._culprits import counted
from ._page import Block, Cell
from ._selection import Selection
from ._view import View

MOST, MOST_ROWS = 12, 40
PROOF, DONE = "What acts brought", "What was done about it"
MARKED = {"done": "act", "undone": "act taken back", "tested": "re-test", "recovered": "act"}


def proof_blocks(view: View, selection: Selection) -> tuple[Block, ...]:
    """Return predicted beside realised gains of the acts that were proved; nothing where none was."""
    told = [(one, last) for one in _stories(view) if (last := one.latest("proved"))]
    pairs = [(one, *_shares(one, last), last) for one, last in told]
    if not pairs:
        return ()
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (life(one.act, selection), what(one.main), wording.share(before), wording.share(after), _kept(before, after),
         wording.seconds(number(last, "observed", "before_s")), wording.seconds(number(last, "observed", "after_s")),
         words(last, "result"))
        for one, before, after, last in pairs[:MOST_ROWS]
    )  # fmt: skip
    both = [(one, before, after) for one, before, after, _ in pairs if before is not None and after is not None]
    columns = ("act", "what", "predicted (share of step)", "realised (share of step)", "realised of predicted",
               "step before", "step after", "judged")  # fmt: skip
    figure = _figure(both[:MOST]) if both else None
    verdict = _verdict(len(pairs), [(before, after) for _, before, after in both])
    return (Block("proof", PROOF, verdict, figure, columns, rows, _trusted(view)),)


def _trusted(view: View) -> str:
    """Return how far promises are believed by now, by condition."""
    held = view.acts.trust if view.acts else {}
    said = [f"{name} {wording.share(one)}" for name, one in sorted(held.items()) if isinstance(one, int | float)]
    return f"So much of a promise counts by now: {', '.join(said[:MOST])}." if said else ""


def _verdict(count: int, both: Sequence[tuple[float, float]]) -> str:
    before, after = sum(one for one, _ in both), sum(one for _, one in both)
    if before <= 0:
        return f"{counted(count, 'act')} could not be measured: no step times to compare, or nothing was predicted."
    were = "act was" if len(both) == 1 else "acts were"
    said = (
        f"{len(both)} {were} measured afterwards: {wording.share(after / len(both))} of the step was saved on average, "
        f"{wording.share(after / before)} of what was predicted."
    )
    return said if len(both) == count else f"{said} {count - len(both)} could not be measured."


def _figure(pairs: Sequence[tuple[Story, float, float]]) -> go.Figure:
    names = [label(f"{what(one.main)} ({one.act})", 48) for one, _, _ in pairs]
    figure = go.Figure()
    for name, colour, shape, values in (
        ("predicted", BLUE, "/", [before for _, before, _ in pairs]),
        ("realised", GREEN, "", [after for *_, after in pairs]),
    ):
        figure.add_bar(
            orientation="h", y=names, x=[100 * value for value in values], name=name,
            marker={"color": colour, "pattern": {"shape": shape, "fillmode": "overlay", "solidity": 0.25, "size": 7}},
            hovertemplate="%{y}<br>%{x:.1f} %<extra>" + name + "</extra>",
        )  # fmt: skip
    layout(figure, "step saved (%)", "act", barmode="group", bargap=0.3)
    figure.update_yaxes(autorange="reversed", type="category").update_layout(height=max(240, 150 + 44 * len(names)))
    return figure


def done_block(view: View, selection: Selection) -> tuple[Block, ...]:
    """Return what was done about the incidents, the newest first, with its proof; nothing without an engine."""
    told = [one for one in _stories(view) if words(one.main, "incident", "") and one.state]
    chosen = [one for one in told if not selection.node or words(one.main, "target", "") == selection.node]
    if not chosen:
        return ()
    rows = tuple(_row(one, selection) for one in chosen[:MOST_ROWS])
    newest = chosen[0]
    incidents = len({words(one.main, "incident") for one in chosen})
    verdict = (
        f"{counted(len(chosen), 'act')} for {counted(incidents, 'incident')}; the newest, {what(newest.main)}, is: "
        f"{newest.state}. {_proved(newest)}"
    ).strip()
    columns = ("last (UTC)", "incident", "condition", "act", "verb", "whom", "state", "re-test", "what it brought")
    return (Block("done", DONE, verdict, columns=columns, rows=rows),)


def marks(view: View) -> pd.DataFrame:
    """Return t_ns, event, what of what was done to the cluster, for a time line; empty where nothing was."""
    records = view.acts.records if view.acts else ()
    told = [one for one in records if words(one, "phase") in MARKED and not one.get("dry_run")]
    made = {
        "t_ns": [one["time_ns"] for one in told], "event": [MARKED[one["phase"]] for one in told],
        "what": [f"{what(one)} {words(one, 'result', '')}: {words(one, 'reason')}" for one in told],
    }  # fmt: skip
    return pd.DataFrame(made).astype({"t_ns": "int64"})


def _stories(view: View) -> list[Story]:
    return stories(view.acts.records) if view.acts else []


def _row(one: Story, selection: Selection) -> tuple[Cell, ...]:
    tested, first = one.latest("tested"), one.main
    retest = wording.UNKNOWN if tested is None else f"{words(tested, 'result')}, {moment(tested['time_ns'])}"
    return (
        moment(one.records[-1]["time_ns"]), words(first, "incident"), because(first, selection),
        life(one.act, selection), words(first, "verb"), where(first, selection), one.state, retest,
        _proved(one) or wording.UNKNOWN,
    )  # fmt: skip


def _proved(story: Story) -> str:
    last = story.latest("proved")
    if last is None:
        return ""
    before, after = _shares(story, last)
    if before is None or after is None:
        return words(last, "detail", "")
    return f"{wording.share(after)} of the step was saved, {wording.share(before)} was predicted."


def _shares(story: Story, proved: Record) -> tuple[float | None, float | None]:
    """Return the share of the step that was predicted and that was realised."""
    before = number(proved, "predicted", "step_share")
    if before is None:
        before = number(story.main, "predicted", "step_share")
    return before, number(proved, "observed", "step_share")


def _kept(before: float | None, after: float | None) -> str:
    return wording.share(after / before) if before and after is not None else wording.UNKNOWN
