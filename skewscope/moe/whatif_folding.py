"""What if experts were parallel in another way than attention (parallel folding): each mapping with memory and traffic.

Attention's ranks are tensor x context x data parallel within a pipeline stage; the same ranks may be folded anew for
the experts as expert-tensor x expert x expert-data parallel. Each mapping moves other bytes, over other links, and has
another size of expert-parallel group to balance over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from . import noise
from .placement import Floats, balancedness, start_layout
from .times import Shape
from .traffic import BF16_BYTES

SOURCE = "Megatron-Core's parallel folding, arXiv 2504.14960; ranks ordered expert-tensor, then expert, then the rest"
ASSUMES = (
    "experts in equal blocks without redundancy, tokens evenly spread over ranks, bf16 dispatch and combine of whole "
    "tokens, one copy per pick; 18 bytes per parameter in training (bf16 weights and gradients, fp32 Adam), 2 else"
)
TRAINING_BYTES, SERVING_BYTES = 18.0, 2.0


@dataclass(frozen=True)
class Mapping:
    """One way: sizes, bytes of experts per GPU, bytes a GPU sends per layer inside and across nodes, balancedness.

    `balance` is that of the loads with experts in equal blocks, mean over layers; `ceiling` what noise leaves of it.
    """

    expert_tensor: int
    expert: int
    expert_data: int
    bytes_per_gpu: float
    inside_bytes: float
    across_bytes: float
    balance: float
    ceiling: float


def mappings(counts: NDArray[Any], model: Shape, ranks: int, gpus_per_node: int = 8, *, stages: int = 1,
             training: bool = True, top_k: int = 0) -> list[Mapping]:  # fmt: skip
    """Return all mappings of the `ranks` of one pipeline stage for the load [L, E] of a step, by bytes across nodes.

    Raises UsageError where ranks or experts cannot be.

    >>> from .times import SHAPES
    >>> even = np.full((1, 8), 100)
    >>> [(one.expert_tensor, one.expert) for one in mappings(even, SHAPES["mixtral-8x7b"], 4)]
    [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]
    """
    w = np.asarray(counts, np.float64)
    if ranks < 1 or gpus_per_node < 1 or w.ndim != 2 or w.shape[-1] != model.experts:
        raise UsageError(f"{ranks} ranks and loads of {w.shape[-1]} experts do not fit {model.name}")
    size = TRAINING_BYTES if training else SERVING_BYTES
    found = [_mapping(w, model, ranks, gpus_per_node, stages, size, top_k or model.top_k, *sizes)
             for sizes in _sizes(ranks, model.experts)]  # fmt: skip
    return sorted(found, key=lambda one: (one.across_bytes, one.inside_bytes, one.expert_tensor, one.expert))


def _sizes(ranks: int, experts: int) -> Iterator[tuple[int, int]]:
    for tensor in range(1, ranks + 1):
        for expert in range(1, ranks // tensor + 1):
            if ranks % (tensor * expert) == 0 and experts % expert == 0:
                yield tensor, expert


def _mapping(w: Floats, model: Shape, ranks: int, per_node: int, stages: int, size: float, top_k: int,
             tensor: int, expert: int) -> Mapping:  # fmt: skip
    weights = model.layers / stages * model.experts * model.expert_bytes(1) / (tensor * expert) * size
    picks = w.sum(-1).mean() / ranks  # of one rank's tokens in a layer
    token = model.hidden * BF16_BYTES * 2  # there and back
    # Where experts are cut over `tensor` ranks, each pick is gathered by all of them and its sums are scattered.
    moved = picks * token * (expert - 1) / expert + picks * token * (tensor - 1)
    across = _across(tensor, expert, per_node)
    loads = start_layout(w.shape[-1], w.shape[-1], expert, w.shape[0]).gpu_loads(w)
    return Mapping(
        tensor, expert, ranks // (tensor * expert), weights, moved * (1.0 - across), moved * across,
        float(balancedness(loads).mean()), float(noise.ceiling(w.sum(-1), expert).mean()),
    )  # fmt: skip


def _across(tensor: int, expert: int, per_node: int) -> float:
    """Return which share of a rank's peers in its expert group sits on other nodes; tensor groups come first."""
    return max(0.0, 1.0 - per_node / (tensor * expert))
