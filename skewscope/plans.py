"""What every planner returns: before, after, bound and pictures, as the document `skewscope.plan.NAME/1`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import argparse

PICTURES = ("lines", "bars", "heatmap", "gantt")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """Something to look at, as data: `dashboards.plan_page` draws it.

    `kind` says what `series` holds, by name of the series:
    "lines" and "bars": (x, y), two sequences of equal length, x numbers or texts; "bars" stand beside each other;
    "heatmap": a matrix [rows, columns], one panel each beside the others on one scale of colours;
    "gantt": by lane, a sequence of (start, end, label), start and end in the unit of `x`.
    `text` is one sentence with the number that matters; `x`, `y` and `z` (colour) are axis titles with units.
    `middle` is the value of a heatmap that is neither too much nor too little: colours part there.
    """

    kind: str
    title: str
    text: str
    x: str
    y: str
    series: Mapping[str, Any]
    z: str = ""
    middle: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in PICTURES:
            raise ValueError(f"{self.title}: no picture is called {self.kind!r}; there are {', '.join(PICTURES)}")


@dataclass(frozen=True)
class Plan:
    """One plan. `current` and `proposed` hold the same metrics by name (unit as last word), before and after.

    `lower_bound` bounds the metric that `objective` names; `gap` is how far the proposal is from it, as a share of it.
    `steps` says in words what to do, in order; `plan` is the plan itself (arrays become lists); `files` are contents
    to write where the person asked for them, by path. A plan that cannot be (`feasible` false) says why in `verdict`.
    """

    name: str
    inputs: Values
    objective: str
    current: Values
    proposed: Values
    verdict: str
    plan: Values
    lower_bound: float | None = None
    optimal: bool = False
    gap: float | None = None
    solve_s: float = 0.0
    steps: Sequence[str] = ()
    warnings: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    feasible: bool = True
    files: Mapping[str, bytes] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the document `skewscope.plan.NAME/1`: plain values of JSON, unknown numbers as None.

        >>> made = Plan("batch", {"ranks": 2}, "step time", {"step_s": 2.0}, {"step_s": 1.0}, "halved", {})
        >>> made.document()["schema"]
        'skewscope.plan.batch/1'
        """
        said = {name: getattr(self, name) for name in DOCUMENTED}
        return {"schema": f"skewscope.plan.{self.name}/1", **plain(said)}


DOCUMENTED = ("inputs", "objective", "current", "proposed", "lower_bound", "optimal", "gap", "solve_s", "steps", "plan",
              "verdict", "feasible", "warnings")  # fmt: skip


def plain(value: Any) -> Any:  # noqa: ANN401 - anything JSON may hold
    """Return a value as plain JSON: arrays as lists, numbers that are no numbers as None, stray surrogates escaped.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return str(value).encode("utf-8", "backslashreplace").decode()


class Planner(Protocol):
    """Works out one remedy. The class lives in the file of its name; its module docstring is its help and page.

    The docstring holds examples for the shell and a worked example as a doctest with numbers.
    """

    name: ClassVar[str]

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags, beside those all planners share (--json, --html)."""

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable for input that cannot be meant or read."""
