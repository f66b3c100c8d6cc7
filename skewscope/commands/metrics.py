"""List the metrics that are exported, or explain one.

With a NAME: its meaning, unit and labels, the values that a label can have where they are fixed, and which collectors
of the agent export it, in the fast or the slow group. The name of a series with _bucket, _sum or _count will do.

Examples:
  skewscope metrics                                  all of them
  skewscope metrics skewscope_gpu_power_watts        one metric
  skewscope metrics --json                           for scripts
  skewscope metrics --readme                         all of them as a Markdown table
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from functools import cache
from textwrap import fill
from typing import Any

from ..catalogue import load, rooms
from ..errors import UsageError
from ..metrics import AREAS, METRICS, Metric

NODE = ("node", "fast")  # what the agent says of itself goes with the fast page
SERIES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


class Metrics:
    """`skewscope metrics`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("name", nargs="?", metavar="NAME", help="explain this metric")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--readme", action="store_true", help="print the Markdown table of agents/METRICS.md")

    def run(self, args: argparse.Namespace) -> int:
        """Print the list or one entry of it."""
        if args.name:
            found = named(args.name)
            text = json.dumps(_plain(found), indent=2) if args.json else _page(found)
        elif args.json:
            text = json.dumps([_plain(metric) for metric in METRICS], indent=2)
        else:
            text = readme() if args.readme else _list()
        sys.stdout.write(text + "\n")
        return 0


def readme() -> str:
    """Return the Markdown table of all metrics."""
    rows = [(f"`{metric.name}`", metric.kind, metric.unit, _labels(metric), _exporters(metric),
             metric.help.replace("|", "/")) for metric in METRICS]  # fmt: skip
    head = ["| metric | kind | unit | labels | exported by | meaning |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def named(name: str) -> Metric:
    """Return the metric of this name, or the one that this series belongs to; raises UsageError with near names.

    >>> named("skewscope_nvml_call_seconds_count").name
    'skewscope_nvml_call_seconds'
    """
    known = {metric.name: metric for metric in METRICS}
    series = {metric.name + end: metric for metric in METRICS for end in SERIES.get(metric.kind, ())}
    found = known.get(name) or series.get(name)
    if found:
        return found
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`skewscope metrics` lists them"
    raise UsageError(f"no metric is called {name!r}; {hint}")


@cache
def _exports() -> dict[str, list[tuple[str, str]]]:
    """Return (collector, group) of everything that exports a metric, by the metric's name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for room in rooms("agents.collectors"):
        kind = room.kind()
        for name in kind.exports:
            found.setdefault(name, []).append((room.id, kind.group))
    for name in load("agents.node").EXPORTS:
        found.setdefault(name, []).append(NODE)
    return found


def _exporters(metric: Metric) -> str:
    return ", ".join(f"{collector} ({group})" for collector, group in _exports().get(metric.name, ())) or "-"


def _labels(metric: Metric) -> str:
    return ", ".join(metric.labels)


def _plain(metric: Metric) -> dict[str, Any]:
    area = next(area for area, metrics in AREAS.items() if metric in metrics)
    exporters = [{"collector": collector, "group": group} for collector, group in _exports().get(metric.name, ())]
    return {**dataclasses.asdict(metric), "area": area, "exported_by": exporters}


def _list() -> str:
    columns = [
        (metric.name, metric.kind, metric.unit or "-", _exporters(metric), _labels(metric) or "-") for metric in METRICS
    ]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    lines = ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in columns]
    return "\n".join([*lines, "", "`skewscope metrics NAME` explains one."])


def _page(metric: Metric) -> str:
    lines = [f"{metric.name} ({metric.kind})", "", fill(metric.help, 100), "", f"Unit: {metric.unit or 'none'}"]
    if metric.labels:
        lines.append("Labels:")
        lines += [f"  {label}: {', '.join(metric.values.get(label, ()))}".rstrip(": ") for label in metric.labels]
    if metric.buckets:
        lines.append(f"Buckets: up to {', '.join(f'{bound:g}' for bound in metric.buckets)} and +Inf")
    exporters = _exporters(metric)
    lines.append(f"Exported by: {'no collector of the agent' if exporters == '-' else exporters}")
    return "\n".join(lines)
