"""Many devices with the same trouble at the same time are one finding: about their host, or what hosts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope import subjects
from skewscope.contracts import Frames
from skewscope.signals.impact import costs
from skewscope.signals.view import Signal, remembered
from skewscope.subjects import Subject

Array = np.ndarray[Any, Any]
Span = tuple[int, int]
WHOLE_RATIO = 0.5  # OWN: of a host's devices; what they share is then likelier than so many faults at once
WHOLE_COUNT = 3  # OWN: two may be chance
FLEET_RATIO = 0.25  # conditions A11: evidence on a quarter of the peers moves a cause from the node to rack or fabric
FLEET_NODES = 4  # OWN


@dataclass(frozen=True)
class Crowd:
    """Places in the list that was given, and what they are about together; `subject` is None for one device alone."""

    members: tuple[int, ...]
    subject: Subject | None = None


@dataclass(frozen=True)
class Found:
    """Series that fired together: `mask` [windows] is when any did, `column` the first of them.

    `ranks` are those on them in the job of the first, None for one device alone.
    """

    column: int
    members: tuple[int, ...]
    mask: Array
    subject: Subject | None
    ranks: tuple[int, ...] | None

    def mean(self, values: Array) -> float:
        """Return the mean of `values` [windows, series] over these series in these windows, NaN where none is known."""
        some = values[self.mask][:, list(self.members)]
        return float(np.nanmean(some)) if np.isfinite(some).any() else float("nan")

    def where(self, told: Signal) -> str:
        """Return how a sentence names them."""
        if self.subject is None:
            return told.subject(self.column).id
        return f"{len(self.members)} GPUs of {self.subject.id}"


def crowds(nodes: Sequence[str], spans: Sequence[Span], sizes: Mapping[str, int]) -> list[Crowd]:
    """Return devices by what they share; `spans` say when each had its trouble, `sizes` how many a host has.

    >>> crowds(["a", "a", "a", "b"], [(0, 9), (0, 9), (5, 7), (0, 9)], {"a": 4, "b": 4})[0].subject.id
    'a'
    """
    by_node: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        by_node.setdefault(node, []).append(place)
    whole = {node: members for node, members in by_node.items()
             if node and _together(members, spans) >= max(WHOLE_COUNT, WHOLE_RATIO * sizes.get(node, 0))}  # fmt: skip
    rest = [place for place, node in enumerate(nodes) if node not in whole]
    spread = len({nodes[place] for place in rest}) >= FLEET_NODES
    if spread and _together(rest, spans) >= FLEET_RATIO * sum(sizes.values()):
        return [Crowd(tuple(range(len(nodes))), wide(by_node))]
    joint = [place for members in whole.values() for place in members]
    found = []
    if len(whole) > 1 and _together(joint, spans) > max(len(members) for members in whole.values()):
        found.append(Crowd(tuple(joint), wide(whole)))
    else:
        found += [Crowd(tuple(members), subjects.node(node)) for node, members in whole.items()]
    return found + [Crowd((place,)) for place in rest]


def wide(nodes: Mapping[str, Any]) -> Subject:
    """Return the subject of what several hosts share, named by the first and the last of them.

    >>> wide({"n1": 0, "n0": 0, "n2": 0}).id
    'n0..n2'
    """
    names = sorted(nodes)
    return subjects.rack(names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}")


def found(told: Signal, mask: Array, tables: Frames) -> Iterator[Found]:
    """Yield the series of `told` in which `mask` [windows, series] is ever True, those that fired together as one."""
    fired = np.flatnonzero(mask.any(axis=0))
    if not len(fired):
        return
    last = len(mask) - 1 - np.argmax(mask[::-1, fired], axis=0)
    spans = list(zip(np.argmax(mask[:, fired], axis=0).tolist(), last.tolist(), strict=True))
    nodes = [str(node) for node in told.node[fired]]
    for crowd in crowds(nodes, spans, Counter(str(node) for node in told.node.tolist())):
        members = tuple(int(fired[place]) for place in crowd.members)
        when = np.asarray(mask[:, list(members)].any(axis=1))
        yield Found(members[0], members, when, crowd.subject, _ranks(told, members, tables) if crowd.subject else None)


def _ranks(told: Signal, members: Sequence[int], tables: Frames) -> tuple[int, ...]:
    """Return the ranks on these devices, of the job that holds the first that any holds."""
    places = remembered(tables["windows"], "ranks-by-place", lambda: _places(tables))
    held = [places[key] for key in ((told.node[one], told.device[one]) for one in members) if key in places]
    return tuple(sorted(rank for job, rank in held if job == held[0][0]))


def _places(tables: Frames) -> dict[tuple[str, str], tuple[str, int]]:
    return {
        (node, device): (cost.job, int(rank))
        for cost in costs(tables).jobs.values()
        for node, device, rank in zip(cost.node.tolist(), cost.device.tolist(), cost.rank.tolist(), strict=True)
    }


def _together(members: Sequence[int], spans: Sequence[Span]) -> int:
    """Return how many of these had their trouble at one time, at most."""
    edges = sorted([(spans[one][0], 0, 1) for one in members] + [(spans[one][1], 1, -1) for one in members])
    now = most = 0
    for _, _, step in edges:
        now += step
        most = max(most, now)
    return most
