"""vLLM's initial mapping as a line of JSON, as proposed in vLLM #41141 (no release reads it yet).

Keep it beside the load records of the same form; layers are counted among MoE layers from 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .placement import Placement
from .sound import sound


def export(placement: Placement, layers: Sequence[int] | NDArray[Any]) -> bytes:
    """Return one line of JSON: record_type `eplb_initial_mapping`, the experts of all slots by MoE layer."""
    slots = sound(placement, layers).slots
    record = {
        "record_type": "eplb_initial_mapping", "version": 1,
        "num_redundant_experts": slots.shape[1] - placement.experts, "num_slots": slots.shape[1],
        "initial_global_assignments": {str(layer): row for layer, row in enumerate(slots.tolist())},
    }  # fmt: skip
    return (json.dumps(record, separators=(",", ":")) + "\n").encode()
