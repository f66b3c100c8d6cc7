"""Which chain of host calls, launches, kernels and waits decides how long a step takes?

The path is followed back from the last thing recorded to the first: each thing waited for one thing last
(`_path_graph` says which kinds of waiting are known), and only shortening a piece of the path can shorten the job.
Its pieces lie end to end, so that they sum to the time: *compute*, *communication*, *copy* (the device works),
*device_gap* (it waits for its own stream or an event), *launch_delay* (from the launch call to the kernel, the device
being free), *host* (operators and runtime calls), *python* (the host between them), *synchronize* (the host returns
from waiting for the device). Across ranks the path goes through collectives: from the end on one rank to the start on
the rank that arrived last. What a piece takes on the path is the most that removing it can save.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..errors import NoData
from ..stats import intervals, segments
from . import _calls, _device_rows, _innermost, _path_graph, _path_ranks, _path_walk

Array = np.ndarray[Any, Any]

JOB = -1  # the rank of what belongs to all of them
PATHS = ("job", "rank")


@dataclass(frozen=True)
class CriticalPath:
    """View of the critical path: of each rank alone, and of all ranks together where collectives join them.

    `annotation` looks only at the `instance`-th range of that name (from 0; negative from the end) on each rank.
    """

    needs: ClassVar[tuple[str, ...]] = ("operators", "device_work")
    annotation: str = ""
    instance: int = -1
    rows_count: int = 5000

    def show(self, tables: Frames) -> Shown:
        """Return the time on the path by step and by name, and its pieces. NoData without device work or calls."""
        forest = _calls.calls(tables["operators"])
        work = _device_rows.work(tables)
        given = tables["device_work"]
        graph = _path_graph.graph(forest, work, given[(given["kind"] == "wait").to_numpy()])
        seen = _innermost.pieces(forest, forest.lane)
        paths = [_path_walk.walk(graph, last, first) for last, first in self._windows(forest, graph)]
        alone = _path_walk.told(graph, forest, seen, _path_walk.together(paths))
        alone = _of(alone, "rank")
        joined, joins = (None, 0) if self.annotation else _path_ranks.joined(graph, work, tables)
        if joined is not None:
            last = int(np.argmax(joined.time))
            across = _path_walk.told(joined, forest, seen, _path_walk.walk(joined, last, int(joined.time.min())))
            alone = pd.concat([_of(across, "job"), alone], ignore_index=True)
        return self._shown(_stepped(alone, tables), joins)

    def _windows(self, forest: _calls.Calls, graph: _path_graph.Graph) -> list[tuple[int, int]]:
        """Return (last node, first ns) of each rank, within the annotation where one is asked for."""
        by_time = np.lexsort((graph.time, graph.rank))
        over = segments.runs(graph.rank[by_time])
        found = []
        for first, size in zip(over.first.tolist(), over.size.tolist(), strict=True):
            nodes = by_time[first : first + size]
            begin = int(graph.time[nodes[0]])
            if self.annotation:
                span = self._range(forest, int(graph.rank[nodes[0]]))
                if span is None:
                    continue
                begin = span[0]
                begun = graph.time[nodes & ~1]
                nodes = nodes[(begun >= begin) & (begun <= span[1])]
            if len(nodes):
                found.append((int(nodes[-1]), begin))
        if not found:
            raise NoData(f"no range called {self.annotation!r}; ranges are rows of kind annotation in `operators`")
        return found

    def _range(self, forest: _calls.Calls, rank: int) -> tuple[int, int] | None:
        mine = forest.of_kind("annotation", "module") & (forest.frame["rank"].to_numpy() == rank)
        rows = np.flatnonzero(mine & (forest.frame["name"] == self.annotation).to_numpy())
        rows = rows[np.argsort(forest.start[rows], kind="stable")]
        if not len(rows) or not -len(rows) <= self.instance < len(rows):
            return None
        return int(forest.start[rows[self.instance]]), int(forest.end[rows[self.instance]])

    def _shown(self, pieces: pd.DataFrame, joins: int) -> Shown:
        by_step, by_name = _by_step(pieces), _by_name(pieces)
        first = int(pieces["start_ns"].min())
        longest = np.sort(np.argsort(-pieces["path_ns"].to_numpy(), kind="stable")[: self.rows_count])
        table = pieces.iloc[longest].astype(dict.fromkeys(("path", "kind", "name"), object))
        table = table.assign(at_s=(table["start_ns"] - first) / 1e9, path_s=table["path_ns"] / 1e9)
        columns = ["path", "rank", "step", "kind", "name", "stream", "at_s", "path_s"]
        found = {
            "by_step": by_step,
            "by_name": by_name.head(self.rows_count),
            "pieces": table[columns].reset_index(drop=True),
        }
        if joins:
            found["job"] = by_step[(by_step["path"] == "job").to_numpy()].reset_index(drop=True)
            found["by_rank"] = _by_rank(pieces[pieces["path"] == "job"])
        notes = [] if joins else ["Ranks are not joined: no collective was matched on two ranks of one recording."]
        if len(pieces) > len(table):
            notes.append(f"The path has {len(pieces)} pieces, the longest {len(table)} are in `pieces`.")
        return Shown(
            found,
            _said(by_step, by_name, joins),
            tuple(notes),
            (
                Picture(
                    "job" if joins else "by_step",
                    "stacked",
                    "Time on the critical path",
                    "step",
                    parts=tuple(f"{kind}_s" for kind in _path_walk.KINDS),
                ),
                Picture("pieces", "spans", "The critical path", "at_s", "path_s", "kind"),
            ),
        )


def _of(pieces: pd.DataFrame, path: str) -> pd.DataFrame:
    """Return pieces with the path that they are of: that of each rank alone, or of the job."""
    codes = np.full(len(pieces), PATHS.index(path))
    return pieces.assign(path=pd.Categorical.from_codes(codes, pd.Index(PATHS, dtype=object)))


def _stepped(pieces: pd.DataFrame, tables: Frames) -> pd.DataFrame:
    """Return the pieces cut at the beginnings of steps, with `step` (-1 before the first) and `path_ns`.

    The path of the job is cut where the first rank begins a step.
    """
    steps = tables["steps"]
    steps = steps[(steps["phase"] == "step").to_numpy()] if len(steps) else steps
    if not len(steps):
        return pieces.assign(step=-1, path_ns=pieces["end_ns"] - pieces["start_ns"])
    rank = steps["rank"].to_numpy().astype(np.int64)
    whole = steps.groupby("step", observed=True)["start_ns"].min()
    lane = np.concatenate([rank, np.full(len(whole), JOB)])
    begin = np.concatenate([steps["start_ns"].to_numpy(), whole.to_numpy()])
    number = np.concatenate([steps["step"].to_numpy(), whole.index.to_numpy()])
    order = np.lexsort((begin, lane))
    lane, begin, number = lane[order], begin[order], number[order]
    mine = np.where(pieces["path"] == "job", JOB, pieces["rank"].to_numpy())
    start, end = pieces["start_ns"].to_numpy(), pieces["end_ns"].to_numpy()
    first = intervals.position(lane, begin, mine, start, side="right") - 1
    count = intervals.position(lane, begin, mine, end) - first
    row = np.repeat(np.arange(len(pieces)), count)
    place = np.repeat(first, count) + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    known = (place >= 0) & (lane[np.maximum(place, 0)] == mine[row])
    after = np.minimum(place + 1, len(lane) - 1)
    follows = (place + 1 < len(lane)) & (lane[after] == mine[row])
    low = np.where(known, np.maximum(start[row], begin[np.maximum(place, 0)]), start[row])
    high = np.where(follows, np.minimum(end[row], begin[after]), end[row])
    step = np.where(known, number[np.maximum(place, 0)], -1)
    return pieces.iloc[row].assign(start_ns=low, end_ns=high, step=step, path_ns=high - low).reset_index(drop=True)


def _by_step(pieces: pd.DataFrame) -> pd.DataFrame:
    """Return the time on the path per path, rank (-1: all ranks together) and step, by kind."""
    rank = np.where(pieces["path"] == "job", JOB, pieces["rank"])
    wide = (
        pieces.assign(rank=rank)
        .pivot_table(
            index=["path", "rank", "step"], columns="kind", values="path_ns", aggfunc="sum", fill_value=0, observed=True
        )
        .reindex(columns=list(_path_walk.KINDS), fill_value=0)
        / 1e9
    )
    wide.columns = [f"{kind}_s" for kind in wide.columns]
    wide.insert(0, "path_s", wide.sum(axis=1))
    return wide.reset_index().astype({"path": object})


def _by_name(pieces: pd.DataFrame) -> pd.DataFrame:
    """Return the time on the path by kind and name: the most that removing it can save."""
    groups = pieces.groupby(["path", "kind", "name"], observed=True, sort=False)["path_ns"]
    found = groups.agg(path_s="sum", pieces_count="size").reset_index()
    whole = found.groupby("path", observed=True)["path_s"].transform("sum")
    found["share_ratio"] = found["path_s"] / whole.where(whole > 0)
    found["path_s"] = found["path_s"] / 1e9
    found = found.astype(dict.fromkeys(("path", "kind", "name"), object))
    by = ["path", "path_s", "kind", "name"]
    return found.sort_values(by, ascending=[True, False, True, True], kind="stable").reset_index(drop=True)


def _by_rank(pieces: pd.DataFrame) -> pd.DataFrame:
    """Return how much of the path of the whole job runs on each rank, by kind."""
    wide = pieces.pivot_table(
        index="rank", columns="kind", values="path_ns", aggfunc="sum", fill_value=0, observed=True
    )
    wide = wide.reindex(columns=list(_path_walk.KINDS), fill_value=0) / 1e9
    wide.columns = [f"{kind}_s" for kind in wide.columns]
    wide.insert(0, "path_s", wide.sum(axis=1))
    wide.insert(1, "share_ratio", wide["path_s"] / wide["path_s"].sum())
    return wide.reset_index()


def _said(by_step: pd.DataFrame, by_name: pd.DataFrame, joins: int) -> tuple[str, ...]:
    path = "job" if joins else "rank"
    mine = by_step[by_step["path"] == path]
    whole = float(mine["path_s"].sum())
    parts = {kind: float(mine[f"{kind}_s"].sum()) for kind in _path_walk.KINDS}
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    told = [
        f"The critical path is {whole * 1e3:.4g} ms long: "
        + ", ".join(f"{_device_rows.share(part, whole):.0%} {kind.replace('_', ' ')}" for kind, part in largest)
        + "."
    ]
    top = by_name[by_name["path"] == path].head(3)
    for kind, name, time in zip(top["kind"], top["name"], top["path_s"], strict=True):
        where = {"device_gap": "the gap before ", "launch_delay": "the launch of "}.get(kind, "")
        told.append(f"At most {time * 1e3:.3g} ms can be saved by shortening {where}{_device_rows.short(name)}.")
    if joins:
        told.append(f"It joins ranks at {joins} collectives that waited for a later rank.")
    return tuple(told)
