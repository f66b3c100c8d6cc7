"""The single calls of a small job's steps, rank by rank: what profilers and flight recorders would have recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from . import meetings
from .fleet import Fleet, Job
from .noise import Array
from .simulation import Simulation
from .step_tables import OWN
from .training import Run

MOST_RANKS = 128
PIECES = 4  # parts of a step's compute, each ends with a call of the inner groups
ELEMENT_BYTES = 2


@dataclass(frozen=True)
class Call:
    """One collective of all groups of a kind: when each rank arrived and was done, seconds of the run [ranks]."""

    group: str
    number: int  # of this kind within the job, from 0: its sequence number
    step: int
    begin: Array
    end: Array
    elements: int


@dataclass(frozen=True)
class Span:
    """Own work of every rank: data, gc, compute or checkpoint; seconds [ranks]."""

    kind: str
    step: int
    begin: Array
    end: Array


@dataclass(frozen=True)
class Recording:
    """The last steps of a job: spans and calls in the order of time, and the clock error of each rank's host (s)."""

    job: Job
    run: Run
    fleet: Fleet
    steps: range
    spans: list[Span]
    calls: list[Call]
    offset_s: Array

    def name(self, group: str, rank: int) -> str:
        """Return the name of a rank's communicator."""
        return "0" if group == "world" else f"{group}_{self.run.layout.members(group, rank)[0]}"

    def node(self, rank: int) -> str:
        """Return the host of a rank."""
        return self.fleet.nodes[(self.job.first_gpu + rank) // self.fleet.gpus_per_node]

    def slot(self, rank: int) -> int:
        """Return the local number of a rank's GPU."""
        return (self.job.first_gpu + rank) % self.fleet.gpus_per_node


def recording(simulation: Simulation, at: int = 0, steps: int = 12) -> Recording:
    """Return the last `steps` steps of a job; raises UsageError for jobs that are too large or have a pipeline."""
    job = simulation.world.fleet.jobs[at]
    run = simulation.runs.get(at)
    if run is None or not run.detail:
        raise UsageError(f"job {job.plan.name}: recordings are made of training jobs whose steps are kept one by one")
    if job.plan.ranks > MOST_RANKS or job.plan.pp > 1:
        raise UsageError(
            f"job {job.plan.name}: recordings are made of at most {MOST_RANKS} ranks and without a pipeline"
        )
    last = run.steps
    chosen = range(max(0, last - steps), last)
    spans: list[Span] = []
    calls: list[Call] = []
    for step in chosen:
        _step(run, step, spans, calls)
    world = simulation.world
    nodes = world.fleet.node_of(np.arange(job.gpus.start, job.gpus.stop))
    window = world.window(float(run.start_s[-1])) if run.steps else 0
    offset = world.node.knob("offset_s")[window][nodes]
    return Recording(job, run, world.fleet, chosen, spans, calls, offset)


def _step(run: Run, step: int, spans: list[Span], calls: list[Call]) -> None:
    detail, layout = run.detail, run.layout
    ranks = layout.plan.ranks
    now = np.full(ranks, float(run.start_s[step]))
    for kind, part in (("data", "input"), ("gc", "gc")):
        now = _own(spans, kind, step, now, detail[part][step])
    work = sum((detail[name][step] for name in OWN if name in detail), np.zeros(ranks))
    inner = [group for group in layout.groups if group in ("tp", "cp", "ep")]
    for piece in range(PIECES):
        now = _own(spans, "compute", step, now, work / PIECES)
        for group in inner:
            share = detail[f"transfer_{group}"][step] / PIECES
            now = _meet(run, calls, group, step, step * PIECES + piece, now, share)
    for group in [group for group in layout.groups if group not in inner]:
        now = _meet(run, calls, group, step, step, now, detail[f"transfer_{group}"][step])
    planned = float(detail["checkpoint"][step, 0] + detail["eval"][step, 0])
    if planned:
        _own(spans, "checkpoint", step, now, np.full(ranks, planned))


def _own(spans: list[Span], kind: str, step: int, now: Array, spent: Array) -> Array:
    if spent.any():
        spans.append(Span(kind, step, now, now + spent))
    return now + spent


def _meet(run: Run, calls: list[Call], group: str, step: int, number: int, now: Array, transfer: Array) -> Array:
    shape = (1, *run.layout.shape)
    ready = now.reshape(shape).max(axis=meetings.AXES[group], keepdims=True)
    done = np.broadcast_to(ready, shape).reshape(-1) + transfer
    usual = meetings.usual_transfers(run.layout.plan, run.layout)[group]
    elements = max(int(usual * 4e10 / ELEMENT_BYTES / (PIECES if group in ("tp", "cp", "ep") else 1)), 1)
    calls.append(Call(group, number, step, now, done, elements))
    return np.asarray(done)
