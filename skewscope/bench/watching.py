"""Watches a simulated run as it would be watched live: the rooms see real prefixes of its windows, never the future."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Finding
from ..signals.view import signal
from .matching import Natural, Scored, score
from .truth import Fault, Truth

Array = np.ndarray[Any, Any]
Tables = Mapping[str, pd.DataFrame]
Look = Callable[[Tables, Collection[str]], Sequence[Finding]]  # tables, conditions (none: all) -> findings in order
TIMES = ("t_ns", "end_ns", "ready_ns", "start_ns")  # the first of these columns says when a row was known
TIMELESS = ("ranks", "groups")
DAY_S = 86_400.0


@dataclass(frozen=True)
class Caught:
    """What became of one fault.

    `after_s` and `after_steps` are the time and the steps from its onset to the end of the first window with which it
    was claimed (NaN: never, or unknown); `lost_s` is the price of the claim while the fault lasted; `blamed` the
    condition of the first claim that concerns it; `seen` whether it was seen but not claimed.
    """

    fault: Fault
    found: bool
    seen: bool
    after_s: float
    after_steps: float
    lost_s: float
    blamed: str


@dataclass(frozen=True)
class Alarm:
    """One claim as it was first raised: condition and subject; `outcome` is right, symptom or wrong."""

    condition: str
    subject: str
    outcome: str


@dataclass(frozen=True)
class Watched:
    """One run: its faults, its alarms, and how much fleet was watched for how long."""

    caught: tuple[Caught, ...]
    alarms: tuple[Alarm, ...]
    nodes: int
    seconds: float

    @property
    def node_days(self) -> float:
        """How much was watched."""
        return self.nodes * self.seconds / DAY_S


def watch(tables: Tables, truth: Truth, look: Look, natural: Natural, every: int = 4) -> Watched:
    """Return what the rooms find in a run, looking every so many windows and once at its end.

    Where a fault was found at such a look, the windows since the look before are gone through one by one with the room
    of its condition, so that the time to detect is that of a look at every window.
    """
    ends = np.unique(tables["windows"]["t_ns"].to_numpy())
    looks = [int(end) for end in ends[every - 1 :: every]]
    looks += [int(end) for end in ends[-1:] if int(end) not in looks]
    seen: list[tuple[int, Sequence[Finding], Scored]] = []
    for end in looks:
        found = look(until(tables, end), ())
        seen.append((end, found, score(found, truth.until(end), natural)))
    caught = tuple(_caught(tables, truth, place, seen, look, natural) for place in range(len(truth.faults)))
    alarms = dict.fromkeys(alarm for _, found, scored in seen for alarm in _alarms(found, scored))
    nodes = tables["windows"]["node"].nunique() if len(ends) else 0
    return Watched(caught, tuple(sorted(alarms, key=str)), int(nodes), _seconds(tables, ends))


def until(tables: Tables, end_ns: int) -> dict[str, pd.DataFrame]:
    """Return the tables as they were at a time: without the rows that end later; rows of unknown time stay.

    What is told by steps only (loads of experts) is cut by the times of the steps.
    """
    times = tables.get("step_times", pd.DataFrame())
    return {name: rows if name in TIMELESS else _cut(rows, end_ns, times) for name, rows in tables.items()}


def _cut(rows: pd.DataFrame, end_ns: int, times: pd.DataFrame) -> pd.DataFrame:
    column = next((name for name in TIMES if name in rows), "")
    if not len(rows):
        return rows
    if not column and "step" in rows and len(times):
        done = times[(times["start_ns"] + times["duration_ns"] <= end_ns).to_numpy()]
        ended = done.groupby(done["job"].astype(str))["step"].max()
        last = rows["job"].astype(str).map(ended).fillna(-1)
        return rows[(rows["step"] <= last).to_numpy()]
    if not column:
        return rows
    kept = (rows[column] <= end_ns).to_numpy()
    return rows if kept.all() else rows[kept]


def _alarms(found: Sequence[Finding], scored: Scored) -> list[Alarm]:
    pairs = zip(found, scored.outcomes, strict=True)
    return [Alarm(one.condition, one.subject.id, outcome) for one, outcome in pairs if outcome]


def _caught(
    tables: Tables, truth: Truth, place: int, seen: Sequence[tuple[int, Sequence[Finding], Scored]], look: Look,
    natural: Natural,
) -> Caught:  # fmt: skip
    """Return what became of one fault; `seen` are the looks (time, findings, their score against what had begun)."""
    fault = truth.faults[place]
    begun = [(end, found, scored, _place(truth, fault, end)) for end, found, scored in seen if fault.onset_ns <= end]
    right = [(end, found[scored.first[at]]) for end, found, scored, at in begun if scored.first[at] >= 0]
    hint = any(scored.seen[at] for _, _, scored, at in begun)
    nan = float("nan")
    if not right:
        blamed = next((scored.blamed[at] for _, _, scored, at in reversed(begun) if scored.blamed[at]), "")
        return Caught(fault, False, hint, nan, nan, nan, blamed)
    first = _refined(tables, truth, fault, right[0][0], [end for end, *_ in seen], look, natural)
    lasting = [(end, one) for end, one in right if fault.end_ns < 0 or end <= fault.end_ns] or right[:1]
    at_end = lasting[-1][0]
    blamed = next(scored.blamed[at] for end, _, scored, at in begun if end == at_end)
    after_s = (first - fault.onset_ns) / 1e9 if fault.onset_ns >= 0 else nan
    return Caught(fault, True, hint, after_s, _steps(tables, fault, first), lasting[-1][1].lost_s, blamed)


def _place(truth: Truth, fault: Fault, end: int) -> int:
    """Return the place of a fault among those that had begun."""
    return truth.until(end).faults.index(fault)


def _refined(
    tables: Tables, truth: Truth, fault: Fault, found_ns: int, looks: Sequence[int], look: Look, natural: Natural
) -> int:
    """Return the end of the first window since the look before with which the fault's own room finds it."""
    before = max((end for end in looks if end < found_ns), default=-1)
    ends = np.unique(tables["windows"]["t_ns"].to_numpy())
    for end in ends[(ends > before) & (ends < found_ns) & (ends >= fault.onset_ns)].tolist():
        found = look(until(tables, end), (fault.condition,))
        if score(found, truth.until(end), natural).first[_place(truth, fault, end)] >= 0:
            return int(end)
    return found_ns


def _steps(tables: Tables, fault: Fault, until_ns: int) -> float:
    """Return how many steps a rank of that host (else any) ended between the onset and a time; NaN where not told."""
    told = signal(tables, "skewscope_steps_total", take="increase")
    if not len(told):
        return float("nan")
    mine = told.node == fault.node
    values = told.values[:, mine] if mine.any() else told.values
    steps = np.nan_to_num(
        np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0 for row in values])
    )
    times = np.concatenate(([told.t_ns[0] - int(told.window_s * 1e9)], told.t_ns))
    done = np.concatenate(([0.0], np.cumsum(steps)))
    return float(np.interp(until_ns, times, done) - np.interp(fault.onset_ns, times, done))


def _seconds(tables: Tables, ends: Array) -> float:
    if not len(ends):
        return 0.0
    return float(ends[-1] - ends[0] + tables["windows"]["window_ns"].iloc[0]) / 1e9
