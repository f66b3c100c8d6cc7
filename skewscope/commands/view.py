"""Answer one question about recordings: where the time goes, what idles, what is slow, and more.

A view is one question; `--list` shows all of them. Light views answer from what `analyze` reads anyway, deep ones read
the host's calls as well. Several views are asked at once with commas; `light`, `deep` and `all` are sets of them.

Examples:
  skewscope view --list                                         every view with its question
  skewscope view temporal-breakdown traces/                     compute, communication, copies and idle of each rank
  skewscope view kernels,launches traces/ --top 30              two views, 30 rows each
  skewscope view idle-causes traces/ --ranks 0,3-7              only these ranks
  skewscope view steps traces/ --window 100:200                 only these steps (or times: ns, ISO 8601)
  skewscope view launches traces/ --set runtime_cutoff_us=20    another threshold; `view launches --list` has all
  skewscope view bus-bandwidth traces/ --json - | jq .views     for scripts (skewscope.view/1)
  skewscope view all traces/ --html views.html --csv tables/    pictures in one file, all rows as CSV
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import load
from ..errors import UsageError
from . import _cached, _files, _views, _window, _work

if TYPE_CHECKING:
    from ..recording import Recording
    from ..viewing import Answer

LOG = logging.getLogger("skewscope")
NOTHING = 3  # exit code where no view has an answer


class View:
    """`skewscope view`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("views", nargs="?", metavar="VIEW,...", help="the views to ask, separated by commas")
        add("paths", nargs="*", metavar="PATH", help="recordings: files or folders")
        add("--list", action="store_true", help="list the views and their questions; with NAME also its settings")
        add("--json", metavar="FILE", help="write the answers as JSON (skewscope.view/1); '-' is standard output")
        add("--csv", metavar="DIR", help="write every table as DIR/VIEW/TABLE.csv")
        add("--html", metavar="FILE", help="write words, tables and pictures as one self-contained HTML file")
        add("--detail", action="store_true", help="read host calls for light views, too: they then know every launch")
        add("--table", metavar="TABLE", help="print this table of the view instead of its main one")
        add("--ranks", type=_views.ranks, metavar="0,3-7", help="only these ranks")
        add("--window", type=_window.window, metavar="A:B", help="only these steps or times")
        add("--top", type=_work.whole_number, default=15, metavar="N", help="rows of a table to print (default 15)")
        add("--set", action="append", default=[], type=_views.setting, metavar="NAME=VALUE",
            help="a setting of the view, as top_count=50 or kernels.top_count=50; may be repeated")  # fmt: skip
        add("--workers", type=_work.whole_number, metavar="N", help="processes that read files (default: all cores)")
        add("--dask", metavar="ADDRESS", help="read with a Dask cluster at this address")
        _cached.flags(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Ask the views and print, or write, what they answer."""
        from ..viewing import named

        names = _views.names(args.views or "all")
        if args.list:
            _work.show(_views.listed(named(names), full=args.views is not None), sys.stdout)
            return 0
        _check(args)
        asked = named(names)
        settings = dict(args.set)
        _views.settings_known(asked, settings)
        answers, recording = _answers(args, asked, settings)
        if args.table:
            answers = [_with_table(one, args.table) for one in answers]
        _write(args, answers, recording)
        return 0 if any(one.shown is not None for one in answers) else NOTHING


def _answers(args: argparse.Namespace, asked: Any, settings: dict[str, str]) -> tuple[list[Answer], Recording]:  # noqa: ANN401 - rooms
    from ..analysis import with_derived
    from ..viewing import answers, deep, of_ranks

    detail = args.detail or any(deep(room) for room in asked)
    _work.keep_freed()
    with _cached.used(args):
        recording = _work.read(args.paths, args.workers, args.dask, detail=detail)
    if args.window is not None:
        recording = dataclasses.replace(recording, tables=_window.cut(recording.tables, args.window))
    with _work.progress("attributing"):
        tables, warnings = with_derived(recording)
    for said in (*recording.warnings, *warnings):
        LOG.debug("%s", said)
    if args.ranks:
        tables = of_ranks(tables, args.ranks)
    with _work.progress("viewing") as moved:
        known = {**_views.facts(asked, recording), **settings}
        return answers(tables, asked, known, on_fault=_views.tell_fault, progress=moved), recording


def _check(args: argparse.Namespace) -> None:
    if args.views is None:
        raise UsageError("name a view and recordings: skewscope view NAME PATH...; `skewscope view --list` lists them")
    if not args.paths:
        raise UsageError(f"no recordings given: skewscope view {args.views} PATH...")
    for flag, value in (("--json", args.json), ("--html", args.html)):
        if value and value != "-":
            _files.check_file(Path(value), flag)
    if args.csv:
        _files.make_folder(Path(args.csv), "--csv")


def _with_table(answer: Answer, name: str) -> Answer:
    """Return the answer with this table as its main one; raises UsageError that names its tables."""
    if answer.shown is None:
        return answer
    tables = answer.shown.tables
    if name not in tables:
        raise UsageError(f"--table {name}: {answer.view} has the tables {', '.join(tables)}")
    moved = {name: tables[name], **{other: rows for other, rows in tables.items() if other != name}}
    return dataclasses.replace(answer, shown=dataclasses.replace(answer.shown, tables=moved))


def _write(args: argparse.Namespace, answers: list[Answer], recording: Recording) -> None:
    from ..reports.view_document import document
    from ..reports.view_page import page

    if args.json:
        text = json.dumps(document(answers, recording.inputs), indent=1, allow_nan=False) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
        else:
            _files.write_text(Path(args.json), text)
    if args.csv:
        _views.write_csv(Path(args.csv), answers)
    if args.html:
        _files.write_text(Path(args.html), load("dashboards.view_page").page(answers, recording.inputs))
    _work.show(page(answers, args.top), sys.stderr if args.json == "-" else sys.stdout)
    for place in (args.json if args.json != "-" else None, args.csv, args.html):
        if place:
            LOG.info("wrote %s", place)
