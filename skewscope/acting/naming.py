"""Jobs as a scheduler names them: telemetry may know the same job by another name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..acts import Fleet
from ..policy.cases import Around, Case


def job_id(case: Case, fleet: Fleet) -> str:
    """Return the scheduler's id of a case's job: by id, by name on the node, or as the only job on the node.

    >>> from skewscope.acts import JobState, NodeState
    >>> fleet = Fleet("slurm", {"n3": NodeState("n3", jobs=("7",))}, {"7": JobState("7", "train", nodes=("n3",))})
    >>> job_id(Case("i", "gpu-thermal", "n3", node="n3", job="train"), fleet)
    '7'
    """
    if not case.job or case.job in fleet.jobs:
        return case.job
    named = [job.id for job in fleet.jobs.values() if job.name == case.job and job.state == "running"]
    here = [name for name in named if not case.node or case.node in fleet.jobs[name].nodes]
    if len(here) == 1:
        return here[0]
    node = fleet.nodes.get(case.node)
    running = [name for name in (node.jobs if node else ()) if name in fleet.jobs]
    return running[0] if len(running) == 1 and not named else case.job


def named(cases: Sequence[Case], around: Around, fleet: Fleet) -> tuple[list[Case], Around, dict[str, str]]:
    """Return cases and world with the scheduler's ids of jobs, and by id the name that telemetry knows them by."""
    told, names = [], {}
    for case in cases:
        job = job_id(case, fleet)
        told.append(case if job == case.job else replace(case, job=job))
        names[job] = case.job
    if all(job == name for job, name in names.items()):
        return told, around, names
    since, left = around.since_checkpoint_s, around.remaining_s
    return told, replace(around, since_checkpoint_s=_also(since, names), remaining_s=_also(left, names)), names


def _also(told: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    return {**told, **{job: told[name] for job, name in names.items() if name in told}}
