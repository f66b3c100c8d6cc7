"""The pages that a simulated fleet's agents serve as time goes by: counters grow between windows, gauges move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import METRICS
from . import exposition
from .noise import Array
from .simulation import Simulation
from .tables import Shower
from .world import WINDOW_S


@dataclass(frozen=True)
class _Lines:
    """The series of one metric and labels on one node: their texts before the value, and [windows, series] each."""

    texts: Sequence[str]
    begin: Array  # of a window: a counter's value there, a gauge's first sample
    end: Array
    there: Array


class LivePages:
    """Pages of a simulation at any moment; `second` counts from its beginning, and the last window stays for ever."""

    def __init__(self, simulation: Simulation) -> None:
        """Work out all series once; for fleets of some hundred GPUs."""
        self.nodes = list(simulation.world.fleet.nodes)
        self.windows = simulation.windows
        self._replies = simulation.world.replies
        self._lines: dict[int, dict[str, list[_Lines]]] = {node: {} for node in range(len(self.nodes))}
        shower = Shower(simulation.world, simulation.place, simulation.windows)
        declared = exposition.declared()
        for one in simulation.series:
            at, nodes = shower.who(one)
            shown = one.make()
            if one.counter:
                _, end, _, there = shower.counter(one, shown, nodes)
                begin = np.vstack([end[:1], end[:-1]])
            else:
                begin, end, _, there = shower.gauge(one, shown, nodes)
            family = declared[one.metric]
            texts = exposition.texts(simulation, one, family, at)
            for node in np.unique(nodes).tolist():
                mine = np.flatnonzero(nodes == node)
                lines = _Lines([texts[column] for column in mine], begin[:, mine], end[:, mine], there[:, mine])
                self._lines[node].setdefault(family.name, []).append(lines)

    def page(self, node: str, second: float) -> bytes:
        """Return the page of a node, empty where it is silent; raises KeyError for one that is not there."""
        if node not in self.nodes:
            raise KeyError(node)
        at = self.nodes.index(node)
        window = int(np.clip(second // WINDOW_S, 0, self.windows - 1))
        part = float(np.clip(second / WINDOW_S - window, 0.0, 1.0))
        if self._replies[window, at] <= 0:
            return b""
        lines: list[str] = []
        for metric in METRICS:
            found = self._lines[at].get(metric.name)
            if found:
                lines += [
                    f"# HELP {metric.name} {exposition.escaped(metric.help)}",
                    f"# TYPE {metric.name} {metric.kind}",
                ]
                lines += _values(found, window, part, counter=metric.kind != "gauge")
        return ("\n".join(lines) + "\n").encode()


def _values(found: Sequence[_Lines], window: int, part: float, *, counter: bool) -> list[str]:
    told = []
    for lines in found:
        begin, end, there = lines.begin[window], lines.end[window], lines.there[window]
        if counter:
            # A restart begins anew: what was before it is not on the way to what is now.
            values = np.where(end >= begin, begin + (end - begin) * part, end * part)
            values = np.where(np.mod(end, 1.0) == 0, np.floor(values), values)
        else:
            values = begin if part <= 0.5 else end
        told += [f"{lines.texts[at]} {_number(values[at])}" for at in np.flatnonzero(there).tolist()]
    return told


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
