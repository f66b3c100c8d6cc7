"""Overview: is time lost, how much, and who is to blame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from skewscope.reports import wording

from .._charts_time import step_line
from .._culprits import FRESH, condition, counted, culprits, who, why
from .._jobs import JobLine, job_lines, live_steps
from .._lines import lines
from .._page import HOW, Block, Cell, Link, nothing
from .._selection import Selection
from .._view import View

MOST_JOBS, MOST_FINDINGS, MOST_TRENDS = 30, 20, 6
OPEN = ("open", "growing")
STEADY = 1.05  # less than this over what is loaded is no change


class Overview:
    """The first page."""

    path: ClassVar[str] = "/"
    title: ClassVar[str] = "Overview"
    order: ClassVar[int] = 0
    needs: ClassVar[tuple[str, ...]] = ()

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the jobs, the open incidents, the findings and the trend."""
        if view.empty:
            return (nothing("jobs", "Jobs", "nothing is loaded", HOW),)
        jobs = job_lines(view)
        made = [_jobs(view, jobs, selection)]
        if view.incidents:
            made.append(_incidents(view, selection))
        return (*made, _findings(view, selection), _trend(view, jobs, selection))


def _jobs(view: View, jobs: Sequence[JobLine], selection: Selection) -> Block:
    rows = tuple(_job(one, selection) for one in jobs[:MOST_JOBS])
    columns = ("job", "GPUs", "hosts", "step time", "slowdown", "GPU-h lost per hour", "GPU-h lost", "worst cause")
    links = _way(view, selection)
    note = f"{len(jobs) - MOST_JOBS} more jobs are not listed." if len(jobs) > MOST_JOBS else ""
    return Block("jobs", "Am I losing time?", _said(view, jobs), columns=columns, rows=rows, note=note, links=links)


def _said(view: View, jobs: Sequence[JobLine]) -> str:
    verdict = str(view.report["summary"]["verdict"])
    if view.incidents and not jobs and not view.report["findings"]:
        verdict = f"No job's steps are known; {counted(len(view.incidents), 'incident')} were seen."
    lost = sum(float(np.nan_to_num(one.lost_gpus)) for one in jobs)
    total = sum(one.ranks for one in jobs)
    if lost < 0.005 * max(total, 1) or not total:
        return verdict
    part = f"{wording.share(lost / total)} of {total:,} GPUs' time is lost ({wording.hours(lost)} GPU-hours per hour)"
    return f"{part}. {verdict}"


def _job(one: JobLine, selection: Selection) -> tuple[Cell, ...]:
    worst: Cell = "-"
    if one.worst is not None:
        worst = Link(f"{one.worst['condition']}: {wording.who(one.worst['subject'])}", why(one.worst, selection))
    return (
        Link(wording.clean(one.name), selection.link("/ranks", **FRESH, job=one.name)), f"{one.ranks:,}",
        f"{one.hosts:,}" if one.hosts else "-", wording.seconds(one.step_s), wording.ratio(one.slowdown),
        wording.hours(one.lost_gpus), wording.hours(one.lost_gpu_hours or None), worst,
    )  # fmt: skip


def _way(view: View, selection: Selection) -> tuple[Link, ...]:
    """Return where to go on: to the worst culprit, and to what to do about it."""
    worst = next(iter(culprits(view)), None)
    if worst is None:
        return (Link("All ranks on one map", selection.link("/ranks", **FRESH)),)
    return (
        Link(f"Why {wording.who(worst['subject'])}?", why(worst, selection)),
        Link("What to do", selection.link("/actions", **FRESH)),
    )


def _incidents(view: View, selection: Selection) -> Block:
    there = [one for one in view.incidents if one["state"] in OPEN]
    rows = tuple(
        (
            one["state"], one["severity"], _who(one, selection), condition(one["condition"], selection),
            one["job"] or "-", wording.share(one["cost"]["share"] or None), wording.hours(one["cost"]["lost_gpus"]),
            wording.clock(one["opened_ns"]),
        )
        for one in there[:MOST_FINDINGS]
    )  # fmt: skip
    said = (
        f"{len(there)} of {len(view.incidents)} incidents are open; the newest: {there[0]['summary']}."
        if there
        else f"No incident is open; {len(view.incidents)} are closed or mitigated."
    )
    columns = ("state", "severity", "who", "condition", "job", "share of step", "GPUs lost", "since (UTC)")
    links = (Link("All incidents on a time line", selection.link("/incidents", **FRESH)),)
    return Block("incidents", "Open incidents", said, columns=columns, rows=rows, links=links)


def _who(one: Mapping[str, Any], selection: Selection) -> Cell:
    rank, node = one["subject"]["rank"], one["subject"]["node"]
    at = selection.having(rank=-1 if rank is None else int(rank), node=str(node or ""))
    return Link(wording.who(one["subject"]), at.link("/why", **FRESH))


def _findings(view: View, selection: Selection) -> Block:
    found = wording.culprits_first(view.report["findings"])
    guilty = len(culprits(view))
    rows = tuple(
        (one["severity"], who(one, selection), condition(one["condition"], selection), one["role"],
         *wording.price(one["cost"]), wording.share(one["confidence"]), wording.window(one["window"]))
        for one in found[:MOST_FINDINGS]
    )  # fmt: skip
    said = f"Nobody was found guilty; {len(found)} findings give context."
    if guilty:
        paid = found[0]["cost"]["seconds_per_step"]
        first = f"costs {wording.seconds(paid)} per step" if paid else f"is {wording.who(found[0]['subject'])}"
        said = f"{guilty} of {len(found)} findings name a culprit; the first {first}."
    note = f"{len(found) - MOST_FINDINGS} more are in the report." if len(found) > MOST_FINDINGS else ""
    columns = ("severity", "who", "condition", "role", "per step", "of the step", "GPU-hours", "confidence", "when")
    return Block("findings", "Findings", said, columns=columns, rows=rows, note=note)


def _trend(view: View, jobs: Sequence[JobLine], selection: Selection) -> Block:
    live = {one.name: live_steps(view, one.name) for one in jobs[:MOST_TRENDS]}
    live = {name: rows for name, rows in live.items() if len(rows) > 1}
    if not live:
        return Block.of(step_line(view.tables, view.report["findings"]), advice="Record steps to see their times.")
    every = np.unique(np.concatenate([rows["t_ns"].to_numpy() for rows in live.values()]))
    values = np.full((len(every), len(live)), np.nan)
    for at, rows in enumerate(live.values()):
        values[np.searchsorted(every, rows["t_ns"].to_numpy()), at] = rows["step_s"].to_numpy()
    table = tuple(_change(name, rows["step_s"].to_numpy(dtype=float)) for name, rows in live.items())
    figure = lines(every, values, list(live), "mean step time (s)").update_yaxes(rangemode="tozero")
    worst = max(table, key=lambda row: float(row[3].rstrip("x")))
    said = f"Job {worst[0]} changed most: from {worst[1]} to {worst[2]} per step ({worst[3]}) over what is loaded."
    if float(worst[3].rstrip("x")) < STEADY:
        said = f"Step times are steady; {counted(len(table), 'job')} changed by less than {wording.share(STEADY - 1)}."
    return Block("trend", "Step time, live", said, figure, ("job", "first quarter", "last quarter", "change"), table)


def _change(name: str, step_s: np.ndarray[Any, Any]) -> tuple[str, str, str, str]:
    part = max(1, len(step_s) // 4)
    before, after = float(np.median(step_s[:part])), float(np.median(step_s[-part:]))
    return wording.clean(name), wording.seconds(before), wording.seconds(after), wording.ratio(after / before)
