"""Two runs beside each other as the document `skewscope.compare/1`, with a verdict of one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..plans import plain
from ..reports import wording
from . import calls, findings, operators, parts, samples, work
from .run import Run, scale_of

SCHEMA = "skewscope.compare/1"
Document = dict[str, Any]
SHIFT = "step-shift"  # the condition that says when a run changed
MOST_NAMES = 500  # of kernels and operators in the document, by change
NOISE = ("The test is over the steps of these two runs: two runs of the same code on other nodes may differ by more, "
         "which only further runs can tell.")  # fmt: skip


def compare(before: Run, after: Run, *, detail: bool = False, exact: bool = False) -> Document:
    """Return the `skewscope.compare/1` document of two runs.

    `detail` asks for operators (both read in detail), `exact` matches names of kernels only as they are. Seconds are
    per step and rank unless a name says otherwise; None is unknown.
    """
    step = samples.change(before.step_s, after.step_s)
    split = parts.compared(before, after)
    named = work.compared(before, after, exact)
    found = findings.compared(before.report, after.report)
    launched = operators.compared(before, after) if detail else []
    made: Document = {
        "schema": SCHEMA,
        "before": scale_of(before), "after": scale_of(after),
        "step_time": _step_time(before, after, step),
        "parts": split,
        "ranks": parts.ranks(before, after),
        "work": named[:MOST_NAMES],
        "work_counts": {state: sum(one["state"] == state for one in named)
                        for state in ("added", "removed", "slower", "faster", "same")},
        "operators": launched[:MOST_NAMES],
        "collectives": calls.compared(before, after),
        "findings": found,
        "verdict": verdict(before, after, step, split, found),
        "notes": _notes(before, after, step, named, detail and not launched),
    }  # fmt: skip
    told: Document = plain(made)
    return told


def _step_time(before: Run, after: Run, step: samples.Change) -> Document:
    def tail(values: Any) -> float | None:  # noqa: ANN401 - an array
        return float(np.quantile(values, 0.99)) if len(values) else None

    return {
        "answer": step.answer, "before_s": {"median": step.before, "p99": tail(before.step_s)},
        "after_s": {"median": step.after, "p99": tail(after.step_s)}, "ratio": step.ratio,
        "low_ratio": step.low_ratio, "high_ratio": step.high_ratio, "level": samples.LEVEL_RATIO, "p": step.p,
    }  # fmt: skip


def slower_percent(document: Mapping[str, Any]) -> float:
    """Return by how many percent the step became slower beyond chance; 0 where it did not or nobody can tell.

    >>> slower_percent({"step_time": {"answer": "slower", "ratio": 1.25}})
    25.0
    """
    step = document["step_time"]
    return 100 * (step["ratio"] - 1) if step["answer"] == samples.SLOWER else 0.0


def verdict(
    before: Run,
    after: Run,
    step: samples.Change,
    split: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
) -> str:
    """Return one sentence that says what became of the step, and a second that says where it went."""
    if step.answer == samples.UNKNOWN:
        lacking = " and ".join(run.name for run in (before, after) if not len(run.step_s))
        return f"Step times cannot be compared: no steps were recorded in {lacking}.{_changed(found)}"
    medians = f"the median step takes {wording.seconds(step.after)} instead of {wording.seconds(step.before)}"
    within = f"95 % interval {percent(step.low_ratio)} to {percent(step.high_ratio)}"
    count = f"{len(before.step_s)} and {len(after.step_s)} steps"
    if step.answer == samples.TOO_FEW:
        return (f"Too few steps to tell ({count}; 4 and 4 can show a difference): {medians} "
                f"({percent(step.ratio)}).{_changed(found)}")  # fmt: skip
    proof = f"{within}, {_p(step.p)}, {count}"
    if step.answer == samples.SAME:
        return f"No difference beyond chance: {medians} ({percent(step.ratio)}; {proof}).{_changed(found)}"
    return f"{_lead(before.name, after.name, step)}: {medians} ({proof}).{_mostly(split, step)}{_changed(found)}"


def _lead(before: str, after: str, step: samples.Change) -> str:
    if step.ratio >= 2:
        return f"{after} takes {step.ratio:.3g} times as long as {before}"
    word = "slower" if step.answer == samples.SLOWER else "faster"
    return f"{after} is {abs(100 * (step.ratio - 1)):.3g} % {word} than {before}"


def percent(ratio: float) -> str:
    """Return a ratio as a change in percent.

    >>> percent(1.25), percent(0.999), percent(2.5), percent(40.0)
    ('+25 %', '-0.1 %', '+150 %', '40 times')
    """
    if ratio >= 10:
        return f"{ratio:.3g} times"
    return f"{100 * (ratio - 1):+.{1 if abs(ratio - 1) < 0.0995 else 0}f} %" if np.isfinite(ratio) else "unknown"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _mostly(split: Sequence[Mapping[str, Any]], step: samples.Change) -> str:
    """Return which part changed most in the direction of the step, where it explains a fifth of the change or more."""
    whole = step.after - step.before
    told = [one for one in split if one["of_step"] and one["change_s"] is not None and one["change_s"] * whole > 0]
    told = [one for one in told if one["p"] is None or one["p"] < samples.ALPHA]
    if not told or not whole:
        return ""
    first = max(told, key=lambda one: abs(one["change_s"]))
    if abs(first["change_s"]) < 0.2 * abs(whole):
        return ""
    sign = "more" if whole > 0 else "less"
    size = wording.seconds(abs(first["change_s"]))
    much = "Most of it" if abs(first["change_s"]) >= 0.5 * abs(whole) else "The largest part of it"
    return f" {much} is {parts.SAID[first['part']]}: {size} {sign} per step and rank."


def _changed(found: Sequence[Mapping[str, Any]]) -> str:
    said = []
    for state in ("came", "went"):
        names = [f"{one['condition']} on {wording.clean(one['subject'])}" for one in found
                 if one["state"] == state and one["role"] == "culprit"]  # fmt: skip
        if names:
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            said.append(f" {'New' if state == 'came' else 'Gone'}: {', '.join(names[:2])}{more}.")
    since = [one["summary"] for one in found if one["state"] == "came" and one["condition"] == SHIFT and one["summary"]]
    said += [f" In the second run, {wording.clean(since[0])}."] if since else []
    return "".join(said)


def _notes(
    before: Run, after: Run, step: samples.Change, named: Sequence[Mapping[str, Any]], no_operators: bool
) -> list[str]:
    said = []
    if before.ranks != after.ranks:
        said.append(f"{before.name} recorded {before.ranks} ranks and {after.name} {after.ranks}: seconds and calls "
                    "are per step and rank, so that they can be compared.")  # fmt: skip
    for run in (before, after):
        if not run.tables:
            said.append(f"Of {run.name} only the report is at hand: parts, kernels and collectives are not compared.")
        elif not len(run.judged):
            said.append(f"{run.name} tells no steps: its calls and seconds are of the whole recording, per rank.")
        elif run.ranks == 1 and len(run.table("collectives")):
            said.append(f"Of {run.name} one rank is at hand: transfer times of its collectives hold waiting, too.")
    if step.answer in (samples.SLOWER, samples.FASTER, samples.SAME):
        said.append(NOISE)
    if named and all(one["p"] is None for one in named):
        said.append("Too few steps to test single names: slower and faster are told by the difference alone.")
    if len(named) > MOST_NAMES:
        said.append(f"{len(named) - MOST_NAMES} names with smaller changes are left out.")
    if no_operators:
        said.append("Operators are not compared: one of the recordings holds none.")
    return said
