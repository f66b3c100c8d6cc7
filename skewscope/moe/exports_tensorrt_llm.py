"""TensorRT-LLM's load balancer as YAML: name it as `moe_config.load_balancer` of the extra LLM options.

Layers have the model's numbers. It is ignored without a word unless expert parallelism is above 1 and attention data
parallelism is on (TensorRT-LLM #18626). `layer_updates_per_iter: 0` keeps the placement as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .placement import Placement
from .sound import sound


def export(placement: Placement, layers: Sequence[int] | NDArray[Any]) -> bytes:
    """Return YAML with `num_slots`, `initial_global_assignments` by layer and `layer_updates_per_iter` 0."""
    slots = sound(placement, layers).slots
    rows = [f"  {int(layer)}: {row}" for layer, row in zip(layers, slots.tolist(), strict=True)]
    lines = [f"num_slots: {slots.shape[1]}", "initial_global_assignments:", *rows, "layer_updates_per_iter: 0", ""]
    return "\n".join(lines).encode()
