"""How small a fault may be and still be found: recall over severities, on a grid around the shipped one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .results import Case, Result
from .totals import share, wilson

FACTORS = (0.1, 0.2, 0.35, 0.6, 1.0, 1.7)  # of the severity that the scenario ships with
ENOUGH = 0.9  # recall from which a severity counts as found
Key = tuple[str, str]


def grid(results: Sequence[Result]) -> list[Case]:
    """Return the cases of a sweep around the results of single faults: each again in other severities.

    Only the room of the condition is asked, which decides recall; what it costs is the simulation.
    """
    made = []
    for result in results:
        caught = result.watched.caught if result.watched else ()
        if len(caught) == 1 and caught[0].fault.severity > 0:
            severity = caught[0].fault.severity
            made += [
                replace(result.case, severity=severity * factor, own_room_only=True)
                for factor in FACTORS if factor != 1.0
            ]  # fmt: skip
    return made


def curves(results: Sequence[Result], swept: Sequence[Result]) -> list[dict[str, Any]]:
    """Return for each condition and scenario the points (severity, faults, found, recall) and the smallest found.

    The smallest found severity is the least from which on recall stays at 90 % or more; None where even the greatest
    does not reach it. `severity` of a point is the mean of its cases, in the order of the grid.
    """
    by: dict[Key, dict[float, list[tuple[float, bool]]]] = {}
    shipped = _severities(results)
    for result in (*results, *swept):
        for condition, scenario, severity, found in _outcomes(result):
            usual = shipped.get((scenario, result.case.seed))
            if usual:
                factor = min(FACTORS, key=lambda one: abs(one - severity / usual))
                by.setdefault((condition, scenario), {}).setdefault(factor, []).append((severity, found))
    return [_curve(key, points) for key, points in sorted(by.items())]


def _severities(results: Sequence[Result]) -> Mapping[tuple[str, int], float]:
    return {(result.case.scenario, result.case.seed): severity for result in results
            for _, _, severity, _ in _outcomes(result)}  # fmt: skip


def _outcomes(result: Result) -> list[tuple[str, str, float, bool]]:
    """Return (condition, scenario, severity, found) of a case with a single fault of some severity."""
    caught = result.watched.caught if result.watched else ()
    if len(caught) != 1 or not caught[0].fault.severity > 0:
        return []
    fault = caught[0].fault
    return [(fault.condition, result.case.scenario, fault.severity, caught[0].found)]


def _curve(key: Key, points: Mapping[float, Sequence[tuple[float, bool]]]) -> dict[str, Any]:
    made = []
    for factor in sorted(points):
        some = points[factor]
        found = sum(hit for _, hit in some)
        made.append({
            "severity": sum(severity for severity, _ in some) / len(some), "faults": len(some), "found": found,
            "recall": share(found, len(some)), "recall_95": wilson(found, len(some)),
        })  # fmt: skip
    return {"condition": key[0], "scenario": key[1], "points": made, "smallest_found": smallest(made)}


def smallest(points: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the least severity from which on recall stays at 90 % or more; points ascend.

    >>> smallest([{"severity": 0.1, "recall": 1.0}, {"severity": 0.2, "recall": 0.5}, {"severity": 0.3, "recall": 1.0}])
    0.3
    """
    found = None
    for point in reversed(points):
        if point["recall"] < ENOUGH:
            break
        found = float(point["severity"])
    return found
