"""List the conditions that can be found, or explain one.

With an ID: what it means, how it is seen, what to do (the runbook), its thresholds with their units, the alerting
rule, and what it must not be confused with.

Examples:
  skewscope conditions                     the catalogue
  skewscope conditions coll-late-rank      one condition
  skewscope conditions --json              for scripts
  skewscope conditions --readme            the catalogue as a Markdown table
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from typing import Any

from ..catalogue import room, rooms
from ..contracts import Rule

UNITS = ("bytes_per_s", "ratio", "share", "ns", "us", "ms", "s", "bytes", "tokens", "count", "ppm", "percent", "steps")
ALIKE = re.compile(
    r"(?:look-?alikes?:?|not\s+to\s+be\s+confused\s+with)\s+(.*?)(?:\n\s*\n|\Z)", re.IGNORECASE | re.DOTALL
)


class Conditions:
    """`skewscope conditions`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("id", nargs="?", metavar="ID", help="explain this condition")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--readme", action="store_true", help="print the Markdown table of detectors/README.md")

    def run(self, args: argparse.Namespace) -> int:
        """Print the catalogue or one page of it."""
        if args.id:
            found = _explained(args.id)
            text = json.dumps(found, indent=2) if args.json else _page(found)
        else:
            text = _catalogue(args.json, args.readme)
        sys.stdout.write(text + "\n")
        return 0


def readme() -> str:
    """Return the Markdown table of all conditions."""
    from ..outline import outlines

    rows = [f"| `{one.id}` | {one.title.replace('|', '/')} | {one.category} | {one.severity} |" for one in outlines()]
    return "\n".join(["| condition | what it is | category | severity |", "|---|---|---|---|", *rows])


def _catalogue(as_json: bool, as_readme: bool) -> str:
    from ..outline import outlines

    if as_json:
        return json.dumps([dataclasses.asdict(one) for one in outlines()], indent=2)
    if as_readme:
        return readme()
    width = max((len(one.id) for one in outlines()), default=0)
    kinds = max((len(one.category) for one in outlines()), default=0)
    lines = [f"{one.id:{width}}  {one.category:{kinds}}  {one.severity:7}  {one.title}" for one in outlines()]
    return "\n".join([*lines, "", "`skewscope conditions ID` explains one."])


def _explained(condition: str) -> dict[str, Any]:
    from ..outline import outline

    place = room("detectors", condition)
    detector, page = place.load(), place.page().strip()
    rule = detector.alert()
    return {
        **dataclasses.asdict(outline(place)),
        "page": page,
        "needs": list(detector.needs),
        "thresholds": [_threshold(field.name, getattr(detector, field.name)) for field in dataclasses.fields(detector)],
        "look_alikes": look_alikes(page),
        "see_also": _named(page, condition),
        "alert": None if rule is None else dataclasses.asdict(rule),
        "alert_yaml": None if rule is None else yaml(rule),
    }


def _threshold(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - thresholds are numbers or names
    unit = next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")
    return {"name": name, "value": value if isinstance(value, int | float | str | bool) else str(value), "unit": unit}


def look_alikes(page: str) -> str:
    r"""Return the part of a condition's page that says what it must not be confused with.

    >>> look_alikes("A slow rank.\n\nLook-alikes: a slow link.\nOr a slow host.\n\nWhat to do: drain it.")
    'a slow link. Or a slow host.'
    """
    found = ALIKE.search(page)
    return " ".join(found.group(1).split()) if found else ""


def _named(page: str, condition: str) -> list[str]:
    """Return the other conditions that a page names."""
    known = {place.id for place in rooms("detectors")} - {condition}
    return sorted(known & set(re.findall(r"`([a-z0-9-]+)`", page)))


def yaml(rule: Rule) -> str:
    """Return an alerting rule as YAML; JSON strings are YAML strings, so nothing can break out of them."""
    quoted = json.dumps
    return "\n".join(
        [
            f"- alert: {quoted(rule.alert)}",
            f"  expr: {quoted(rule.expr)}",
            f"  for: {rule.for_s}s",
            "  labels:",
            f"    severity: {quoted(rule.severity)}",
            "  annotations:",
            f"    summary: {quoted(rule.summary)}",
            f"    description: {quoted(rule.description)}",
        ]
    )


def _page(found: dict[str, Any]) -> str:
    parts = [f"{found['id']} ({found['category']}, severity {found['severity']})", "", found["page"], ""]
    if found["thresholds"]:
        parts.append("Thresholds:")
        parts += [f"  {one['name']} = {one['value']} {one['unit']}".rstrip() for one in found["thresholds"]]
        parts.append("")
    parts.append(f"Reads the tables: {', '.join(found['needs'])}")
    if found["see_also"]:
        parts.append(f"Look-alikes and causes: {', '.join(found['see_also'])}")
    if found["alert_yaml"]:
        parts += ["", "Alert:", *(f"  {line}" for line in found["alert_yaml"].splitlines())]
    return "\n".join(parts)
