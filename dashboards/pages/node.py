"""Node: one host: its GPUs, what holds their clocks, its network adapters and the host itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.reports import wording
from skewscope.signals.view import parsed, signal

from .. import _heat
from .._culprits import FRESH, chosen, condition, counted, who
from .._lines import lines
from .._node_lines import GPU, HARMLESS, HOST, NIC, REASONS, Line, medians, of_node, said, usual
from .._page import HOW, Block, Cell, Control, Link, nothing
from .._rank_maps import kinds, rank_map
from .._rank_scores import scores
from .._selection import Selection
from .._view import View

NO_AGENT = "Run `skewscope agent` on the host and watch it: `skewscope watch --scrape HOST:9400` or Prometheus."
MOST_NODES = 40


class Node:
    """The page of one host."""

    path: ClassVar[str] = "/node"
    title: ClassVar[str] = "Node"
    order: ClassVar[int] = 6
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the host's findings and ranks, its GPUs, adapters and pressure; the host is the selected or worst."""
        if view.empty:
            return (nothing("node", "Node", "nothing is loaded", HOW),)
        node = _node(view, selection)
        if not node:
            return (nothing("node", "Node", "no host has a name in what is loaded", NO_AGENT),)
        if not _agent(view, node):
            return _host(view, node, selection), nothing("gpus", "Devices", f"no agent on {node} was asked", NO_AGENT)
        return (
            _host(view, node, selection), _devices(view, node, GPU, "gpus", "GPUs", selection),
            _reasons(view, node), _devices(view, node, NIC, "nics", "Network adapters", selection),
            _devices(view, node, HOST, "host", "The host", selection),
        )  # fmt: skip


def _agent(view: View, node: str) -> bool:
    windows = view.tables.get("windows", pd.DataFrame())
    return bool(len(windows)) and node in set(windows["node"].cat.categories)


def hosts(view: View) -> list[str]:
    """Return the names of all hosts, sorted."""
    found: set[str] = set()
    for table in ("ranks", "windows", "rank_steps"):
        found.update(view.names(table, "node"))
    return sorted(found)


def _node(view: View, selection: Selection) -> str:
    there = hosts(view)
    if selection.node in there:
        return selection.node
    if selection.rank >= 0:
        for table in ("ranks", "rank_steps"):
            for rows in view.parts(table, ("rank", "node")):
                rows = rows[(rows["rank"] == selection.rank).to_numpy()]
                if len(rows) and str(rows["node"].iloc[0]):
                    return str(rows["node"].iloc[0])
    one = chosen(view, selection)
    named = str(one["subject"]["node"] or "") if one else ""
    return named if named in there else next(iter(there), "")


def _host(view: View, node: str, selection: Selection) -> Block:
    found = [one for one in view.report["findings"] if one["subject"]["node"] == node]
    rows: list[tuple[Cell, ...]] = [
        ("finding", who(one, selection), condition(one["condition"], selection), wording.price(one["cost"])[0])
        for one in found
    ]  # fmt: skip
    ranks, text = _ranks(view, node, selection)
    there = hosts(view)
    said_ = f"Host {node}: {counted(len(found), 'finding')} about it or what is in it; {text}."
    at = there.index(node)
    near = there[max(0, at - MOST_NODES // 2) : at + MOST_NODES // 2]
    controls = (Control("Host", "node", tuple((name, name) for name in near), node),)
    links = (
        Link("Its ranks on the map", selection.link("/ranks", **FRESH, node=node, rank=-1)),
        Link("Its incidents and events", selection.link("/incidents", **FRESH, node=node)),
    )
    return Block("node", f"Node {node}", said_, columns=("kind", "who", "what", "value"), rows=(*rows, *ranks),
                 controls=controls, links=links)  # fmt: skip


def _ranks(view: View, node: str, selection: Selection) -> tuple[list[tuple[Cell, ...]], str]:
    there = kinds(view)
    made = rank_map(view, there[0], selection.job) if there else None
    if made is None:
        return [], "no rank's steps are known"
    judged = scores(view, made, selection)
    here = np.flatnonzero(made.node.astype(str) == node)
    rows: list[tuple[Cell, ...]] = [
        ("rank", Link(f"rank {made.rank[at]}", selection.link("/why", **FRESH, rank=int(made.rank[at]), node=node)),
         made.kind.name, _heat.said(float(judged.score[at]), made.unit))
        for at in here.tolist()
    ]  # fmt: skip
    if not len(here):
        return rows, f"no rank of job {made.job} ran on it"
    worst = int(here[np.argmax(np.nan_to_num(judged.score[here], nan=-np.inf))])
    place = judged.worst_first.index(worst) + 1
    return rows, (
        f"the worst of its {counted(len(here), 'rank')}, rank {made.rank[worst]}, is at place {place} of "
        f"{len(made.rank)} by {made.kind.name.lower()}"
    )


def _devices(view: View, node: str, many: tuple[Line, ...], name: str, title: str, selection: Selection) -> Block:
    """Return the devices' metrics as a table against the usual of the fleet, and the chosen one over time."""
    found = {line.title: of_node(view, line, node) for line in many}
    there = [line for line in many if found[line.title] is not None]
    if not there:
        return nothing(name, title, f"no metrics of {title.lower()} of {node} are loaded", NO_AGENT)
    drawn = next((line for line in there if f"{name}-{line.title}".replace(" ", "-") == selection.show), there[0])
    told: Any = found[drawn.title]
    names = [str(device) or node for device in told.device]
    middle = medians(told)
    order = np.argsort(-drawn.worse * np.nan_to_num(middle, nan=-drawn.worse * np.inf), kind="stable")
    figure = lines(told.t_ns, told.values, names, f"{drawn.title} ({drawn.unit or '1'})", order.tolist())
    rows = _table(found, there, node)
    everywhere = usual(view, drawn)
    worst = int(order[0])
    word = "least" if drawn.worse < 0 else "most"
    text = (
        f"{names[worst]} has the {word} {drawn.title}: {said(float(middle[worst]), drawn)} at the median; "
        f"the median of all hosts is {said(everywhere, drawn)}."
    )
    options = tuple(
        ("" if line is there[0] else f"{name}-{line.title}".replace(" ", "-"), line.title) for line in there
    )
    picked = "" if drawn is there[0] else selection.show
    columns = ("device", *(f"{line.title} ({line.unit})" if line.unit else line.title for line in there))
    return Block(name, title, text, figure, columns, rows, controls=(Control("Draw", "show", options, picked),))


def _table(found: dict[str, Any], there: Sequence[Line], node: str) -> tuple[tuple[str, ...], ...]:
    devices: dict[str, dict[str, float]] = {}
    for line in there:
        told = found[line.title]
        for device, value in zip(told.device, medians(told), strict=True):
            devices.setdefault(str(device) or node, {})[line.title] = float(value)
    return tuple(
        (device, *(wording.number(values.get(line.title)) for line in there))
        for device, values in sorted(devices.items())
    )


def _reasons(view: View, node: str) -> Block:
    """Return which reasons held the clocks of the GPUs, as shares of the time."""
    title, rows = "What holds the clocks", []
    windows = view.tables.get("windows", pd.DataFrame())
    metrics = [name for name in REASONS if len(windows) and name in windows["metric"].cat.categories]
    for metric in metrics:
        texts = windows.loc[(windows["metric"] == metric).to_numpy(), "labels"].astype(str).unique()
        for reason in sorted({parsed(text).get("reason", "") for text in texts} - set(HARMLESS)):
            found = signal(view.tables, metric, take="increase", reason=reason)
            some = np.flatnonzero(found.node.astype(str) == node)
            for at in some.tolist():
                known = found.values[np.isfinite(found.values[:, at]), at]
                share = float(known.mean()) / found.window_s if len(known) else 0.0
                if share > 0.001:
                    rows.append((share, str(found.device[at]), reason))
    if not metrics:
        return nothing("clocks", title, f"no clock events of {node} are loaded", NO_AGENT)
    if not rows:
        return Block("clocks", title, f"Nothing held the clocks of {node} down for more than 0.1 % of the time.")
    rows.sort(key=lambda row: -row[0])
    share, device, reason = rows[0]
    text = f"{reason} held {device} down for {wording.share(share)} of the time, the most on {node}."
    table = tuple((name, why, wording.share(part)) for part, name, why in rows)
    return Block("clocks", title, text, columns=("GPU", "reason", "of the time"), rows=table)
