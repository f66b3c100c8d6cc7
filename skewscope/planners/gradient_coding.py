"""Would gradient coding pay: which scheme, with which parameters, how much faster, and under which conditions.

PROFILE says what every worker needed in every round: `[rounds, workers]` seconds as .npy, .csv or .parquet (a line per
round, a column per worker; or columns round, worker, seconds and perhaps load), or any recording that `skewscope
analyze` reads. Coding gives workers more to compute, so one load is not enough: give several with --at, or say what
you know with --load-slope (more load costs everybody the same seconds) or --fixed (computation grows with the load, a
GPU job). All schemes are simulated on the profile, thousands of parameters with their deadlines: gradient coding,
fractional repetition, SR-SGC, M-SGC, heterogeneity-aware and approximate coding. Nothing is recommended below 2 %.

Examples:
  skewscope plan gradient-coding delays.csv --at 0.02 more.csv   two loads: the response is fitted
  skewscope plan gradient-coding delays.npy --load-slope 2.2     seconds per unit load (the whole batch)
  skewscope plan gradient-coding traces/ --fixed 0.1             0.1 s of a step is communication
  skewscope plan gradient-coding delays.npy --fixed 0.1 --jobs 1 one synchronous model: no delayed schemes
  skewscope plan gradient-coding --encode 256 15 code.npy        the encoding matrix, if safe in the dtype

>>> parser = argparse.ArgumentParser()
>>> GradientCoding().arguments(parser)
>>> made = GradientCoding().plan(parser.parse_args(["--encode", "6", "1", "code.csv"]))
>>> made.proposed["load_ratio"], made.files["code.csv"].decode().splitlines()[:2]
(0.3333333333333333, ['1,0,0', '0,1,0'])
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..coding import bursts, delay_files, delays, estimate, export, matrices, recommend, response, safety, search
from ..coding.families import FAMILIES
from ..coding.rounds import BEST, PUBLISHED, Rounds
from ..errors import UsageError
from ..plans import Plan
from . import _coding_pictures

NAME = "gradient-coding"
PER_FAMILY = 5
LATE_MU = 0.5  # for the statistics of bursts: half as long again as the fastest
FEWEST_WORKERS, FEWEST_ROUNDS, MOST_ROUNDS = 2, 4, 2000
SINGLE = ("only one load was measured, and coding gives workers more to compute: what that costs is unknown, so no "
          "scheme can be recommended")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The profile to plan for, how it answers to load (None: unknown), and doubts."""

    profile: delays.Profile
    answer: response.Response | None
    loads: tuple[float, ...]


class GradientCoding:
    """`skewscope plan gradient-coding`."""

    name: ClassVar[str] = NAME

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("profile", nargs="?", metavar="PROFILE", help="delays [rounds, workers] in seconds, or a recording")
        add("--load", type=float, metavar="L", help="share of the batch per worker in PROFILE (default 1 / workers)")
        add("--at", nargs=2, action="append", default=[], metavar=("LOAD", "FILE"), help="a profile at another load")
        add("--load-slope", type=float, metavar="A", help="seconds that the whole batch would add to every worker")
        add("--fixed", type=float, metavar="SECONDS", help="seconds of a round that no load changes; the rest grows")
        add("--mu", type=float, metavar="MU", help="late is (1 + MU) times the fastest (default: searched)")
        add("--jobs", type=int, metavar="N", help="independent jobs in flight at most (1: one synchronous model)")
        add("--rounds", type=int, metavar="N", help="rounds to predict (default: as many as measured, at most 2000)")
        add("--schemes", metavar="NAME,...", help=f"only these: {', '.join(FAMILIES[1:])}")
        add("--rules", choices=("best", "published"), default="best",
            help="closing of rounds: fewest waited for and jobs completable, or as published")  # fmt: skip
        add("--max-delay", type=int, default=8, metavar="N", help="most jobs in flight that are tried (default 8)")
        add("--allow-lost", type=float, default=0.0, metavar="SHARE", help="share of a batch that may be lost")
        add("--processes", type=int, default=min(2, os.cpu_count() or 1), metavar="N", help="processes that search")
        add("--schedule", metavar="FILE", help="write who computes what under the proposed scheme (JSON)")
        add("--encode", nargs=3, metavar=("N", "S", "FILE"),
            help="write the matrix of a code for N workers and S losses (.npy, .csv, .json)")  # fmt: skip
        add("--code", choices=matrices.KINDS, default=matrices.KINDS[0], help="which code --encode builds")
        add("--dtype", choices=safety.DTYPES, default="fp32", help="dtype of the gradients that --encode is judged by")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable for input that cannot be meant or read."""
        if args.profile is None:
            if not args.encode:
                raise UsageError("nothing to plan: give a PROFILE, or --encode N S FILE")
            return _encoded(args)
        measured = _measure(args)
        made = _planned(measured, args) if measured.answer else _refused(measured)
        if args.encode:
            code = _encoded(args)
            made = replace(made, files={**made.files, **code.files}, warnings=(*made.warnings, code.verdict))
        return made


def _encoded(args: argparse.Namespace) -> Plan:
    """Return the plan that only writes a matrix, or the refusal of one that is not safe."""
    try:
        workers, losses = int(args.encode[0]), int(args.encode[1])
    except ValueError:
        raise UsageError(f"--encode wants two whole numbers and a file, not {' '.join(args.encode)}") from None
    code, verdict = safety.safest(args.code, workers, losses, args.dtype)
    said = f"the {code.kind} code of {workers} workers for {losses} losses"
    words = f"{said} is {'safe' if verdict.safe else 'refused'} in {args.dtype}: {verdict.reason}"
    files = {args.encode[2]: export.matrix_file(code, args.encode[2])} if verdict.safe else {}
    metrics = {"load_ratio": 1 / workers, "losses_survived": 0}
    return Plan(
        NAME, {"workers": workers, "losses": losses, "code": code.kind, "dtype": args.dtype}, "load_ratio",
        metrics, {"load_ratio": code.load, "losses_survived": losses}, words,
        {"verdict": asdict(verdict), "written": list(files)}, feasible=verdict.safe, files=files,
        steps=[f"{args.encode[2]}: row i says how worker i combines its chunks; encode in fp64"] if files else [],
    )  # fmt: skip


def _measure(args: argparse.Namespace) -> Measured:
    """Read the profiles and fit the response to load, or take the one that was given."""
    found = _read(Path(args.profile), args.load)
    for load, file in args.at:
        try:
            found += _read(Path(file), float(load))
        except ValueError:
            raise UsageError(f"--at wants a load and a file, not {load!r}") from None
    workers = {profile.seconds.shape[1] for profile in found}
    if len(workers) > 1:
        raise UsageError(f"the profiles have {' and '.join(map(str, sorted(workers)))} workers; all need the same ones")
    if min(workers) < FEWEST_WORKERS or min(len(profile.seconds) for profile in found) < FEWEST_ROUNDS:
        raise UsageError(f"coding wants at least {FEWEST_WORKERS} workers and {FEWEST_ROUNDS} rounds")
    if args.load_slope is not None and args.fixed is not None:
        raise UsageError("--load-slope and --fixed are two different answers to load; give one")
    plain = min(found, key=lambda one: abs(one.load - 1 / one.seconds.shape[1]))
    loads = tuple(profile.load for profile in found)
    return Measured(plain, _answer(args, plain, found), loads)


def _answer(
    args: argparse.Namespace, plain: delays.Profile, found: Sequence[delays.Profile]
) -> response.Response | None:
    if args.load_slope is not None:
        return response.Response("additive", slope_s=args.load_slope)
    if args.fixed is not None:
        if args.fixed >= plain.seconds.min():
            raise UsageError(f"--fixed {args.fixed:g} is not less than the shortest delay, {plain.seconds.min():.4g} s")
        return response.Response("multiplicative", fixed_s=args.fixed)
    if len({profile.load for profile in found}) < 2:
        return None
    return response.fit([profile.load for profile in found], [profile.seconds for profile in found])


def _read(path: Path, load: float | None) -> list[delays.Profile]:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if delay_files.is_profile(path):
        return delay_files.read(path, load)
    from ..attribution import attribute
    from ..sources import gather

    recording = gather([path])
    tables = {**recording.tables, **attribute(recording.tables).tables}
    made = delays.of_tables(tables, load)
    return [replace(made, warnings=(*recording.warnings, *made.warnings))]


def _inputs(measured: Measured) -> dict[str, Any]:
    seconds = measured.profile.seconds
    flags = bursts.late(seconds, LATE_MU)
    return {
        "workers": seconds.shape[1], "rounds": len(seconds), "load": measured.profile.load,
        "loads_measured": list(measured.loads), "response": asdict(measured.answer) if measured.answer else None,
        "bursts": asdict(bursts.fit(flags)), "tail": asdict(bursts.tail(seconds)),
    }  # fmt: skip


def _refused(measured: Measured) -> Plan:
    """Return the plan that recommends nothing, because nobody knows what more load costs."""
    workers = measured.profile.seconds.shape[1]
    waits = float(measured.profile.seconds.max(axis=1).sum())
    fixed = measured.profile.fixed_s
    known = f" (this recording shows {fixed:.3g} s)" if np.isfinite(fixed) else ""
    steps = (
        f"measure the same job at two loads or more, such as 1x and 2x the share of a worker ({1 / workers:.4g} and "
        f"{2 / workers:.4g} of the batch), and give them with --at",
        f"or, if you know that computation grows with the load, give what does not grow with --fixed SECONDS{known}",
    )
    return Plan(NAME, _inputs(measured), "runtime_s", {"runtime_s": waits}, {"runtime_s": waits}, SINGLE,
                {"schemes": [], "best": "unknown: one load only", "chosen": None}, steps=steps, feasible=False,
                warnings=measured.profile.warnings,
                pictures=(_coding_pictures.heat(measured.profile.seconds),))  # fmt: skip


def _planned(measured: Measured, args: argparse.Namespace) -> Plan:
    profile, answer = measured.profile, measured.answer or response.Response("additive")
    _check_slope(profile, answer)
    seconds, workers = profile.seconds, profile.seconds.shape[1]
    grid, limits = _grid(args), recommend.Limits(args.jobs, args.allow_lost)
    part, kept = search.excerpt(seconds), search.excerpt(seconds, MOST_ROUNDS)
    tried = search.search(Rounds.of(part, profile.load, answer), len(part), grid, args.processes)
    whole, jobs = Rounds.of(kept, profile.load, answer), args.rounds or len(kept)
    rows = estimate.rows(whole, jobs, grid.rules, tried, PER_FAMILY)
    found = bursts.fit(bursts.late(seconds, LATE_MU))
    choice = recommend.choose(rows, tried, limits, found)
    taken = choice.best if choice.pays else choice.uncoded
    bound = estimate.bound_s(whole, jobs)
    return Plan(
        NAME, _inputs(measured), "runtime_s", _metrics(choice.uncoded, jobs), _metrics(taken, jobs),
        recommend.verdict(choice, rows, limits, jobs), {**_choice(choice, rows), "candidates_tried": len(tried.family)},
        lower_bound=bound, gap=taken.runtime_s / bound - 1, steps=recommend.steps(choice, rows, workers),
        warnings=(*profile.warnings, *recommend.doubts(found, choice, profile.workers)),
        files={args.schedule: _schedule(taken)} if args.schedule else {},
        pictures=(_coding_pictures.by_scheme(rows, choice.uncoded), _coding_pictures.heat(seconds),
                  _coding_pictures.frontier(tried, workers)),
    )  # fmt: skip


def _check_slope(profile: delays.Profile, answer: response.Response) -> None:
    least, workers = profile.seconds.min(keepdims=True)[0, 0], profile.seconds.shape[1]
    if float(answer.move(np.array(least), profile.load, 1 / workers)) <= 0:
        raise UsageError(f"a slope of {answer.slope_s:g} s per unit load contradicts a delay of {least:.4g} s at load "
                         f"{profile.load:g}: at 1 / {workers} nothing would be left of it")  # fmt: skip


def _choice(choice: recommend.Choice, rows: Sequence[estimate.Row]) -> dict[str, Any]:
    """Return the plan proper: every scheme tried, the chosen one, and what it saves."""
    return {
        "best": choice.best.family if choice.pays else recommend.DOES_NOT_PAY,
        "chosen": recommend.document(choice.best, choice.uncoded) if choice.pays else None,
        "best_without_delay": recommend.document(choice.undelayed, choice.uncoded),
        "schemes": [recommend.document(row, choice.uncoded) for row in rows],
        "saving_ratio": choice.saving_ratio, "saving_low_ratio": choice.low_ratio,
        "saving_high_ratio": choice.high_ratio, "saving_on_unseen_rounds_ratio": choice.honest_ratio,
    }  # fmt: skip


def _grid(args: argparse.Namespace) -> search.Grid:
    wanted = tuple(FAMILIES if not args.schemes else dict.fromkeys(args.schemes.split(",")))
    strange = [one for one in wanted if one not in FAMILIES]
    if strange:
        raise UsageError(f"no scheme is called {strange[0]!r}; there are {', '.join(FAMILIES)}")
    for flag, value, least in (("--mu", args.mu, 0.0), ("--jobs", args.jobs, 1), ("--rounds", args.rounds, 1),
                               ("--max-delay", args.max_delay, 1), ("--processes", args.processes, 1),
                               ("--allow-lost", args.allow_lost, 0.0)):  # fmt: skip
        if value is not None and not value >= least:
            raise UsageError(f"{flag} wants at least {least:g}, not {value}")
    slots = min(args.max_delay, args.jobs or args.max_delay)
    return search.Grid(
        mus=search.MUS if args.mu is None else (args.mu,), families=wanted,
        rules=BEST if args.rules == "best" else PUBLISHED, slots_most=slots, bursts_most=min(4, slots - 1),
        lost_most_ratio=args.allow_lost or 0.01,
    )  # fmt: skip


def _metrics(row: estimate.Row, jobs: int) -> dict[str, Any]:
    delay = row.scheme.delay_rounds
    return {"runtime_s": row.runtime_s, "round_s": row.runtime_s / jobs, "load_ratio": row.scheme.load,
            "delay_rounds": delay, "jobs_in_flight": delay + 1}  # fmt: skip


def _schedule(row: estimate.Row) -> bytes:
    return (json.dumps(export.schedule(row.scheme), indent=1) + "\n").encode()
