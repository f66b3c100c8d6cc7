"""Fuzzes the parsers: `fuzz.py [PARSER...] [--executions N] [--seconds S] [--seed N] [--workers N] [--out DIR]`.

Each parser runs in a process of its own, one that dies is a fault too. Faults are written to DIR/PARSER, smaller where
that is possible; put the input in `regressions/PARSER/`, where the tests read it from then on. The exit code is 1
where there was one.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _run
from _parsers import Parser, base, parsers

HEAD = ("parser", "executions", "exec/CPU s", "kept", "ways", "faults", "slowest ms", "growth MiB", "seconds")


def main() -> int:
    """Run and print a table; return the exit code."""
    args = _arguments()
    names = args.parser or list(parsers())
    if strange := sorted(set(names) - set(parsers())):
        print(f"no parser is called {strange[0]}; there are {', '.join(parsers())}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    base()  # the processes for the parsers end without cleaning up
    print("  ".join([f"{HEAD[0]:24}", *(f"{name:>10}" for name in HEAD[1:])]), flush=True)
    with ThreadPoolExecutor(args.workers) as pool:
        faults = sum(pool.map(lambda name: _apart(parsers()[name], args), names))
    print(f"{faults} faults" + (f": see {args.out}" if faults else ""))
    return 1 if faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parser", nargs="*", help="parsers by name, all by default")
    parser.add_argument("--executions", type=int, default=20_000, metavar="N", help="of each parser (20000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="S", help="of each parser, at most")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes at a time")
    parser.add_argument(
        "--out", type=Path, default=Path("build/fuzz"), metavar="DIR", help="for the faults (build/fuzz)"
    )
    return parser.parse_args()


def _apart(parser: Parser, args: argparse.Namespace) -> int:
    """Run one parser in a process of its own, print its line and return the number of its faults."""
    told = args.out / f"{parser.name}.json"
    told.unlink(missing_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_worker, args=(parser, args, told))
    process.start()
    process.join()
    last = told.with_suffix(".last")
    if not told.exists():
        _run.Last.unwrap(last)
        print(
            f"{parser.name:24}  the process ended with {process.exitcode}: its last input is {last}",
            flush=True,
        )
        return 1
    row = json.loads(told.read_text())
    last.unlink(missing_ok=True)
    print("  ".join([f"{parser.name:24}", *(f"{value:>10}" for value in row)]), flush=True)
    return int(row[4])


def _worker(parser: Parser, args: argparse.Namespace, told: Path) -> None:
    faulthandler.enable()
    logging.disable()
    result = _run.fuzz(parser, args.executions, args.seed, seconds=args.seconds, last=told.with_suffix(".last"))
    for fault in result.faults.values():
        _run.keep(args.out, fault, parser.name)
    row = (
        result.executions,
        round(result.executions / max(result.busy_s, 1e-9)),
        result.kept,
        result.reached,
        len(result.faults),
        round(result.slowest_s * 1000),
        round(result.growth_bytes / 2**20, 1),
        round(result.seconds),
    )
    told.write_text(json.dumps(row))


if __name__ == "__main__":
    sys.exit(main())
