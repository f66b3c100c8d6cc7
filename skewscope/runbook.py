"""Walks a condition's troubleshooting guide over the tables at hand: what each check found, and what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from .contracts import Check, Frames, Window
from .errors import UsageError
from .signals.view import Signal, signal
from .signals.windows import is_counter
from .subjects import Subject

Array = np.ndarray[Any, Any]
TAKES = ("mean", "low", "high", "last", "rate", "increase")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
COMPARED = re.compile(rf"(<=|>=|==|!=|<|>)\s*({NUMBER})")
BETWEEN = re.compile(rf"between\s+({NUMBER})\s+(?:and\s+)?({NUMBER})")
YES, NO, UNKNOWN = "yes", "no", "unknown"


@dataclass(frozen=True)
class Expectation:
    """What a check compares with: `sign` is <, <=, >, >=, ==, != or between (both ends included)."""

    sign: str
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Return whether a value meets it; NaN never does.

        >>> expectation("between 1 2").holds(2.0), expectation("< 0.05").holds(float("nan"))
        (True, False)
        """
        if value != value:
            return False
        if self.sign in ("==", "!="):
            return (value == self.low) == (self.sign == "==")
        strict = self.sign in ("<", ">")
        return self.low < value < self.high if strict else self.low <= value <= self.high

    def nearest(self, values: Array) -> int:
        """Return the place of the known value that meets it best: the smallest for "<", the greatest for ">".

        >>> expectation("> 1").nearest(np.array([3.0, np.nan, 9.0]))
        2
        """
        if self.sign in ("<", "<=", ">", ">="):
            return int(np.nanargmin(values) if self.sign[0] == "<" else np.nanargmax(values))
        apart = np.abs(values - (self.low + self.high) / 2)
        return int(np.nanargmax(apart) if self.sign == "!=" else np.nanargmin(apart))


def expectation(text: str) -> Expectation:
    """Return what a check's `expect` means; raises UsageError that says what was wanted and what came.

    >>> expectation(">= 1").low, expectation("between 0.1 0.3").high
    (1.0, 0.3)
    """
    said = text.strip()
    if found := COMPARED.fullmatch(said):
        sign, value = found[1], float(found[2])
        return Expectation(sign, -np.inf if sign[0] == "<" else value, np.inf if sign[0] == ">" else value)
    found = BETWEEN.fullmatch(said)
    if not found:
        raise UsageError(f'expectation {text!r} cannot be read; wanted "< 0.05", ">= 1", "== 0" or "between 1 2"')
    low, high = float(found[1]), float(found[2])
    if low > high:
        raise UsageError(f"expectation {text!r}: {low:g} is above {high:g}; the smaller number comes first")
    return Expectation("between", low, high)


@dataclass(frozen=True)
class Step:
    """One check done: `answer` is yes, no or unknown; `value` is that of the series `where` that fits best.

    `why` says why it is unknown, or how else the value was read. `met` of `series` series meet the expectation.
    `reached` tells whether the way through the guide leads here; `next` names the checks to do next, none where the
    answer ends the way; `says` is what the answer means.
    """

    check: Check
    answer: str
    value: float = float("nan")
    where: str = ""
    met: int = 0
    series: int = 0
    why: str = ""
    reached: bool = False
    says: str = ""
    next: tuple[str, ...] = ()


@dataclass(frozen=True)
class Walk:
    """A guide walked for one subject (None: for all there is): its steps in order, and what follows from them."""

    condition: str
    subject: Subject | None
    window: Window
    steps: tuple[Step, ...]
    conclusion: tuple[str, ...]


def levels(checks: Sequence[Check]) -> tuple[tuple[Check, ...], ...]:
    """Return the checks in rounds: those of a round do not depend on each other and can be done side by side.

    Raises UsageError where `after` names no check, two checks have one name, or checks wait for each other.
    """
    names = [check.name for check in checks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two checks are called {twice[0]!r}; each needs a name of its own")
    for check in checks:
        lost = sorted(set(check.after) - set(names))
        if lost:
            raise UsageError(f"check {check.name!r} comes after {lost[0]!r}, which is none of {', '.join(names)}")
    done: set[str] = set()
    rounds: list[tuple[Check, ...]] = []
    left = list(checks)
    while left:
        ready = tuple(check for check in left if set(check.after) <= done)
        if not ready:
            raise UsageError(f"checks {', '.join(check.name for check in left)} wait for each other")
        rounds.append(ready)
        done |= {check.name for check in ready}
        left = [check for check in left if check.name not in done]
    return tuple(rounds)


def walk(
    condition: str, checks: Sequence[Check], tables: Frames, subject: Subject | None = None,
    window: Window | None = None,
) -> Walk:  # fmt: skip
    """Return the guide walked over the table `windows`, for one subject in its window or for all there is.

    Every check is evaluated whose metric is there, on the way or not; those of one round of `levels` stand side by
    side. Raises UsageError for a guide that cannot be walked.
    """
    ordered = [check for part in levels(checks) for check in part]
    span = window or Window()
    steps = [_led(_done(check, tables, subject, span), ordered) for check in ordered]
    marked = _reached(steps)
    return Walk(condition, subject, span, marked, tuple(_conclusion(marked)))


def _done(check: Check, tables: Frames, subject: Subject | None, span: Window) -> Step:
    """Return one check evaluated, without its place on the way."""
    expected = expectation(check.expect)
    if check.take not in TAKES:
        raise UsageError(f"check {check.name!r} takes {check.take!r}; wanted one of {', '.join(TAKES)}")
    told = _signal(check, tables)
    if not len(told):
        return _absent(check, tables, subject, expected)
    mine = of_subject(told, subject, tables)
    if not mine.any():
        return Step(check, UNKNOWN, why=f"{check.metric} is not told of {subject.id if subject else 'anybody'}")
    values = _reduced(told.values[_inside(told, span)][:, mine], check.take)
    if not np.isfinite(values).any():
        return Step(check, UNKNOWN, why=f"{check.metric} has no value in this time")
    best = expected.nearest(values)
    met = sum(expected.holds(float(value)) for value in values)
    where = told.subject(int(np.flatnonzero(mine)[best])).id
    return Step(check, YES if met else NO, float(values[best]), where, met, int(np.isfinite(values).sum()))


def _absent(check: Check, tables: Frames, subject: Subject | None, expected: Expectation) -> Step:
    """Return the check of a metric that nobody tells: a counter has not grown where its host tells others of its kind.

    Kinds are the first words of names, as skewscope_gpu. Everything else is unknown.
    """
    kind = "_".join(check.metric.split("_")[:2]) + "_"
    names = tables["windows"]["metric"].astype("category").cat
    alike = names.codes.isin(np.flatnonzero(names.categories.astype(str).str.startswith(kind)))
    some: pd.DataFrame = tables["windows"][alike.to_numpy()]
    node = _place(subject, tables)[0] if subject else ""
    told = some[(some["node"] == node).to_numpy()] if node else some
    if not is_counter(check.metric) or check.take not in ("rate", "increase") or not len(told):
        return Step(check, UNKNOWN, why=f"{check.metric} is not in the data")
    answer = YES if expected.holds(0.0) else NO
    where = subject.id if subject else "all hosts"
    return Step(check, answer, 0.0, where, why=f"no growth is told, while other {kind}* metrics are")


def _signal(check: Check, tables: Frames) -> Signal:
    labels: Mapping[str, Any] = check.labels
    if check.take in ("rate", "increase"):
        told = signal(tables, check.metric, take="increase", absent=0.0, **labels)
        return told.rate() if check.take == "rate" else told
    return signal(tables, check.metric, take=check.take, **labels)


def _inside(told: Signal, span: Window) -> Array:
    """Return [windows]: those that end within the span; all where none does or the span is unknown."""
    inside = np.ones(len(told.t_ns), dtype=bool)
    if span.start_ns >= 0:
        inside &= told.t_ns > span.start_ns
    if span.end_ns >= 0:
        inside &= told.t_ns - int(told.window_s * 1e9) < span.end_ns
    return inside if inside.any() else np.ones(len(told.t_ns), dtype=bool)


def _reduced(values: Array, take: str) -> Array:
    """Return [series]: one number over the windows, NaN where nothing is known."""
    found = np.full(values.shape[1], np.nan)
    known = np.isfinite(values)
    for column in np.flatnonzero(known.any(axis=0)).tolist():
        some = values[known[:, column], column]
        found[column] = {
            "low": some.min, "high": some.max, "last": lambda some=some: some[-1], "increase": some.sum,
        }.get(take, some.mean)()  # fmt: skip
    return found


def of_subject(told: Signal, subject: Subject | None, tables: Frames) -> Array:
    """Return [series]: which speak of a subject: its own, else those of the host it is on.

    A rank is sought by its number, else by the GPU it runs on; a GPU by its slot, else by its rank. Racks, jobs and
    whatever has no place of its own are spoken of by all.
    """
    if subject is None or (subject.rank < 0 and not subject.node):
        return np.ones(len(told), dtype=bool)
    node, device = _place(subject, tables)
    on_node = (told.node == node) if node else np.zeros(len(told), dtype=bool)
    if subject.kind == "node":
        return on_node
    same_rank = (told.rank >= 0) & np.isin(
        told.rank, [number for number in (subject.rank, subject.peer) if number >= 0]
    )
    parts = np.array([str(name) == device or str(name).startswith(f"{device}/") for name in told.device], dtype=bool)
    for choice in (on_node & parts if device else same_rank, same_rank, on_node & (told.device == "")):
        if choice.any():
            return np.asarray(choice)
    return np.zeros(len(told), dtype=bool)


def _place(subject: Subject, tables: Frames) -> tuple[str, str]:
    """Return (node, device) of a subject, "" where unknown."""
    if subject.kind in ("gpu", "nic"):
        return subject.node, subject.id.removeprefix(f"{subject.node}/")
    if subject.rank < 0:
        return subject.node, ""
    rows: pd.DataFrame = tables["windows"]
    mine = rows[(rows["rank"] == subject.rank).to_numpy()]
    if not len(mine):
        return subject.node, ""
    return str(mine["node"].iloc[0]) or subject.node, str(mine["device"].iloc[0])


def _led(step: Step, checks: Iterable[Check]) -> Step:
    """Return the step with what its answer means and which checks it leads to."""
    if step.answer == UNKNOWN:
        return step
    says = step.check.yes if step.answer == YES else step.check.no
    return replace(step, says=says, next=tuple(one.name for one in checks if leads_to(says, one.name)))


def leads_to(text: str, name: str) -> bool:
    """Return whether an answer's text names a check: it is the name, or holds it in backticks.

    >>> leads_to("pcie-width", "pcie-width"), leads_to("go on with `pcie-width`", "pcie-width"), leads_to("no", "n")
    (True, True, False)
    """
    return text.strip() == name or f"`{name}`" in text


def _reached(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with `reached`: those that wait for none, those an answer leads to, and those that follow.

    A check that an earlier one names waits for that answer, whether or not it says `after`.
    """
    names = [step.check.name for step in steps]
    named = {name for place, name in enumerate(names) for step in steps[:place]
             if leads_to(step.check.yes, name) or leads_to(step.check.no, name)}  # fmt: skip
    free = [name for name in names if name not in named]
    here = {step.check.name for step in steps if step.check.name in free and not step.check.after}
    while True:
        led = {name for step in steps if step.check.name in here for name in step.next}
        follow = {step.check.name for step in steps
                  if step.check.name in free and step.check.after and set(step.check.after) <= here}  # fmt: skip
        if led | follow <= here:
            return tuple(replace(step, reached=step.check.name in here) for step in steps)
        here |= led | follow


def _conclusion(steps: Sequence[Step]) -> Iterable[str]:
    """Yield what the answers at the ends of the way mean, then what could not be told."""
    on_way = [step for step in steps if step.reached]
    ends = [step for step in on_way if step.answer != UNKNOWN and not step.next]
    yield from dict.fromkeys(f"{step.check.name}: {step.says}" for step in ends if step.says)
    for step in on_way:
        if step.answer == UNKNOWN:
            yield f"{step.check.name}: cannot be told, {step.why}"
