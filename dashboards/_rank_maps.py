"""Rank x step matrices of what ranks are compared by, from recordings and from live windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skewscope.reports import wording
from skewscope.signals.view import signal

from ._kept import Kept
from ._rank_devices import gpus, of_gpus, tells
from ._rank_kinds import ALL, ARRIVALS, STEPS, WINDOWS, Kind
from ._rank_matrix import beyond_peers, places, regular, scattered, turned
from ._view import View

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class RankMap:
    """One quantity of one job: `values` float32 [ranks, columns] in s, or in shares of the time where `share`.

    `columns` are step numbers, call numbers or ends of windows (ns) as `axis` says; `node` and `stage` are [ranks].
    """

    kind: Kind
    job: str
    rank: Array
    node: Array
    stage: Array
    columns: Array
    axis: str
    values: Array

    @property
    def unit(self) -> str:
        """The unit of the values, as `_heat` names units."""
        return self.kind.unit or ("share" if self.kind.table == WINDOWS else "s")

    def column_names(self) -> list[str]:
        """Return the names of the columns, as people read them."""
        if self.axis == "time":
            return [wording.clock(int(at)) for at in self.columns]
        return [str(at) for at in self.columns.tolist()]

    def row_names(self) -> list[str]:
        """Return the names of the rows."""
        return [
            f"rank {rank} on {node}" if node else f"rank {rank}"
            for rank, node in zip(self.rank.tolist(), self.node.tolist(), strict=True)
        ]


MATRICES = Kept["RankMap | None"](6, lambda made: 0 if made is None else made.values.nbytes, 100_000_000)
GRIDS = Kept["tuple[Array, Array] | None"](8)
KINDS = Kept[tuple[Kind, ...]](4)


def kinds(view: View) -> tuple[Kind, ...]:
    """Return the quantities that the view's tables can show, the best first question first."""
    return KINDS.get(view.id, lambda: tuple(kind for kind in ALL if _there(view, kind)))


def rank_map(view: View, kind: Kind, job: str = "") -> RankMap | None:
    """Return the matrix of a quantity, for the job or the one with the most ranks; None where nothing is known."""
    return MATRICES.get((view.id, kind.key, job), lambda: _map(view, kind, job))


def _there(view: View, kind: Kind) -> bool:
    if not view.count(kind.table):
        return False
    if kind.table == WINDOWS:
        rows = view.tables[WINDOWS]
        if kind.unit:
            return tells(view, kind.source)
        names = rows["metric"].cat.categories
        if not kind.source:
            return LATENESS in names
        return PHASES in names and f"phase={kind.source}" in rows["labels"].cat.categories
    large = view.large(kind.table)
    if large is not None:
        told = large.largest(kind.source) != 0  # NaN is not known, so it may be there
        return told and (not kind.peers or _peers(view))
    rows = view.tables[kind.table]
    if kind.source not in rows or not _told(rows[kind.source].to_numpy()):
        return False
    made = rank_map(view, kind) if kind.peers else None
    return made is None or _told(made.values)  # alone in its stage nobody has peers


def _peers(view: View) -> bool:
    """Return whether two ranks of a step are of one stage."""
    large = view.large(STEPS)
    first = next(large.parts(("rank", "step", "stage")), None) if large is not None else None
    return first is not None and bool(first.duplicated(["step", "stage"]).any())


def _told(values: Array) -> bool:
    """Return whether a value is known and not 0; mostly the first ones answer.

    >>> _told(np.array([0.0, np.nan])), _told(np.array([0.0, -1.0]))
    (False, True)
    """
    flat = values.ravel()
    return any(bool(((part > 0) | (part < 0)).any()) for part in (flat[:100_000], flat))


PHASES, LATENESS = "skewscope_phase_seconds_total", "skewscope_collective_local_lateness_seconds_total"


def _map(view: View, kind: Kind, job: str) -> RankMap | None:
    made: Mapping[str, Callable[[View, Kind, str], RankMap | None]]
    made = {STEPS: _of_steps, ARRIVALS: _of_arrivals, WINDOWS: _of_windows}
    return made[kind.table](view, kind, job)


def _of_steps(view: View, kind: Kind, job: str) -> RankMap | None:
    found = _matrix(view, STEPS, "step", kind.source, job)
    if found is None:
        return None
    name, rank, columns, values = found
    values /= np.float32(1e9)
    node, stage = _places(view, name, rank)
    if kind.peers:
        values = kind.peers * beyond_peers(values, stage)
    return RankMap(kind, name, rank, node, stage, columns, "step", values)


def _places(view: View, job: str, rank: Array) -> tuple[Array, Array]:
    """Return host and stage of each rank of a job, as its steps tell; the first steps mostly tell of all."""
    columns = ("job", "rank", "node", "stage")
    large = view.large(STEPS)
    if large is not None:
        first = of_job(next(large.parts(columns)), job)
        if np.isin(rank, first["rank"].to_numpy()).all():
            return places(first, rank)
    return places(of_job(view.rows(STEPS, columns), job), rank)


def _matrix(view: View, table: str, by: str, source: str, job: str) -> tuple[str, Array, Array, Array] | None:
    """Return job, ranks, steps and float32 [ranks, steps]; None where the job has no rows.

    A table in its file is read a column at a time where its rows lie as steps of all ranks of one job.
    """
    jobs = view.names(table, "job") if view.large(table) is not None else ()
    if len(jobs) == 1 and job in ("", jobs[0]):
        grid = GRIDS.get((view.id, table, by), lambda: _grid(view, table, by))
        if grid is not None:
            return jobs[0], *grid, turned(view.rows(table, (source,))[source].to_numpy(), *grid)
    rows = of_job(view.rows(table, ("job", "rank", by, source)), job)
    rows = rows[np.isfinite(rows[source].to_numpy())] if table == ARRIVALS else rows
    if not len(rows):
        return None
    means = rows if table == STEPS else rows.groupby(["rank", by], sort=True)[source].mean().reset_index()
    return job_name(rows), *scattered(means["rank"], means[by], means[source].to_numpy())


def _grid(view: View, table: str, by: str) -> tuple[Array, Array] | None:
    rows = view.rows(table, ("rank", by))
    return regular(rows["rank"].to_numpy(), rows[by].to_numpy())


def _of_arrivals(view: View, kind: Kind, job: str) -> RankMap | None:
    steps = of_job(view.rows(ARRIVALS, ("job", "step")), job)
    by = "step" if len(steps) and bool((steps["step"] >= 0).any()) else "call"
    del steps
    found = _matrix(view, ARRIVALS, by, kind.source, job)
    if found is None:
        return None
    name, rank, columns, values = found
    values /= np.float32(1e9)
    if by == "step" and columns[0] < 0:  # calls of no known step
        columns, values = columns[columns >= 0], values[:, columns >= 0]
    node, stage = _places(view, name, rank) if view.count(STEPS) else places(pd.DataFrame({"rank": rank}), rank)
    return RankMap(kind, name, rank, node, stage, columns, by, values)


def _of_windows(view: View, kind: Kind, job: str) -> RankMap | None:
    if kind.unit:
        return _of_gpus(view, kind, job)
    tables = view.tables
    found = (
        signal(tables, PHASES, take="increase", phase=kind.source)
        if kind.source
        else signal(tables, LATENESS, take="increase")
    )
    names = found.job.astype(str)
    kept = np.flatnonzero((names == (job or _largest(names))) & (found.rank >= 0))
    if not len(kept):
        return None
    kept = kept[np.argsort(found.rank[kept], kind="stable")]
    values = (found.values[:, kept].T / found.window_s).astype(np.float32)
    told = np.isfinite(values).any(axis=0)
    if not told.any():
        return None
    node, stage = found.node[kept].astype(str), np.full(len(kept), -1, dtype=np.int16)
    if kind.peers:
        values = kind.peers * beyond_peers(values, stage)
    return RankMap(kind, str(names[kept[0]]), found.rank[kept], node, stage, found.t_ns[told], "time", values[:, told])


def _of_gpus(view: View, kind: Kind, job: str) -> RankMap | None:
    ranks = of_job(gpus(view), job)
    found = of_gpus(view, kind.source, ranks) if len(ranks) else None
    if found is None:
        return None
    here, t_ns, values = found
    stage = np.full(len(here), -1, dtype=np.int16)
    values = kind.peers * beyond_peers(values, stage)
    node = here["node"].astype(str).to_numpy()
    return RankMap(kind, job_name(here), here["rank"].to_numpy(), node, stage, t_ns, "time", values)


def of_job(rows: pd.DataFrame, job: str) -> pd.DataFrame:
    """Return the rows of one job; of the one with the most rows where none is named."""
    if not len(rows):
        return rows
    coded = rows["job"].astype("category") if not isinstance(rows["job"].dtype, pd.CategoricalDtype) else rows["job"]
    codes, names = coded.cat.codes.to_numpy(), coded.cat.categories.astype(str)
    counts = np.bincount(codes, minlength=len(names))
    at = int(np.argmax(counts)) if not job else int(names.get_indexer(pd.Index([job]))[0])
    if at < 0:
        return rows.iloc[:0]
    return rows if counts[at] == len(rows) else rows[codes == at]


def job_of_most(view: View, table: str) -> str:
    """Return the job with the most rows in a table, "" where it has no rows."""
    names = view.names(table, "job")
    if len(names) < 2:
        return next(iter(names), "")
    counts = {name: 0 for name in names}
    for part in view.parts(table, ("job",)):
        for name, count in part["job"].value_counts().items():
            counts[str(name)] = counts.get(str(name), 0) + int(count)
    return max(counts, key=lambda name: counts[name])


def job_name(rows: pd.DataFrame) -> str:
    """Return the job of the first row."""
    return str(rows["job"].iloc[0])


def _largest(names: Array) -> str:
    told = names[names != ""]
    if not len(told):
        return ""
    found, counts = np.unique(told, return_counts=True)
    return str(found[np.argmax(counts)])
