"""Prices causes: replays the event graph with one thing repaired and compares the steps' lengths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..stats import segments
from . import replay
from .event_graph import EventGraph
from .timeline import Timeline
from .work import Work

Array = np.ndarray[Any, Any]

BATCH_NODES = 8_000_000  # scenarios replayed at once are bounded by memory: nodes x scenarios


@dataclass(frozen=True)
class Pricer:
    """Replays repairs. `steps` [s] step numbers in order, `base_ns` [s] their replayed lengths."""

    graph: EventGraph
    line: Timeline
    work: Work
    steps: Array
    step_of_event: Array
    base_ns: Array

    @cached_property
    def _inside(self) -> tuple[Array, Array, Array]:
        """Events that belong to a segment, their segments, and the node of each."""
        events = np.flatnonzero(self.work.of_event >= 0)
        return events, self.work.of_event[events], self.graph.work[events]

    @cached_property
    def _last(self) -> tuple[Array, Array]:
        """Place in the replay, and step, of each rank's last event in a step: its events end one after the other."""
        over = segments.runs(self.line.rank, self.step_of_event)
        last = over.first + over.size - 1
        return self.graph.plan.place[self.graph.after[last]], self.step_of_event[last]

    def with_own(self, own_ns: Array) -> Array:
        """Return node durations [nodes] with each segment's own work replaced by `own_ns` [segments]."""
        work = self.work
        events, of, nodes = self._inside
        more = np.divide(own_ns, work.own_ns, out=np.ones(len(own_ns)), where=work.own_ns > 0) - 1.0
        duration = self.graph.duration.copy()
        duration[nodes] += self.line.own_ns[events] * more[of]
        born = np.flatnonzero((work.own_ns <= 0) & (own_ns > 0))
        if len(born):
            arrival = np.flatnonzero(~self.line.held)[born]
            duration[self.graph.work[arrival]] += own_ns[born]
        return np.maximum(duration, 0.0, out=duration)

    def changed(self, duration: Array, which: Array, own_ns: Array) -> Array:
        """Return node durations with the own work of `which` segments (their numbers) replaced by `own_ns` of those."""
        work, made = self.work, duration.copy()
        events, of, nodes = self._inside
        place = np.full(len(work.own_ns), -1)
        place[which] = np.arange(len(which))
        touched = np.flatnonzero(place[of] >= 0)
        old = work.own_ns[which]
        more = np.divide(own_ns, old, out=np.ones(len(old)), where=old > 0) - 1.0
        node = nodes[touched]
        made[node] = self.graph.duration[node] + self.line.own_ns[events[touched]] * more[place[of[touched]]]
        born = np.flatnonzero((old <= 0) & (own_ns > 0))
        if len(born):
            arrival = np.flatnonzero(~self.line.held)[which[born]]
            made[self.graph.work[arrival]] += own_ns[born]
        made[node] = np.maximum(made[node], 0.0)
        return made

    def with_transfer(self, scale: Array | float) -> Array:
        """Return node durations with every transfer multiplied by `scale` (a number, or [transfers])."""
        duration = self.graph.duration.copy()
        duration[self.graph.transfer] *= scale
        return duration

    def lengths(self, scenarios: list[Array]) -> Array:
        """Return the steps' replayed lengths under each scenario's node durations, [scenarios, s] in ns.

        A scenario that is listed several times (the same array) is replayed once.
        """
        known: dict[int, Array] = {id(self.graph.duration): self.base_ns}
        asked = list({id(one): one for one in scenarios if id(one) not in known}.items())
        group = max(1, BATCH_NODES // max(len(self.graph.duration), 1))
        for first in range(0, len(asked), group):
            part = asked[first : first + group]
            values = np.empty((len(self.graph.duration), len(part)))
            for column, (_, one) in enumerate(part):
                values[:, column] = one[self.graph.plan.order]
            replay.sweep(self.graph.plan, values)
            place, of = self._last
            for column, (name, _) in enumerate(part):
                known[name] = step_lengths(values[place, column], of, len(self.steps))
        return np.array([known[id(one)] for one in scenarios]).reshape(len(scenarios), len(self.steps))


def pricer(graph: EventGraph, line: Timeline, work: Work, step: Array) -> Pricer:
    """Return the pricer, with the unrepaired recording replayed once; `step` [events] is the step of each event."""
    steps, step_of_event = segments.levels(step)
    ends = replay.finish_times(graph.plan, graph.duration)[graph.after]
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
