"""Where does the host wait for the device, who asked for it, and what does it cost the device?

A call waits when it is a synchronisation (`cudaDeviceSynchronize`, `cudaStreamSynchronize`, `hipEventSynchronize`,
...) or a copy that is complete when the call returns (pageable memory, `.item()`, `.cpu()`). Its *wait* is the part
until the device work that it waited for ended; afterwards the device is empty until the host launches again: that
idle time is its cost, told for the first call in each such gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..stats import intervals
from . import _calls, _device_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SyncStalls:
    """View of synchronisation; `rows_count` of the longest are shown one by one."""

    needs: ClassVar[tuple[str, ...]] = ("operators", "device_work")
    rows_count: int = 500

    def show(self, tables: Frames) -> Shown:
        """Return the waits of the host by who asked for them, by rank, and one by one."""
        forest = _calls.calls(tables["operators"])
        work = _device_rows.work(tables)
        row, ended = _waits(forest, work)
        made = _made(forest, work, row, ended)
        by_caller = _grouped(made, ["call", "operator", "frame"])
        by_rank = _grouped(made, ["rank"])
        span = work.groupby("rank", observed=True).agg(first=("start_ns", "min"), last=("end_ns", "max"))
        by_rank["device_span_s"] = ((span["last"] - span["first"]) / 1e9).reindex(by_rank["rank"]).to_numpy()
        by_rank["idle_ratio"] = by_rank["device_idle_s"] / by_rank["device_span_s"]
        longest = made.sort_values(
            ["device_idle_s", "host_wait_s", "at_s"], ascending=[False, False, True], kind="stable"
        )
        found = {
            "by_caller": by_caller.head(self.rows_count),
            "by_rank": by_rank.sort_values("rank", ignore_index=True),
            "stalls": longest.head(self.rows_count).reset_index(drop=True),
        }
        notes = (
            ()
            if forest.of_kind("python").any()
            else ("No Python frames were recorded: with_stack=True tells the line that asked.",)
        )
        return Shown(
            found,
            _said(by_caller, by_rank),
            notes,
            (Picture("by_caller", "bars", "Device idle behind synchronisation", "operator", "device_idle_s", "call"),),
        )


def _waits(forest: _calls.Calls, work: pd.DataFrame) -> tuple[Array, Array]:
    """Return the calls that may wait, and when the device work that each waited for ended (its own start: for none)."""
    names = forest.frame["name"].array
    told = np.array(["synchronize" in name.lower() for name in names.categories] + [False])[names.codes]
    rank = forest.frame["rank"].to_numpy().astype(np.int64)
    runtime = forest.of_kind("runtime", "wait")
    syncs = np.flatnonzero(told & runtime)
    end, of = work["end_ns"].to_numpy(), work["rank"].to_numpy().astype(np.int64)
    order = np.lexsort((end, of))
    place = intervals.position(of[order], end[order], rank[syncs], forest.end[syncs], side="right") - 1
    last = order[np.maximum(place, 0)]
    ended = np.where((place >= 0) & (of[last] == rank[syncs]), end[last], forest.start[syncs])
    copies, done = _blocking_copies(forest, work, rank, runtime)
    rows = np.concatenate([syncs, copies])
    return rows, np.maximum(np.concatenate([ended, done]), forest.start[rows])


def _blocking_copies(forest: _calls.Calls, work: pd.DataFrame, rank: Array, runtime: Array) -> tuple[Array, Array]:
    """Return the calls that launched a copy which was complete when they returned, and when it was."""
    calls = np.flatnonzero(runtime & (forest.frame["correlation"].to_numpy() >= 0))
    copy = work[((work["kind"] == "memcpy") & (work["correlation"] >= 0)).to_numpy()]
    found = pd.DataFrame(
        {"rank": rank[calls], "correlation": forest.frame["correlation"].to_numpy()[calls], "row": calls}
    ).merge(
        pd.DataFrame(
            {"rank": copy["rank"].astype(np.int64), "correlation": copy["correlation"], "ended": copy["end_ns"]}
        ),
        on=["rank", "correlation"],
    )
    row, ended = found["row"].to_numpy(dtype=np.int64), found["ended"].to_numpy(dtype=np.int64)
    done = (ended <= forest.end[row]) & (ended > forest.start[row])
    return row[done], ended[done]


def _made(forest: _calls.Calls, work: pd.DataFrame, row: Array, ended: Array) -> pd.DataFrame:
    """Return one row per wait: who asked, how long the host was in the call and waited, and the idle time behind it."""
    order = np.argsort(forest.start[row], kind="stable")
    row, ended = row[order], ended[order]
    frame = forest.frame.iloc[row]
    near = {
        "operator": _calls.nearest(forest, forest.of_kind("operator"))[row],
        "frame": _calls.nearest(forest, _lines(forest))[row],
    }
    rank = frame["rank"].to_numpy().astype(np.int64)
    first_ns = int(min(forest.start.min(), work["start_ns"].min()))
    return pd.DataFrame(
        {
            "rank": rank,
            "step": frame["step"].to_numpy(),
            "call": frame["name"].astype(object).to_numpy(),
            "operator": forest.names(near["operator"]),
            "frame": forest.names(near["frame"]),
            "at_s": (forest.start[row] - first_ns) / 1e9,
            "host_call_s": (forest.end[row] - forest.start[row]) / 1e9,
            "host_wait_s": (ended - forest.start[row]) / 1e9,
            "device_idle_s": _idle_behind(work, rank, forest.end[row], ended > forest.start[row]) / 1e9,
        }
    )


def _lines(forest: _calls.Calls) -> Array:
    """Return which calls are Python frames with a file and a line."""
    names = forest.frame["name"].array
    told = np.array([not name.startswith("<") for name in names.categories] + [False])
    return np.asarray(told[names.codes]) & forest.of_kind("python")


def _idle_behind(work: pd.DataFrame, rank: Array, end: Array, waited: Array) -> Array:
    """Return the idle time of the device around the end of each call that waited, 0 but for the first in a gap."""
    holes = intervals.gaps(_device_rows.busy(work))
    place = intervals.position(holes.lane, holes.start, rank, end, side="right") - 1
    safe = np.maximum(place, 0)
    if not len(holes.lane):
        return np.zeros(len(end), dtype=np.int64)
    inside = waited & (place >= 0) & (holes.lane[safe] == rank) & (end <= holes.end[safe])
    hole = np.where(inside, safe, -1)
    by_end = np.lexsort((end, hole))
    first = np.zeros(len(end), dtype=bool)
    first[by_end] = np.append(True, hole[by_end][1:] != hole[by_end][:-1]) if len(end) else False
    return np.where(inside & first, holes.end[safe] - holes.start[safe], 0)


def _grouped(made: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    groups = made.groupby(keys, sort=False)
    found = groups[["host_call_s", "host_wait_s", "device_idle_s"]].sum()
    found.insert(0, "waits_count", groups.size())
    by = ["device_idle_s", "host_wait_s", *keys]
    return found.reset_index().sort_values(by, ascending=[False, False, *[True] * len(keys)], ignore_index=True)


def _said(by_caller: pd.DataFrame, by_rank: pd.DataFrame) -> tuple[str, ...]:
    if not len(by_caller):
        return ("The host never waited for the device.",)
    count, wait, idle = (by_caller[key].sum() for key in ("waits_count", "host_wait_s", "device_idle_s"))
    told = [
        f"The host waited {int(count)} times for the device, {wait * 1e3:.4g} ms in all; the device was idle for "
        f"{idle * 1e3:.4g} ms behind these waits ({by_rank['idle_ratio'].max():.1%} of the span of the worst rank)."
    ]
    for call, operator, frame, idle, count in zip(
        *(by_caller[key][:2] for key in ("call", "operator", "frame", "device_idle_s", "waits_count")), strict=True
    ):
        asked = f" for {operator}" if operator else ""
        where = f" in {frame}" if frame else ""
        told.append(f"{call}{asked}{where}: {count} waits, {idle * 1e3:.4g} ms of the device.")
    return tuple(told)
