"""The part of the sequence plan that splits long sequences over several devices: degrees by length class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..optimize import sequence_degrees
from ..optimize.sequence_cost import Cost
from ..optimize.sequence_degrees import Devices, Layout
from ..optimize.sequence_degrees_exact import exact
from ..plans import Picture

Array = np.ndarray[Any, Any]

STEPS_MOST = 20  # laid out: those with the most to gain come first


@dataclass(frozen=True)
class Sharded:
    """`layouts` of the `steps` laid out; of these steps the total `time`, its `bound`, and the time `packed` whole.

    `tokens` and `degree_of` [sequences] are those of all these steps, in order.
    """

    steps: Array
    layouts: tuple[Layout, ...]
    degree_of: Array
    tokens: Array
    time: float
    bound: float
    packed: float

    @property
    def saved_share(self) -> float:
        """Return by which share these steps get shorter than with the best packing of whole sequences."""
        return 1.0 - self.time / self.packed


def shard(
    tokens: Array, step_of: Array, loads: Array, cost: Cost, devices: Devices, *, proved: bool = False
) -> Sharded:  # fmt: skip
    """Return layouts of the steps in which the heaviest rank stands most above the mean; `loads` [steps, ranks].

    With `proved`, steps of few sequences are solved as mixed integer programs.
    """
    excess = loads.max(axis=1) - loads.mean(axis=1)
    steps = np.argsort(-excess, kind="stable")[:STEPS_MOST]
    made, degrees, seen = [], [], []
    for step in steps:
        mine = tokens[step_of == step]
        layout = exact(mine, cost, devices) if proved else sequence_degrees.layout(mine, cost, devices)
        made.append(layout)
        degrees.append(layout.degrees[layout.group_of])
        seen.append(mine)
    return Sharded(
        steps, tuple(made), np.concatenate(degrees), np.concatenate(seen), sum(one.time for one in made),
        sum(one.bound for one in made), float(loads[steps].max(axis=1).sum()),
    )  # fmt: skip


def classes(sharded: Sharded) -> list[dict[str, float]]:
    """Return per length class (powers of two) how many sequences there are and over how many devices most are split."""
    top = np.ceil(np.log2(np.maximum(sharded.tokens, 1))).astype(int)
    found = []
    for power in np.unique(top):
        degrees, counts = np.unique(sharded.degree_of[top == power], return_counts=True)
        found.append({
            "up_to_tokens": 2 ** int(power), "sequences": int(counts.sum()),
            "degree": int(degrees[np.argmax(counts)]), "least_degree": int(degrees.min()),
            "most_degree": int(degrees.max()),
        })  # fmt: skip
    return found


def picture(sharded: Sharded, cost: Cost, devices: Devices) -> Picture:
    """Return the groups of the first step as lanes: every sequence as long as it lasts, rounds one after the other."""
    layout, step = sharded.layouts[0], int(sharded.steps[0])
    counts = [int((one.group_of >= 0).sum()) for one in sharded.layouts]
    tokens = sharded.tokens[: counts[0]]
    time = sequence_degrees.times(tokens, cost, devices)
    rounds = layout.rounds or (layout,)
    ends = np.cumsum([0.0, *(one.time for one in rounds)])
    begins = np.repeat(ends[:-1], [len(one.degrees) for one in rounds])
    lanes: dict[str, list[tuple[float, float, str]]] = {}
    for item in np.argsort(-tokens, kind="stable"):
        group = int(layout.group_of[item])
        degree = int(layout.degrees[group])
        lane = lanes.setdefault(f"group {group}, {degree} wide", [])
        begin = lane[-1][1] if lane else float(begins[group])
        length = float(time[int(np.log2(degree)), item])
        lane.append((begin, begin + length, f"up to {2 ** int(np.ceil(np.log2(tokens[item]))):,} tokens"))
    text = f"Step {step}, groups side by side: {layout.time:.3g} {cost.unit}, bound {layout.bound:.3g}."
    return Picture("gantt", "Long sequences split over groups of devices", text, f"time, {cost.unit}", "group", lanes)
