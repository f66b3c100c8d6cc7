"""The scenes in which an alert is tested: how series run, whether it must fire and for which hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..catalogue import room
from ..contracts import World
from ..signals.windows import is_counter
from .alert import Alert, of_watch, reads
from .proven import PROVEN
from .timeline import EVALUATION_S, Timeline, notation
from .tracks import Track, tracks

SELECTOR = re.compile(r"(skewscope_finding_\w+)\{([^}]*)\}(?:\[\w+\]\))?\s*(==|>=|>)\s*([\d.e+-]+)")
FINDING = {"severity": "S2", "subject_kind": "rank", "subject": "llm/rank3", "node": "n1", "rank": "3",
           "role": "culprit", "job_id": "llm", "instance": "watch:9710", "job": "skewscope-watch"}  # fmt: skip
JUST = 0.02  # how far above and below its line a single number is tried


@dataclass(frozen=True)
class Scene:
    """One course of things: `nodes` are the hosts for which the alert must fire, None where it must stay silent.

    An alert without a host has the node "". `whole` scenes go on to a scrape gap and to the end of the alert.
    """

    title: str
    tracks: tuple[Track, ...]
    share: float = 1.0
    nodes: tuple[str, ...] | None = None
    whole: bool = False


def of_room(alert: Alert, host: str) -> Iterator[Scene]:
    """Yield the scenes of a room's alert, from its own worlds and from how far these may shrink before it is silent."""
    if of_watch(alert.expr):
        yield from _of_finding(alert)
        return
    proof = PROVEN.get(alert.condition)
    if proof is None:
        return
    for name, high, low, nodes in proof.fires:
        shown = world_tracks(alert, name, host)
        yield Scene(f"fires in the world {name}, survives a scrape gap, resolves", shown, 1.0, nodes, True)
        if low:
            yield Scene(f"fires at {high:.1%} of the world {name}", shown, high, nodes)
            yield Scene(f"silent just below, at {low:.1%} of the world {name}", shown, low)
    for name in proof.silent:
        yield Scene(f"silent in the world {name}", world_tracks(alert, name, host))


def world_tracks(alert: Alert, name: str, host: str) -> tuple[Track, ...]:
    """Return the series of one of the room's worlds that the alert reads."""
    worlds = _worlds(alert.condition)
    calm = next(world for world in worlds.values() if not world.expect)
    world = worlds[name]
    return tuple(tracks(world.tables, calm.tables, reads(alert.expr), again=bool(world.expect), host=host))


@cache
def _worlds(condition: str) -> dict[str, World]:
    return {world.name: world for world in room("detectors", condition).load().cases()}


def _of_finding(alert: Alert) -> Iterator[Scene]:
    """Yield the scenes of an alert on findings: there, there but just below each line, and not there."""
    needs = [(hit[1], _matched(hit[2]), hit[3], float(hit[4])) for hit in SELECTOR.finditer(alert.expr)]
    above = tuple(_finding(metric, told, over(sign, line)) for metric, told, sign, line in needs)
    yield Scene("fires, survives a scrape gap, resolves", above, 1.0, (FINDING["node"],), True)
    for place, (metric, told, sign, line) in enumerate(needs):
        below = _finding(metric, told, under(sign, line))
        title = f"silent just below: {metric} is {below.course[0]:g}"
        yield Scene(title, (*above[:place], below, *above[place + 1 :]))


def over(sign: str, line: float) -> float:
    """Return a number for which a comparison holds, just so.

    >>> over("==", 1.0), round(over(">=", 0.05), 4)
    (1.0, 0.051)
    """
    return line if sign == "==" else line * (1 + JUST)


def under(sign: str, line: float) -> float:
    """Return a number for which a comparison just does not hold.

    >>> under("==", 1.0), round(under(">=", 0.05), 4)
    (0.0, 0.049)
    """
    return 0.0 if sign == "==" else line * (1 - JUST)


def _matched(text: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def _finding(metric: str, told: dict[str, str], value: float) -> Track:
    return track(metric, FINDING | told, np.nan, value)


def track(metric: str, labels: Mapping[str, str], quiet: float, value: float) -> Track:
    """Return a series that shows `quiet` and, while the fault lasts, `value`; counters grow by these a second."""
    scale = 30.0 if is_counter(metric) else 1.0
    return Track(metric, dict(labels), quiet * scale, np.array([value * scale]), False)


def test(alert: Alert, scene: Scene, line: Timeline) -> dict[str, Any]:
    """Return the scene as a test of promtool."""
    times = line.times_s
    length = line.over_s if scene.whole else line.seen_s if scene.nodes is not None else line.end_s
    times = times[times <= length]
    fails = line.in_gap[: len(times)] if scene.whole else None
    shown = [(one.series, one.values(times, line.onset_s, line.end_s, scene.share)) for one in scene.tracks]
    return {
        "name": f"{alert.name}: {scene.title}", "interval": f"{times[1]:g}s",
        "input_series": [{"series": name, "values": notation(values, fails)} for name, values in shown
                         if np.isfinite(values).any()],
        "promql_expr_test": list(_asked(alert, scene, line, length)),
    }  # fmt: skip


def _asked(alert: Alert, scene: Scene, line: Timeline, length_s: int) -> Iterator[dict[str, Any]]:
    series = f'ALERTS{{alertname="{alert.name}",alertstate="firing"}}'
    firing, ever = f"group by (node) ({series})", f"group by (node) (max_over_time({series}[{length_s}s]))"
    if scene.nodes is None:
        yield _expected(ever, length_s, ())
        return
    yield _expected(firing, line.seen_s, scene.nodes)
    if scene.whole:
        yield _expected(firing, line.gap_s + EVALUATION_S, scene.nodes)
        yield _expected(firing, line.end_s, scene.nodes)
        yield _expected(firing, line.over_s, ())


def _expected(expr: str, time_s: int, nodes: tuple[str, ...]) -> dict[str, Any]:
    told = [{"labels": f'{{node="{node}"}}' if node else "{}", "value": 1} for node in nodes]
    return {"expr": expr, "eval_time": f"{time_s}s", "exp_samples": told}
