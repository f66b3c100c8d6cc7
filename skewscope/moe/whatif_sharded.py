"""What if every expert were cut over all GPUs (MoEShard): balanced whatever the router does, paid with bytes.

Each GPU holds a slice of the columns of every expert and multiplies all tokens with it, so no GPU can be hot. But
every token must reach every GPU and all partial results are summed, and slices narrower than a tile of the tensor
cores leave part of them idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Placement
from .times import Clock, Floats
from .traffic import BF16_BYTES, FP8_BYTES

SOURCE = "MoEShard, arXiv 2503.08467 (up to 6.4x time to first token against DeepSpeed, by its authors)"
ASSUMES = (
    "slices of columns, fused kernels, an all-gather of tokens and a reduce-scatter of sums; tiles of 64 columns; "
    "transfers at the link's peak and not hidden"
)
TILE_COLUMNS = 64


@dataclass(frozen=True)
class Sharded:
    """Per layer [L], mean over steps: expert seconds and transfer seconds of now and of sharded experts."""

    now_s: Floats
    now_transfer_s: Floats
    sharded_s: Floats
    sharded_transfer_s: Floats
    tile_use: float  # of the tensor cores by a slice
    bytes_per_gpu: float  # of expert weights, all layers; as now without redundancy

    @property
    def gained_s(self) -> float:
        """Return what it saves of a step, all layers; negative where it costs."""
        before, after = self.now_s + self.now_transfer_s, self.sharded_s + self.sharded_transfer_s
        return float((before - after).sum())


def sharded(counts: NDArray[Any], placement: Placement, clock: Clock, top_k: int, *, across_nodes: bool) -> Sharded:
    """Return the what-if for loads [T, L, E] of single steps; `across_nodes` takes the network for all transfers."""
    x = np.atleast_3d(np.asarray(counts, np.float64))
    gpus, model = placement.gpus, clock.model
    speed = clock.board.network_bytes_per_s if across_nodes else clock.board.nvlink_bytes_per_s
    tokens = x.sum(-1) / top_k
    width = model.intermediate / gpus
    use = width / (np.ceil(width / TILE_COLUMNS) * TILE_COLUMNS)
    # A slice of each expert: the same tokens, 1 / G of the columns, of all experts that got any.
    compute = x.sum(-1) * clock.token_s / gpus / use
    reading = (x > 0).sum(-1) * clock.stream_s / gpus
    loads = placement.gpu_loads(x)
    size = model.hidden * (FP8_BYTES + BF16_BYTES)
    away = (gpus - 1) / gpus
    return Sharded(
        now_s=clock.gpu_s(x, placement).max(-1).mean(0), now_transfer_s=loads.max(-1).mean(0) * away * size / speed,
        sharded_s=np.maximum(compute, reading).mean(0), sharded_transfer_s=tokens.mean(0) * away * size / speed,
        tile_use=float(use),
        bytes_per_gpu=model.layers * model.experts * model.expert_bytes(clock.weight_bytes) / gpus,
    )  # fmt: skip
