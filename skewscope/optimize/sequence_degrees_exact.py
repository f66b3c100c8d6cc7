"""The same layout of groups as a mixed integer program (FlexSP's), for steps of few sequences.

min C: every sequence in one group, a group's time <= C and its tokens <= its memory, chosen degrees <= devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .sequence_cost import Cost
from .sequence_degrees import Devices, Layout, layout, times

Array = np.ndarray[Any, Any]

CELLS_MOST = 600  # sequences times possible groups; beyond it the search takes minutes
NODES = 20_000


def exact(lengths: Array, cost: Cost, devices: Devices, nodes: int = NODES) -> Layout:
    """Return the optimal layout of one step, or the better of it and `layout` where the search stops early.

    Steps that need several rounds, and large ones, are left to `layout`; the bound is then its own.

    >>> exact(np.array([8.0, 1, 1, 1, 1]), Cost(1.0, 0.0), Devices(4, within_ratio=0.5)).time
    4.5
    """
    start = layout(lengths, cost, devices)
    groups = _groups(devices)
    if len(start.rounds) > 1 or start.optimal or len(groups) * len(lengths) > CELLS_MOST:
        return start
    solved = _solve(np.asarray(lengths, dtype=float), cost, devices, groups, nodes)
    proved = max(start.bound, float(getattr(solved, "mip_dual_bound", None) or 0.0) * start.time)
    if solved.x is None or solved.x[-1] * start.time >= start.time:
        return Layout(start.degrees, start.group_of, start.time, min(proved, start.time), solved.status == 0)
    return _read(solved.x, time_of=times(lengths, cost, devices), groups=groups, start=start, proved=proved,
                 optimal=solved.status == 0)  # fmt: skip


def _groups(devices: Devices) -> Array:
    """Return the degree of every group that could be formed, [groups].

    >>> _groups(Devices(4)).tolist()
    [1, 1, 1, 1, 2, 2, 4]
    """
    degrees = devices.degrees()
    return np.repeat(degrees, devices.count // degrees)


def _solve(lengths: Array, cost: Cost, devices: Devices, groups: Array, nodes: int) -> Any:  # noqa: ANN401 - scipy's own
    """Return scipy's result; variables are x[sequence, group], then y[group] (is formed), then C over the start's."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]

    start = layout(lengths, cost, devices)
    time = times(lengths, cost, devices)[np.log2(groups).astype(int)].T / start.time
    many, sizes = len(lengths), len(groups)
    cells, width = many * sizes, many * sizes + sizes + 1
    one, ends, memory, used, alike = (np.zeros((rows, width)) for rows in (many, sizes, sizes, 1, sizes - 1))
    group = np.tile(np.arange(sizes), many)
    one[np.repeat(np.arange(many), sizes), np.arange(cells)] = 1.0
    finite = np.where(np.isfinite(time), time, 0.0).ravel()
    ends[group, np.arange(cells)] = finite
    ends[:, -1] = -1.0
    room = np.minimum(groups * devices.tokens, lengths.sum())
    memory[group, np.arange(cells)] = np.repeat(lengths, sizes)
    memory[np.arange(sizes), cells + np.arange(sizes)] = -room
    used[0, cells:-1] = groups
    same = np.flatnonzero(groups[1:] == groups[:-1])
    alike[same, cells + same], alike[same, cells + same + 1] = -1.0, 1.0  # groups of one degree are formed in order
    rules = [LinearConstraint(one, 1.0, 1.0), LinearConstraint(ends, -np.inf, 0.0),
             LinearConstraint(memory, -np.inf, 0.0), LinearConstraint(used, -np.inf, devices.count),
             LinearConstraint(alike, -np.inf, 0.0)]  # fmt: skip
    top = np.append(np.where(np.isfinite(time.ravel()), 1.0, 0.0), np.ones(sizes + 1))
    whole = np.append(np.ones(width - 1), 0)
    target = np.append(np.zeros(width - 1), 1.0)
    return milp(target, constraints=rules, bounds=Bounds(0.0, top), integrality=whole, options={"node_limit": nodes})


def _read(x: Array, time_of: Array, groups: Array, start: Layout, proved: float, optimal: bool) -> Layout:
    many = time_of.shape[1]
    chosen = x[: many * len(groups)].reshape(many, len(groups)).argmax(axis=1)
    formed, group_of = np.unique(chosen, return_inverse=True)
    degrees = groups[formed]
    ends = np.bincount(group_of, time_of[np.log2(degrees[group_of]).astype(int), np.arange(many)])
    return Layout(degrees, group_of, float(ends.max()), min(max(proved, start.bound), float(ends.max())), optimal)
