"""Measure how well conditions are found, on simulated fleets whose faults are known.

Each shipped scenario runs with several seeds; all rooms watch it as they would live, on growing prefixes of its
windows. Tells per condition recall and precision, time to detect, the error of the price, how often the root cause
comes first among look-alikes, and the false alarms of healthy fleets. `look-alikes` takes every pair of conditions that
people confuse, lets only one of them be true, and counts what was named. Seeds for tuning thresholds and seeds for
judging them never meet; --judge takes the latter.

Examples:
  skewscope bench detect                                        every scenario, a few tuning seeds
  skewscope bench detect --only gpu-hw-slowdown --seeds 20      the scenarios with this fault, more seeds
  skewscope bench detect --only healthy --nodes 32              a scenario by name, on a larger fleet
  skewscope bench detect --sweep --html bench.html              how small faults may be, as a page with charts
  skewscope bench detect --effect 0.15 --seeds 10               with faults that cost 15 % of the step or more
  skewscope bench detect --judge --seeds 50 --json bench.json   the figures to publish (skewscope.bench/1)
  skewscope bench look-alikes --only gpu-power-cap --seeds 3    what is taken for what (skewscope.look_alikes/1)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import load
from ..errors import UsageError
from . import _files, _work

if TYPE_CHECKING:
    from ..bench.results import Case, Result

SEEDS, EVERY = 5, 4


class Bench:
    """`skewscope bench`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add, whole = parser.add_argument, _work.whole_number
        add("what", choices=("detect", "look-alikes"),
            help="what to measure: the finding of conditions, or the telling apart of alike ones")  # fmt: skip
        add("--seeds", type=whole, default=SEEDS, metavar="N", help=f"seeds of each scenario ({SEEDS})")
        add("--judge", action="store_true", help="take the seeds kept for judging, not those for tuning")
        add("--only", metavar="CONDITION,...", help="only scenarios with these faults, or of these names")
        add("--nodes", type=whole, metavar="N", help="nodes of each scenario's first job (default: as it ships)")
        add("--effect", type=_share, default=0.0, metavar="SHARE",
            help="let single faults cost at least this share of the step, as 0.15 (default: as they ship)")  # fmt: skip
        add("--every", type=whole, default=EVERY, metavar="N", help=f"look at every so many windows ({EVERY})")
        add("--sweep", action="store_true", help="also try single faults in other severities (of detect)")
        add("--json", metavar="FILE", help="write the figures (skewscope.bench/1, skewscope.look_alikes/1); '-' is "
            "standard output")  # fmt: skip
        add("--html", metavar="FILE", help="write a self-contained page with charts (of detect)")
        add("--markdown", metavar="FILE", help="write the figures as a page of documentation")
        add("--workers", type=whole, metavar="N", help="processes (default: all cores)")

    def run(self, args: argparse.Namespace) -> int:
        """Measure, print, write."""
        alike = args.what == "look-alikes"
        if alike and (args.sweep or args.html):
            raise UsageError("--sweep and --html belong to `bench detect`; look-alikes has --json and --markdown")
        for flag, value in (("--json", args.json), ("--html", args.html), ("--markdown", args.markdown)):
            if value and value != "-":
                _files.check_file(Path(value), flag)
        document = told_apart(args) if alike else measured(args)
        _write(args, document)
        from ..bench import look_alikes_page, terminal

        page = look_alikes_page.page if alike else terminal.page
        _work.show(page(document), sys.stderr if args.json == "-" else sys.stdout)
        return 0


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Return the document `skewscope.bench/1` that the flags ask for."""
    from ..bench import cases, seeds, sweeps, totals
    from ..bench.results import Case

    chosen = seeds.seeds(args.seeds, judge=args.judge)
    names = scenarios(args.only)
    asked = [
        Case(name, seed, args.nodes or 0, effect=args.effect, every=args.every) for name in names for seed in chosen
    ]
    for name in names:
        cases.planned(Case(name, 0, args.nodes or 0))  # a size that does not fit is told before the long work
    results = _run(asked, args.workers, "watching")
    swept = _run(sweeps.grid(results), args.workers, "sweeping") if args.sweep else []
    return totals.document(
        results, judge=args.judge, seeds=chosen, sweeps=sweeps.curves(results, swept) if args.sweep else ()
    )


def told_apart(args: argparse.Namespace) -> dict[str, Any]:
    """Return the document `skewscope.look_alikes/1` that the flags ask for."""
    from ..bench import cases, look_alikes, pairs, seeds
    from ..bench.results import Case
    from ..simulate import shipped

    chosen, some = seeds.seeds(args.seeds, judge=args.judge), pairs.chosen(args.only)
    by = pairs.scenarios(pairs.conditions(some), shipped())
    names = [name for condition in by for name in by[condition]]
    for name in names:
        cases.planned(Case(name, 0, args.nodes or 0))
    asked = [
        Case(name, seed, args.nodes or 0, effect=args.effect, every=args.every) for name in names for seed in chosen
    ]
    results = _run(asked, args.workers, "watching")
    said = look_alikes.answers(results) + look_alikes.recorded([condition for condition in by if not by[condition]])
    return look_alikes.document(said, some, results, judge=args.judge, seeds=chosen)


def _share(text: str) -> float:
    """Return a share above 0 and below 1; raises ArgumentTypeError."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1, as 0.15")
    return share


def _run(asked: Sequence[Case], workers: int | None, what: str) -> list[Result]:
    from ..bench.cases import run

    with _work.progress(what) as moved:
        return run(asked, workers or 0, moved)


def scenarios(only: str | None) -> list[str]:
    """Return the names of the shipped scenarios with a fault that `only` names, or named there; all where it is None.

    Raises UsageError for a name that no scenario and no fault has.
    """
    from ..simulate import shipped

    known = shipped()
    if only is None:
        return list(known)
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    faults = {fault.condition for plan in known.values() for fault in plan.faults}
    strange = sorted(wanted - faults - set(known))
    if strange or not wanted:
        raise UsageError(f"--only {only}: no shipped scenario has the fault or name {', '.join(strange) or 'given'}; "
                         "`skewscope simulate --list` lists them")  # fmt: skip
    return [name for name, plan in known.items()
            if name in wanted or wanted & {fault.condition for fault in plan.faults}]  # fmt: skip


def _write(args: argparse.Namespace, document: dict[str, Any]) -> None:
    if args.json:
        from ..plans import plain

        text = json.dumps(plain(document), indent=2, allow_nan=False) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
        else:
            _files.write_text(Path(args.json), text)
    if args.html:
        _files.write_text(Path(args.html), load("dashboards.bench_page").page(document))
    if args.markdown:
        from ..bench import look_alikes_page, markdown

        page = markdown.page if args.what == "detect" else look_alikes_page.markdown
        _files.write_text(Path(args.markdown), page(document))
    for place in (args.json if args.json != "-" else None, args.html, args.markdown):
        if place:
            _work.LOG.info("wrote %s", place)
