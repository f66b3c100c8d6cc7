"""ZeroPP (Tang and others, 2024): pipeline and ZeRO-3 without tensor parallelism, in blocks of microbatches.

Weights are sharded over the Z ranks that tensor parallelism would use, and gathered a chunk at a time; a unit of
microbatches passes a chunk before the next chunk is gathered, so the gathers are shared by the unit. The order is not
the authors': it is our order on an interleaved placement of v chunks, by list scheduling, units of p microbatches, the
weights' gradients apart, and 1F1B's activations of p microbatches at most.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from . import schedule_listed
from .pipeline_run import Op, Schedule
from .schedule_listed import RANKED, Placed


def schedule(
    devices: int, microbatches: int, forward: float = 1.0, backward: float = 2.0, weight_share: float = 0.5,
    chunks: int = 2,
) -> Schedule:  # fmt: skip
    """Return our order for a device's usual times (any unit); `weight_share` of the backward is W.

    >>> [f"{op.kind}{op.stage}.{op.microbatch}" for op in schedule(2, 2).orders[0]]
    ['F0.0', 'F0.1', 'F2.0', 'F2.1', 'B2.0', 'W2.0', 'B2.1', 'B0.0', 'B0.1', 'W0.0', 'W0.1', 'W2.1']
    """
    placed = Placed("zeropp", np.arange(devices * chunks) % devices, microbatches, devices * chunks)
    weight = backward * weight_share / chunks
    seconds = {"F": forward / chunks, "B": backward / chunks - weight, "W": weight}

    def rank(op: Op) -> tuple[int, ...]:
        chunk = op.stage // devices
        return RANKED[op.kind], op.microbatch // devices, -chunk if op.kind == "B" else chunk, op.microbatch

    return schedule_listed.schedule(placed, seconds, rank)


def gathers(made: Schedule) -> float:
    """Return the weights that the busiest device gathers in a step, in multiples of its own, one chunk held at a time.

    A chunk is gathered when a forward or a backward wants it and the one before wanted another; W wants no weights.

    >>> gathers(schedule(2, 2))
    1.5
    """
    runs = [sum(1 for _ in groupby(op.stage for op in one if op.kind != "W")) for one in made.orders]
    return max(runs) / made.chunks


def weights(shards: int, chunks: int = 2) -> float:
    """Return the weights that a device holds over those of its stage: its shard, and the chunk that is gathered.

    >>> weights(8)
    0.625
    """
    return 1 / shards + 1 / chunks
