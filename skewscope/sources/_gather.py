"""From paths to one recording: find the files, read each, keep one job, give its tables one language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .. import tables as schema
from ..errors import NothingReadable, SchemaError
from ..frames import Part, part, united
from ..recording import Input, Recording
from . import _gather_groups, _gather_jobs, _gather_parts, _gather_ranks
from ._gather_find import files
from ._gather_pool import Progress, read_all
from ._gather_read import TIMED, Draft, known_formats

Tables = dict[str, pd.DataFrame]
Parts = dict[str, Part]
CANONICAL = tuple(name for name in schema.names() if not schema.table(name).derived)
REASONS = 20
WARNINGS_OF_ONE_KIND = 3


def gather(
    paths: Sequence[Path | str], *, workers: int | None = 0, progress: Progress | None = None, dask: str | None = "",
    detail: bool = False,
) -> Recording:  # fmt: skip
    """Return all that files and folders hold of one job; the format of each file is found from its content.

    `workers` 0 reads with as many processes as cores, 1 in this process; `dask` is the address of a scheduler.
    `detail` also fills the tables of a detailed reading (`operators`, `device_work`, `allocations`).
    `progress(done, total, path)` is called after each file. Every file has its `Input`, also those that cannot be read.

    Raises UsageError for a path that does not exist, NothingReadable where no file gives a row.
    """
    found, refused = files(paths)
    drafts = read_all(found, workers or 0, progress, dask or "", detail)
    ordered = [drafts[path] for path in found]
    _gather_parts.join(ordered)
    kept = _gather_jobs.one_job(ordered)
    _gather_ranks.with_rank_names(kept)
    _gather_ranks.with_nodes(kept)
    parts = _checked(kept)
    kept = [draft for draft in kept if draft.readable]
    inputs = [*(_input(draft) for draft in ordered), *refused]
    if not any(len(rows) for of in parts for name, rows in of.items() if name in TIMED):
        raise NothingReadable("nothing readable in the input:\n" + _reasons(inputs))
    bad = {(draft.reading.format, draft.rank) for draft in ordered if not draft.readable and not draft.elsewhere}
    return _recording(kept, parts, inputs, bad)


def _recording(
    kept: list[Draft], parts: list[Parts], inputs: list[Input], bad: set[tuple[str, int]]
) -> Recording:  # fmt: skip
    world = _gather_ranks.world_size(kept)
    parts, groups = _gather_groups.unify(parts, world)
    world = max(world, _gather_ranks.world_size(kept, groups))
    # Popped, so that the rows of the files are let go table by table.
    made = {name: united(name, [of.pop(name) for of in parts if name in of]).frame() for name in CANONICAL}
    made["groups"] = groups
    made["ranks"] = _gather_ranks.table(kept, made["ranks"])
    name = _job_name(made)
    if name != "job":
        made = {table: _of_job(rows, name) for table, rows in made.items()}
    missing, warnings = _gather_ranks.missing(kept, bad, world)
    warnings = [*_warnings(kept), *warnings]
    return Recording(made, (*inputs, *missing), world, _parallelism(kept), tuple(warnings))


def _checked(drafts: Sequence[Draft]) -> list[Parts]:
    """Return the tables of each draft; one whose columns break the schema is refused and left out."""
    parts = []
    for draft in drafts:
        batches: dict[str, list[Part]] = {}
        try:
            for table, columns in draft.reading.batches:
                batches.setdefault(table, []).append(part(table, columns))
        except (SchemaError, KeyError, ValueError, IndexError, OverflowError) as error:
            draft.refuse(f"its reader broke the schema: {error}")
            continue
        parts.append({table: united(table, batch) for table, batch in batches.items()})
        draft.reading.batches = []  # the parts hold the rows now
    return parts


def _input(draft: Draft) -> Input:
    reading = draft.reading
    return Input(reading.path, reading.format, draft.rank if draft.rank >= 0 else reading.rank, reading.events,
                 reading.status, reading.error)  # fmt: skip


def _reasons(inputs: Sequence[Input]) -> str:
    lines = [
        f"  {item.path}: {item.error.split('; expected one of')[0] or 'holds no rows'}" for item in inputs[:REASONS]
    ]
    if len(inputs) > REASONS:
        lines.append(f"  and {len(inputs) - REASONS} more")
    lines.append(f"formats that can be read: {known_formats()}" if inputs else "  no files at all")
    return "\n".join(lines)


def _warnings(drafts: Sequence[Draft]) -> list[str]:
    """Return the warnings of all files, each with its file; the same one of many files is told three times."""
    told: dict[str, list[str]] = {}
    for draft in drafts:
        for warning in draft.reading.warnings:
            told.setdefault(warning, []).append(draft.path)
    lines = []
    for warning, places in told.items():
        lines += [f"{place}: {warning}" for place in places[:WARNINGS_OF_ONE_KIND]]
        if len(places) > WARNINGS_OF_ONE_KIND:
            lines.append(f"{len(places) - WARNINGS_OF_ONE_KIND} more files: {warning}")
    return lines


def _parallelism(drafts: Sequence[Draft]) -> dict[str, int]:
    """Return the sizes of the parallel axes; a job file counts before what a recording says."""
    made: dict[str, int] = {}
    for draft in sorted(drafts, key=lambda draft: draft.reading.format != "job-file"):
        for axis, size in (draft.reading.job.get("parallelism") or {}).items():
            made.setdefault(str(axis), int(size))
    return made


def _job_name(made: Tables) -> str:
    """Return the one name that tables carry beside 'job', else 'job'."""
    names = {str(name) for table in made.values() if "job" in table and len(table) for name in table["job"].unique()}
    named = names - {"job", ""}
    return named.pop() if len(named) == 1 else "job"


def _of_job(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    if "job" not in rows or not len(rows):
        return rows
    return rows.assign(job=pd.Categorical.from_codes([0] * len(rows), categories=pd.Index([name], dtype=object)))
