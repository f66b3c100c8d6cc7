"""The terminal page of a comparison: the verdict, the step, its parts, what ran, collectives, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from . import wording
from .terminal import _grid, _section
from .wording import clean

COLOURS = {"slower": "bold red", "faster": "bold green", "no-difference": "bold", "too-few-steps": "bold yellow",
           "unknown": "bold yellow"}  # fmt: skip
STATES = {"added": "cyan", "removed": "cyan", "slower": "red", "faster": "green", "same": "dim", "came": "red",
          "went": "green", "stayed": ""}  # fmt: skip
LONGEST = 64  # letters of a kernel's name
Record = Mapping[str, Any]


def page(document: Record, top: int = 15) -> RenderableType:
    """Return the page of a `skewscope.compare/1` document; lists are cut after `top` rows."""
    step = document["step_time"]
    parts = [
        Text("\n" + clean(document["verdict"]) + "\n", style=COLOURS[step["answer"]]),
        _runs(document),
        *_section("Where the step goes (mean per step and rank)", _parts(document["parts"])),
        *_section("Own work of ranks (median per step)", _ranks(document["ranks"], top)),
        *_section(_work_title(document["work_counts"]), _work(document["work"], top)),
        *_section(
            "Operators and the device work they launch (per step and rank)", _operators(document["operators"], top)
        ),
        *_section("Collectives (per step and rank)", _calls(document["collectives"])),
        *_section("Findings", _findings(document["findings"], top)),
        *_section("What to know", _notes(document["notes"])),
    ]
    return Group(*parts)


def change(before: float | None, after: float | None) -> str:
    """Return a change in percent.

    >>> change(2.0, 2.5), change(0.0, 1.0), change(None, 1.0)
    ('+25 %', 'new', '-')
    """
    if before is None or after is None:
        return wording.UNKNOWN
    if before == 0:
        return "new" if after else ""
    if after >= 10 * before:
        return f"{after / before:.3g} times"
    percent = 100 * (after / before - 1)
    return f"{percent:+.1f} %" if abs(percent) < 9.95 else f"{percent:+,.0f} %"


def count(value: float | None) -> str:
    """Return calls per step, as 768 or 0.25."""
    return wording.UNKNOWN if value is None else f"{value:,.4g}"


def size(value: float | None) -> str:
    """Return bytes in decimal units.

    >>> size(1.5e9), size(None)
    ('1.5 GB', '-')
    """
    if value is None:
        return wording.UNKNOWN
    return f"{wording.prefixed(value)}B"


def short(name: str, longest: int = LONGEST) -> str:
    """Return a name that fits: its begin, and the end that tells variants apart.

    >>> short("a" * 50 + "b" * 50, 11)
    'aaaaaaa...b'
    """
    said = clean(name).removeprefix("void ").replace("(anonymous namespace)::", "")
    if len(said) <= longest:
        return said
    tail = max(1, (longest - 3) // 4) if longest > 20 else 1
    return f"{said[: longest - 3 - tail]}...{said[-tail:]}"


def _runs(document: Record) -> RenderableType:
    grid = _grid(
        "Run", "Ranks", "Recorded", "Steps", "Median step", "p99", "Format", right=("Ranks", "Recorded", "Steps")
    )
    for word in ("before", "after"):
        run, times = document[word], document["step_time"][f"{word}_s"]
        grid.add_row(Text(clean(run["name"])), str(run["ranks"]), str(run["ranks_recorded"]), str(run["steps"]),
                     wording.seconds(times["median"]), wording.seconds(times["p99"]),
                     Text(clean(", ".join(run["formats"]))))  # fmt: skip
    return grid


def _parts(parts: Sequence[Record]) -> RenderableType | None:
    shown = [one for one in parts if one["before_s"] or one["after_s"]]
    if not shown:
        return None
    grid = _grid("Part", "Before", "After", "Change", "", "p", right=("Before", "After", "Change", "", "p"))
    for one in shown:
        name = one["part"] if one["of_step"] else f"({one['part']})"
        grid.add_row(name, wording.seconds(one["before_s"]), wording.seconds(one["after_s"]),
                     wording.seconds(one["change_s"]), change(one["before_s"], one["after_s"]), _p(one["p"]),
                     style="" if _sure(one["p"]) else "dim")  # fmt: skip
    return grid


def _sure(p: float | None) -> bool:
    return p is None or p < 0.05


def _p(p: float | None) -> str:
    return wording.UNKNOWN if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"


def _ranks(ranks: Record, top: int) -> RenderableType | None:
    before, after = ranks["before"], ranks["after"]
    if before is None or after is None or max(before["ranks"], after["ranks"]) < 2:
        return None
    said = [
        Text(f"{word}: {one['ranks']} ranks, least {wording.seconds(one['least_s'])}, median "
             f"{wording.seconds(one['median_s'])}, most {wording.seconds(one['most_s'])} (rank {one['most_rank']})")
        for word, one in (("before", before), ("after", after))
    ]  # fmt: skip
    rows = [one for one in ranks["changes"] if abs(one["ratio"] - 1) > 0.01][:top]
    if not rows:
        return Group(*said)
    grid = _grid("Rank", "Host", "Before", "After", "Change", "", right=("Rank", "Before", "After", "Change", ""))
    for one in rows:
        grid.add_row(str(one["rank"]), Text(clean(one["node"]) or wording.UNKNOWN), wording.seconds(one["before_s"]),
                     wording.seconds(one["after_s"]), wording.seconds(one["change_s"]),
                     change(one["before_s"], one["after_s"]))  # fmt: skip
    return Group(*said, grid)


def _work_title(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return f"What ran, by change of time per step and rank ({told})"


def _work(work: Sequence[Record], top: int) -> RenderableType | None:
    if not work:
        return None
    numbers = ("Calls", "after", "Time", "after ", "Change")
    grid = _grid("State", "Kind", "Name", *numbers, right=numbers, fold={"Name": 24})
    for one in work[:top]:
        grid.add_row(Text(one["state"], style=STATES[one["state"]]), Text(clean(one["kind"])), Text(short(one["name"])),
                     count(one["calls_before"]), count(one["calls_after"]), wording.seconds(one["before_s"] or None),
                     wording.seconds(one["after_s"] or None), wording.seconds(one["change_s"] or None))  # fmt: skip
    return _cut(grid, len(work), top, "names; --top or --json has more")


def _operators(operators: Sequence[Record], top: int) -> RenderableType | None:
    if not operators:
        return None
    numbers = ("Calls", "after", "Device", "after ", "Host", "after  ")
    grid = _grid(
        "State", "Operator", *numbers, "Kernels after", right=numbers, fold={"Operator": 16, "Kernels after": 16}
    )
    for one in operators[:top]:
        grid.add_row(Text(one["state"], style=STATES[one["state"]]), Text(short(one["name"], 48)),
                     count(one["calls_before"]), count(one["calls_after"]), wording.seconds(one["device_before_s"]),
                     wording.seconds(one["device_after_s"]), wording.seconds(one["host_before_s"]),
                     wording.seconds(one["host_after_s"]), Text(short(one["kernels_after"], 48)))  # fmt: skip
    return _cut(grid, len(operators), top, "operators; --top or --json has more")


def _calls(calls: Sequence[Record]) -> RenderableType | None:
    if not calls:
        return None
    numbers = ("Calls", "after", "Bytes", "after ", "Transfer", "after  ", "Bus/s", "after   ")
    grid = _grid("Operation", *numbers, right=numbers)
    for one in calls:
        grid.add_row(Text(clean(one["op"])), count(one["calls_before"]), count(one["calls_after"]),
                     size(one["bytes_before"]), size(one["bytes_after"]), wording.seconds(one["transfer_s_before"]),
                     wording.seconds(one["transfer_s_after"]), size(one["bus_bytes_per_s_before"]),
                     size(one["bus_bytes_per_s_after"]))  # fmt: skip
    return grid


def _findings(findings: Sequence[Record], top: int) -> RenderableType | None:
    if not findings:
        return None
    grid = _grid("", "Sev", "Condition", "Who", "Role", "Cost", "after", "Summary", right=("Cost", "after"),
                 fold={"Summary": 20, "Condition": 10})  # fmt: skip
    for one in findings[:top]:
        grid.add_row(Text(one["state"], style=STATES[one["state"]]), one["severity"], Text(clean(one["condition"])),
                     Text(clean(one["subject"])), one["role"], wording.seconds(one["before_s"] or None),
                     wording.seconds(one["after_s"] or None), Text(clean(one["summary"])))  # fmt: skip
    return _cut(grid, len(findings), top, "findings; --top or --json has more")


def _notes(notes: Sequence[str]) -> RenderableType | None:
    return Group(*(Text(f"- {clean(line)}") for line in notes)) if notes else None


def _cut(body: RenderableType, whole: int, top: int, what: str) -> RenderableType:
    return Group(body, Text(f"{whole - top} more {what}", style="dim")) if whole > top else body
