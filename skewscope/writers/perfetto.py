"""A trace of the whole job for Perfetto (https://ui.perfetto.dev) or chrome://tracing, with what was found in it.

One process per rank and one for the job. Tracks of a rank, from top to bottom: findings about it; blame, where each
step's time went (parts one after another, in no order of time); steps; phases; arrivals, the wait for the last one at
each collective and the transfer after it, with arrows from who came last to who waited; its collectives, compute,
copies and host work; counters of its GPU. Ranks stand on the common clock of the analysis.

The form is Chrome's trace events in JSON (Trace Event Format), gzip where the file's name ends in .gz. Ranks are
written one after another. Where the trace would hold more than `most_events`, the longest are kept and `metadata` says
what is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from . import _trace_rank
from ._trace_arrivals import Arrivals
from ._trace_choice import Choice, choice
from ._trace_clock import Clock, clock
from ._trace_counters import Counters
from ._trace_file import TraceFile
from ._trace_findings import Findings
from ._trace_tracks import JOB_PID, Process, pid_of

if TYPE_CHECKING:
    from ..analysis import Analysis

Array = np.ndarray[Any, Any]
SCHEMA = "skewscope.trace/1"
MOST_EVENTS = 1_000_000
TIMED = (("steps", "start_ns", "end_ns"), ("ops", "start_ns", "end_ns"), ("collectives", "ready_ns", "end_ns"),
         ("rank_steps", "start_ns", "end_ns"), ("arrivals", "ready_ns", "end_ns"),
         ("samples", "t_ns", "t_ns"))  # fmt: skip


class Perfetto:
    """Writes a trace of an analysis."""

    analysed: ClassVar[bool] = True
    file_name: ClassVar[str] = "trace.json.gz"

    def write(
        self, analysis: Analysis, place: Path, most_events: int = MOST_EVENTS, *, compressed: bool = True
    ) -> list[str]:
        """Write the trace to the file `place` and return what it holds, in words."""
        tables = analysis.tables
        ranks, span = _ranks(tables), _span(tables)
        made = choice(tables, most_events)
        told = _told(analysis, ranks, made)
        with TraceFile(place, span[0], told, compressed=compressed) as file:
            job = Process(file, JOB_PID, f"job: {len(ranks)} ranks", label=str(analysis.summary.get("verdict") or ""))
            findings = Findings(analysis.findings, tables, span)
            findings.add_all(job)
            job.add("steps", _job_steps(tables))
            arrows = _ranks_into(file, tables, ranks, span, made, findings)
        words = [f"{file.count:,} events of {len(ranks)} ranks, {arrows:,} arrows"]
        return words + [f"left out of {name}: {text}" for name, text in made.left_out.items()]


def _ranks_into(
    file: TraceFile, tables: Mapping[str, pd.DataFrame], ranks: Array, span: tuple[int, int], made: Choice,
    findings: Findings,
) -> int:  # fmt: skip
    """Write rank after rank, then the arrows between them; return how many arrows."""
    where, common = _places(tables), clock(tables)
    arrivals, counters = Arrivals(tables["arrivals"], made.arrows), Counters(tables, made.counters)
    frames = made.frames(tables)
    for rank in ranks.tolist():
        name, label = where.get(rank, (f"rank {rank}", ""))
        process = Process(file, pid_of(rank), name, label=label)
        findings.add_of(rank, process)
        rows = {kind: frames[kind].iloc[chosen.span(rank)] for kind, chosen in made.rows.items()}
        if len(rows["blame"]):
            process.add("blame: where the step went", _trace_rank.blame(rows["blame"]))
        process.add("steps", _trace_rank.steps(rows["steps"], rows["blame"], common, rank))
        if len(rows["phases"]):
            process.add("phases", _trace_rank.phases(rows["phases"], common, rank))
        arrivals.add(process, rows["arrivals"], made.rows["arrivals"].rows[made.rows["arrivals"].span(rank)])
        _work(process, rows, common, rank, span[1])
        for title, unit, time_ns, values in counters.of_rank(rank):
            process.counter(title, unit, common.moved(rank, time_ns), values)
    return arrivals.draw(file)


def _work(process: Process, rows: Mapping[str, pd.DataFrame], common: Clock, rank: int, until_ns: int) -> None:
    if len(rows["collectives"]):
        for name, slices in _trace_rank.collectives(rows["collectives"], common, rank, until_ns):
            process.add(name, slices)
    if len(rows["ops"]):
        for name, slices in _trace_rank.operations(rows["ops"], common, rank):
            process.add(name, slices)


def _ranks(tables: Mapping[str, pd.DataFrame]) -> Array:
    """Return all ranks that have anything to show."""
    names = ("steps", "ops", "collectives", "rank_steps", "arrivals", "ranks")
    every = np.unique(np.concatenate([tables[name]["rank"].to_numpy() for name in names]))
    return every[every >= 0]


def _span(tables: Mapping[str, pd.DataFrame]) -> tuple[int, int]:
    """Return the first and last time of anything, (0, 0) where nothing has a time."""
    known = [tables[name][column].to_numpy() for name, *columns in TIMED for column in columns]
    known = [times[times >= 0] for times in known]
    known = [times for times in known if len(times)]
    return (min(int(times.min()) for times in known), max(int(times.max()) for times in known)) if known else (0, 0)


def _places(tables: Mapping[str, pd.DataFrame]) -> dict[int, tuple[str, str]]:
    """Return name and label of each rank: where it runs, and what repairing it alone would save."""
    prices = tables["blame"]
    prices = prices[(prices["kind"] == "rank").to_numpy()]
    worth = prices.groupby("rank")["lost_s"].max().to_dict()
    table = tables["ranks"]
    found = {}
    for rank, node, gpu in zip(table["rank"].tolist(), table["node"].astype(str), table["gpu"].tolist(), strict=True):
        name = f"rank {rank}" + (f" · {node}" if node else "") + (f" · GPU {gpu}" if gpu >= 0 else "")
        lost_s = float(worth.get(rank, 0.0))
        found[rank] = (name, f"costs {lost_s:.3g} s per step" if lost_s > 0 else "")
    return found


def _job_steps(tables: Mapping[str, pd.DataFrame]) -> Any:  # noqa: ANN401 - Slices
    """Return the job's steps, each with how long it took and how long the ideal one would."""
    times = tables["step_times"]
    start = times["start_ns"].to_numpy()
    length = np.nan_to_num(times["duration_ns"].to_numpy(), nan=0.0)
    args = {"ideal_ms": times["ideal_ns"].to_numpy() / 1e6, "planned": times["planned"].to_numpy().astype(np.int64)}
    return _trace_rank.numbered(times["step"].to_numpy(), start, start + np.rint(length).astype(np.int64), args)


def _told(analysis: Analysis, ranks: Array, made: Choice) -> dict[str, Any]:
    clocks = analysis.tables["clocks"]
    return {
        "schema": SCHEMA, "ranks": len(ranks), "verdict": analysis.summary.get("verdict"),
        "clocks_aligned": int(clocks["aligned"].sum()), "arrows_in_all": made.arrows.total,
        "left_out": dict(made.left_out), "blame": "parts of a step stand one after another, in no order of time",
    }  # fmt: skip
