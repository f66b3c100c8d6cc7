"""From one placement to another: which experts must be copied where, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .placement import Floats, Placement
from .times import Hardware

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Migration:
    """Experts that GPUs must receive, [L, G]: `inside` from a GPU of their node, `across` from another node."""

    inside: Ints
    across: Ints

    @property
    def copies(self) -> Ints:
        """Return the copies of each layer [L]."""
        summed: Ints = (self.inside + self.across).sum(1)
        return summed

    def gpu_bytes(self, expert_bytes: float) -> Floats:
        """Return the bytes that each GPU receives [G]."""
        return np.asarray((self.inside + self.across).sum(0) * expert_bytes)

    def seconds(self, expert_bytes: float, board: Hardware) -> float:
        """Return the seconds of copying at the links' peak: GPUs receive side by side, the busiest is waited for.

        What an engine adds (a second of host time in SGLang #7879, barriers) is not in it.
        """
        inside, across = (one.sum(0) * expert_bytes for one in (self.inside, self.across))
        return float((inside / board.nvlink_bytes_per_s + across / board.network_bytes_per_s).max(initial=0.0))


def migration(now: Placement, later: Placement) -> Migration:
    """Return what `later` needs that is not there `now`; raises UsageError where GPUs, layers or experts differ.

    >>> two = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4)
    >>> migration(two, Placement(np.array([[0, 2, 1, 3]]), gpus=2, experts=4)).copies.tolist()
    [2]
    """
    if (now.gpus, now.layers, now.experts) != (later.gpus, later.layers, later.experts):
        raise UsageError(f"{now.layers} layers of {now.experts} experts on {now.gpus} GPUs cannot become "
                         f"{later.layers} layers of {later.experts} experts on {later.gpus} GPUs")  # fmt: skip
    held, wanted = holds(now), holds(later)
    missing = wanted & ~held
    nodes = later.nodes if later.gpus % later.nodes == 0 else 1
    per_node = held.reshape(now.layers, nodes, now.gpus // nodes, now.experts).any(2)
    near = np.repeat(per_node, now.gpus // nodes, axis=1)
    return Migration((missing & near).sum(-1, dtype=np.int64), (missing & ~near).sum(-1, dtype=np.int64))


def holds(placement: Placement) -> Bools:
    """Return which experts each GPU holds [L, G, E].

    >>> holds(Placement(np.array([[0, 0, 1, 2]]), gpus=2, experts=3)).tolist()
    [[[True, False, False], [False, True, True]]]
    """
    made = np.zeros((placement.layers, placement.gpus, placement.experts), bool)
    layer, gpu = np.indices((placement.layers, placement.gpus))
    made[layer[..., None], gpu[..., None], placement.by_gpu()] = True
    return made


def aligned(now: Placement, later: Placement) -> Placement:
    """Return `later` with experts that stay on their GPU in the slots they have `now`, so that slots change least.

    Placements with other numbers of slots per GPU are returned as they are.

    >>> now = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4)
    >>> aligned(now, Placement(np.array([[2, 0, 3, 1]]), gpus=2, experts=4)).slots.tolist()
    [[0, 2, 1, 3]]
    """
    if now.slots.shape != later.slots.shape or now.gpus != later.gpus:
        return later
    old, new = now.by_gpu(), later.by_gpu()
    made = np.full_like(new, -1)
    free = np.ones(new.shape, bool)
    for slot in range(new.shape[2]):
        stays = free & (new == old[..., slot, None])  # the first of several replicas takes the place
        first = stays.argmax(-1)
        found = stays.any(-1)
        layer, gpu = np.nonzero(found)
        made[layer, gpu, slot] = old[layer, gpu, slot]
        free[layer, gpu, first[layer, gpu]] = False
    rest = np.argsort(~free, axis=-1, kind="stable")  # those without a place, in their order
    place = np.cumsum(made < 0, axis=-1) - 1
    left = np.take_along_axis(np.take_along_axis(new, rest, -1), np.maximum(place, 0), -1)
    return Placement(np.where(made < 0, left, made).reshape(later.slots.shape), later.gpus, later.experts, later.nodes)
