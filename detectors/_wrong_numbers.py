"""What ranks say of wrong numbers: marks of the training program and events of recordings."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from skewscope import subjects
from skewscope.contracts import Frames
from skewscope.signals.impact import costs
from skewscope.subjects import Subject

WRONG = re.compile(r"(?i)(nan|inf|loss|grad|checksum)\b")
Mark = tuple[int, int, str, str]  # t_ns, rank, node, text


def marks(tables: Frames) -> list[Mark]:
    """Return what ranks say of wrong numbers."""
    events = tables["events"]
    row: Any
    found = []
    for row in events[events["event"].isin(["mark", "divergence"]).to_numpy()].itertuples():
        if row.event == "divergence" or WRONG.match(str(row.message)):
            found.append(
                (int(row.t_ns), _rank(tables, str(row.node), str(row.device)), str(row.node), str(row.message))
            )
    return [mark for mark in found if mark[1] >= 0]


def _rank(tables: Frames, node: str, device: str) -> int:
    """Return the number of `rank7`, or of the rank on `gpu3`, -1 where unknown."""
    here = costs(tables).of_device(node, device)[1] if device.startswith("gpu") else []
    number = device.removeprefix("rank")
    return int(number) if number.isdecimal() and len(number) < 10 else next(iter(here), -1)


def ranks(tables: Frames) -> int:
    """Return how many ranks the job has."""
    live = max((len(cost.rank) for cost in costs(tables).jobs.values()), default=0)
    return max(live, int(tables["ranks"]["rank"].nunique()))


def subject(tables: Frames, rank: int, node: str) -> Subject:
    """Return the GPU of a rank, the rank where nobody says which."""
    for cost in costs(tables).jobs.values():
        here = np.flatnonzero((cost.rank == rank) & ((cost.node == node) | (node == "")))
        if len(here) and str(cost.device[here[0]]).startswith("gpu"):
            return subjects.gpu(str(cost.node[here[0]]), str(cost.device[here[0]])[3:], rank=rank)
    return subjects.rank("job", rank, node=node)
