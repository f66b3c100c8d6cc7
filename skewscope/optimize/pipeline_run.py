"""Runs a pipeline schedule with any durations: the order on each device is fixed, times follow from who waits for whom.

A schedule is an order of operations per device. "F" is a forward pass, "B" a backward pass, "W" the gradients of the
weights where the schedule takes them apart (then "B" is only the gradients of the inputs). Stages are virtual: with v
chunks on a device there are v times as many stages as devices. F waits for F of the stage before, B for B of the stage
after and for its own F, W for its own B. Uneven stages need no other rule: closed formulas hold for even ones only.
Pipelines in several directions are paths: each has all virtual stages, and every paths-th microbatch.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Op(NamedTuple):
    """One pass: `kind` "F", "B" or "W" of a virtual `stage` for a `microbatch`, both from 0."""

    kind: str
    stage: int
    microbatch: int


Orders = Sequence[Sequence[Op]]


@dataclass(frozen=True)
class Schedule:
    """`orders` of operations per device; `device_of` [paths x virtual stages]; `split` where W is apart from B.

    Microbatch i takes path i mod `paths`, and stage s of path k is numbered k times the virtual stages, plus s.
    """

    name: str
    orders: Orders
    device_of: Array
    microbatches: int
    split: bool = False
    paths: int = 1

    @property
    def length(self) -> int:
        """Return the virtual stages of a path."""
        return len(self.device_of) // self.paths

    @property
    def chunks(self) -> int:
        """Return how many virtual stages of a path a device holds."""
        return self.length // len(self.orders)

    def peaks(self, weight: Array | None = None) -> Array:
        """Return the most activations held at once, [devices]; `weight` [virtual stages] is what one microbatch holds.

        By default in microbatches of a whole device: 1 / chunks for each virtual stage. Held from F to the end of the
        last pass that needs them, which is W where the schedule takes it apart.
        """
        held = np.full(len(self.device_of), 1.0 / self.chunks) if weight is None else weight
        last = "W" if self.split else "B"
        signs = {"F": 1.0, last: -1.0}
        steps = [[signs.get(op.kind, 0.0) * held[op.stage] for op in order] for order in self.orders]
        return np.array([np.cumsum(one).max(initial=0.0) for one in steps])


@dataclass(frozen=True)
class Times:
    """Seconds of each pass [virtual stages, microbatches], and of handing over between stages on other devices.

    `backward_s` is the whole backward; `weight_share` of it is W in schedules that take W apart.
    """

    forward_s: Array
    backward_s: Array
    weight_share: float = 0.5
    transfer_s: float = 0.0

    def seconds(self, split: bool) -> Mapping[str, Array]:
        """Return seconds by kind of pass, each [virtual stages, microbatches]."""
        if not split:
            return {"F": self.forward_s, "B": self.backward_s}
        weight = self.backward_s * self.weight_share
        return {"F": self.forward_s, "B": self.backward_s - weight, "W": weight}


@dataclass(frozen=True)
class Run:
    """What came of it: `spans` per device (start, end, operation) in seconds; `busy_s` [devices]."""

    spans: Sequence[Sequence[tuple[float, float, Op]]]
    busy_s: Array

    @property
    def makespan_s(self) -> float:
        """Return the time from the first start to the last end."""
        return max(one[-1][1] for one in self.spans if one)

    @property
    def bubble_s(self) -> float:
        """Return the mean idle time of a device until the last one is done."""
        return float(self.makespan_s - self.busy_s.mean())

    @property
    def own_bubble_s(self) -> Array:
        """Return the idle time of each device between its own first start and last end, [devices]."""
        return np.array([one[-1][1] - one[0][0] for one in self.spans]) - self.busy_s

    @property
    def ideal_ratio(self) -> float:
        """Return the bubble over the mean work of a device (r_ideal)."""
        return self.bubble_s / float(self.busy_s.mean())

    @property
    def total_ratio(self) -> float:
        """Return the bubble over the makespan (r_total)."""
        return self.bubble_s / self.makespan_s


def even(stages: int, microbatches: int, forward_s: Array | float, backward_s: Array | float, **more: float) -> Times:
    """Return times that do not differ between microbatches; `forward_s`, `backward_s` scalars or [stages] seconds.

    >>> even(2, 3, np.array([1.0, 2.0]), 2.0).forward_s.tolist()
    [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    """
    shape = (stages, microbatches)
    spread = [np.broadcast_to(np.reshape(np.broadcast_to(one, stages), (-1, 1)), shape)
              for one in (forward_s, backward_s)]  # fmt: skip
    return Times(spread[0], spread[1], **more)


def run(schedule: Schedule, times: Times) -> Run:
    """Return the run of a schedule; raises ValueError where its order waits for itself.

    >>> order = [[Op("F", 0, 0), Op("B", 0, 0)], [Op("F", 1, 0), Op("B", 1, 0)]]
    >>> run(Schedule("one", order, np.array([0, 1]), 1), even(2, 1, 1.0, 2.0)).makespan_s
    6.0
    """
    seconds = {kind: values.tolist() for kind, values in times.seconds(schedule.split).items()}
    device_of = schedule.device_of.tolist()
    ended: dict[Op, float] = {}
    waiting: dict[Op, list[int]] = defaultdict(list)
    spans: list[list[tuple[float, float, Op]]] = [[] for _ in schedule.orders]
    ready = deque(range(len(schedule.orders)))
    while ready:
        device = ready.popleft()
        mine = spans[device]
        for op in schedule.orders[device][len(mine) :]:
            needs = _needs(op, schedule.length)
            missing = next((one for one in needs if one not in ended), None)
            if missing is not None:
                waiting[missing].append(device)
                break
            handed = [ended[one] + times.transfer_s * (device_of[one.stage] != device) for one in needs]
            start = max(mine[-1][1] if mine else 0.0, *handed, 0.0)
            ended[op] = start + seconds[op.kind][op.stage][op.microbatch]
            mine.append((start, ended[op], op))
            ready.extend(waiting.pop(op, ()))
    stuck = [device for device, one in enumerate(spans) if len(one) < len(schedule.orders[device])]
    if stuck:
        op = schedule.orders[stuck[0]][len(spans[stuck[0]])]
        raise ValueError(f"{schedule.name}: device {stuck[0]} waits for ever before {op}")
    return Run(spans, np.array([sum(end - start for start, end, _ in one) for one in spans]))


def least_s(schedule: Schedule, times: Times) -> float:
    """Return what no run of these passes on these devices can be below: the busiest device, or the longest chain.

    A chain is a microbatch forward through its path and back, with the transfers between, and the last W where apart.

    >>> order = [[Op("F", 0, 0), Op("B", 0, 0)], [Op("F", 1, 0), Op("B", 1, 0)]]
    >>> least_s(Schedule("one", order, np.array([0, 1]), 1), even(2, 1, 1.0, 2.0, transfer_s=0.5))
    7.0
    """
    seconds = times.seconds(schedule.split)
    at = np.arange(schedule.microbatches)
    path = at % schedule.paths
    stages = path * schedule.length + np.arange(schedule.length)[:, None]
    mine = {kind: values[stages, at] for kind, values in seconds.items()}
    devices = schedule.device_of[stages]
    busy = np.bincount(devices.ravel(), sum(mine.values()).ravel(), len(schedule.orders))
    handed = 2 * times.transfer_s * (np.diff(devices, axis=0) != 0).sum(axis=0)
    chain = mine["F"].sum(axis=0) + mine["B"].sum(axis=0) + handed + (mine["W"][0] if schedule.split else 0.0)
    return float(max(busy.max(), chain.max()))


def _needs(op: Op, length: int) -> list[Op]:
    if op.kind == "W":
        return [Op("B", op.stage, op.microbatch)]
    if op.kind == "F":
        return [Op("F", op.stage - 1, op.microbatch)] if op.stage % length else []
    own = [Op("F", op.stage, op.microbatch)]
    return own if (op.stage + 1) % length == 0 else [*own, Op("B", op.stage + 1, op.microbatch)]
