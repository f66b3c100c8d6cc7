"""Measure how fast this node is, and say whether that is as fast as its peers.

Runs for about half a minute on a node that does nothing else: matrix products, copies in and between memories, each
link of the GPUs, a connection to itself; with `--together` under torchrun or srun also every pair of nodes and one
reduction over all. Without GPUs the processors are measured. A node that was fenced because it was slow comes back
only after "pass"; "unsure" (few peers, much noise, GPUs that torch cannot reach) leaves it where it is.

Results of healthy nodes are the reference: keep them once, on a shared folder, one line a node.
Exit codes: 0 pass (or nothing to compare with was given), 1 fail or unsure.

Examples:
  skewscope retest                                               what this node reaches
  srun --ntasks-per-node=1 skewscope retest --keep peers.jsonl   keep a reference of all nodes of a job
  skewscope retest --against peers.jsonl --json -                is this one as fast?
  srun -N4 --ntasks-per-node=1 skewscope retest --together       four nodes judge each other, and their links
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SkewscopeError
from . import _files

if TYPE_CHECKING:
    from ..retest.document import Result


class Retest:
    """`skewscope retest`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--against", metavar="FILE", type=Path, help="results of peers: a file of --keep, or a folder of such")
        add("--keep", metavar="FILE", type=Path, help="add the result as a line; many nodes may write one file")
        add("--json", metavar="FILE", help="write the result (skewscope.retest/1); - is standard output")
        add("--seconds", metavar="S", type=_seconds, default=30.0, help="time to spend, about (default 30)")
        add("--node", metavar="NAME", default="", help="name of this node (default: SLURMD_NODENAME, NODE_NAME, host)")
        add("--cpu", action="store_true", help="leave GPUs alone and measure the processors")
        add("--together", action="store_true", help="all ranks of this launch: pairs of nodes, a reduction over all")
        add("--least-ratio", metavar="R", type=_ratio, help="slower than this share of the peers fails (default 0.93)")

    def run(self, args: argparse.Namespace) -> int:
        """Measure, judge, print; exit code 1 unless it passed or was not to be judged."""
        from ..retest import document, gate, run

        if args.json and args.json != "-":
            _files.check_file(Path(args.json), "--json")
        known = gate.references(args.against) if args.against else []
        results = run.measure(run.Plan(args.node or _named(), args.seconds, args.cpu, args.together), run.loaded())
        compared = bool(args.against) or len(results) > 1
        if compared:
            results = list(_judged(results, known, args.least_ratio))
        if args.together and not _is_first():
            return 0
        lines = [document.line(one) for one in results]
        _written(args, lines)
        if args.json != "-":
            print("\n".join(said for one in results for said in page(one)))
        return int(compared and any(one.verdict != "pass" for one in results))


def page(result: Result) -> list[str]:
    """Return what people read of one node: each speed with its spread, then the verdict and why."""
    import statistics

    said = [f"{result.node}: {result.hardware}, {result.backend}"]
    for one in result.measures:
        middle = statistics.median(one.values)
        ends = f"{min(one.values) / middle - 1:+.1%} .. {max(one.values) / middle - 1:+.1%}"
        said.append(f"  {one.name:12} {one.device:12} {_amount(middle, one.unit):>15}  {ends}  ({one.work})")
    said += [f"  {one}" for one in result.failures]
    return said if result.verdict == "unjudged" else [*said, f"{result.verdict}: {'; '.join(result.why)}"]


def _amount(speed: float, unit: str) -> str:
    """Return a speed with a prefix.

    >>> _amount(7.1e14, "flops"), _amount(2.5e9, "bytes")
    ('710 Tflop/s', '2.5 GB/s')
    """
    name = {"flops": "flop/s", "bytes": "B/s"}.get(unit, f"{unit}/s")
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if speed >= scale:
            return f"{speed / scale:.4g} {prefix}{name}"
    return f"{speed:.4g} {name}"


def _judged(results: Sequence[Result], known: Sequence[Result], least_ratio: float | None) -> Iterable[Result]:
    from ..retest.judge import Limits, verdict

    limits = Limits() if least_ratio is None else Limits(least_ratio=least_ratio)
    for one in results:
        yield verdict(one, [*known, *(other for other in results if other is not one)], limits)


def _written(args: argparse.Namespace, lines: Sequence[str]) -> None:
    from ..retest import gate

    if args.json == "-":
        sys.stdout.write("\n".join(lines) + "\n")
    elif args.json:
        _files.write_text(Path(args.json), "\n".join(lines) + "\n")
    if args.keep:
        try:
            for one in lines:
                gate.keep(args.keep, one)
        except OSError as error:
            raise SkewscopeError(f"--keep {args.keep}: {error.strerror or error}") from None


def _named() -> str:
    """Return this node's name as its scheduler knows it, else its host name."""
    import os
    import socket

    return os.environ.get("SLURMD_NODENAME") or os.environ.get("NODE_NAME") or socket.gethostname()


def _is_first() -> bool:
    from ..retest import ranks

    return ranks.place(ranks.environment()).rank == 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds between 0 and an hour")
    return seconds


def _ratio(text: str) -> float:
    ratio = float(text)
    if not 0 < ratio < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1, as 0.93")
    return ratio
