"""What planners of whole rounds share: own work per round from recordings, or from a table of seconds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..attribution import attribute
from ..coding import delay_files
from ..errors import UsageError
from ..optimize.speeds import Rounds, of_tables, of_times
from ..sources import gather

FEWEST_ROUNDS = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the rounds come from."""
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="recordings of one job: files or folders")
    add("--times", metavar="FILE", help="instead: own work as [rounds, workers] seconds (CSV, Parquet, NPY, NPZ)")
    add(
        "--comm",
        type=seconds,
        default=0.0,
        metavar="S",
        help="with --times: seconds of communication that no work hides",
    )


def read(args: argparse.Namespace) -> list[Rounds]:
    """Return the rounds that the arguments name, those of other loads after the first; raises UsageError, Unreadable.

    A table with several loads gives several; the first is the one nearest to one part of the batch for each worker.
    """
    if bool(args.times) == bool(args.paths):
        raise UsageError("give recordings, or --times FILE with a table of seconds, and not both")
    if not args.times:
        return [recorded([Path(path) for path in args.paths])]
    profiles = delay_files.read(Path(args.times))
    workers = profiles[0].seconds.shape[1]
    profiles.sort(key=lambda one: abs(one.load - 1.0 / workers))
    made = [of_times(one.seconds, args.comm, one.load) for one in profiles]
    return [replace(one, warnings=profile.warnings) for one, profile in zip(made, profiles, strict=True)]


def recorded(paths: list[Path]) -> Rounds:
    """Return the rounds of one job's recordings."""
    recording = gather(paths)
    derived = attribute(recording.tables)
    tables = {**recording.tables, **derived.tables}
    made = of_tables(tables, recording.parallelism)
    seen, doubts = tables["rank_steps"]["rank"].nunique(), []
    if recording.world_size > seen:
        doubts.append(
            f"only {seen} of {recording.world_size} ranks are in the recording: the plan is about these alone"
        )
    if len(made.own_s) < FEWEST_ROUNDS:
        doubts.append(f"the recording holds {len(made.own_s)} whole steps: record {FEWEST_ROUNDS} or more to trust it")
    return replace(made, warnings=(*made.warnings, *doubts, *recording.warnings, *derived.warnings))


def seconds(text: str) -> float:
    """Return a time of 0 or more; raises ValueError otherwise (argparse tells it)."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("wants seconds, 0 or more")
    return value


def whole(text: str) -> int:
    """Return a count of at least 1; raises ValueError otherwise (argparse tells it)."""
    value = int(text)
    if value < 1:
        raise ValueError("wants a whole number of 1 or more")
    return value


def count(text: str) -> int:
    """Return a whole number of 0 or more; raises ValueError otherwise (argparse tells it)."""
    value = int(text)
    if value < 0:
        raise ValueError("wants a whole number of 0 or more")
    return value


def ratio(text: str) -> float:
    """Return a share of 0 to 1; raises ValueError otherwise (argparse tells it)."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("wants a share between 0 and 1")
    return value


def limits(text: str | None, workers: int, flag: str) -> np.ndarray | None:
    """Return a number for all workers, or one each separated by commas, [workers]; raises UsageError naming the flag.

    >>> limits("4", 2, "--most").tolist(), limits("4,5", 2, "--most").tolist()
    ([4, 4], [4, 5])
    """
    if text is None:
        return None
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"{flag} {text}: wants whole numbers of samples, separated by commas") from None
    if len(values) not in (1, workers):
        raise UsageError(f"{flag} {text}: {len(values)} numbers for {workers} workers; give one, or one each")
    return np.broadcast_to(np.array(values), (workers,))
