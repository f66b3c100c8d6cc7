"""Runs cases in a bounded pool of processes; the order of the results is that of the cases."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import replace
from functools import cache

from .. import catalogue
from ..analysis import analyze
from ..contracts import Detector, Finding
from ..processes import process_pool
from ..recording import Recording
from ..simulate import Scenario, scenario, simulate
from .effects import strengthened
from .results import Case, Result
from .truth import truth
from .watching import Tables, Watched, watch

Progress = Callable[[int, int, str], None]


def run(cases: Sequence[Case], workers: int = 0, progress: Progress | None = None) -> list[Result]:
    """Return the results in the order of the cases; `workers` 0 takes as many processes as cores, 1 runs them here.

    A case that fails becomes a result with an error, so that one of a thousand does not cost the others.
    """
    wanted = min(workers or os.cpu_count() or 1, max(len(cases), 1))
    found: dict[int, Result] = {}
    for place, result in _here(cases) if wanted <= 1 else _in_pool(cases, wanted):
        found[place] = result
        if progress is not None:
            progress(len(found), len(cases), result.case.scenario)
    return [found[place] for place in range(len(cases))]


def _here(cases: Iterable[Case]) -> Iterator[tuple[int, Result]]:
    return ((place, run_one(case)) for place, case in enumerate(cases))


def _in_pool(cases: Sequence[Case], workers: int) -> Iterator[tuple[int, Result]]:
    with process_pool(workers, gc.enable) as pool:  # a command turns it off for short work
        running: dict[Future[Result], int] = {pool.submit(run_one, case): place for place, case in enumerate(cases)}
        for future in as_completed(running):
            yield running.pop(future), future.result()


def run_one(case: Case) -> Result:
    """Return the result of one case."""
    try:
        return Result(case, _watched(case))
    except Exception as error:  # a fault of one case is told beside the results of the others
        return Result(case, None, f"{type(error).__name__}: {error}")


def _watched(case: Case) -> Watched:
    made = simulate(planned(case), case.seed)
    known = truth(made.truth)
    own = tuple(sorted({fault.condition for fault in known.faults})) if case.own_room_only else ()
    natural = {fault.condition: natural_kinds(fault.condition) for fault in known.faults}
    return watch(made.tables, known, lambda tables, only: look(tables, only or own), natural, case.every)


def planned(case: Case) -> Scenario:
    """Return the scenario of a case in its size and severity; raises UsageError for a size that does not fit."""
    plan = scenario(case.scenario)
    if case.nodes:
        plan = plan.sized(ranks=case.nodes * plan.fleet.gpus_per_node)
    if case.severity and plan.faults:
        first = replace(plan.faults[0], severity=case.severity)
        plan = replace(plan, faults=(first, *plan.faults[1:]))
    return strengthened(plan, case.seed, case.effect) if case.effect else plan


def look(tables: Tables, only: Collection[str] = ()) -> Sequence[Finding]:
    """Return what all rooms, or some, find in tables, in the order of a report: the road of `skewscope analyze`."""
    known = [name for name in only if name in {room.id for room in catalogue.rooms("detectors")}]
    return analyze(Recording(dict(tables), ()), only=known).findings if known or not only else ()


@cache
def natural_kinds(condition: str) -> frozenset[str]:
    """Return the kinds of subjects of which a condition's own worlds speak; none where it has no room."""
    for room in catalogue.rooms("detectors"):
        if room.id == condition:
            detector: Detector = room.load()
            return frozenset(one.subject.kind for world in detector.cases() for one in detector.detect(world.tables))
    return frozenset()
