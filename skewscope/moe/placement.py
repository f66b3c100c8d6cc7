"""Where experts live: the slots of GPUs, the loads that follow from them, and what is wrong with a placement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
NAMED = 4  # cases that a complaint names before it only counts


@dataclass(frozen=True)
class Placement:
    """Which logical expert each slot holds (`phy2log`): slot s lies on GPU s // S, GPU g on node g // (G / N).

    `slots` [L, P] holds expert ids 0..`experts` - 1. A placement may be faulty as it was read; `lint` says how,
    and what cannot be computed from it raises UsageError.
    """

    slots: Ints
    gpus: int
    experts: int
    nodes: int = 1

    def __post_init__(self) -> None:
        slots = np.asarray(self.slots)
        if slots.ndim != 2 or not np.issubdtype(slots.dtype, np.integer):
            raise UsageError(f"slots of a placement: integers [layers, slots] are wanted, not {slots.dtype} "
                             f"of shape {list(slots.shape)}")  # fmt: skip
        if self.gpus < 1 or self.nodes < 1 or self.experts < 1:
            raise UsageError(f"a placement wants at least one GPU, node and expert, "
                             f"not {self.gpus}, {self.nodes} and {self.experts}")  # fmt: skip
        object.__setattr__(self, "slots", np.ascontiguousarray(slots, np.int32))

    @property
    def layers(self) -> int:
        """Return L, the number of MoE layers."""
        return int(self.slots.shape[0])

    @property
    def slots_per_gpu(self) -> int:
        """Return S = P / G; raises UsageError where slots do not spread evenly over GPUs."""
        if self.slots.shape[1] % self.gpus:
            raise UsageError(f"{self.slots.shape[1]} slots do not spread evenly over {self.gpus} GPUs")
        return int(self.slots.shape[1] // self.gpus)

    def by_gpu(self) -> Ints:
        """Return the experts of each GPU [L, G, S]."""
        return self.slots.reshape(self.layers, self.gpus, self.slots_per_gpu)

    def replicas(self) -> NDArray[np.int64]:
        """Return how many slots hold each expert [L, E].

        >>> Placement(np.array([[0, 1, 2, 0]]), gpus=2, experts=3).replicas().tolist()
        [[2, 1, 1]]
        """
        if self.slots.size and not 0 <= self.slots.min() <= self.slots.max() < self.experts:
            raise UsageError(f"slots name experts {self.slots.min()} to {self.slots.max()}; "
                             f"there are experts 0 to {self.experts - 1}")  # fmt: skip
        first = np.arange(self.layers, dtype=np.int64)[:, None] * self.experts
        flat = np.bincount((self.slots + first).ravel(), minlength=self.layers * self.experts)
        return flat.reshape(self.layers, self.experts)

    def slot_loads(self, counts: NDArray[Any]) -> Floats:
        """Return tokens per slot [.., L, P] of tokens per expert [.., L, E], split evenly over replicas."""
        held = self.replicas()
        counts = np.asarray(counts, np.float64)
        if counts.shape[-2:] != held.shape:
            raise UsageError(f"loads of shape {list(counts.shape)} do not fit a placement of {held.shape[0]} layers "
                             f"and {held.shape[1]} experts")  # fmt: skip
        if not held.all() and counts[..., held == 0].any():
            layer, expert = np.argwhere(held == 0)[0]
            raise UsageError(f"layer {layer}: no slot holds expert {expert}, which gets tokens")
        share = counts / np.maximum(held, 1)
        return share[..., np.arange(self.layers)[:, None], self.slots]

    def gpu_loads(self, counts: NDArray[Any]) -> Floats:
        """Return tokens per GPU [.., L, G] of tokens per expert [.., L, E], split evenly over replicas.

        Raises UsageError where shapes do not fit or an expert with tokens has no slot.

        >>> half = Placement(np.array([[0, 1, 2, 0]]), gpus=2, experts=3)
        >>> half.gpu_loads(np.array([[8, 1, 3]])).tolist()
        [[5.0, 7.0]]
        """
        loads = self.slot_loads(counts)
        summed: Floats = loads.reshape(*loads.shape[:-1], self.gpus, self.slots_per_gpu).sum(-1)
        return summed


def balancedness(gpu_loads: NDArray[Any]) -> Floats:
    """Return mean / maximum over the last axis: tokens [.., L, G] to [.., L]; 1 where a layer has no tokens.

    >>> balancedness(np.array([[5.0, 7.0], [0.0, 0.0]])).round(3).tolist()
    [0.857, 1.0]
    """
    loads = np.asarray(gpu_loads, np.float64)
    highest = loads.max(-1)
    return np.where(highest > 0, loads.mean(-1) / np.where(highest > 0, highest, 1), 1.0)


def start_layout(experts: int, slots: int, gpus: int, layers: int, nodes: int = 1) -> Placement:
    """Return the layout engines start with: slot i holds expert i modulo E, so that copies are of the first experts.

    >>> start_layout(4, 6, 2, layers=1).slots.tolist()
    [[0, 1, 2, 3, 0, 1]]
    """
    if slots < experts:
        raise UsageError(f"{slots} slots cannot hold {experts} experts")
    return Placement(np.tile(np.arange(slots, dtype=np.int32) % experts, (layers, 1)), gpus, experts, nodes)


def duplicates(placement: Placement) -> NDArray[np.int64]:
    """Return how many slots of each GPU [L, G] hold an expert that another slot of that GPU holds already.

    >>> duplicates(Placement(np.array([[0, 0, 1, 2]]), gpus=2, experts=3)).tolist()
    [[1, 0]]
    """
    ordered = np.sort(placement.by_gpu(), axis=-1)
    repeats: NDArray[np.int64] = np.count_nonzero(ordered[..., 1:] == ordered[..., :-1], axis=-1)
    return repeats


def lint(placement: Placement) -> list[str]:
    """Return what is wrong with a placement, one sentence each: missing experts, wasted slots, shapes that do not fit.

    >>> lint(Placement(np.array([[0, 0, 1, 1]]), gpus=2, experts=3))
    ['no slot holds these experts: layer 0 expert 2', '2 slots are wasted on a second replica on the same GPU: \
layer 0 GPU 0, layer 0 GPU 1']
    """
    said = []
    slots, experts = placement.slots, placement.experts
    if placement.gpus % placement.nodes:
        said.append(f"{placement.gpus} GPUs do not spread evenly over {placement.nodes} nodes")
    outside = (slots < 0) | (slots >= experts)
    if outside.any():
        said.append(f"slots outside experts 0 to {experts - 1}: {_cases(outside, 'slot')}")
    else:
        missing = placement.replicas() == 0
        said += [f"no slot holds these experts: {_cases(missing, 'expert')}"] if missing.any() else []
    if slots.shape[1] % placement.gpus:
        return [*said, f"{slots.shape[1]} slots do not spread evenly over {placement.gpus} GPUs"]
    twice = duplicates(placement)
    if twice.any():
        said.append(f"{twice.sum()} slots are wasted on a second replica on the same GPU: {_cases(twice > 0, 'GPU')}")
    return said


def _cases(where: NDArray[np.bool_], what: str) -> str:
    found = np.argwhere(where)
    named = ", ".join(f"layer {layer} {what} {one}" for layer, one in found[:NAMED])
    return named + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
