"""What if experts were sharded over all GPUs and materialised where a step needs them (Hecate, FSSDP), in training.

Each step the hottest experts of each layer get replicas for that step only, gathered before it and their gradients
scattered after it. The replicas follow the loads of the step before, as those of the step itself are not known in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .placement import Floats, Placement, balancedness
from .times import Clock
from .traffic import BF16_BYTES

SOURCE = "Hecate, fully sharded sparse data parallelism, arXiv 2502.02581 (up to 3.54x, by its authors)"
ASSUMES = "equal split over replicas; bf16 weights and gradients; every replica is gathered anew, one layer at a time"
Planner = Callable[[NDArray[Any], int, int], Placement]  # loads [L, E], slots, GPUs


@dataclass(frozen=True)
class Materialised:
    """Balance on each step's load, mean over steps and layers, and what the replicas cost a step.

    `known`: replicas for the step's own loads; `followed`: for those of the step before; `now`: without any.
    """

    now: float
    followed: float
    known: float
    extra_bytes_per_gpu: float  # at a time: one layer
    moved_bytes_per_gpu: float  # a step, all layers
    moved_s: float
    gained_s: float  # of expert compute, before `moved_s`


def materialised(counts: NDArray[Any], placement: Placement, extra_per_gpu: int, clock: Clock,
                 planner: Planner) -> Materialised:  # fmt: skip
    """Return the what-if of single steps [T, L, E]: `extra_per_gpu` slots per GPU and layer, planned by `planner`.

    Raises UsageError for fewer than two steps.
    """
    x = np.asarray(counts)
    if x.ndim != 3 or len(x) < 2 or extra_per_gpu < 1:
        raise UsageError(f"two steps [T, L, E] and one extra slot are wanted, not {list(x.shape)} and {extra_per_gpu}")
    gpus, model = placement.gpus, clock.model
    slots = placement.slots.shape[1] + gpus * extra_per_gpu
    plans = [planner(step, slots, gpus) for step in x]
    now_s = clock.gpu_s(x[1:], placement).max(-1).sum(-1).mean()
    then_s = np.mean([clock.gpu_s(step, plan).max(-1).sum() for step, plan in zip(x[1:], plans, strict=False)])
    one = extra_per_gpu * model.expert_bytes(BF16_BYTES)
    moved = 2.0 * one * x.shape[1]  # gathered, and gradients scattered
    return Materialised(
        now=_mean(balancedness(placement.gpu_loads(x[1:]))), followed=_mean(_scores(x[1:], plans[:-1])),
        known=_mean(_scores(x[1:], plans[1:])), extra_bytes_per_gpu=one, moved_bytes_per_gpu=moved,
        moved_s=moved / clock.board.network_bytes_per_s, gained_s=float(now_s - then_s),
    )  # fmt: skip


def _scores(steps: NDArray[Any], plans: list[Placement]) -> Floats:
    return np.stack([balancedness(plan.gpu_loads(step)) for step, plan in zip(steps, plans, strict=True)])


def _mean(values: Floats) -> float:
    return float(values.mean())
