"""Analyse the shipped sample recordings: the main job, end to end, without a server.

Prints the report and writes report.html and report.json; opens the page in a browser where there is one. With --serve
the dashboard stays up on the result instead.

Examples:
  skewscope demo                       print, write ./skewscope-report/, open the page
  skewscope demo --no-open             the same without a browser
  skewscope demo --out /srv/demo       write elsewhere
  skewscope demo --serve               keep the dashboard up at http://127.0.0.1:8790 until Ctrl-C
"""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import _files, _work, analyze

if TYPE_CHECKING:
    from ..analysis import Analysis

FAVOURITE = "compute-slow"
NOTES, LABELS = {".md", ".csv"}, {"truth.json"}  # beside a sample, not part of it


class Demo:
    """`skewscope demo`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--out", metavar="DIR", default="skewscope-report", help="folder for the report (./skewscope-report)")
        add("--no-open", action="store_true", help="open no browser")
        add("--serve", action="store_true", help="keep the dashboard up on 127.0.0.1 until Ctrl-C")
        add("--port", type=int, default=8790, metavar="PORT", help="port of --serve (8790; 0 takes a free one)")

    def run(self, args: argparse.Namespace) -> int:
        """Analyse the sample, print, write, show."""
        folder = _files.make_folder(Path(args.out), "--out")
        with as_file(_sample()) as sample:
            analysis = analyze.analysed(
                _work.read([str(path) for path in sorted(sample.iterdir()) if _is_recording(path)])
            )
        report = analyze.report_of(analysis)
        _files.write_text(folder / "report.json", analyze.as_json(report))
        _files.write_text(folder / "report.html", analyze.as_html(report, analysis))
        analyze.print_page(report, analysis)
        print(f"\nReport with charts: {folder / 'report.html'}\nYour own recordings: skewscope analyze PATH...")
        if args.serve:
            return _serve(analysis, args.port, not args.no_open)
        if not args.no_open and _has_display():
            webbrowser.open((folder / "report.html").resolve().as_uri())
        return 0


def _sample() -> Traversable:
    """Return the folder of the shipped sample to show: the favourite, else the first by name."""
    shipped = {place.name: place for place in files("skewscope.sample_data").iterdir() if _is_sample(place)}
    if not shipped:
        raise UsageError("no sample recordings are installed; install skewscope again, or use `skewscope analyze PATH`")
    return shipped[FAVOURITE if FAVOURITE in shipped else min(shipped)]


def _is_sample(place: Traversable) -> bool:
    return place.is_dir() and not place.name.startswith(("_", "."))


def _is_recording(path: Path) -> bool:
    return path.suffix not in NOTES and path.name not in LABELS


def _has_display() -> bool:
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _serve(analysis: Analysis, port: int, browse: bool) -> int:
    """Keep the dashboard up on the result; raises UsageError where the port is not free."""
    from ..catalogue import load
    from . import dashboard

    made = load("dashboards._sources")
    pages = dashboard.on_loopback(made.Fixed(made.from_analysis(analysis, "the demo's recording")), port)

    def show(address: str) -> None:
        if browse and _has_display():
            webbrowser.open(address)

    return dashboard.serve(pages, show)
