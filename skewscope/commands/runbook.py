"""Walk the troubleshooting guide of a condition, alone or over the data at hand.

Without data it prints the guide: what to check, in which order, and the same question for Prometheus. With recordings
or metric samples it does each check whose metric is there, says what it found and what follows, marks what is unknown,
and ends with the conclusion. Checks of one round do not depend on each other.

Examples:
  skewscope runbook coll-late-rank                                  the guide
  skewscope runbook coll-late-rank metrics/                         done over these files
  skewscope runbook coll-late-rank --report report.json metrics/    for the subjects that a report names
  skewscope runbook coll-late-rank metrics/ --json                  for scripts
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import Room, room
from ..contracts import Check, Window
from ..errors import UsageError
from ..subjects import Subject
from . import _work

if TYPE_CHECKING:
    from ..runbook import Step, Walk

SCHEMA = "skewscope.runbook/1"
MARKS = {"yes": "[yes]", "no": "[no ]", "unknown": "[ ? ]"}
Target = tuple[Subject | None, Window]


class Runbook:
    """`skewscope runbook`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("condition", metavar="CONDITION", help="id of the condition; `skewscope conditions` lists them")
        add("paths", nargs="*", metavar="PATH", help="recordings or metric samples: files or folders")
        add("--report", metavar="FILE", help="report of `analyze --json` that names the subjects to look at")
        add("--json", action="store_true", help="print JSON (skewscope.runbook/1)")

    def run(self, args: argparse.Namespace) -> int:
        """Print the guide, or what its checks found."""
        place = room("detectors", args.condition)
        targets = _of_report(Path(args.report), place.id) if args.report else []
        checks = guide(place)
        said: dict[str, Any]
        if not checks:
            said = {"page": what_to_do(place.page())}
            lines = [place.id, "", *said["page"].splitlines()]
        elif not args.paths:
            names = [subject.id for subject, _ in targets if subject]
            said = {"checks": [_plain(check) for check in checks], "subjects": names}
            lines = _guide_page(place, checks, names)
        else:
            walks = _walks(place.id, checks, args.paths, targets)
            said = {"walks": [_walk_plain(walk) for walk in walks]}
            lines = [line for walk in walks for line in _walk_page(walk)]
        _tell({"schema": SCHEMA, "condition": place.id, **said} if args.json else None, lines)
        return 0


def guide(place: Room) -> tuple[Check, ...]:
    """Return the checks of a condition's guide, none where the condition has no guide."""
    made: Callable[[], Sequence[Check]] | None = getattr(place.load(), "guide", None)
    return tuple(made()) if made else ()


def what_to_do(page: str) -> str:
    r"""Return the part of a condition's page that says what to do.

    >>> what_to_do("A slow rank.\n\nWhat to do\n    Drain it.\n")
    'What to do\n    Drain it.'
    """
    _, title, rest = page.partition("What to do\n")
    return (title + rest).rstrip() or "The page of this condition says nothing of what to do."


def _tell(document: Mapping[str, Any] | None, lines: Sequence[str]) -> None:
    if document is not None:
        from ..plans import plain

        text = json.dumps(plain(document), indent=2, allow_nan=False)
    else:
        from ..reports.wording import clean

        text = "\n".join(clean(line) for line in lines)
    sys.stdout.write(text + "\n")


def _of_report(path: Path, condition: str) -> list[Target]:
    """Return (subject, window) of each finding of the condition in a report; raises UsageError for what is none."""
    try:
        report = json.loads(path.read_text("utf-8"))
        found = [one for one in report["findings"] if one["condition"] == condition]
        targets: list[Target] = [(_subject(one["subject"]), _window(one["window"])) for one in found]
    except OSError as error:
        raise UsageError(f"--report {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        wanted = "wants what `skewscope analyze --json` writes"
        raise UsageError(f"--report {path}: {wanted} ({type(error).__name__}: {error})") from None
    if not targets:
        _work.LOG.info("%s names nobody for %s; looking at all there is", path, condition)
    return targets


def _subject(said: Mapping[str, Any]) -> Subject:
    numbers = {name: -1 if said.get(name) is None else int(said[name]) for name in ("rank", "peer", "stage", "layer")}
    return Subject(said["kind"], str(said["id"]), node=str(said.get("node") or ""), **numbers)


def _window(said: Mapping[str, Any]) -> Window:
    names = ("start_ns", "end_ns", "first_step", "last_step")
    return Window(*(-1 if said.get(name) is None else int(said[name]) for name in names))


def _walks(condition: str, checks: Sequence[Check], paths: Sequence[str], targets: Sequence[Target]) -> list[Walk]:
    """Return the guide walked for each target; without any, for whom the condition itself finds in the data."""
    from ..runbook import walk
    from . import analyze

    analysis = analyze.analysed(_work.read(paths), only=(condition,))
    own: list[Target] = [(found.subject, found.window) for found in analysis.findings]
    everybody: list[Target] = [(None, Window())]
    return [walk(condition, checks, analysis.tables, *target) for target in targets or own or everybody]


def _plain(check: Check) -> dict[str, Any]:
    names = ("name", "what", "metric", "take", "labels", "expect", "query", "yes", "no", "after")
    return {name: getattr(check, name) for name in names}


def _walk_plain(walk: Walk) -> dict[str, Any]:
    names = ("answer", "value", "where", "met", "series", "why", "reached", "says", "next")
    steps = [_plain(step.check) | {name: getattr(step, name) for name in names} for step in walk.steps]
    window = {"start_ns": walk.window.start_ns, "end_ns": walk.window.end_ns}
    subject = walk.subject.id if walk.subject else None
    return {"subject": subject, "window": window, "steps": steps, "conclusion": list(walk.conclusion)}


def _guide_page(place: Room, checks: Sequence[Check], subjects: Sequence[str]) -> list[str]:
    from ..runbook import levels

    lines = [f"{place.id}: {place.page().strip().splitlines()[0]}"]
    if subjects:
        lines.append(f"The report names {', '.join(subjects)}; give PATH with their metrics to have the checks done.")
    for number, part in enumerate(levels(checks), start=1):
        lines += ["", _round(number, len(part))]
        for check in part:
            lines += [
                f"  {check.name}: {check.what}", f"      look at  {_asked(check)}", f"      query    {check.query}",
                f"      if yes   {check.yes}", f"      if no    {check.no}",
            ]  # fmt: skip
    return lines


def _round(number: int, count: int) -> str:
    return f"Round {number}" + (f": {count} checks, independent of each other" if count > 1 else "")


def _asked(check: Check) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in check.labels.items())
    return f"{check.take} of {check.metric}{f' ({labels})' if labels else ''}, is it {check.expect}?"


def _walk_page(walk: Walk) -> list[str]:
    from ..reports.wording import clock
    from ..runbook import levels

    span = walk.window
    when = f", {clock(span.start_ns)} to {clock(span.end_ns)}" if span.start_ns >= 0 else ""
    lines = [f"{walk.condition}: {walk.subject.id if walk.subject else 'everybody in the data'}{when}"]
    done = {step.check.name: step for step in walk.steps}
    for number, part in enumerate(levels([step.check for step in walk.steps]), start=1):
        lines += ["", _round(number, len(part))]
        lines += [line for check in part for line in _step_page(done[check.name])]
    return [*lines, "", "Conclusion", *(f"  {line}" for line in walk.conclusion), ""]


def _step_page(step: Step) -> list[str]:
    check = step.check
    aside = "" if step.reached else "  (not on the way)"
    lines = [f"  {MARKS[step.answer]} {check.name}: {check.what}{aside}"]
    if step.answer == "unknown":
        return [*lines, f"        unknown: {step.why}", f"        query    {check.query}"]
    many = f"; {step.met} of {step.series} series meet it" if step.series > 1 else f" ({step.why})" if step.why else ""
    lines.append(f"        {check.take} of {check.metric} is {_number(step.value, check)} at {step.where}, "
                 f"asked {check.expect}{many}")  # fmt: skip
    aside = f" (next: {', '.join(step.next)})" if step.next else ""
    return [*lines, f"        so: {step.says}{aside}"]


def _number(value: float, check: Check) -> str:
    from ..metrics import METRICS

    unit = next((one.unit for one in METRICS if one.name == check.metric), "")
    shown = "" if unit in ("", "bool", "ratio") else f" {unit}"
    return f"{value:.4g}{shown}{' per second' if check.take == 'rate' else ''}"
