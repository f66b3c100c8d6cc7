"""From the graph of waits to the pieces of its critical path: what, where, how long, of which kind."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from . import _calls, _innermost
from ._path_graph import Graph

Array = np.ndarray[Any, Any]

DEVICE = {"kernel": "compute", "communication": "communication", "memcpy": "copy", "memset": "copy"}
KINDS = ("compute", "communication", "copy", "device_gap", "launch_delay", "host", "python", "synchronize")
OUTSIDE = "outside recorded calls"


class Path(NamedTuple):
    """Pieces of a path, last first: `start` to `end` in ns; each ends at its `node` and begins at its `source`."""

    node: Array
    source: Array
    start: Array
    end: Array


def walk(graph: Graph, last: int, first_ns: int) -> Path:
    """Return the path that ends at node `last`, followed back until `first_ns`."""
    before, time = graph.lists
    nodes, node, left = [last], last, len(before)
    while before[node] >= 0 and time[node] > first_ns and left:
        node = before[node]
        nodes.append(node)
        left -= 1
    found = np.array(nodes, dtype=np.int64)
    source = np.append(found[1:], -1)
    begin = np.where(source >= 0, graph.time[source], first_ns)
    if graph.before[found[-1]] < 0 or graph.time[found[-1]] <= first_ns:
        begin[-1] = min(first_ns, int(graph.time[found[-1]]))
    end = np.minimum.accumulate(graph.time[found])
    return Path(found, source, np.maximum(np.minimum(begin, end), first_ns), np.maximum(end, first_ns))


def together(paths: list[Path]) -> Path:
    """Return the pieces of several paths."""
    return Path(*(np.concatenate(parts) for parts in zip(*paths, strict=True)))


def told(graph: Graph, forest: _calls.Calls, seen: _innermost.Pieces, path: Path) -> pd.DataFrame:
    """Return the pieces of a path by rank and time: rank, kind (of `KINDS`), name, stream or thread, start, end in ns.

    Time of the host is cut by the innermost call; where that is no operator or runtime call its kind is python.
    """
    timed = path.end > path.start
    path = Path(*(part[timed] for part in path))
    device = path.node >= 2 * graph.calls
    names, of_call, of_work = _names(forest, graph.work)
    parts = (
        _device_pieces(graph, Path(*(part[device] for part in path)), of_work),
        _host_pieces(graph, forest, seen, Path(*(part[~device] for part in path)), of_call),
    )
    rank, kind, name, stream, start, end = (np.concatenate(pair) for pair in zip(*parts, strict=True))
    order = np.lexsort((end, start, rank))
    return pd.DataFrame(
        {
            "rank": rank[order],
            "kind": pd.Categorical.from_codes(kind[order], pd.Index(KINDS, dtype=object)),
            "name": pd.Categorical.from_codes(name[order], names),
            "stream": stream[order],
            "start_ns": start[order],
            "end_ns": end[order],
        }
    )


def _names(forest: _calls.Calls, work: pd.DataFrame) -> tuple[pd.Index[Any], Array, Array]:
    """Return all names, and the number among them of each call (behind the last: of no call) and of each work."""
    calls, kernels = forest.frame["name"].array, work["name"].array
    place = {
        name: number for number, name in enumerate(dict.fromkeys([*calls.categories, *kernels.categories, OUTSIDE]))
    }
    of_call = np.array([place[name] for name in calls.categories], dtype=np.int64)[calls.codes]
    of_work = np.array([place[name] for name in kernels.categories], dtype=np.int64)[kernels.codes]
    return pd.Index(list(place), dtype=object), np.append(of_call, place[OUTSIDE]), of_work


def _device_pieces(graph: Graph, path: Path, of_work: Array) -> tuple[Array, ...]:
    """Return pieces that end at device work: the work itself, or the gap or launch delay before its start."""
    overlapping = (path.node % 2 == 0) & (path.source >= 2 * graph.calls) & (path.source % 2 == 0)
    thing = np.where(overlapping, path.source, path.node) // 2 - graph.calls  # until then the one ahead worked
    kinds = graph.work["kind"].array
    table = np.array([KINDS.index(DEVICE.get(kind, "compute")) for kind in kinds.categories] + [0])[kinds.codes]
    waiting = np.where(graph.by_launch, KINDS.index("launch_delay"), KINDS.index("device_gap"))
    kind = np.where((path.node % 2 == 1) | overlapping, table[thing], waiting[thing])
    stream = graph.work["stream"].to_numpy()
    return graph.rank[path.node], kind, of_work[thing], stream[thing], path.start, path.end


def _host_pieces(
    graph: Graph, forest: _calls.Calls, seen: _innermost.Pieces, path: Path, of_call: Array
) -> tuple[Array, ...]:
    """Return pieces of the host, cut by the innermost call; the return from a blocking call is its own kind."""
    call, ahead = path.node // 2, graph.ahead[path.node]
    from_device = (path.source >= 2 * graph.calls) & (path.node % 2 == 1)
    which, row, start, end = _innermost.inside(seen, graph.lane[call], path.start + ahead, path.end + ahead)
    working = _calls.nearest(forest, forest.of_kind("operator", "runtime", "wait")) >= 0
    kind = np.where(np.append(working, False)[row], KINDS.index("host"), KINDS.index("python"))
    kind[from_device[which]] = KINDS.index("synchronize")
    thread = forest.frame["thread"].to_numpy()[graph.call_row[call[which]]]
    back = ahead[which]
    return graph.rank[path.node[which]], kind, of_call[row], thread, start - back, end - back
