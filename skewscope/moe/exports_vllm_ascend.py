"""vLLM-Ascend's expert map as JSON: name it as `expert_map_path` of `eplb_config` in `--additional-config`.

Layers are counted among MoE layers from 0; a device holds the same number of experts in every layer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .placement import Placement
from .sound import sound


def export(placement: Placement, layers: Sequence[int] | NDArray[Any]) -> bytes:
    """Return JSON with the experts of each device of each MoE layer."""
    by_gpu = sound(placement, layers).by_gpu().tolist()
    listed = [
        {"layer_id": layer, "device_count": placement.gpus,
         "device_list": [{"device_id": device, "device_expert": experts} for device, experts in enumerate(row)]}
        for layer, row in enumerate(by_gpu)
    ]  # fmt: skip
    return json.dumps({"moe_layer_count": placement.layers, "layer_list": listed}, separators=(",", ":")).encode()
