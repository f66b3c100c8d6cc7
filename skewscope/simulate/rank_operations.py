"""Every operation and call of every rank of a large training job, one step at a time.

The own work of a step is that of the scenario's world, so its faults and its noise are in it. It is laid out as a
profiler would see it: input, then per microbatch a forward pass and the activations to the next stage, a backward pass
the other way round at whose end the tensor-parallel group meets, one reduction over the data-parallel group, and the
optimizer. A step costs a few milliseconds per 10,000 ranks, and nothing is kept of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from . import meetings, noise
from .noise import Array
from .own_work import BLOCK, OwnWork
from .training import TRANSFER_SPREAD_RATIO, saving_factor
from .world import World

OPTIMIZER_SHARE = 0.05
FORWARD_SHARE = 1 / 3  # of the rest; a backward pass costs twice a forward pass
OPS = ("data", "kernel", "gc", "checkpoint")
CALLS = ("all_reduce", "send", "recv")
CLASSES = ("", "p2p")
BYTES_PER_S = 4e10


@dataclass(frozen=True)
class Step:
    """One step: `begin_s`, `end_s` [ranks], and columns of `ops` and `collectives`, sorted by rank; times in seconds.

    `op`, `op_class` and `group` are places in OPS or CALLS, in CLASSES, and in `Operations.groups`.
    """

    number: int
    begin_s: Array
    end_s: Array
    ops: dict[str, Array]
    calls: dict[str, Array]


@dataclass
class _Lane:
    """What the ranks of one stage do, in their order: [rows of (op, microbatch, begin, end)], and their calls."""

    ops: list[tuple[int, int, Array, Array]] = field(default_factory=list)
    calls: list[tuple[int, int, int, Any, Any, float, Array, Array]] = field(default_factory=list)


class Operations:
    """The steps of job number `at` of a world; raises UsageError for what it cannot lay out.

    `groups` are the communicators and the channels between stages; `members` lists (group, rank, kind, size) of the
    communicators.
    """

    def __init__(self, world: World, at: int = 0) -> None:
        self.world, self.job = world, world.fleet.jobs[at]
        plan = self.job.plan
        if plan.kind != "training" or plan.cp > 1 or plan.ep > 1:
            raise UsageError(f"job {plan.name}: operations are laid out for training with dp, tp and pp only")
        self.plan, self._at = plan, at
        self.shape = (plan.pp, plan.dp, plan.tp)
        layout = meetings.layout_of(world.fleet, self.job)
        self._own = OwnWork(world, at)
        self._usual = {"tp": 0.0, "dp": 0.0, "pp": 0.0, **meetings.usual_transfers(plan, layout)}
        self._slow = meetings.transfer_factors(world, self.job, layout)
        self._saving = saving_factor(world, self.job)
        self._ranks = np.arange(plan.ranks).reshape(self.shape)
        self.groups, self._codes = self._named()

    def _named(self) -> tuple[list[str], dict[str, Array]]:
        """Return the names of all groups, and [pp, dp, tp] the place of each rank's group of a kind."""
        stages, copies, shards = self.shape
        stage, copy, shard = np.indices(self.shape)
        names = [f"tp_{at}" for at in range(stages * copies)] + [f"dp_{at}" for at in range(stages * shards)]
        codes = {"tp": stage * copies + copy, "dp": stages * copies + stage * shards + shard}
        for kind, src, dst in (("down", self._ranks[:-1], self._ranks[1:]), ("up", self._ranks[1:], self._ranks[:-1])):
            codes[kind] = len(names) + np.arange(src.size).reshape(src.shape)
            pairs = zip(src.ravel().tolist(), dst.ravel().tolist(), strict=True)
            names += [f"p2p:{one}-{other}" for one, other in pairs]
        return names, codes

    @property
    def members(self) -> tuple[Array, Array, Array, Array]:
        """Group (place in `groups`), rank, kind (0 tp, 1 dp) and size of each membership."""
        tensor, data = self._codes["tp"].ravel(), self._codes["dp"].ravel()
        rank = self._ranks.ravel()
        kind = np.repeat([0, 1], len(rank))
        size = np.repeat([self.plan.tp, self.plan.dp], len(rank))
        return np.concatenate([tensor, data]), np.concatenate([rank, rank]), kind, size

    def steps(self, count: int) -> Iterator[Step]:
        """Yield the first `count` steps."""
        free = np.full(self.shape, self.plan.start_s)
        for number in range(count):
            begin = free
            window = self.world.window(float(begin.max()))
            lanes, free = self._step(number, window, begin)
            yield Step(number, begin.ravel(), free.ravel(), self._ops(lanes), self._calls(lanes))

    def lengths(self, count: int) -> Array:
        """Return how long each of the first `count` steps lasts, from end to end of the last rank, seconds."""
        free = np.full(self.shape, self.plan.start_s)
        ends = [self.plan.start_s]
        for number in range(count):
            _, free = self._step(number, self.world.window(float(free.max())), free)
            ends.append(float(free.max()))
        return np.diff(ends)

    def _step(self, number: int, window: int, begin: Array) -> tuple[list[_Lane], Array]:
        parts = {name: value.reshape(self.shape) for name, value in self._own.parts(window, number, 1).items()}
        own = sum((parts[name] for name in ("compute", "host", "h2d", "d2h")), np.zeros(self.shape))
        drawn = noise.rng(self.world.seed, "transfers", self._at, number // BLOCK).standard_normal(BLOCK)
        spread = float(np.exp(TRANSFER_SPREAD_RATIO * drawn[number % BLOCK]))
        moves = {kind: self._usual[kind] * spread * self._factor(kind, window) for kind in ("tp", "dp", "pp")}
        lanes = [_Lane() for _ in range(self.plan.pp)]
        free = [begin[stage] for stage in range(self.plan.pp)]
        for stage, lane in enumerate(lanes):
            free[stage] = _work(lane, "data", -1, free[stage], parts["input"][stage])
            if parts["gc"][stage].any():
                free[stage] = _work(lane, "gc", -1, free[stage], parts["gc"][stage])
        self._passes(number, lanes, free, own * (1.0 - OPTIMIZER_SHARE) / self.plan.microbatches, moves)
        every = self.plan.checkpoint_steps
        saving = self.plan.checkpoint_s * float(self._saving[window]) if every and (number + 1) % every == 0 else 0.0
        for stage, lane in enumerate(lanes):
            if self.plan.dp > 1:
                free[stage] = self._meet(lane, "dp", stage, number, free[stage], moves["dp"][stage])
            free[stage] = _work(lane, "kernel", -1, free[stage], own[stage] * OPTIMIZER_SHARE)
            if saving:
                free[stage] = _work(lane, "checkpoint", -1, free[stage], np.full(self.shape[1:], saving))
        return lanes, np.stack(free)

    def _factor(self, kind: str, window: int) -> Array:
        if kind not in self._slow:
            return np.ones(self.shape)
        return np.asarray(np.broadcast_to(self._slow[kind][window], (self.plan.ranks,))).reshape(self.shape)

    def _passes(self, number: int, lanes: list[_Lane], free: list[Array], own: Array, moves: dict[str, Array]) -> None:
        """Lay out all forward passes, stage after stage, then all backward passes the other way, in place."""
        count = self.plan.microbatches
        for forward in (True, False):
            order = range(self.plan.pp) if forward else range(self.plan.pp - 1, -1, -1)
            share = FORWARD_SHARE if forward else 1.0 - FORWARD_SHARE
            sent: list[Array] = []
            for stage in order:
                lane, handed = lanes[stage], list(sent)
                sent = []
                for batch in range(count):
                    seq = number * count + batch
                    if handed:
                        move = moves["pp"][stage] / (2 * count)
                        free[stage] = self._receive(lanes, stage, forward, seq, free[stage], handed[batch], move)
                    for _ in range(2):
                        free[stage] = _work(lane, "kernel", batch, free[stage], own[stage] * share / 2)
                    if not forward and self.plan.tp > 1:
                        free[stage] = self._meet(lane, "tp", stage, seq, free[stage], moves["tp"][stage] / count)
                    sent.append(free[stage])

    def _receive(
        self, lanes: list[_Lane], stage: int, forward: bool, seq: int, ready: Array, sent: Array, move: Array
    ) -> Array:  # fmt: skip
        """Note the transfer from the stage before on both its ends; return when the data is there."""
        other = stage - 1 if forward else stage + 1
        done = np.maximum(ready, sent) + move
        group = self._codes["down"][other] if forward else self._codes["up"][stage]
        moved = self._bytes("pp")
        lanes[other].calls.append((1, 1, seq, group, self._ranks[stage], moved, sent, done))
        lanes[stage].calls.append((2, 1, seq, group, self._ranks[other], moved, ready, done))
        return np.asarray(done)

    def _meet(self, lane: _Lane, kind: str, stage: int, seq: int, ready: Array, move: Array) -> Array:
        """Note a call of all groups of a kind within a stage; return when it is complete."""
        done = ready.max(axis=1 if kind == "tp" else 0, keepdims=True) + move
        lane.calls.append((0, 0, seq, self._codes[kind][stage], None, self._bytes(kind), ready, done))
        return np.asarray(done)

    def _bytes(self, kind: str) -> float:
        share = {"tp": self.plan.microbatches, "pp": 2 * self.plan.microbatches, "dp": 1}[kind]
        return max(self._usual[kind] / share * BYTES_PER_S, 1.0)

    def _ops(self, lanes: list[_Lane]) -> dict[str, Array]:
        made: dict[str, list[Array]] = {name: [] for name in ("rank", "op", "microbatch", "begin_s", "end_s")}
        for stage, lane in enumerate(lanes):
            begin, end = (np.stack([row[at].ravel() for row in lane.ops], axis=1) for at in (2, 3))  # type: ignore[union-attr]
            kept = end > begin
            ranks = np.broadcast_to(self._ranks[stage].ravel()[:, None], kept.shape)
            op, batch = (np.broadcast_to([row[at] for row in lane.ops], kept.shape) for at in (0, 1))
            for name, values in zip(made, (ranks, op, batch, begin, end), strict=True):
                made[name].append(values[kept])
        return {name: np.concatenate(parts) for name, parts in made.items()}

    def _calls(self, lanes: list[_Lane]) -> dict[str, Array]:
        names = ("rank", "op", "op_class", "seq", "group", "peer", "message_bytes", "begin_s", "end_s")
        made: dict[str, list[Array]] = {name: [] for name in names}
        for stage, lane in enumerate(lanes):
            size = self._ranks[stage].size
            columns = [np.stack([np.broadcast_to(-1 if one is None else np.ravel(one), size) for one in column], axis=1)
                       for column in zip(*lane.calls, strict=True)]  # fmt: skip
            ranks = np.broadcast_to(self._ranks[stage].ravel()[:, None], columns[0].shape)
            for name, values in zip(names, (ranks, *columns), strict=True):
                made[name].append(values.ravel())
        return {name: np.concatenate(parts) for name, parts in made.items()}


def _work(lane: _Lane, kind: str, batch: int, begin: Array, spent: Array) -> Array:
    """Note own work; return when it is done."""
    lane.ops.append((OPS.index(kind), batch, begin, begin + spent))
    return np.asarray(begin + spent)
