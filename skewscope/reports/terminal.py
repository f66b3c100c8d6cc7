"""The terminal page: verdict first, then cost, culprits, ranks, what to do next and what cannot be decided."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import experts, wording
from .wording import clean

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {"S1": "bold red", "S2": "red", "S3": "yellow", "S4": "cyan"}
MANY = 12  # rows of a list before it is cut, with a line that says so
WHOLE = 48  # columns; a file's name of this length or less is never folded

Found = Mapping[str, Any]


def page(document: Mapping[str, Any], ranks: pd.DataFrame | None = None) -> RenderableType:
    """Return the page of a `skewscope.report/1` document; `ranks` is the frame of `rank_table`, worst first."""
    parts = [
        _verdict(document),
        _job(document),
        *_section("Findings (cost per step)", _findings(wording.culprits_first(document["findings"]))),
        *_section("Ranks with the most own work beyond their peers (medians per step)", _ranks(ranks)),
        *(part for one in document.get("moe", ()) for part in _section(experts.title(one), experts.body(one))),
        *_section("What to do next", _advice(document["findings"], document["recommendations"])),
        *_section("Context, and what cannot be decided", _undecided(document)),
        *_problems(document["inputs"]),
    ]
    return Group(*parts)


def _verdict(document: Mapping[str, Any]) -> RenderableType:
    worst = min((found["severity"] for found in document["findings"] if found["role"] == "culprit"), default="")
    style = COLOURS.get(worst, "bold green" if document["job"]["steps"] else "bold")
    return Text("\n" + clean(document["summary"]["verdict"]) + "\n", style=f"bold {style}")


def _job(document: Mapping[str, Any]) -> RenderableType:
    job, summary, inputs = document["job"], document["summary"], document["inputs"]
    times = summary["step_time_s"]
    formats = ", ".join(sorted({clean(item["format"]) for item in inputs if item["format"]})) or "no format"
    layout = " ".join(f"{clean(key)} {size}" for key, size in job["parallelism"].items() if size and size > 1)
    read = [item for item in inputs if item["status"] != "unreadable"]
    cut = sum(item["status"] == "partial" for item in inputs)
    part = f" ({cut} only in part)" if cut else ""
    events = sum(item["events"] for item in read)
    cells = [
        ("Job", f"{job['ranks']} ranks{f' ({layout})' if layout else ''}, {job['steps']} steps"),
        ("Inputs", f"{len(read)} of {len(inputs)} files read{part}: {formats}, {events:,} events"),
    ]
    if times["mean"] is not None:
        spread = f"median {wording.seconds(times['p50'])}, p99 {wording.seconds(times['p99'])}"
        cells.append(("Step time", f"mean {wording.seconds(times['mean'])} ({spread})"))
    if summary["slowdown"] is not None:
        cells.append(("Slowdown", f"{wording.ratio(summary['slowdown'])} the ideal {_ideal(summary)}"))
    if summary["wasted_share"] is not None:
        gpu_hours = wording.hours(summary["wasted_gpu_hours"])
        cells.append(("Wasted", f"{wording.share(summary['wasted_share'])} of the time, {gpu_hours} GPU-hours"))
    if summary.get("communication_share") is not None:
        hidden = summary.get("communication_hidden_share")
        behind = "" if hidden is None else f", {wording.share(hidden)} of it behind computation"
        cells.append(
            ("Communication", f"in flight {wording.share(summary['communication_share'])} of the step{behind}")
        )
    grid = Table.grid(padding=(0, 2))
    for name, said in cells:
        grid.add_row(Text(name, style="bold"), Text(said))
    return grid


def _ideal(summary: Mapping[str, Any]) -> str:
    return f"step of {wording.seconds(summary['ideal_step_time_s'])}"


def _section(title: str, body: RenderableType | None) -> Iterable[RenderableType]:
    if body is None:
        return []
    return [Text(f"\n{title}", style="bold underline"), body]


def _grid(*columns: str, right: Sequence[str] = (), fold: Mapping[str, int] | None = None) -> Table:
    """Return an empty table; `fold` names the columns that may be folded, with their least width."""
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for name in columns:
        least = (fold or {}).get(name)
        justify: Literal["right", "left"] = "right" if name in right else "left"
        overflow: Literal["ellipsis", "fold"] = "ellipsis" if least is None else "fold"
        grid.add_column(name, justify=justify, no_wrap=least is None, overflow=overflow, min_width=least)
    return grid


def _findings(findings: Sequence[Found]) -> RenderableType | None:
    if not findings:
        return None
    numbers = ("Cost", "Share", "GPU-h", "Conf")
    grid = _grid(
        "Id",
        "Sev",
        "Who",
        "Condition",
        "Role",
        *numbers,
        "When",
        right=numbers,
        fold={"Who": 10, "Condition": 10, "When": 9},
    )
    for found in findings[:MANY]:
        cost, culprit = found["cost"], found["role"] == "culprit"
        grid.add_row(
            Text(found["id"]), Text(found["severity"], style=COLOURS[found["severity"]] if culprit else "dim"),
            Text(wording.who(found["subject"])), Text(clean(found["condition"])), Text(found["role"]),
            *wording.price(cost), wording.share(found["confidence"]), Text(wording.window(found["window"])),
            style="" if culprit else "dim",
        )  # fmt: skip
    return _cut(grid, len(findings), "findings; --json has all")


def _cut(body: RenderableType, count: int, what: str) -> RenderableType:
    return Group(body, Text(f"{count - MANY} more {what}", style="dim")) if count > MANY else body


def _ranks(ranks: pd.DataFrame | None) -> RenderableType | None:
    if ranks is None or len(ranks) < 2:
        return None
    numbers = ("Own work", "vs peers", "Waits", "Late", "Last", "Input")
    grid = _grid("Rank", "Host", "Stage", *numbers, right=("Rank", "Stage", *numbers), fold={"Host": 6})
    for row in ranks.head(6).to_dict("records"):
        stage = str(row["stage"]) if row["stage"] >= 0 else wording.UNKNOWN
        grid.add_row(
            str(row["rank"]), Text(clean(row["node"]) or wording.UNKNOWN), stage,
            wording.seconds(row["own_s"]), wording.ratio(row["versus_ratio"]), wording.seconds(row["wait_s"]),
            wording.seconds(row["late_s"]), wording.share(row["last_ratio"]), wording.seconds(row["input_s"]),
        )  # fmt: skip
    return grid


def _advice(findings: Sequence[Found], recommended: Sequence[Found] = ()) -> RenderableType | None:
    culprits = [found for found in findings if found["role"] == "culprit"]
    if not culprits:
        return None
    grid = Table.grid(padding=(0, 2))
    for found in culprits[:5]:
        said = clean(found.get("summary") or f"{found['condition']}: {wording.who(found['subject'])}")
        advice = clean(found.get("advice") or "See the runbook.")
        grid.add_row(Text(found["id"]), Text(said))
        grid.add_row("", Text.assemble(("-> ", "bold"), advice))
        for answer in recommended:
            if found["id"] in answer["for"] and "saved_s" in answer:
                grid.add_row("", Text(clean(wording.replayed(answer))))
        grid.add_row("", Text.assemble("runbook: ", (f"skewscope conditions {clean(found['runbook'])}", "bold")))
    return grid


def _undecided(document: Mapping[str, Any]) -> RenderableType | None:
    said = [clean(line) for line in wording.aside(document)]
    if not said:
        return None
    return _cut(Group(*(Text(f"- {line}") for line in said[:MANY])), len(said), "remarks; --json has all")


def _problems(inputs: Sequence[Found]) -> Iterable[RenderableType]:
    bad = [item for item in inputs if item["status"] != "ok"]
    if not bad:
        return []
    shown = [(item["status"], clean(item["path"]), clean(item["error"] or "no reason given")) for item in bad[:MANY]]
    folder = _common_folder([path for _, path, _ in shown])
    names = [path.removeprefix(folder) for _, path, _ in shown]
    # a name in two pieces is found by no search
    grid = _grid("Status", "File", "Reason", fold={"File": min(max(map(len, names)), WHOLE), "Reason": 16})
    for (status, _, reason), name in zip(shown, names, strict=True):
        grid.add_row(status, Text(name), Text(reason))
    title = f"Inputs with problems in {folder}" if folder else "Inputs with problems"
    return _section(title, _cut(grid, len(bad), "files with problems; --json has all"))


def _common_folder(paths: Sequence[str]) -> str:
    """Return the folder that all paths lie in, with its last '/'; a missing rank's "path" is a word without any."""
    folder, slash, _ = os.path.commonprefix([path for path in paths if "/" in path]).rpartition("/")
    return f"{folder}{slash}"
