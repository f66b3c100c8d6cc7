"""Say what changed from one run to another: step time, kernels, communication, findings, and whether it is chance.

Takes two recordings, folders that `analyze --out` wrote, or report.json files. Different numbers of ranks and steps are
compared per step and rank. The answer may be that there is no difference, or too few steps to tell.

Examples:
  skewscope compare before/ after/                          one page on the terminal
  skewscope compare before/ after/ --fail-if-slower 5       exit code 1 when the step is slower by 5 % beyond chance
  skewscope compare h100.json.gz mi300.json.gz --detail     kernels under the operator that launched them
  skewscope compare runs/6 runs/7 --html diff.html --json - | jq .step_time
  skewscope compare before/ after/ --window 100:200 --names "torch 2.12,torch 2.13"
"""

from __future__ import annotations

import argparse
import json
import sys

from ..catalogue import load
from . import _runs, _work


class Compare:
    """`skewscope compare`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("before", metavar="BEFORE", help="a recording (file or folder), a folder of `analyze --out`, a report.json")
        add("after", metavar="AFTER", help="the other one")
        add("--detail", action="store_true", help="read the host's calls too: match kernels by operator")
        add("--exact-names", action="store_true", help="do not match kernels that differ by template arguments alone")
        add("--top", type=_work.whole_number, default=15, metavar="N", help="rows of a list on the page (default 15)")
        add("--fail-if-slower", type=_percent, metavar="PERCENT",
            help="exit code 1 when the median step is slower by so much or more, and it is no chance")  # fmt: skip
        _runs.flags(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Read both, compare, write what was asked for, print the page."""
        from ..comparison.document import compare, slower_percent
        from ..reports.compare_page import page

        _runs.check_targets(args)
        paths = (args.before, args.after)
        names = _runs.named(paths, args.names)
        before, after = (
            _runs.run(path, name, args, detail=args.detail) for path, name in zip(paths, names, strict=True)
        )
        document = compare(before, after, detail=args.detail, exact=args.exact_names)
        drawn = load("dashboards.compare_page").page(document, before.step_s, after.step_s) if args.html else ""
        _runs.written(args, json.dumps(document, indent=2, allow_nan=False) + "\n", drawn)
        _work.show(page(document, args.top), sys.stderr if args.json == "-" else sys.stdout)
        slower = slower_percent(document)
        return 1 if args.fail_if_slower is not None and slower > 0 and slower >= args.fail_if_slower else 0


def _percent(text: str) -> float:
    """Return a percentage of 0 or more; raises argparse.ArgumentTypeError."""
    try:
        value = float(text.rstrip("% "))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: wants percent, as 5")
    return value
