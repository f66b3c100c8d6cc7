"""The terminal page of scaling: the verdict, one line per run, the laws that fit, and what grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from . import wording
from .terminal import _grid, _section
from .wording import clean

GOOD, FAIR = 0.9, 0.7
Record = Mapping[str, Any]


def page(document: Record) -> RenderableType:
    """Return the page of a `skewscope.scaling/1` document."""
    kept = document["runs"][-1]["efficiency"]
    style = "bold green" if kept >= GOOD else "bold yellow" if kept >= FAIR else "bold red"
    return Group(
        Text("\n" + clean(document["verdict"]) + "\n", style=style),
        Text(f"{document['mode']} scaling: {clean(document['mode_from'])}"),
        *_section("Runs", _runs(document["runs"], document["unit"])),
        *_section("Laws", _fits(document["fits"])),
        *_section(
            "What the largest run spends beyond perfect scaling (per step and rank)", _growth(document["growth"])
        ),
        *_section("What to know", _notes(document["notes"])),
    )


def _runs(runs: Sequence[Record], unit: str) -> RenderableType:
    per = "tokens/s" if unit == "tokens" else "work/s"
    numbers = ("Ranks", "Steps", "Median step", "95 %", per, f"{per} a rank", "Efficiency")
    grid = _grid("Run", *numbers, right=numbers)
    for one in runs:
        grid.add_row(Text(clean(one["name"])), str(one["ranks"]), str(one["steps"]), wording.seconds(one["step_s"]),
                     f"{wording.seconds(one['step_low_s'])} to {wording.seconds(one['step_high_s'])}",
                     wording.number(one["throughput_per_s"]), wording.number(one["throughput_per_rank_per_s"]),
                     wording.share(one["efficiency"]))  # fmt: skip
    return grid


def _fits(fits: Sequence[Record]) -> RenderableType | None:
    if not fits:
        return None
    grid = _grid("Law", "Parameter", "Value", "95 %", "Off by", "Says", right=("Value", "95 %", "Off by"))
    for fit in fits:
        head = (fit["law"], wording.share(fit["error"]), clean(fit["limit"]))
        for name, one in fit["parameters"].items():
            ends = "" if one["low"] is None else f"{wording.number(one['low'])} to {wording.number(one['high'])}"
            grid.add_row(head[0], name.replace("_", " "), wording.number(one["value"]), ends, head[1], Text(head[2]))
            head = ("", "", "")
    return grid


def _growth(growth: Sequence[Record]) -> RenderableType | None:
    shown = [one for one in growth if one["first_s"] or one["last_s"]]
    if not shown:
        return None
    numbers = ("Smallest run", "Largest run", "Beyond perfect")
    grid = _grid("Part", *numbers, right=numbers)
    for one in shown:
        grid.add_row(one["part"], wording.seconds(one["first_s"]), wording.seconds(one["last_s"]),
                     wording.seconds(one["beyond_s"]))  # fmt: skip
    return grid


def _notes(notes: Sequence[str]) -> RenderableType | None:
    return Group(*(Text(f"- {clean(line)}") for line in notes)) if notes else None
