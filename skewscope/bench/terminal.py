"""The page of a benchmark on a terminal: one line a condition, then false alarms, severities and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..reports import wording
from . import mistakes

COLUMNS = ("condition", "faults", "recall", "precis.", "wrong", "sympt.", "detect", "steps", "price error", "root")
LEGEND = (
    "wrong: claims that are not right; sympt.: claims that a true fault explains; detect, steps: median from onset to "
    "claim; price error: median - 90 % point; root: the first claim about a fault names its condition"
)
MOST = 8  # failures, wrong claims or missed faults that are told one by one


def page(document: Mapping[str, Any]) -> RenderableType:
    """Return the page of a `skewscope.bench/1` document."""
    seeds, looks = document["seeds"], document["looks"]
    first = f"{document['cases']} cases on {seeds['count']} {seeds['set']} seeds from {seeds['first']}"
    lines: list[RenderableType] = [
        Text(f"{first}; rooms see real prefixes of the windows, every {looks['every_windows']} windows"),
        _figures([*document["conditions"], document["overall"]]),
        Text(LEGEND),
        *(Text(line) for line in (*_healthy(document["healthy"]), *_remarks(document))),
    ]
    if document["sweeps"]:
        lines.insert(3, _sweeps(document["sweeps"]))
    return Group(*lines)


def _figures(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    return table


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of one condition's line, in the order of COLUMNS."""
    price = row["price_error"]
    error = f"{wording.share(price['median'])} - {wording.share(price['p90'])}" if price["count"] else wording.UNKNOWN
    return (
        row["condition"], str(row["faults"]), wording.share(row["recall"]), wording.share(row["precision"]),
        str(row["wrong"]), str(row["symptoms"]), wording.seconds(row["detect_s"]["median"]),
        wording.number(row["detect_steps"]["median"]), error, wording.share(row["root_cause"]),
    )  # fmt: skip


def _sweeps(sweeps: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("condition", "scenario", "recall by severity", "found from"):
        table.add_column(name)
    for sweep in sweeps:
        points = ", ".join(f"{point['severity']:.3g}: {wording.share(point['recall'])}" for point in sweep["points"])
        table.add_row(sweep["condition"], sweep["scenario"], points, wording.number(sweep["smallest_found"]))
    return table


def _healthy(healthy: Mapping[str, Any]) -> list[str]:
    if not healthy["cases"]:
        return ["No healthy fleet was watched, so nothing is known of false alarms."]
    by = ", ".join(f"{name} {count}" for name, count in healthy["by_condition"].items())
    return [
        f"Healthy fleets: {healthy['false_alarms']} false alarms in {healthy['node_days']:.2f} node-days, "
        f"{wording.number(healthy['per_1000_node_days'])} per 1,000 node-days "
        f"(at most {wording.number(healthy['at_most'])}, 95 %){f': {by}' if by else ''}"
    ]


def _remarks(document: Mapping[str, Any]) -> Iterable[str]:
    if document["without_room"]:
        yield f"No room finds: {', '.join(document['without_room'])}"
    told = [f"Failed: {one['scenario']} with seed {one['seed']}: {one['error']}" for one in document["failures"]]
    for lines in (mistakes.wrong(document), mistakes.missed(document), told):
        yield from (wording.clean(line) for line in lines[:MOST])
        if len(lines) > MOST:
            yield f"  and {len(lines) - MOST} more in the JSON"
