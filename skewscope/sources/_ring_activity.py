"""What a rank did between its calls, from the spans that its hook recorded: the rows of `ops`.

A host thread works wherever it is not held by a call, so its own work is the rest: from the first record to the last,
without blocking calls, without waits for asynchronous ones, and without the end of each backward pass, where the
reducer waits for the buckets that it launched. Loading, collecting garbage and saving are told apart from computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Coded, Columns
from ..spool import PHASES
from ..stats.intervals import Spans, union

Array = np.ndarray[Any, Any]

CAUSES = {"data": "data", "h2d": "memcpy", "checkpoint": "checkpoint", "gc": "gc", "eval": "eval"}  # phase -> op
EXPLAINED_SHARE = 0.5  # of the asynchronous calls: with less it is not known when the rank waited for them


@dataclass(frozen=True)
class Story:
    """Spans of one rank on one clock, ns: its calls and its phases, `phase` as codes of PHASES; `life` from, to."""

    start: Array
    end: Array
    blocking: Array
    phase: Array
    phase_start: Array
    phase_end: Array
    life: tuple[int, int]

    def spans(self, name: str) -> tuple[Array, Array]:
        """Return start and end of the phases of one name."""
        mine = self.phase == PHASES.index(name)
        return self.phase_start[mine], self.phase_end[mine]


def activity(story: Story, rank: int) -> Columns | None:
    """Return the columns of `ops`, or None where the records do not show when the rank waited."""
    held = _held(story)
    if held is None:
        return None
    named = {op: _union(*story.spans(phase)) for phase, op in CAUSES.items()}
    rest = _outside(_union(*held), named.values(), story.life)
    parts = {**named, "cpu": rest}
    ops = list(parts)
    code = np.repeat(np.arange(len(ops)), [len(part.lane) for part in parts.values()])
    return {
        "job": "job", "rank": rank, "op": Coded(code, ops), "stream": 0,
        "start_ns": np.concatenate([part.start for part in parts.values()]),
        "end_ns": np.concatenate([part.end for part in parts.values()]), "source": "ring-spool",
    }  # fmt: skip


def _held(story: Story) -> tuple[Array, Array] | None:
    """Return start and end of the times in which the rank waited; None where too much of that is unknown."""
    waits = story.spans("comm_wait")
    loose = ~story.blocking
    begin, end = story.start[loose], story.end[loose]
    backward = _union(*story.spans("backward"))
    tail, inside = _tails(backward, begin, end)
    known = inside | _ends_with(end, waits[1])
    if len(known) and known.mean() < EXPLAINED_SHARE:
        return None
    solid = story.start[story.blocking], story.end[story.blocking]
    spans = (solid, waits, tail)
    # A nanosecond more, so that the completion lies inside: else another one soon after would be taken for it.
    return np.concatenate([one[0] for one in spans]), np.concatenate([one[1] for one in spans]) + 1


def _tails(backward: Spans, begin: Array, end: Array) -> tuple[tuple[Array, Array], Array]:
    """Return the wait at the end of each backward pass, and which calls were launched in one.

    The last bucket is launched when the last gradient is there: what follows, until all buckets are reduced, is a wait.
    """
    place = np.searchsorted(backward.start, begin, side="right") - 1
    inside = place >= 0
    inside[inside] = begin[inside] < backward.end[place[inside]]
    last, done = np.full(len(backward.lane), -1), np.full(len(backward.lane), -1)
    np.maximum.at(last, place[inside], begin[inside])
    np.maximum.at(done, place[inside], end[inside])
    done = np.minimum(done, backward.end)
    waited = (last >= 0) & (done > last)
    return (last[waited], done[waited]), inside


NEAR_NS = 1_000_000


def _ends_with(end: Array, waits: Array) -> Array:
    """Return which calls end where a wait ends, within a millisecond."""
    if not len(waits):
        return np.zeros(len(end), dtype=bool)
    waits = np.sort(waits)
    after = np.minimum(np.searchsorted(waits, end - NEAR_NS), len(waits) - 1)
    return np.asarray(np.abs(waits[after] - end) <= NEAR_NS)


def _outside(held: Spans, named: Any, life: tuple[int, int]) -> Spans:  # noqa: ANN401 - several Spans
    """Return the time of a life that neither is held nor has a name."""
    taken = [held, *named]
    spans = _union(
        np.concatenate([[life[0]], *(one.start for one in taken), [life[1]]]),
        np.concatenate([[life[0]], *(one.end for one in taken), [life[1]]]),
    )
    return Spans(spans.lane[1:], spans.end[:-1], spans.start[1:])


def _union(start: Array, end: Array) -> Spans:
    start, end = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
    return union(np.zeros(len(start), dtype=np.int64), start, end)
