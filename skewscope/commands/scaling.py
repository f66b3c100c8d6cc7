"""Say how a job scales over runs of different sizes: efficiency, what grows with the ranks, and the serial share.

Takes two or more runs with different numbers of ranks: recordings, folders that `analyze --out` wrote, or report.json
files. Strong scaling shares one amount of work among more ranks, weak scaling gives every rank the same; which of both
it is tell the tokens of the steps, else the compute of a rank, else --mode.

Examples:
  skewscope scaling runs/8 runs/16 runs/32 runs/64
  skewscope scaling runs/8 runs/64 --mode strong --fail-below 0.8      exit code 1 when less than 80 % is left
  skewscope scaling runs/* --html scaling.html --json - | jq .fits
"""

from __future__ import annotations

import argparse
import json
import sys

from ..catalogue import load
from . import _runs, _work


class Scaling:
    """`skewscope scaling`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("runs", nargs="+", metavar="RUN", help="recordings, folders of `analyze --out`, or report.json files")
        add("--mode", choices=("strong", "weak"), default="", help="how the work was shared (default: found)")
        add("--fail-below", type=float, metavar="SHARE",
            help="exit code 1 when the largest run keeps less than this share (0..1) of its speed a rank")  # fmt: skip
        _runs.flags(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Read all, fit, write what was asked for, print the page."""
        from ..comparison.scaling import scaling
        from ..errors import UsageError
        from ..reports.scaling_page import page

        if len(args.runs) < 2:
            raise UsageError("wants two runs or more, of different sizes")
        _runs.check_targets(args)
        names = _runs.named(args.runs, args.names)
        runs = [_runs.run(path, name, args) for path, name in zip(args.runs, names, strict=True)]
        document = scaling(runs, args.mode)
        drawn = load("dashboards.scaling_page").page(document) if args.html else ""
        _runs.written(args, json.dumps(document, indent=2, allow_nan=False) + "\n", drawn)
        _work.show(page(document), sys.stderr if args.json == "-" else sys.stdout)
        kept = document["runs"][-1]["efficiency"]
        return 1 if args.fail_below is not None and kept < args.fail_below else 0
