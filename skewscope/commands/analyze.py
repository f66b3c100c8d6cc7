"""Say who makes a job slow, from recordings of any mix of formats.

Reads files and folders (the format is detected from the content), and prints a page that says which rank, link,
stage or host is slow, what that costs and what to do next. Results go to standard output, all else to standard error.

Canonical Parquet tables of more than 5 million calls, operations and steps are analysed in ranges of steps, one for
each process at a time (--workers, about 1.3 GB each, or --dask), and judged together. Every step is priced; who arrived
when at single calls is then kept of every k-th step.

Examples:
  skewscope analyze traces/                            one page on the terminal
  skewscope analyze traces/ --html report.html         the same with charts, one self-contained file
  skewscope analyze traces/ --json - | jq .summary     for scripts; the page then goes to standard error
  skewscope analyze traces/ --out result/              report.json, report.html and tables/*.parquet
  skewscope analyze traces/ --fail-on S2               exit code 1 when something of S2 or worse is found
  skewscope analyze traces/ --window 100:200           only steps 100 to 200 (or times: ns, ISO 8601)
  skewscope analyze s3://bucket/run/                   from a store, where fsspec and its driver are installed
  skewscope analyze traces/ --only coll-late-rank      only these conditions, separated by commas
  skewscope analyze traces/ --out result/ --views all  with the answers of all views (`skewscope view --list`)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import load, room
from ..contracts import SEVERITIES
from . import _cached, _files, _large, _trace, _views, _window, _work

if TYPE_CHECKING:
    from ..analysis import Analysis
    from ..recording import Recording
    from ..viewing import Answer


class Analyze:
    """`skewscope analyze`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("paths", nargs="+", metavar="PATH", help="recordings: files, folders, or URLs of either (s3://bucket/run)")
        add("--json", metavar="FILE", help="write the report as JSON (skewscope.report/1); '-' is standard output")
        add("--html", metavar="FILE", help="write the report as one self-contained HTML file")
        add("--perfetto", metavar="FILE", help="write a trace of the whole job, with its findings, for Perfetto")
        add("--out", metavar="DIR", help="write report.json, report.html and tables/*.parquet into this folder")
        add("--fail-on", choices=SEVERITIES, help="exit code 1 when a culprit of this severity or worse is found")
        add("--workers", type=_work.whole_number, metavar="N", help="processes that read files (default: all cores)")
        add("--dask", metavar="ADDRESS", help="read with a Dask cluster at this address")
        _cached.flags(parser)
        add(
            "--window", type=_window.window, metavar="A:B", help="only these steps or times; either end may be left out"
        )
        add("--only", type=_names, metavar="CONDITION,...", help="report only these conditions")
        add("--views", type=_views.names, metavar="VIEW,...", default=("light",),
            help="views in the HTML report and in --out: names, light (default), all, none")  # fmt: skip

    def run(self, args: argparse.Namespace) -> int:
        """Analyse, write what was asked for, print the page."""
        for name in args.only or ():
            room("detectors", name)
        _check_targets(args)
        views = _views.Asked.of(args.views if args.html or args.out else ("none",))
        _work.keep_freed()
        analysis = _large.analysed(args.paths, args.workers, args.dask, args.window, args.only)
        if analysis is None:
            with _cached.used(args):
                recording = _work.read(args.paths, args.workers, args.dask, detail=views.detail)
            analysis = analysed(recording, args.window, args.only)
        report = report_of(analysis)
        text = as_json(report)
        _write(args, analysis, report, text, views.answers(analysis))
        if args.json == "-":
            sys.stdout.write(text)
        print_page(report, analysis, to_stderr=args.json == "-")
        return 1 if args.fail_on and _reaches(report, args.fail_on) else 0


def analysed(recording: Recording, span: _window.Window | None = None, only: tuple[str, ...] | None = None) -> Analysis:
    """Return the Analysis of a recording, or of a window of it, for all conditions or some."""
    from ..analysis import analyze

    if span is not None:
        recording = dataclasses.replace(recording, tables=_window.cut(recording.tables, span))
    with _work.progress("analysing"):
        return analyze(recording, only=only or ())


def report_of(analysis: Analysis) -> dict[str, Any]:
    """Return the report document, its recommendations priced on the recorded rounds where there are any."""
    from ..planners.advise import advised
    from ..reports.document import document

    return advised(document(analysis), analysis.tables, analysis.recording.parallelism)


def as_json(report: dict[str, Any]) -> str:
    """Return a report as JSON text."""
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def print_page(report: dict[str, Any], analysis: Analysis, *, to_stderr: bool = False) -> None:
    """Print the terminal page of a report."""
    from ..reports.rank_table import rank_table
    from ..reports.terminal import page

    _work.show(page(report, rank_table(analysis.tables)), sys.stderr if to_stderr else sys.stdout)


def as_html(report: dict[str, Any], analysis: Analysis, views: Sequence[Answer] = ()) -> str:
    """Return a report as one self-contained HTML page, with the answers of views after its charts."""
    made: str = load("dashboards.report_page").page(report, analysis.tables, views)
    return made


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("wants conditions, separated by commas; `skewscope conditions` lists them")
    return names


def _check_targets(args: argparse.Namespace) -> None:
    for flag, value in (("--json", args.json), ("--html", args.html), ("--perfetto", args.perfetto)):
        if value and value != "-":
            _files.check_file(Path(value), flag)
    if args.out:
        _files.make_folder(Path(args.out) / "tables", "--out")


def _write(
    args: argparse.Namespace, analysis: Analysis, report: dict[str, Any], text: str, views: Sequence[Answer]
) -> None:
    page = as_html(report, analysis, views) if args.html or args.out else ""
    if args.json and args.json != "-":
        _files.write_text(Path(args.json), text)
    if args.html:
        _files.write_text(Path(args.html), page)
    if args.perfetto:
        _trace.write(analysis, Path(args.perfetto))
    if args.out:
        folder = Path(args.out)
        _files.write_text(folder / "report.json", text)
        _files.write_text(folder / "report.html", page)
        _files.write_tables(folder / "tables", analysis.tables)
        _views.write_csv(folder / "views", views)
    for place in (args.json if args.json != "-" else None, args.html, args.perfetto, args.out):
        if place:
            _work.LOG.info("wrote %s", place)


def _reaches(report: dict[str, Any], line: str) -> bool:
    return any(found["role"] == "culprit" and found["severity"] <= line for found in report["findings"])
