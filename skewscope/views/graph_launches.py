"""What do CUDA graphs do: kernels per launch, device time, idle time inside?

A launch of a graph is all device work with the correlation id of one launch call. Its *span* is from its first kernel
to the last end, *busy* what any stream worked in it, *idle* the rest: time that only a better graph can win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..errors import NoData
from ..stats import intervals, segments
from . import _device_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class GraphLaunches:
    """View of CUDA graphs; `rows_count` launches are shown one by one."""

    needs: ClassVar[tuple[str, ...]] = ("device_work",)
    rows_count: int = 2000

    def show(self, tables: Frames) -> Shown:
        """Return launches by graph and one by one. NoData where no graph was launched."""
        work = _device_rows.work(tables)
        whole = float(work["length_ns"].sum())
        work = work[(work["graph"] >= 0).to_numpy()].reset_index(drop=True)
        if not len(work):
            raise NoData("no work was launched by a CUDA graph (or the recording does not say so)")
        launches = _launches(work)
        by_graph = _by_graph(launches, work, whole)
        kernels = _kernels(work)
        found = {
            "by_graph": by_graph,
            "launches": launches.head(self.rows_count),
            "kernels": kernels.head(self.rows_count),
        }
        notes = (
            ()
            if len(launches) <= self.rows_count
            else (f"{len(launches)} launches, the first {self.rows_count} are shown.",)
        )
        return Shown(
            found,
            _said(by_graph),
            notes,
            (
                Picture(
                    "launches",
                    "stacked",
                    "Busy and idle time in launches of graphs",
                    "number",
                    parts=("busy_s", "idle_s"),
                ),
            ),
        )


def _launches(work: pd.DataFrame) -> pd.DataFrame:
    """Return one row per launch of a graph."""
    columns = ("rank", "graph", "correlation", "launch_ns")
    keys = [work[name].to_numpy() for name in columns]
    number = segments.numbered(*keys)
    order = np.lexsort((work["start_ns"].to_numpy(), number))
    over = segments.runs(number[order])
    start, end = (work[name].to_numpy()[order] for name in ("start_ns", "end_ns"))
    first, last = segments.minimum(start, over), segments.maximum(end, over)
    spans = intervals.union(number, work["start_ns"].to_numpy(), work["end_ns"].to_numpy())
    busy = np.bincount(spans.lane, weights=spans.end - spans.start, minlength=len(over.first))
    row = order[over.first]
    begun, returned = (work[name].to_numpy()[row] for name in ("launch_ns", "launch_end_ns"))
    known = begun >= 0
    found = pd.DataFrame(
        {
            **{name: work[name].to_numpy()[row] for name in ("rank", "step", "graph")},
            "kernels_count": over.size,
            "at_s": (first - int(start.min())) / 1e9,
            "span_s": (last - first) / 1e9,
            "busy_s": busy / 1e9,
            "idle_s": (last - first - busy) / 1e9,
            "launch_call_s": np.where(known & (returned >= 0), (returned - begun) / 1e9, np.nan),
            "launch_delay_s": np.where(known, (first - begun) / 1e9, np.nan),
        }
    )
    found = found.sort_values(["rank", "at_s"], kind="stable").reset_index(drop=True)
    found.insert(0, "number", np.arange(len(found)))
    return found.rename(columns={"graph": "graph_id"})


def _by_graph(launches: pd.DataFrame, work: pd.DataFrame, whole_ns: float) -> pd.DataFrame:
    groups = launches.groupby(["rank", "graph_id"], sort=True)
    found = groups.agg(
        launches_count=("number", "size"),
        kernels_count=("kernels_count", "sum"),
        kernels_per_launch_count=("kernels_count", "median"),
        span_s=("span_s", "sum"),
        busy_s=("busy_s", "sum"),
        idle_s=("idle_s", "sum"),
        launch_call_s=("launch_call_s", "median"),
        launch_delay_s=("launch_delay_s", "median"),
    )
    found["idle_ratio"] = found["idle_s"] / found["span_s"].where(found["span_s"] > 0)
    device = work.groupby(["rank", "graph"])["length_ns"].sum()
    found["device_share_ratio"] = device.reindex(found.index) / max(whole_ns, 1.0)
    return found.reset_index()


def _kernels(work: pd.DataFrame) -> pd.DataFrame:
    """Return the device time of the work in graphs by name."""
    groups = work.groupby(["graph", "name"], observed=True, sort=False)["length_ns"]
    found = groups.agg(device_s="sum", kernels_count="size").reset_index()
    found["device_s"] = found["device_s"] / 1e9
    found["name"] = found["name"].astype(object)
    found = found.rename(columns={"graph": "graph_id"})
    return found.sort_values(
        ["device_s", "graph_id", "name"], ascending=[False, True, True], kind="stable"
    ).reset_index(drop=True)


def _said(by_graph: pd.DataFrame) -> tuple[str, ...]:
    launches, kernels = int(by_graph["launches_count"].sum()), int(by_graph["kernels_count"].sum())
    span, idle = float(by_graph["span_s"].sum()), float(by_graph["idle_s"].sum())
    share = _device_rows.share(idle, span)
    told = [
        f"{launches} launches of {by_graph['graph_id'].nunique()} graphs ran {kernels} kernels; "
        f"of their {span * 1e3:.4g} ms "
        f"the device was idle for {share:.0%}."
    ]
    worst = by_graph.iloc[int(by_graph["idle_s"].to_numpy().argmax())]
    if worst["idle_s"] > 0:
        told.append(
            f"Graph {int(worst['graph_id'])} on rank {int(worst['rank'])} is idle inside for "
            f"{worst['idle_s'] * 1e3:.4g} ms."
        )
    return tuple(told)
