"""Maps ranges of steps over processes or a Dask cluster, and judges what they reduce to as one recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import pandas as pd

from ..analysis import Analysis, completed, judged
from ..errors import NothingReadable
from ..frames import concat, frame
from ..mapping import Died, mapped
from ..recording import Input, Recording
from ..sources import gather_rest
from ._digest import ABSENT, Context, Digest, Task, digest
from ._layout import Layout
from ._merge import merged

Progress = Callable[[int, int, str], None]
KEPT_ROWS = {"collectives": 2_000_000, "ops": 1_000_000, "steps": 2_000_000}
NARROW_ROWS = 2_000_000  # rows of steps, from which on derived numbers are kept in 4 bytes
FORMAT = "canonical-table"


def analyze(
    found: Layout, *, workers: int = 0, dask: str = "", progress: Progress | None = None,
    only: Collection[str] = (), part_rows: int = 0, steps: tuple[int, int] | None = None,
) -> Analysis:  # fmt: skip
    """Return the analysis of a recording that is read in parts; the same whatever works on them, and in which order.

    `steps` limits it to a range of steps. `progress(done, total, label)` is called after each part. A part that cannot
    be read, or whose process dies, is left out, and its files are told as partial. Raises NothingReadable where no part
    is left.
    """
    rest = gather_rest(found.others)
    tasks = _tasks(found, rest, part_rows, steps)
    digests: list[Digest] = []
    with mapped(digest, tasks, workers or os.cpu_count() or 1, dask) as results:
        for place, result in results:
            digests.append(Digest(place, failed=result.reason) if isinstance(result, Died) else result)
            if progress is not None:
                progress(len(digests), len(tasks), f"steps {tasks[place].first}-{tasks[place].last}")
    digests.sort(key=lambda one: one.place)
    inputs = _inputs(found, rest, tasks, digests)
    if all(one.failed for one in digests):
        lines = [f"  {one.path}: {one.error}" for one in inputs if one.status == "unreadable"][:20]
        raise NothingReadable("nothing readable in the input:\n" + "\n".join(lines))
    warnings = [*_left_out(tasks, digests), *_thinned(tasks)]
    made, told = merged(digests, rest.tables["ranks"])
    ranks = _all_ranks(rest.tables["ranks"], made["rank_steps"])
    tables = {**rest.tables, "ranks": ranks, **{name: made.pop(name) for name in ("collectives", "ops", "steps")}}
    recording = replace(rest, tables=tables, inputs=inputs, warnings=(*rest.warnings, *warnings))
    return judged(recording, completed(recording, made), told, only)


def _tasks(found: Layout, rest: Recording, part_rows: int, steps: tuple[int, int] | None) -> list[Task]:
    low, high = steps or (0, 2**62)
    ranges = [(max(first, low), min(last, high)) for first, last in found.ranges(part_rows)
              if last >= low and first <= high]  # fmt: skip
    if not ranges:
        raise NothingReadable(f"--window: no step from {low} to {high} is in the recording")
    rows = found.rows
    every = {table: -(-rows.get(table, 0) // most) for table, most in KEPT_ROWS.items()}
    small = {name: rest.tables[name] for name in ("ranks", "links")}
    damaged = any(item.status == "unreadable" for item in rest.inputs)
    required = frozenset(rows) if damaged else frozenset({"collectives"})
    context = Context(small, every, ranges[0][0], ranges[-1][1], required, max(every.values()) <= 1,
                      rows.get("steps", 0) > NARROW_ROWS)  # fmt: skip
    tasks = []
    for place, (first, last) in enumerate(ranges):
        lead = first - 1 if place else first
        pieces = [piece.within(lead, last) for piece in found.pieces]
        tasks.append(Task(place, first, last, lead, tuple(piece for piece in pieces if piece.groups), context))
    return tasks


def _all_ranks(ranks: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return `ranks` with those that only the steps know."""
    seen = sorted(set(rows["rank"].unique().tolist()) - set(ranks["rank"].tolist()) - {-1})
    job = str(ranks["job"].iloc[0]) if len(ranks) else "job"
    return concat("ranks", [ranks, frame("ranks", {"job": job, "rank": seen})]) if seen else ranks


def _inputs(found: Layout, rest: Recording, tasks: Sequence[Task], digests: Sequence[Digest]) -> tuple[Input, ...]:
    """Return a line per file, in the order in which they were found: how many rows, and what of it was left out."""
    made = {item.path: item for item in rest.inputs}
    for piece in found.pieces:
        used = [
            one
            for task, one in zip(tasks, digests, strict=True)
            if any(piece.path == part.path and part.within(task.first, task.last).groups for part in task.pieces)
        ]
        bad = [one for one in used if one.failed]
        own = [one.failed for one in bad if one.path in ("", piece.path)]
        whole = bool(bad) and len(bad) == len(used)
        status = "ok" if not bad else "unreadable" if whole and own else "partial"
        reason = own[0] if own else _beside(tasks, bad) if bad else ""
        made[piece.path] = Input(piece.path, FORMAT, -1, 0 if status == "unreadable" else piece.rows, status, reason)
    listed = [made.pop(path) for path in found.order if path in made]
    return (*listed, *made.values(), *found.refused)


def _beside(tasks: Sequence[Task], bad: Sequence[Digest]) -> str:
    spans = ", ".join(f"{tasks[one.place].first}-{tasks[one.place].last}" for one in bad)
    return f"steps {spans} left out: another file of these steps cannot be read"


def _left_out(tasks: Sequence[Task], digests: Sequence[Digest]) -> list[str]:
    return [
        f"steps {tasks[one.place].first}-{tasks[one.place].last} are left out: "
        f"{one.path + ': ' if one.path not in ('', ABSENT) else ''}{one.failed}"
        for one in digests if one.failed
    ]  # fmt: skip


def _thinned(tasks: Sequence[Task]) -> list[str]:
    every = tasks[0].context.every.get("collectives", 1)
    if every <= 1:
        return []
    return [f"large recording: prices rest on every step, who arrived when at single calls on every {every}th"]
