"""Why: what the lost time is made of, who held the others up, and what repairing it would bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording

from .._chart import ORANGE, RED, layout, scale
from .._charts_time import waterfall
from .._culprits import FRESH, Found, answers, chosen, condition, gain, host, who
from .._jobs import job_of
from .._page import HOW, Block, Cell, Link, nothing
from .._rank_maps import job_name, job_of_most, of_job
from .._selection import Selection
from .._step_timeline import chosen_step, drawn, step_view, table
from .._view import View

MOST = 12
BESIDE = (("usual", "baseline"), ("line at", "threshold"))
STEP, VICTIMS = "One step, as a timeline", "Who is waited for"
NO_STEPS = "Load a recording with steps and collectives: `skewscope run -- python train.py` makes one."


class Why:
    """The page that explains a culprit."""

    path: ClassVar[str] = "/why"
    title: ClassVar[str] = "Why"
    order: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("rank_steps", "step_times")

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the verdict on the selected rank or finding, the waterfall, a step's timeline, and the victims."""
        if view.empty:
            return (nothing("why", "Why", "nothing is loaded", HOW),)
        one = chosen(view, selection)
        if one is not None and not selection.job:
            selection = selection.having(job=job_of(view, one))
        lost = _lost(view, selection)
        return _verdict(view, one, selection), lost, _step(view, one, selection), _waited(view, selection)


def _lost(view: View, selection: Selection) -> Block:
    """Return the waterfall of one job: of the selected finding's where several ran."""
    times, found = view.tables.get("step_times", pd.DataFrame()), view.report["findings"]
    times = of_job(times, selection.job) if len(times) else times
    if len(view.jobs()) > 1 and len(times):
        name = job_name(times)
        found = [one for one in found if job_of(view, one) == name]
    made = waterfall(view.having("step_times", times), found)
    return Block.of(made, advice="" if made.figure is not None else NO_STEPS)


def _verdict(view: View, one: Found | None, selection: Selection) -> Block:
    title = "What was found"
    if one is None:
        whom = f"rank {selection.rank}" if selection.rank >= 0 else "anybody"
        everybody = Link("All ranks on one map", selection.link("/ranks", **FRESH))
        said = f"Nothing speaks against {whom}: no finding names a culprit there."
        return Block("verdict", title, said, links=(everybody,), advice="Compare ranks with their peers on the map.")
    rows: list[tuple[Cell, ...]] = [
        ("who", who(one, selection)), ("host", host(one["subject"]["node"], selection)),
        ("condition", condition(one["condition"], selection)), ("role", one["role"]),
        ("cost per step", wording.price(one["cost"])[0]), ("share of the step", wording.price(one["cost"])[1]),
        ("confidence", wording.share(one["confidence"])), ("when", wording.window(one["window"])),
        *(
            (f"evidence: {str(proof['signal']).replace('_', ' ')}", _measured(proof))
            for proof in one["evidence"][:MOST]
        ),
        ("what to do", one.get("advice") or "See the runbook."),
        *(("recommended", f"{answer['action']}: {gain(answer)}") for answer in answers(view, one)),
    ]  # fmt: skip
    explains = [other for other in view.report["findings"] if other["id"] in one["explains"]]
    rows += [("explains", f"{other['condition']}: {wording.who(other['subject'])}") for other in explains[:MOST]]
    links = (
        Link("Recommendation", selection.link("/actions", **FRESH)),
        Link(f"Runbook of {one['condition']}", selection.link("/conditions", show=one["condition"], order="")),
    )
    text = one.get("summary") or f"{one['condition']}: {wording.who(one['subject'])}"
    return Block("verdict", title, f"{text.rstrip('.')}.", columns=("what", "value"), rows=tuple(rows), links=links)


def _measured(proof: Found) -> str:
    beside = [
        f"{word} {wording.quantity(proof[name], proof['unit'])}" for word, name in BESIDE if proof[name] is not None
    ]
    return wording.quantity(proof["value"], proof["unit"]) + (f" ({', '.join(beside)})" if beside else "")


def _step(view: View, one: Found | None, selection: Selection) -> Block:
    step = chosen_step(view, selection, one["window"] if one else {})
    subject = one["subject"] if one else {"rank": None, "peer": None}
    first = [rank for rank in (selection.rank, subject["rank"], subject["peer"]) if rank is not None and rank >= 0]
    made = step_view(view, selection, step, first)
    if made is None or not len(made.spans):
        return nothing("step", STEP, "no step was recorded with its inside", NO_STEPS)
    last = made.path["rank"].value_counts()
    if len(last):
        said = f"In step {step} rank {last.index[0]} arrived last at {last.iloc[0]} of {len(made.path)} calls"
    else:
        waits = made.spans[(made.spans["kind"] == "waits for others").to_numpy()]
        phases = (waits["end_s"] - waits["begin_s"]).groupby(waits["rank"]).sum().reindex(made.ranks).fillna(0.0)
        size = made.split["wait_ns"] / 1e9 if (made.split["wait_ns"] > 0).any() else phases
        said = f"In step {step} rank {size.idxmin()} waited least, {wording.seconds(float(size.min()))}"
    said += f"; the step took {wording.seconds(made.length_s)}."
    columns, rows = table(made)
    note = (
        f"Drawn are {len(made.ranks)} ranks that matter: the selected one, those that came last, and those that waited "
        "most. Diamonds mark the last arrival at a call: joined they are the path that decided the step."
    )
    links = tuple(
        Link(f"Step {other}", selection.link("/why", begin=other, end=other))
        for other in (step - 1, step + 1)
        if _there(view, other)
    )
    return Block("step", STEP, said, drawn(made), columns, rows, note, links=links, data=made.spans)


def _there(view: View, step: int) -> bool:
    times = view.tables.get("step_times", pd.DataFrame())
    return bool(len(times)) and bool((times["step"] == step).any())


def _waited(view: View, selection: Selection) -> Block:
    """Return for whom the ranks waited: culprit to victims."""
    sums = _waits(view, selection)
    if not len(sums):
        return _explained(view, selection)
    victims = _victims(view, selection, sums.index[:MOST])
    worst, total = int(sums.index[0]), float(sums.sum())
    shown = sums.head(MOST)
    unit, factor = scale(float(shown.max()))
    figure = go.Figure(
        go.Bar(
            x=[f"rank {rank}" for rank in shown.index], y=(shown * factor).to_numpy(), width=0.5,
            marker={"color": [RED if rank == worst else ORANGE for rank in shown.index]},
            hovertemplate="%{x} was waited for %{y:.3g} " + unit + " in all<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, "the rank that was waited for", f"waiting of the others, summed ({unit})")
    table_rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            Link(str(rank), selection.link("/why", **FRESH, rank=int(rank))), str(victims[int(rank)]),
            wording.seconds(float(sums[rank])), wording.share(float(sums[rank]) / total if total > 0 else np.nan),
        )
        for rank in shown.index
    )  # fmt: skip
    part = wording.share(float(sums.iloc[0]) / total) if total > 0 else "-"
    said = f"{victims[worst]} ranks waited for rank {worst}, {wording.seconds(float(sums.iloc[0]))} in all ({part})."
    note = "Counted is, in each step, the rank that one waited for longest."
    columns = ("rank", "victims", "waiting caused", "of all waiting")
    return Block("waited", VICTIMS, said, figure, columns, table_rows, note)


def _waits(view: View, selection: Selection) -> pd.Series:
    """Return the waiting in s by the rank that was waited for, the most first."""
    sums = [rows.groupby("wait_for_rank")["wait_ns"].sum().astype(float) for rows in _waiting(view, selection)]
    if not sums:
        return pd.Series(dtype=float)
    return (pd.concat(sums).groupby(level=0).sum() / 1e9).sort_values(ascending=False)


def _victims(view: View, selection: Selection, of: pd.Index) -> dict[int, int]:
    """Return how many ranks waited for each of a few."""
    pairs = [
        rows.loc[rows["wait_for_rank"].isin(of).to_numpy(), ["wait_for_rank", "rank"]].drop_duplicates()
        for rows in _waiting(view, selection)
    ]
    waited, counts = np.unique(pd.concat(pairs).drop_duplicates()["wait_for_rank"].to_numpy(), return_counts=True)
    return dict(zip(waited.tolist(), counts.tolist(), strict=True))


def _waiting(view: View, selection: Selection) -> Iterator[pd.DataFrame]:
    """Yield, piece by piece, the steps in which it is known which rank a rank of the job waited for."""
    name = selection.job or job_of_most(view, "rank_steps")
    for rows in view.parts("rank_steps", ("job", "rank", "wait_for_rank", "wait_ns")):
        if "wait_for_rank" in rows:
            told = of_job(rows, name)
            told = told[(told["wait_for_rank"] >= 0).to_numpy()]
            if len(told):
                yield told


def _explained(view: View, selection: Selection) -> Block:
    """Return which finding explains which, where nobody's waiting is known."""
    named = {one["id"]: one for one in view.report["findings"]}
    pairs = [(one, named[other]) for one in named.values() for other in one["explains"] if other in named]
    if not pairs:
        return nothing("waited", VICTIMS, "it is not known who waited for whom", NO_STEPS)
    rows = tuple((who(one, selection), one["condition"], who(other, selection), other["condition"])
                 for one, other in pairs[:MOST])  # fmt: skip
    said = f"{wording.who(pairs[0][0]['subject'])} explains {len(pairs[0][0]['explains'])} other findings."
    return Block(
        "waited", "Culprit and victims", said, columns=("culprit", "condition", "victim", "seen as"), rows=rows
    )
