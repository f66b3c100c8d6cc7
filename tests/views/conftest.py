"""Tables of recordings as views get them, each read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skewscope.analysis import with_derived
from skewscope.contracts import Shown
from skewscope.frames import all_tables, frame
from skewscope.sources import gather
from skewscope.viewing import answers, named

ROOT = Path(__file__).parents[2]
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="session")
def tables() -> Callable[..., Tables]:
    """Return a function: path below the checkout (and `detail`) to all tables; skipped where the path is not there."""
    made: dict[tuple[str, bool], Tables] = {}

    def read(path: str, *, detail: bool = False) -> Tables:
        if not (ROOT / path).exists():
            pytest.skip(f"no {path} beside the checkout")
        if (path, detail) not in made:
            made[path, detail] = with_derived(gather([ROOT / path], workers=1, detail=detail))[0]
        return made[path, detail]

    return read


@pytest.fixture
def ask() -> Callable[..., Shown]:
    """Return a function: view and tables (those not given are empty) to its answer; NoData is an AssertionError."""

    def asked(view: str, given: Tables, **settings: object) -> Shown:
        texts = {name: str(value) for name, value in settings.items()}
        (answer,) = answers(all_tables(given), named([view]), texts)
        assert answer.shown is not None, answer.missing
        return answer.shown

    return asked


@pytest.fixture
def traced() -> Callable[..., Tables]:
    """Return a function: calls and work in microseconds to the tables of a detailed reading.

    A call is (name, kind, start, end), perhaps with a dict of more columns; calls nest by time. Work is (name, start,
    end, launch), the last the place of its runtime call in `calls` (-1: none), perhaps with a dict of more columns.
    """
    return _traced


def _traced(calls: list[tuple[Any, ...]], work: list[tuple[Any, ...]] = (), **more: dict[str, Any]) -> Tables:  # type: ignore[assignment]
    rows = [
        {
            "rank": 0,
            "thread": 0,
            "correlation": place,
            "place": place,
            "name": call[0],
            "kind": call[1],
            "start_ns": call[2] * 1000,
            "end_ns": call[3] * 1000,
            **(call[4] if len(call) > 4 else {}),
        }
        for place, call in enumerate(calls)
    ]
    rows.sort(key=lambda row: (row["rank"], row["thread"], row["start_ns"], -row["end_ns"], row["place"]))
    for number, row in enumerate(rows):
        row["call"] = number
        around = [other for other in rows[:number] if (other["rank"], other["thread"]) == (row["rank"], row["thread"])
                  and other["end_ns"] >= row["end_ns"] and other["end_ns"] > row["start_ns"]]  # fmt: skip
        row["parent"] = around[-1]["call"] if around else -1
        row["operator"] = number if row["kind"] == "operator" else (around[-1]["operator"] if around else -1)
    of = {row["place"]: row for row in rows}
    made = []
    for item in work:
        launch = of.get(item[3], {})
        made.append({"rank": launch.get("rank", 0), "kind": "kernel", "stream": 7, "name": item[0],
                     "start_ns": item[1] * 1000, "end_ns": item[2] * 1000, "correlation": item[3],
                     "launch_ns": launch.get("start_ns", -1),
                     "launch_end_ns": launch.get("end_ns", -1), "call": launch.get("operator", -1),
                     **(item[4] if len(item) > 4 else {})})  # fmt: skip
    hidden = ("place", "operator")
    plain = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
    return {name: frame(name, _columns(part)) for name, part in
            (("operators", plain), ("device_work", made), *more.items()) if part}  # fmt: skip


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    unknown = {"shapes": "", "dtypes": "", "values": ""}
    found = {name: [row.get(name, unknown.get(name, -1)) for row in rows] for name in names}
    return {"job": ["job"] * len(rows), **found}
