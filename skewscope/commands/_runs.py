"""What `compare` and `scaling` share: one run from a recording, a folder that `analyze --out` wrote, or a report."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import _cached, _files, _window, _work

if TYPE_CHECKING:
    from ..comparison.run import Run

REPORT, TABLES = "report.json", "tables"
SCHEMA = "skewscope.report/1"


def flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of reading and writing."""
    add = parser.add_argument
    add("--json", metavar="FILE", help="write the comparison as JSON; '-' is standard output")
    add("--html", metavar="FILE", help="write it as one self-contained HTML file")
    add("--names", type=_listed, metavar="NAME,...", help="what to call the runs (default: their files' names)")
    add("--window", type=_window.window, metavar="A:B", help="only these steps or times of every run")
    add("--workers", type=_work.whole_number, metavar="N", help="processes that read files (default: all cores)")
    _cached.flags(parser)


def check_targets(args: argparse.Namespace) -> None:
    """Raise UsageError for files that cannot be written, before the long work."""
    for flag, value in (("--json", args.json), ("--html", args.html)):
        if value and value != "-":
            _files.check_file(Path(value), flag)


def named(paths: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """Return one name per run: those given, else the last parts of the paths, as many as it takes to tell them apart.

    >>> named(["runs/a/t.json.gz", "runs/b/t.json.gz"], None), named(["a", "b"], ["old", "new"])
    (['a/t', 'b/t'], ['old', 'new'])
    """
    if given:
        if len(given) != len(paths):
            raise UsageError(f"--names gives {len(given)} names for {len(paths)} runs")
        return list(given)
    parts = [_bare(path) for path in paths]
    for depth in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(part[-1:])} ({place})" for place, part in enumerate(parts, start=1)]


def _bare(path: str) -> list[str]:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [path]
    name = parts[-1]
    for end in (".gz", ".json", ".parquet", ".csv", ".sqlite", ".trace", ".pt"):
        name = name.removesuffix(end)
    return [*parts[:-1], name or parts[-1]]


def run(path: str, name: str, args: argparse.Namespace, *, detail: bool = False) -> Run:
    """Return one run; raises UsageError, or NothingReadable with each file's reason."""
    from ..comparison.run import Run

    place = Path(path)
    written = place / REPORT if place.is_dir() else place if place.name.endswith(".json") else None
    report = _report(written) if written is not None and written.is_file() else None
    tables = written.parent / TABLES if written is not None else None
    if report is not None and not (tables is not None and tables.is_dir()):
        if args.window is not None:
            raise UsageError(f"--window: {path} is a report alone, which holds nothing to cut")
        return Run(name, report)
    with _cached.used(args):
        recording = _work.read([str(tables) if report is not None else path], args.workers, detail=detail)
    if args.window is not None:
        recording = dataclasses.replace(recording, tables=_window.cut(recording.tables, args.window))
    from . import analyze

    analysis = analyze.analysed(recording)
    whole = report is not None and args.window is None
    return Run(name, report if whole and report is not None else analyze.report_of(analysis), analysis.tables)


def _report(path: Path) -> dict[str, Any] | None:
    """Return a report document, None for any other file."""
    try:
        with path.open("rb") as file:
            if SCHEMA.encode() not in file.read(4096):
                return None
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else None


def written(args: argparse.Namespace, text: str, page: str) -> None:
    """Write what was asked for."""
    if args.json == "-":
        import sys

        sys.stdout.write(text)
    elif args.json:
        _files.write_text(Path(args.json), text)
    if args.html:
        _files.write_text(Path(args.html), page)
    for place in (args.json if args.json != "-" else None, args.html):
        if place:
            _work.LOG.info("wrote %s", place)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
