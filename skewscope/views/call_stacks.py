"""Who asked for each kernel: the modules, operators and Python frames above it, as a tree of device time?

The tree joins equal stacks: each node has the device time of all that runs below it (an icicle as a table: `parent`
and `depth` place a node). Backward work hangs below the module of the forward operator with its sequence number, in a
branch of its own. `kernels` tells the stack of each kernel, `modules` the device time of each module, forward and
backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..stats import segments
from . import _calls, _device_rows, _modules

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CallStacks:
    """View of call stacks; `python` keeps Python frames in them, `rows_count` of the largest rows are shown."""

    needs: ClassVar[tuple[str, ...]] = ("operators", "device_work")
    python: bool = False
    rows_count: int = 2000

    def show(self, tables: Frames) -> Shown:
        """Return the tree of device time, the stacks of kernels and the time of modules."""
        forest = _calls.calls(tables["operators"])
        work = _device_rows.work(tables)
        row = _device_rows.above(work, forest)
        whose = _modules.belonging(forest)
        kinds = ("operator", "module", "annotation", *(("python",) if self.python else ()))
        kept = forest.of_kind(*kinds)
        path, nodes = _paths(forest, kept, whose)
        tree = _tree(nodes, path, row, work)
        modules = _by_module(forest, whose, row, work)
        kernels = _kernels(tree, path, row, work, whose)
        found = {"tree": _depth_first(tree, self.rows_count), "kernels": kernels.head(self.rows_count)}
        if len(modules):
            found["modules"] = modules.head(self.rows_count)
        return Shown(
            found,
            _said(tree, kernels, modules),
            _notes(work, row, modules, forest),
            (Picture("tree", "bars", "Device time by stack", "name", "device_s", "depth"),),
        )


def _paths(forest: _calls.Calls, kept: Array, whose: _modules.Belonging) -> tuple[Array, pd.DataFrame]:
    """Return the node of each call (that of the nearest call kept, -1 for none), and the nodes: name, parent, depth."""
    near = _calls.nearest(forest, kept)
    up = np.where(forest.parent >= 0, near[np.maximum(forest.parent, 0)], -1)
    engine = whose.backward & ~np.where(up >= 0, whose.backward[np.maximum(up, 0)], False)
    home = np.where(engine & (whose.module >= 0), whose.module, up)  # backward work moves to its module
    names = forest.frame["name"].array.codes.astype(np.int64) * 2 + engine
    level = _levels(home, kept)
    node = np.full(len(kept), -1)
    made: list[pd.DataFrame] = []
    count = 0
    for depth in range(int(level.max(initial=-1)) + 1):
        rows = np.flatnonzero(level == depth)
        parent = np.where(home[rows] >= 0, node[np.maximum(home[rows], 0)], -1)
        number = segments.numbered(parent, names[rows])
        node[rows] = count + number
        first = rows[np.unique(number, return_index=True)[1]]
        title = forest.names(first)
        title[engine[first]] = [f"{name} (backward)" for name in title[engine[first]]]
        above = np.where(home[first] >= 0, node[np.maximum(home[first], 0)], -1)
        calls = np.bincount(number)
        made.append(
            pd.DataFrame(
                {
                    "node": count + np.arange(len(first)),
                    "parent": above,
                    "depth": depth,
                    "name": title,
                    "calls_count": calls,
                }
            )
        )
        count += len(first)
    nodes = (
        pd.concat(made, ignore_index=True)
        if made
        else pd.DataFrame(columns=["node", "parent", "depth", "name", "calls_count"])
    )
    return np.where(near >= 0, node[np.maximum(near, 0)], -1), nodes


def _levels(home: Array, kept: Array) -> Array:
    """Return how many homes are above each kept row, -1 for others."""
    level = np.where(kept, 0, -1)
    row, above = np.flatnonzero(kept), home[kept]
    for _ in range(len(home)):
        inner = above >= 0
        row, above = row[inner], above[inner]
        if not len(row):
            break
        level[row] += 1
        above = home[above]
    return level


def _tree(nodes: pd.DataFrame, path: Array, row: Array, work: pd.DataFrame) -> pd.DataFrame:
    """Return the nodes with their own device time and that of all below; those without any are left out."""
    at = np.where(row >= 0, path[np.maximum(row, 0)], -1)
    known = at >= 0
    length = work["length_ns"].to_numpy() / 1e9
    own = np.bincount(at[known], weights=length[known], minlength=len(nodes))
    whole, kernels = own.copy(), np.bincount(at[known], minlength=len(nodes))
    parent, depth = nodes["parent"].to_numpy(), nodes["depth"].to_numpy()
    for level in range(int(depth.max(initial=0)), 0, -1):
        rows = np.flatnonzero(depth == level)
        np.add.at(whole, parent[rows], whole[rows])
    found = nodes.assign(device_s=whole, device_self_s=own, kernels_count=kernels)
    found["share_ratio"] = found["device_s"] / max(float(length.sum()), 1e-12)
    return found[whole > 0].reset_index(drop=True)


def _depth_first(tree: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the `most` nodes with most device time, each before what is below it, the larger branch first.

    A node never has less time than what is below it, so that no kept node lacks its parent.
    """
    kept = tree.sort_values(["device_s", "depth", "node"], ascending=[False, True, True], kind="stable").head(most)
    below: dict[int, list[int]] = {}
    nodes = kept["node"].tolist()
    known = set(nodes)
    for row, parent in enumerate(kept["parent"].tolist()):
        below.setdefault(parent if parent in known else -1, []).append(row)
    open_rows, order = below.get(-1, [])[::-1], []
    while open_rows:
        row = open_rows.pop()
        order.append(row)
        open_rows += below.get(nodes[row], [])[::-1]
    first = ["depth", "name", "device_s", "share_ratio", "device_self_s", "calls_count", "kernels_count"]
    return kept.iloc[order][[*first, "node", "parent"]].reset_index(drop=True)


def _kernels(
    tree: pd.DataFrame, path: Array, row: Array, work: pd.DataFrame, whose: _modules.Belonging
) -> pd.DataFrame:
    """Return device time by kernel and the stack above it, outermost first."""
    at = np.where(row >= 0, path[np.maximum(row, 0)], -1)
    backward = np.where(row >= 0, whose.backward[np.maximum(row, 0)], False)
    made = pd.DataFrame(
        {
            "name": work["name"].array.codes,
            "node": at,
            "backward": backward,
            "device_s": work["length_ns"].to_numpy() / 1e9,
        }
    )
    groups = made.groupby(["name", "node", "backward"], sort=False)["device_s"]
    found = groups.agg(device_s="sum", kernels_count="size").reset_index()
    stacks = {-1: ""}
    for node, parent, name in zip(*(tree.sort_values("depth")[key] for key in ("node", "parent", "name")), strict=True):
        above = stacks.get(parent, "")
        stacks[node] = f"{above} > {name}" if above else name
    found["stack"] = [stacks.get(node, "") for node in found["node"]]
    found["name"] = np.asarray(work["name"].array.categories, dtype=object)[found["name"].to_numpy()]
    found["share_ratio"] = found["device_s"] / max(float(found["device_s"].sum()), 1e-12)
    found["pass"] = np.where(found["backward"], "backward", "forward")
    by = ["device_s", "name", "stack"]
    found = found.sort_values(by, ascending=[False, True, True], kind="stable").reset_index(drop=True)
    return found[["name", "stack", "pass", "kernels_count", "device_s", "share_ratio"]]


def _by_module(forest: _calls.Calls, whose: _modules.Belonging, row: Array, work: pd.DataFrame) -> pd.DataFrame:
    """Return device time per module, forward and backward, its own and with all modules in it."""
    modules = forest.of_kind("module")
    if not modules.any():
        return pd.DataFrame()
    length = work["length_ns"].to_numpy() / 1e9
    module = np.where(row >= 0, whose.module[np.maximum(row, 0)], -1)
    backward = np.where(row >= 0, whose.backward[np.maximum(row, 0)], False)
    sums = {}
    for name, mine in (("forward", (module >= 0) & ~backward), ("backward", (module >= 0) & backward)):
        own = np.bincount(module[mine], weights=length[mine], minlength=len(modules))
        sums[f"{name}_self_s"], sums[f"{name}_s"] = own, _calls.below(forest, own)
    names = forest.frame["name"].array
    rows = np.flatnonzero(modules)
    rows = rows[_calls.first_of_name(forest, names.codes.astype(np.int64))[rows]]
    made = pd.DataFrame({key: value[rows] for key, value in sums.items()}).assign(name=forest.names(rows))
    groups = made.groupby("name", sort=False)
    found = groups.sum().assign(calls_count=groups.size()).reset_index()
    found["name"] = [_modules.plain(name) for name in found["name"]]
    found["device_s"] = found["forward_s"] + found["backward_s"]
    found["share_ratio"] = found["device_s"] / max(float(length.sum()), 1e-12)
    found = found[
        [
            "name",
            "calls_count",
            "device_s",
            "share_ratio",
            "forward_s",
            "backward_s",
            "forward_self_s",
            "backward_self_s",
        ]
    ]
    return found.sort_values(["device_s", "name"], ascending=[False, True], kind="stable").reset_index(drop=True)


def _said(tree: pd.DataFrame, kernels: pd.DataFrame, modules: pd.DataFrame) -> tuple[str, ...]:
    told = []
    for name, share, stack in zip(kernels["name"][:1], kernels["share_ratio"][:1], kernels["stack"][:1], strict=True):
        asked = f", asked for by {stack}" if stack else ""
        told.append(f"{_device_rows.short(name)} takes {share:.0%} of device time{asked}.")
    deep = tree[tree["share_ratio"] < 0.95].sort_values("device_s", ascending=False, kind="stable").head(1)
    for name, share in zip(deep["name"], deep["share_ratio"], strict=True):
        told.append(f"{share:.0%} of device time runs below {_modules.plain(name)}.")
    for name, share, back in zip(
        *(modules.get(key, pd.Series(dtype=object))[:1] for key in ("name", "share_ratio", "backward_s")), strict=True
    ):
        told.append(f"Module {name} stands for {share:.0%} of device time ({back * 1e3:.3g} ms of it backward).")
    return tuple(told)


def _notes(work: pd.DataFrame, row: Array, modules: pd.DataFrame, forest: _calls.Calls) -> tuple[str, ...]:
    told = []
    lost = float(work["length_ns"].to_numpy()[row < 0].sum()) / max(float(work["length_ns"].sum()), 1.0)
    if lost > 0:
        told.append(f"{lost:.1%} of device time has no recorded launch and so no stack.")
    if not len(modules):
        told.append("No modules were recorded: profile with with_stack=True (or with_modules=True).")
    if not (forest.frame["sequence"].to_numpy() >= 0).any():
        told.append("No sequence numbers were recorded: backward work cannot be joined with its forward operator.")
    return tuple(told)
