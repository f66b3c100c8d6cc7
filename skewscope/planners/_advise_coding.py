"""What gradient coding would make of recorded rounds: its best exact, delayed and repeated schemes, as remedies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..coding import estimate, recommend, search
from ..coding.families import SEQUENTIAL
from ..coding.response import Response
from ..coding.rounds import BEST
from ..coding.rounds import Rounds as Sorted
from ..optimize.speeds import Rounds
from ._advise_options import Allowed, Option, today_s

Array = np.ndarray[Any, Any]

LEAST_SAVING = recommend.LEAST_SAVING
FEWEST_ROUNDS, MOST_WORKERS, MOST_DELAYED_WORKERS = 8, 4096, 512
SIMPLE = ("gc", "fractional")  # every candidate costs so little that all rounds are searched
TITLES = {"fractional repetition": "fractional", "gradient coding": "gc", "M-SGC": "m-sgc", "SR-SGC": "sr-sgc"}
ONE_LOAD = ("only one load was measured, and coding gives every worker more to compute; what that costs is taken to be "
            "in proportion")  # fmt: skip
DRAWN_ROUNDS = 160


def options(rounds: Rounds, answer: Response | None, allowed: Allowed) -> Iterator[Option]:
    """Yield the best scheme of each kind, as far as any can pay.

    `answer` says how work grows with load; None: nobody measured it, then work is taken to grow in proportion, and no
    scheme is to be had. No scheme is below the fastest worker of each round; where that saves too little, none is
    tried.
    """
    workers = len(rounds.workers)
    if len(rounds.own_s) < FEWEST_ROUNDS or not 2 < workers <= MOST_WORKERS:
        return
    fixed = float(rounds.exposed_s.mean())
    delays = rounds.own_s + fixed
    taken = answer or Response("multiplicative", fixed_s=fixed + float(rounds.fixed_s.min()))
    line = Sorted.of(delays, 1 / workers, taken)
    jobs = len(delays)
    if estimate.bound_s(line, jobs) > (1 - LEAST_SAVING) * float(today_s(rounds).sum()):
        return
    for families in (SIMPLE, SEQUENTIAL if _delayed(workers, allowed) else ()):
        part = search.excerpt(delays, DRAWN_ROUNDS) if families == SEQUENTIAL else delays
        grid = _grid(workers, families, allowed)
        tried = search.search(Sorted.of(part, 1 / workers, taken), len(part), grid) if families else None
        rows = estimate.rows(line, jobs, BEST, tried, 2) if tried else []
        for title, family in TITLES.items():
            found = [row for row in rows if row.family == family]
            if found and tried and family in families:
                best = min(found, key=lambda one: one.runtime_s)
                yield _option(title, best, jobs, workers, _refused(best, answer, tried, allowed))


def _delayed(workers: int, allowed: Allowed) -> bool:
    return workers <= MOST_DELAYED_WORKERS and (allowed.jobs is None or allowed.jobs > 1)


def _grid(workers: int, families: tuple[str, ...], allowed: Allowed) -> search.Grid:
    many = workers > 64
    slots = min(8, allowed.jobs or 8)
    mus = (0.3, 0.6, 1.0) if many else (0.2, 0.4, 0.6, 1.0)
    bursts = max(1, min(2, slots - 1))
    return search.Grid(mus=mus, families=("uncoded", *families), slots_most=slots, bursts_most=bursts,
                       levels_most=10 if many else 16)  # fmt: skip


def _option(title: str, row: estimate.Row, jobs: int, workers: int, refused: str) -> Option:
    seconds = row.seconds[:jobs] + row.seconds[jobs:].sum() / jobs  # rounds after the last job are spread over all
    delay = row.scheme.delay_rounds
    return Option(
        title, "gradient-coding", "code-gradients", np.asarray(seconds),
        "; ".join(recommend.conditions(row, workers)),
        f"a coded trainer; each worker computes {row.scheme.load * workers:.3g} times its share",
        "jobs end later" if delay else "cyclic codes lose digits in fp32 and bf16; `--encode` judges a code",
        {"scheme": row.family, **row.parameters, "mu": row.mu, "load": row.scheme.load, "jobs_in_flight": delay + 1},
        refused,
    )  # fmt: skip


def _refused(row: estimate.Row, answer: Response | None, tried: search.Tried, allowed: Allowed) -> str:
    if allowed.jobs is not None and row.scheme.delay_rounds >= allowed.jobs:
        return f"it needs {row.scheme.delay_rounds + 1} (T + 1) independent jobs in flight, there are {allowed.jobs}"
    uncoded = float(tried.runtime_s[tried.family == "uncoded"][0])
    if 1 - tried.honest_s(tried.family == row.family) / uncoded < LEAST_SAVING:
        return "it does not pay on rounds that did not choose its parameters"
    return "" if answer is not None else ONE_LOAD
