"""The part of a recording to look at: step numbers, nanoseconds or ISO times."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

FIRST_TIME_NS = 10**15  # numbers from here on are times (1970-01-12), below are steps
TIMES = ("t_ns", "ready_ns", "start_ns", "end_ns")
TIMELESS = ("ranks", "groups")


@dataclass(frozen=True)
class Window:
    """Both ends inclusive; `unit` is "step" or "time" (ns since the Unix epoch)."""

    first: int
    last: int
    unit: str


def window(text: str) -> Window:
    """Return the window that A:B names; either end may be left out.

    Raises argparse.ArgumentTypeError for ends that cannot be meant.

    >>> window("10:43")
    Window(first=10, last=43, unit='step')
    >>> window("2024-05-01T10:00:00Z:").unit
    'time'
    """
    ends = _split(text)
    values = [_end(end) for end in ends]
    given = [value for value in values if value is not None]
    if not given:
        raise argparse.ArgumentTypeError("wants A:B: steps (10:43), nanoseconds, or ISO times")
    unit = "time" if max(given) >= FIRST_TIME_NS else "step"
    first = values[0] if values[0] is not None else -(2**62)
    last = values[1] if values[1] is not None else 2**62
    if first > last or (unit == "time" and min(given) < FIRST_TIME_NS):
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins, or mixes steps and times")
    return Window(first, last, unit)


def cut(tables: Mapping[str, pd.DataFrame], span: Window) -> dict[str, pd.DataFrame]:
    """Return the tables with only the rows inside the window; of steps, rows without one are kept by their time.

    Raises UsageError where nothing is left.
    """
    times = span if span.unit == "time" else _times(tables, span)
    made = {name: rows if name in TIMELESS else _cut(rows, span, times) for name, rows in tables.items()}
    if not any(len(rows) for name, rows in made.items() if name not in TIMELESS):
        raise UsageError(f"--window: nothing lies inside it; the recording holds {_held(tables, span.unit)}")
    return made


def _cut(rows: pd.DataFrame, span: Window, times: Window | None) -> pd.DataFrame:
    import numpy as np

    column = _time_column(rows)
    kept = np.ones(len(rows), dtype=bool)
    if times is not None and column:
        kept = rows[column].between(times.first, times.last).to_numpy()
    if span.unit == "step" and "step" in rows:
        step = rows["step"].to_numpy()
        loose = kept if times is not None and column else np.zeros(len(rows), dtype=bool)
        kept = np.where(step >= 0, (step >= span.first) & (step <= span.last), loose)
    return rows[kept].reset_index(drop=True)


def _times(tables: Mapping[str, pd.DataFrame], span: Window) -> Window | None:
    """Return the time that the steps of the window took, or None where no table tells."""
    ends = []
    for rows in tables.values():
        column = _time_column(rows)
        if "step" not in rows or not column:
            continue
        inside = rows[rows["step"].between(max(0, span.first), span.last)]
        last = "end_ns" if "end_ns" in rows else column
        if len(inside):
            ends.append((int(inside[column].min()), int(inside[last].max())))
    return Window(min(first for first, _ in ends), max(last for _, last in ends), "time") if ends else None


def _time_column(rows: pd.DataFrame) -> str:
    return next((name for name in TIMES if name in rows and (rows[name] > 0).any()), "")


def _held(tables: Mapping[str, pd.DataFrame], unit: str) -> str:
    columns = ("step",) if unit == "step" else TIMES
    values = [
        rows[name][rows[name] >= (0 if unit == "step" else 1)]
        for rows in tables.values()
        for name in columns
        if name in rows
    ]
    known = [part for part in values if len(part)]
    if not known:
        return f"no {unit}s"
    plural = "steps" if unit == "step" else "nanoseconds"
    return f"{plural} {min(int(part.min()) for part in known)} to {max(int(part.max()) for part in known)}"


def _split(text: str) -> tuple[str, str]:
    """Split at the colon that parts two readable ends; ISO times hold colons themselves."""
    places = [place for place, sign in enumerate(text) if sign == ":"]
    for place in places:
        ends = text[:place], text[place + 1 :]
        if all(_readable(end) for end in ends):
            return ends
    raise argparse.ArgumentTypeError(f"{text!r} is not A:B; write steps (10:43), nanoseconds, or ISO times")


def _readable(end: str) -> bool:
    try:
        _end(end)
    except ValueError:
        return False
    # "10" and "2024-05-01T10" are both ISO hours or numbers; a time needs its minutes to be one
    number = end.removeprefix("-").isdecimal()
    return not end or number or len(end) >= len("2024-05-01T10:00") or len(end) == len("2024-05-01")


def _end(end: str) -> int | None:
    if not end:
        return None
    if end.removeprefix("-").isdecimal():
        return int(end)
    when = datetime.fromisoformat(end)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1e6) * 1000
