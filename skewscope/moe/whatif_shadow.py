"""What if the hottest experts were copied to all GPUs for the layer (FasterMoE's shadowing), in training.

Tokens of a shadowed expert stay at home; instead its weights are broadcast and its gradients reduced. A layer takes
about three times the longest compute and four times the longest transfer, forward and backward together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Placement
from .times import Clock, Floats
from .traffic import BF16_BYTES

SOURCE = "FasterMoE, PPoPP 2022: layer time 3 max compute + 4 max send; shadow while the predicted time falls"
ASSUMES = "tokens start evenly spread over GPUs; bf16 activations and gradients; nothing hidden; one replica an expert"
PASSES, SENDS = 3.0, 4.0
MOST_SHADOWS = 16  # experts of a layer; the gain is in the first few


@dataclass(frozen=True)
class Shadows:
    """Per layer [L]: how many experts to shadow, and the layer's seconds without and with them."""

    count: NDArray[np.int64]
    now_s: Floats
    shadowed_s: Floats


def shadows(counts: NDArray[Any], placement: Placement, clock: Clock) -> Shadows:
    """Return the best number of shadowed experts per layer for the load [L, E] of one step.

    `clock` gives the time of a forward pass (`passes` 1); hottest experts are added up to the number with the least
    time.
    """
    w = np.asarray(counts, np.float64)
    order = np.argsort(-w, axis=-1, kind="stable")
    most = min(MOST_SHADOWS, w.shape[-1])
    times = np.stack([_layer_s(w, order[:, :count], placement, clock) for count in range(most + 1)])
    best = times.argmin(0)
    return Shadows(best, times[0], times.min(0))


def _layer_s(w: Floats, shadowed: NDArray[np.int64], placement: Placement, clock: Clock) -> Floats:
    gpus, model = placement.gpus, clock.model
    away = w.copy()
    np.put_along_axis(away, shadowed, 0.0, axis=-1)
    loads = placement.gpu_loads(away)
    at_home = (w.sum(-1) - away.sum(-1)) / gpus
    compute = (loads.max(-1) + at_home) * clock.token_s / clock.passes
    send = loads.max(-1) * (gpus - 1) / gpus * model.hidden * BF16_BYTES / clock.board.network_bytes_per_s
    # A broadcast of the weights and a reduction of their gradients, each about once through a GPU's link.
    copies = shadowed.shape[-1] * 2.0 * model.expert_bytes(BF16_BYTES) / clock.board.network_bytes_per_s
    return np.asarray(PASSES * compute + SENDS * send + copies)
