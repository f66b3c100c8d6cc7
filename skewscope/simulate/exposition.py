"""The page that a node's agent would serve at one time: Prometheus text, names and types as declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..metrics import METRICS, Metric
from .fleet import Fleet, Indices
from .series import Places, Series
from .simulation import Simulation
from .tables import Shower

PARTS = ("_bucket", "_sum", "_count")
Line = tuple[str, tuple[tuple[str, str], ...], float]


def pages(simulation: Simulation, window: int = -1) -> dict[str, str]:
    """Return the page of every node at the end of a window (-1: the last one); a silent node has no page."""
    world = simulation.world
    window = simulation.windows - 1 if window < 0 else window
    shower = Shower(world, simulation.place, simulation.windows)
    lines: dict[int, dict[str, list[Line]]] = {node: {} for node in range(len(world.fleet.nodes))}
    families = declared()
    for one in simulation.series:
        family = families[one.metric]
        for node, line in _lines(shower, one, family, simulation.place[one.area], window):
            lines[node].setdefault(family.name, []).append(line)
    names = world.fleet.nodes
    return {names[node]: _page(found) for node, found in lines.items() if found and world.replies[window, node] > 0}


def page(simulation: Simulation, node: str, window: int = -1) -> str:
    """Return the page of one node; raises KeyError where it is silent or unknown."""
    return pages(simulation, window)[node]


def declared() -> dict[str, Metric]:
    """Return the family of every sample name."""
    found = {metric.name: metric for metric in METRICS}
    found |= {metric.name + part: metric for metric in METRICS if metric.kind == "histogram" for part in PARTS}
    return found


def _lines(shower: Shower, one: Series, family: Metric, place: Places, window: int) -> Iterator[tuple[int, Line]]:
    at, nodes = shower.who(one)
    shown = one.make()
    if one.counter:
        _, values, _, there = shower.counter(one, shown, nodes)
    else:
        _, values, _, there = shower.gauge(one, shown, nodes)
    for column in np.flatnonzero(there[window]):
        labels = _labels(shower.world.fleet, one, family, place, int(at[column]))
        yield int(nodes[column]), (one.metric, labels, values[window, column])


def _labels(fleet: Fleet, one: Series, family: Metric, place: Places, row: int) -> tuple[tuple[str, str], ...]:
    """Return the labels of one device's series, in declared order."""
    extra = dict(part.split("=", 1) for part in one.labels.split(",") if part)
    known = {**_identity(fleet, one.area, place, row), **extra}
    bucket = one.metric.endswith("_bucket") and family.kind == "histogram"
    order = (*family.labels, "le") if bucket else family.labels
    return tuple((name, known.get(name, "")) for name in order)


def texts(simulation: Simulation, one: Series, family: Metric, at: Indices) -> list[str]:
    """Return what stands before the value of each device's series; `at` are rows of the area's places."""
    place, fleet = simulation.place[one.area], simulation.world.fleet
    return [_series(one.metric, _labels(fleet, one, family, place, int(row))) for row in at]


def _identity(fleet: Fleet, area: str, place: Places, row: int) -> dict[str, str]:
    """Return the labels that a device's name stands for."""
    device = place.device[row]
    slot = device.removeprefix("gpu")
    gpu = {"gpu": slot, "device": device}
    if area in ("gpu", "gpu_job"):
        number = int(place.node[row]) * fleet.gpus_per_node + int(slot)
        return {"gpu": slot, "uuid": fleet.uuid(number), "job_id": place.job[row]}
    if area == "rank":
        return {"job_id": place.job[row], "rank": str(place.rank[row]), "gpu": slot}
    if area == "job":
        return {"job_id": place.job[row]}
    return {"device": device, "port": "1", "gpu": gpu["gpu"]}


def _page(found: Mapping[str, list[Line]]) -> str:
    parts = []
    for metric in METRICS:
        lines = found.get(metric.name)
        if lines:
            parts += [f"# HELP {metric.name} {escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
            parts += [_text(line) for line in _sorted(metric, lines)]
    return "\n".join(parts) + "\n"


def _sorted(metric: Metric, lines: list[Line]) -> list[Line]:
    """Return the lines of a family; those of one histogram stand together, buckets by their bound."""
    if metric.kind != "histogram":
        return lines

    def key(line: Line) -> tuple[Any, ...]:
        labels = tuple(pair for pair in line[1] if pair[0] != "le")
        bound = dict(line[1]).get("le", "")
        return labels, PARTS.index("_" + line[0].rpartition("_")[2]), float(bound.replace("+Inf", "inf") or 0)

    return sorted(lines, key=key)


def _text(line: Line) -> str:
    name, labels, value = line
    number = repr(float(value)) if value != int(value) else str(int(value))
    return f"{_series(name, labels)} {number}"


def _series(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    told = ",".join(f'{key}="{escaped(text, quotes=True)}"' for key, text in labels)
    return f"{name}{{{told}}}" if told else name


def escaped(text: str, *, quotes: bool = False) -> str:
    """Return a help text, or with `quotes` a label's value, as the text format wants it."""
    found = text.replace("\\", r"\\").replace("\n", r"\n")
    return found.replace('"', r"\"") if quotes else found
