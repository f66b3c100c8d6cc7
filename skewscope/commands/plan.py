"""Work out a remedy from measured numbers: before, after, the bound, and the steps to take.

Each planner explains itself with `skewscope plan NAME --help`. No planner changes anything: it computes and says.

Examples:
  skewscope plan moe loads.npz --gpus 32 --slots 288 --json plan.json --html plan.html
  skewscope plan gradient-coding delays.csv
  skewscope plan batch traces/
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import load, rooms
from . import _files, _work

if TYPE_CHECKING:
    from ..plans import Plan as Made

MOST_STEPS = 12  # printed; all are in the JSON


class Plan:
    """`skewscope plan`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare nothing: all flags are those of the planners."""

    def nest(self, parser: argparse.ArgumentParser) -> None:
        """Declare the planners and what they share; apart, since it imports all of them."""
        places = parser.add_subparsers(prog="skewscope plan", dest="planner", metavar="NAME", required=True)
        for room in rooms("planners"):
            page = room.page().strip()
            place = places.add_parser(
                room.id, help=page.splitlines()[0].rstrip(".").replace("%", "%%"), description=page,
                formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
            )  # fmt: skip
            planner = room.load()
            planner.arguments(place)
            place.add_argument("--json", metavar="FILE", help="write the plan (skewscope.plan.NAME/1); - is the output")
            place.add_argument("--html", metavar="FILE", help="write a page with pictures")
            place.set_defaults(planned=planner)

    def run(self, args: argparse.Namespace) -> int:
        """Plan, print, write; exit code 1 where no plan is possible."""
        for flag in ("json", "html"):
            target = getattr(args, flag)
            if target and target != "-":
                _files.check_file(Path(target), f"--{flag}")
        began = time.monotonic()
        made: Made = args.planned.plan(args)
        if not made.solve_s:
            made = replace(made, solve_s=time.monotonic() - began)
        document = made.document()
        for path, content in made.files.items():
            _files.write(Path(path), partial(Path.write_bytes, data=content))
        if args.html:
            page = load("dashboards.plan_page").page(document, made.pictures)
            _files.write_text(Path(args.html), page)
        if args.json == "-":
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            if args.json:
                _files.write_text(Path(args.json), json.dumps(document, indent=2) + "\n")
            print("\n".join(lines(document, args)))
        for warning in made.warnings:
            _work.LOG.warning("%s", warning)
        return 0 if made.feasible else 1


def lines(document: Mapping[str, Any], args: argparse.Namespace) -> list[str]:
    """Return what people read: the verdict, metrics before and after, the bound, the first steps."""
    said = [document["verdict"], ""]
    width = max((len(name) for name in document["current"]), default=0)
    if document["current"]:
        said.append(f"{'':{width}}  {'now':>12}  {'planned':>12}")
    for name, before in document["current"].items():
        said.append(f"{name:{width}}  {_number(before):>12}  {_number(document['proposed'].get(name)):>12}")
    if document["lower_bound"] is not None:
        proved = "reached, proved" if document["optimal"] else f"gap {_number(document['gap'])}"
        said.append(f"bound ({document['objective']}): {_number(document['lower_bound'])}, {proved}")
    said += _ladder(document["plan"].get("ladder", ()))
    steps = document["steps"]
    said += ["", *(f"{number}. {step}" for number, step in enumerate(steps[:MOST_STEPS], 1))] if steps else []
    if len(steps) > MOST_STEPS:
        said.append(f"... and {len(steps) - MOST_STEPS} more (--json)")
    return said + [f"written: {place}" for place in (args.json, args.html) if place and place != "-"]


def _ladder(rungs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a plan holds as its `ladder`, rung by rung: where it stands and what limits it."""
    width = max((len(rung["rung"]) for rung in rungs), default=0)
    head = ["", f"{'':{width}}  {'mean':>12}  {'worst':>12}"] if rungs else []
    return head + [f"{one['rung']:{width}}  {_number(one['mean']):>12}  {_number(one['worst']):>12}" for one in rungs]


def _number(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "unknown", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        short = f"{value:.4g}"
        return f"{value:.6g}" if short.isdigit() else short  # 1.0003 is no 1
    return f"{value:,}" if isinstance(value, int) else str(value)
