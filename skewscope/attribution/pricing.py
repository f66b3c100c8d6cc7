"""Prices causes: replays the event graph with one thing repaired and compares the steps' lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import replay
from .event_graph import EventGraph
from .timeline import Timeline
from .work import Work

Array = np.ndarray[Any, Any]

BATCH_NODES = 12_000_000  # scenarios replayed at once are bounded by memory: nodes x scenarios


@dataclass(frozen=True)
class Pricer:
    """Replays repairs. `steps` [s] step numbers in order, `base_ns` [s] their replayed lengths."""

    graph: EventGraph
    line: Timeline
    work: Work
    steps: Array
    step_of_event: Array
    base_ns: Array

    def with_own(self, own_ns: Array) -> Array:
        """Return node durations [nodes] with each segment's own work replaced by `own_ns` [segments]."""
        work, line = self.work, self.line
        scale = np.divide(own_ns, work.own_ns, out=np.ones(len(own_ns)), where=work.own_ns > 0)
        duration = self.graph.duration.copy()
        inside = work.of_event >= 0
        events = np.flatnonzero(inside)
        duration[self.graph.work[events]] += line.own_ns[events] * (scale[work.of_event[events]] - 1.0)
        born = np.flatnonzero((work.own_ns <= 0) & (own_ns > 0))
        if len(born):
            arrival = np.flatnonzero(~line.held)[born]
            duration[self.graph.work[arrival]] += own_ns[born]
        return np.maximum(duration, 0.0)

    def with_transfer(self, scale: Array | float) -> Array:
        """Return node durations with every transfer multiplied by `scale` (a number, or [transfers])."""
        duration = self.graph.duration.copy()
        duration[self.graph.transfer] *= scale
        return duration

    def lengths(self, scenarios: list[Array]) -> Array:
        """Return the steps' replayed lengths under each scenario's node durations, [scenarios, s] in ns."""
        found: list[Array] = []
        group = max(1, BATCH_NODES // max(len(self.graph.duration), 1))
        for first in range(0, len(scenarios), group):
            ends = replay.finish_times(self.graph.plan, np.stack(scenarios[first : first + group]))
            found.extend(step_lengths(end[self.graph.after], self.step_of_event, len(self.steps)) for end in ends)
        return np.array(found).reshape(len(scenarios), len(self.steps))


def pricer(graph: EventGraph, line: Timeline, work: Work, step: Array) -> Pricer:
    """Return the pricer, with the unrepaired recording replayed once; `step` [events] is the step of each event."""
    steps, step_of_event = np.unique(step, return_inverse=True)
    ends = replay.finish_times(graph.plan, graph.duration[None, :])[0][graph.after]
    base = step_lengths(ends, step_of_event, len(steps))
    return Pricer(graph, line, work, steps, step_of_event, base)


def step_lengths(end_ns: Array, step: Array, steps: int) -> Array:
    """Return the length of each step, [steps]: from the moment the last rank was through the step before.

    >>> step_lengths(np.array([4.0, 5.0, 9.0]), np.array([0, 0, 1]), 2).tolist()
    [5.0, 4.0]
    """
    through = np.zeros(steps)
    np.maximum.at(through, step, end_ns)
    return np.diff(np.maximum.accumulate(through), prepend=0.0)
