"""Orders by list scheduling, for placements whose published order is not known to us.

Each free device takes the first of its passes that can start: backward before forward before weights' gradients, older
microbatches first, later stages first. Same input, same order. A device holds at most a given number of chunks'
activations, and always leaves room for the older microbatches to finish: so no order waits for itself. Greedy orders
are not optimal; `shortest` tries four and takes the best.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pipeline_run import Op, Schedule, even, run

Array = np.ndarray[Any, Any]
Rank = Callable[[Op], tuple[int, ...]]

SAME_S = 1e-9
RANKED = {"B": 0, "F": 1, "W": 2}


@dataclass(frozen=True)
class Placed:
    """Where the chunks are: `device_of` [paths x virtual stages], as in `Schedule`; `most` chunks' activations held."""

    name: str
    device_of: Array
    microbatches: int
    most: int
    paths: int = 1


def oldest(op: Op) -> tuple[int, ...]:
    """Return the usual rank of a pass, the least first: B, F, W; the older microbatch; the later stage."""
    return RANKED[op.kind], op.microbatch, -op.stage


def forward_first(op: Op) -> tuple[int, ...]:
    """Return another rank, for where the limit of activations alone holds forwards back: F, B; else as `oldest`."""
    return "FBW".index(op.kind), op.microbatch, -op.stage


def shortest(placed: Placed, forward: float, backward: float) -> Schedule:
    """Return the shortest of four orders for a device's times: either rank, listed with these times or equal ones.

    >>> made = shortest(Placed("line", np.arange(2), 4, 2), 1.0, 2.0)
    >>> run(made, even(2, 4, 1.0, 2.0)).makespan_s
    15.0
    """
    equal = (forward + backward) / 2
    taken = ({"F": forward, "B": backward}, {"F": equal, "B": equal})
    tried = [schedule(placed, seconds, rank) for rank in (oldest, forward_first) for seconds in taken]
    times = even(len(placed.device_of), placed.microbatches, forward, backward)
    return min(tried, key=lambda one: run(one, times).makespan_s)


def schedule(placed: Placed, seconds: Mapping[str, float], rank: Rank = oldest) -> Schedule:
    """Return the order; `seconds` of a chunk's pass by kind, with "W" where the weights' gradients are taken apart.

    >>> made = schedule(Placed("line", np.arange(2), 2, 2), {"F": 1.0, "B": 2.0})
    >>> [[op.kind + str(op.microbatch) for op in one] for one in made.orders]
    [['F0', 'F1', 'B0', 'B1'], ['F0', 'B0', 'F1', 'B1']]
    """
    devices = int(placed.device_of.max()) + 1
    orders: list[list[Op]] = [[] for _ in range(devices)]
    made = Schedule(placed.name, orders, placed.device_of, placed.microbatches, "W" in seconds, placed.paths)
    queue = _Queue(made, seconds, placed.most, rank)
    free = [0.0] * devices
    events = [(0.0, device) for device in range(devices)]
    while events:
        now, device = heapq.heappop(events)
        if free[device] > now + SAME_S:
            continue
        op = queue.take(device, now)
        if op is not None:
            orders[device].append(op)
            free[device] = now + seconds[op.kind]
            for other in queue.wakes(op, device):
                heapq.heappush(events, (free[device], other))
    return made


class _Queue:
    """What has ended when, and which pass each device may take next."""

    def __init__(self, made: Schedule, seconds: Mapping[str, float], most: int, rank: Rank) -> None:
        self.made, self.seconds, self.most, self.rank = made, seconds, most, rank
        self.device_of = made.device_of.tolist()
        self.frees = "W" if made.split else "B"
        self.ended: dict[Op, float] = {}
        self.next = {kind: [stage // made.length for stage in range(len(self.device_of))] for kind in seconds}
        self.mine: dict[int, list[int]] = defaultdict(list)
        for stage, device in enumerate(self.device_of):
            self.mine[device].append(stage)
        self.rooms = [_Room(made.chunks, most) for _ in made.orders]

    def take(self, device: int, now: float) -> Op | None:
        """Return the pass that the device starts now, and note when it ends."""
        able = [op for op in self._next(device) if self._can(op, device, now)]
        if not able:
            return None
        op = min(able, key=self.rank)
        self.ended[op] = now + self.seconds[op.kind]
        self.next[op.kind][op.stage] += self.made.paths
        if op.kind == "F":
            self.rooms[device].hold(op.microbatch)
        elif op.kind == self.frees:
            self.rooms[device].free(op.microbatch)
        return op

    def wakes(self, op: Op, device: int) -> Iterator[int]:
        """Yield the devices that the end of a pass may let start something."""
        yield device
        step = {"F": 1, "B": -1}.get(op.kind, 0)
        if step and (op.stage + step) // self.made.length == op.stage // self.made.length:
            yield self.device_of[op.stage + step]

    def _next(self, device: int) -> Iterator[Op]:
        for kind, places in self.next.items():
            for stage in self.mine[device]:
                if places[stage] < self.made.microbatches:
                    yield Op(kind, stage, places[stage])

    def _can(self, op: Op, device: int, now: float) -> bool:
        kind, stage, at = op
        if kind == "W":
            return self._done("B", stage, at, now)
        if kind == "F":
            before = stage % self.made.length == 0 or self._done("F", stage - 1, at, now)
            return before and self.rooms[device].fits(at)
        last = (stage + 1) % self.made.length == 0
        return self._done("F", stage, at, now) and (last or self._done("B", stage + 1, at, now))

    def _done(self, kind: str, stage: int, at: int, now: float) -> bool:
        return self.ended.get(Op(kind, stage, at), np.inf) <= now + SAME_S


class _Room:
    """The activations of one device: `chunks` of every microbatch pass through it, `most` are held at once."""

    def __init__(self, chunks: int, most: int) -> None:
        self.chunks, self.most = chunks, max(most, chunks)
        self.passed: dict[int, int] = defaultdict(int)
        self.held: dict[int, int] = defaultdict(int)
        self.total = self.oldest = 0

    def hold(self, at: int) -> None:
        """Note a forward pass of microbatch `at`."""
        self.passed[at] += 1
        self.held[at] += 1
        self.total += 1
        while self.passed[self.oldest] == self.chunks:
            self.oldest += 1

    def free(self, at: int) -> None:
        """Note that one chunk's activations of microbatch `at` are not needed any more."""
        self.held[at] -= 1
        self.total -= 1
        if not self.held[at]:
            del self.held[at]

    def fits(self, at: int) -> bool:
        """Tell whether one more forward of `at` leaves every microbatch up to it the room to finish after its elders.

        The banker's rule, with the microbatches' age as the order: what is held from k on, and what k has yet to hold.
        """
        if self.total >= self.most:
            return False
        if self.total + self.chunks < self.most:
            return True
        above = self.total - sum(held for one, held in self.held.items() if one < self.oldest)
        for one in range(self.oldest, at + 1):
            wanted = self.chunks - self.passed.get(one, 0)
            if wanted and above + wanted + int(one < at) > self.most:
                return False
            above -= self.held.get(one, 0)
        return True
