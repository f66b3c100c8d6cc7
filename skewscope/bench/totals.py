"""Adds up results: per condition and over all, recall, precision, time to detect, price, root cause, false alarms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import __version__, catalogue
from .matching import RIGHT, SYMPTOM, WRONG
from .results import Result
from .seeds import name
from .watching import Alarm, Caught, Watched

SCHEMA = "skewscope.bench/1"
PRICED_SHARE = 0.005  # of the step: what costs less is within the noise of steps, so no price of it is right
HEALTHY, NOTHING = "healthy", "nothing"
Z95 = 1.96
Document = dict[str, Any]


def document(results: Sequence[Result], *, judge: bool, seeds: range, sweeps: Sequence[Document] = ()) -> Document:
    """Return the document `skewscope.bench/1` of all results; unknown numbers are None."""
    good = [result.watched for result in results if result.watched is not None]
    sound = [watched for watched in good if not watched.caught]
    caught = [one for watched in good for one in watched.caught]
    alarms = [alarm for watched in good for alarm in watched.alarms]
    conditions = sorted({one.fault.condition for one in caught} | {one.condition for one in alarms})
    rows = [
        condition(title, [one for one in caught if one.fault.condition == title],
                  [one for one in alarms if one.condition == title])
        for title in conditions
    ]  # fmt: skip
    known = {room.id for room in catalogue.rooms("detectors")}
    return {
        "schema": SCHEMA, "version": __version__,
        "seeds": {"set": name(judge), "first": seeds.start, "count": len(seeds)},
        "scenarios": sorted({result.case.scenario for result in results}),
        "cases": len(results),
        "looks": {"every_windows": results[0].case.every if results else 0, "prefixes": "real"},
        "effect": results[0].case.effect if results else 0.0,
        "overall": condition("overall", caught, alarms),
        "conditions": rows,
        "without_room": sorted({one.fault.condition for one in caught} - known),
        "confusion": confusion(caught, [alarm for watched in sound for alarm in watched.alarms]),
        "healthy": healthy(sound), "wrong": wrong(results), "missed": missed(results),
        "sweeps": list(sweeps),
        "failures": [{"scenario": one.case.scenario, "seed": one.case.seed, "error": one.error}
                     for one in results if one.error],
    }  # fmt: skip


def condition(title: str, caught: Sequence[Caught], alarms: Sequence[Alarm]) -> Document:
    """Return the figures of one condition: its faults as they were caught, and all claims that name it.

    Precision is that of claims, each subject once a run; symptoms of a true fault count neither way. Recall is that of
    faults. The price error is |found - true| / true of faults that cost half a percent of the step or more, not of
    those that stop the job; `unpriced` counts those whose claim says no price. `root_cause` is the share of faults of
    which the first claim that concerns them names the condition, among those that any claim concerns.
    """
    found = [one for one in caught if one.found]
    outcomes = Counter(alarm.outcome for alarm in alarms)
    claims = outcomes[RIGHT] + outcomes[WRONG]
    blamed = [one for one in caught if one.blamed]
    named = sum(one.blamed == one.fault.condition for one in blamed)
    costly = [one for one in found if one.fault.lost_share >= PRICED_SHARE and not one.fault.stops]
    errors = [abs(one.lost_s - one.fault.lost_s_per_step) / one.fault.lost_s_per_step
              for one in costly if one.lost_s > 0]  # fmt: skip
    return {
        "condition": title, "faults": len(caught), "found": len(found), "recall": share(len(found), len(caught)),
        "recall_95": wilson(len(found), len(caught)), "seen_only": sum(one.seen and not one.found for one in caught),
        "right": outcomes[RIGHT], "wrong": outcomes[WRONG], "symptoms": outcomes[SYMPTOM],
        "precision": share(outcomes[RIGHT], claims), "precision_95": wilson(outcomes[RIGHT], claims),
        "detect_s": spread([one.after_s for one in found]), "detect_steps": spread([one.after_steps for one in found]),
        "price_error": spread(errors), "unpriced": len(costly) - len(errors),
        "root_cause": share(named, len(blamed)), "blamed": len(blamed),
    }  # fmt: skip


def confusion(caught: Sequence[Caught], false: Sequence[Alarm]) -> Document:
    """Return the matrix of true conditions (rows) and first blamed ones (columns); healthy fleets are a row.

    That row counts false claims; `nothing` is the column of faults that no claim concerns.
    """
    pairs = Counter((one.fault.condition, one.blamed or NOTHING) for one in caught)
    pairs.update((HEALTHY, alarm.condition) for alarm in false)
    rows = sorted({row for row, _ in pairs} - {HEALTHY}) + [HEALTHY]
    columns = sorted({column for _, column in pairs} - {NOTHING}) + [NOTHING]
    return {"rows": rows, "columns": columns, "counts": [[pairs[row, column] for column in columns] for row in rows]}


def healthy(runs: Sequence[Watched]) -> Document:
    """Return the false alarms of runs without faults, and their rate with its upper bound of 95 %."""
    alarms = [alarm for watched in runs for alarm in watched.alarms]
    days = sum(watched.node_days for watched in runs)
    by = Counter(alarm.condition for alarm in alarms)
    return {
        "cases": len(runs), "node_days": days, "false_alarms": len(alarms),
        "per_1000_node_days": 1000 * len(alarms) / days if days else None,
        "at_most": 1000 * upper_count(len(alarms)) / days if days else None, "by_condition": dict(sorted(by.items())),
    }  # fmt: skip


def wrong(results: Iterable[Result]) -> list[Document]:
    """Return the wrong claims; `true` is the subject of a fault of that condition in the same run, "" for none."""
    return [
        {"condition": alarm.condition, "scenario": result.case.scenario, "seed": result.case.seed,
         "true": next((one.fault.subject for one in result.watched.caught
                       if one.fault.condition == alarm.condition), ""), "claimed": alarm.subject}
        for result in results if result.watched is not None
        for alarm in result.watched.alarms if alarm.outcome == WRONG
    ]  # fmt: skip


def missed(results: Iterable[Result]) -> list[Document]:
    """Return the faults that no claim named, with the share of the step that they cost beside the others of their run.

    `seen` tells whether a finding named it without claiming it.
    """
    return [
        {"condition": one.fault.condition, "scenario": result.case.scenario, "seed": result.case.seed,
         "true": one.fault.subject, "lost_share": one.fault.lost_share, "seen": one.seen}
        for result in results if result.watched is not None
        for one in result.watched.caught if not one.found
    ]  # fmt: skip


def share(part: int, whole: int) -> float | None:
    """Return part over whole, None of nothing.

    >>> share(1, 4), share(0, 0)
    (0.25, None)
    """
    return part / whole if whole else None


def wilson(part: int, whole: int) -> list[float] | None:
    """Return Wilson's interval of 95 % of a share (Wilson 1927), None of nothing.

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not whole:
        return None
    middle = (part + Z95**2 / 2) / (whole + Z95**2)
    reach = Z95 / (whole + Z95**2) * math.sqrt(part * (whole - part) / whole + Z95**2 / 4)
    return [max(0.0, middle - reach), min(1.0, middle + reach)]


def upper_count(count: int) -> float:
    """Return the upper end of the interval of 95 % of a Poisson count (Byar's approximation, Breslow & Day 1987).

    >>> round(upper_count(0), 1), round(upper_count(10), 1)
    (3.7, 18.4)
    """
    more = count + 1
    return float(more * (1 - 1 / (9 * more) + Z95 / (3 * math.sqrt(more))) ** 3)


def spread(values: Iterable[float]) -> Document:
    """Return count, median and 90 % point of the finite values, None of nothing.

    >>> spread([1.0, 2.0, float("nan"), 3.0])["median"]
    2.0
    """
    some = [value for value in values if math.isfinite(value)]
    if not some:
        return {"count": 0, "median": None, "p90": None}
    return {"count": len(some), "median": float(np.median(some)), "p90": float(np.quantile(some, 0.9))}
