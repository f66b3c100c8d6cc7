"""Rank every remedy that fits: seconds saved per step against doing nothing, how sure, and what would break it.

Takes recordings, or a table of seconds per round and worker. Every recorded round is replayed with every remedy that
fits the job: re-split of the batch, backup workers, draining, gradient coding and its relatives, even sequences, layers
moved between stages, experts placed anew, another interval between checkpoints. Nothing is recommended below 2 %, and
"do nothing" is an answer.

How sure: rounds are drawn again in blocks of at least three bursts of slowness; the interval holds nine in ten. Splits
and codes are judged on rounds that did not choose them. Of remedies that save about the same the simplest is taken.

What decides: a rank that is slow for good asks for a re-split, or is drained where it is five times as slow. Slowness
that comes and goes asks for a backup worker, if training may lose a little of each step's data (--drop). Coding gives
everybody more to compute: it is offered only where it is known what more load costs (several loads in --times,
--fixed or --load-slope), and where work grows with the load it hardly ever pays. M-SGC and SR-SGC want T + 1 jobs in
flight, which one synchronous model does not have (--jobs 1).

Examples:
  skewscope plan advise traces/
  skewscope plan advise traces/ --report report.json --html advice.html
  skewscope plan advise --times own_work.csv --comm 0.1 --fixed 0.1 --drop 0
  skewscope plan advise traces/ --lengths lengths.csv --per-step 512

Worked example: one of eight workers needs 2 s and not 1 s. With 107 % of an even share for the others and 53 % for it
all need 1.07 s.

>>> import numpy as np
>>> from skewscope.optimize.speeds import of_times
>>> made = planned(of_times(np.array([[1.0] * 7 + [2.0]] * 40)), Wanted())
>>> made.plan["best"], round(made.plan["ranking"][0]["saved_s"], 2), made.plan["ranking"][3]["refused"]
('re-split', 0.93, "dropping 1 of 8 loses 12.5% of a step's data, 10.0% may be lost")
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..attribution import attribute
from ..coding import response
from ..errors import Unreadable, UsageError
from ..optimize.speeds import Rounds, of_tables
from ..plans import Plan, plain
from ..sources import gather
from ..stats.bursts import bursts, slow
from . import (
    _advise_coding,
    _advise_options,
    _advise_other,
    _advise_pipeline,
    _advise_report,
    _advise_said,
    _rounds,
)
from ._advise_options import Allowed, Option
from ._advise_ranking import LEAST_GAIN_RATIO, NOTHING, Ranking, ranked

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
Tables = Mapping[str, "pd.DataFrame"]


class Advise:
    """`skewscope plan advise`."""

    name: ClassVar[str] = "advise"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        _rounds.arguments(parser)
        add = parser.add_argument
        drop = "largest share of a step's data that may be lost (default: %(default)s)"
        add("--drop", type=_rounds.ratio, default=0.1, metavar="SHARE", help=drop)
        add("--jobs", type=_rounds.whole, metavar="N", help="independent jobs in flight (1: one synchronous model)")
        add("--fixed", type=_rounds.seconds, metavar="S", help="seconds of a step that no load changes; the rest grows")
        add("--load-slope", type=_rounds.seconds, metavar="A", help="seconds that the whole batch adds to every worker")
        add("--report", metavar="FILE", help="what `analyze --json` found in the same recordings: causes to repair")
        add("--lengths", metavar="FILE", help="lengths of the sequences in tokens, to see whether the longest binds")
        add("--per-step", type=_rounds.whole, metavar="N", help="with --lengths: sequences of a step")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        if args.fixed is not None and args.load_slope is not None:
            raise UsageError("--fixed and --load-slope are two different answers to load; give one")
        wanted = Wanted(Allowed(args.drop, args.jobs), args.fixed, args.load_slope, args.lengths, args.per_step)
        found = _findings(args.report)
        if args.times or not args.paths:
            rounds, *others = _rounds.read(args)
            return planned(rounds, replace(wanted, answer=_fitted(rounds, others)), found=found)
        recording = gather([Path(path) for path in args.paths])
        derived = attribute(recording.tables)
        tables = {**recording.tables, **derived.tables}
        job = _job(tables, recording.parallelism, wanted)
        return _plan(job, wanted, found, (*job.warnings, *recording.warnings, *derived.warnings))


@dataclass(frozen=True)
class Wanted:
    """What the flags say; `answer` is how work grows with load where several loads were measured."""

    allowed: Allowed = Allowed()
    fixed_s: float | None = None
    slope_s: float | None = None
    lengths: str | None = None
    per_step: int | None = None
    answer: response.Response | None = None


@dataclass(frozen=True)
class Job:
    """A job as measured: its ranking, `work_s` [rounds, workers] that it rests on, and doubts."""

    ranking: Ranking
    work_s: Array
    unit: str
    workers: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def recommend(
    tables: Tables, findings: Sequence[Mapping[str, Any]], parallelism: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Return the recommendations of a report: for its culprits, with gains measured on the recorded rounds.

    `tables` are canonical and derived ones, `findings` those of the report document. Where the recording shows no
    rounds of workers to replay, or no culprit costs time in each step (a hang), the gains stay the best case of each
    repair.
    """
    culprits = [one for one in findings if one["role"] == "culprit"]
    if not culprits:
        return []
    try:
        if not any(one["cost"]["seconds_per_step"] for one in culprits):
            raise UsageError("nobody costs time in each step")
        job = _job(tables, dict(parallelism or {}), Wanted())
    except UsageError:
        from ..reports.recommend import recommend as best_case

        return best_case(findings)
    return _advise_report.answers(findings, job.ranking, int(tables["rank_steps"]["rank"].nunique()))


def advised(report: Mapping[str, Any], tables: Tables, parallelism: Mapping[str, int]) -> dict[str, Any]:
    """Return a report document with its recommendations replayed on the recorded rounds, where there are any."""
    return {**report, "recommendations": plain(recommend(tables, report["findings"], parallelism))}


def planned(rounds: Rounds, wanted: Wanted, found: Sequence[Mapping[str, Any]] = ()) -> Plan:
    """Return the plan for recorded rounds of data-parallel workers."""
    job = _of_rounds(rounds, wanted, [])
    return _plan(job, wanted, found, job.warnings)


def _job(tables: Tables, parallelism: Mapping[str, int], wanted: Wanted) -> Job:
    """Return the ranking of a recording; raises UsageError where neither workers nor stages can be compared."""
    if parallelism.get("pp", 1) > 1:
        made = _advise_pipeline.pipeline(tables)
        options = list(_advise_pipeline.options(made))
        options += _advise_other.others(tables, made.step_s, len(made.ranks))
        ranking = ranked(options, made.step_s, bursts(slow(made.own_s)).mean_rounds)
        return Job(ranking, made.own_s, "rank", tuple(map(str, made.ranks)))
    rounds = _advise_options.bounded(of_tables(tables, parallelism))
    ranks = int(tables["rank_steps"]["rank"].nunique())
    return _of_rounds(rounds, wanted, list(_advise_other.others(tables, _advise_options.today_s(rounds), ranks)))


def _of_rounds(rounds: Rounds, wanted: Wanted, others: list[Option]) -> Job:
    rounds = _advise_options.bounded(rounds)
    _check_fixed(rounds, wanted)
    options = list(_advise_options.measured(rounds, wanted.allowed))
    options += [made for made in (_repack(rounds, wanted),) if made is not None]
    options += _advise_coding.options(rounds, _answer(wanted), wanted.allowed)
    made = ranked(_advise_options.ordered([*options, *others], rounds), _advise_options.today_s(rounds),
                  rounds.bursts.mean_rounds)  # fmt: skip
    return Job(made, rounds.own_s, "rank", tuple(map(str, rounds.workers)), rounds.warnings)


def _check_fixed(rounds: Rounds, wanted: Wanted) -> None:
    shortest = float(rounds.own_s.min() + rounds.exposed_s.mean())
    if wanted.fixed_s is not None and wanted.fixed_s >= shortest:
        raise UsageError(f"--fixed {wanted.fixed_s:g} is not less than the shortest time of a worker, {shortest:.4g} s")


def _repack(rounds: Rounds, wanted: Wanted) -> Option | None:
    if wanted.lengths is not None:
        return _advise_other.dealt_option(rounds, wanted.lengths, wanted.per_step)
    return _advise_other.repack_option(rounds)


def _answer(wanted: Wanted) -> response.Response | None:
    if wanted.fixed_s is not None:
        return response.Response("multiplicative", fixed_s=wanted.fixed_s)
    if wanted.slope_s is not None:
        return response.Response("additive", slope_s=wanted.slope_s)
    return wanted.answer


def _fitted(rounds: Rounds, others: Sequence[Rounds]) -> response.Response | None:
    every = [rounds, *others]
    loads = [float(one.load.flat[0]) for one in every]
    return response.fit(loads, [one.own_s for one in every]) if len(set(loads)) > 1 else None


def _findings(report: str | None) -> list[Mapping[str, Any]]:
    if report is None:
        return []
    try:
        document = json.loads(Path(report).read_text("utf-8"))
        return list(document["findings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"--report {report}: {error}", "wants what `skewscope analyze --json` writes") from error


def _plan(job: Job, wanted: Wanted, found: Sequence[Mapping[str, Any]], warnings: tuple[str, ...]) -> Plan:
    ranking, best = job.ranking, job.ranking.best
    rows = [row.document() for row in ranking.rows]
    place = sum(row["pays"] or (row["saved_s"] > 0 and not row["refused"]) for row in rows)
    rows.insert(place if best is not None else 0, _advise_report.NOTHING_ROW)
    return Plan(
        name="advise",
        inputs={job.unit + "s": len(job.workers), "rounds": len(ranking.today_s),
                "drop_ratio": wanted.allowed.drop_ratio, "jobs_in_flight": wanted.allowed.jobs,
                "least_gain_ratio": LEAST_GAIN_RATIO},
        objective="step_s", current={"step_s": ranking.step_s},
        proposed={"step_s": ranking.step_s - (best.saved_s if best else 0.0)},
        verdict=_advise_said.verdict(ranking),
        plan={"best": best.option.remedy if best else NOTHING, "ranking": rows, "names": job.workers},
        lower_bound=_bound_s(job), gap=_gap(job),
        steps=list(_steps(ranking, found)), warnings=tuple(dict.fromkeys(warnings)),
        pictures=_advise_said.pictures(ranking, job.work_s, job.workers, job.unit),
    )  # fmt: skip


def _bound_s(job: Job) -> float:
    """Return what no split of the recorded work is below: the mean over workers, and what nothing hid, per round."""
    exposed = np.maximum(job.ranking.today_s - job.work_s.max(axis=1), 0.0)
    level = 1.0 / (1.0 / np.maximum(job.work_s, 1e-12)).mean(axis=1)
    best = job.ranking.best.option.step_s.mean() if job.ranking.best else np.inf
    return min(float((level + exposed).mean()), float(best))


def _gap(job: Job) -> float:
    after = job.ranking.step_s - (job.ranking.best.saved_s if job.ranking.best else 0.0)
    return after / _bound_s(job) - 1


def _steps(ranking: Ranking, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        if one["role"] == "culprit" and one.get("advice"):
            yield f"repair the cause, {one['condition']} of {one['subject']['id']}: {one['advice']}"
    yield from _advise_said.steps(ranking)
