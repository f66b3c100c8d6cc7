"""SGLang's `physical_to_logical_map` as JSON: start the server with `--init-expert-location FILE`.

Its rows are all decoder layers, so dense layers before, between and after MoE layers get the start layout, which
nothing reads. `--ep-num-redundant-experts` must be slots - experts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Placement, start_layout
from .sound import sound


def export(placement: Placement, layers: Sequence[int] | NDArray[Any]) -> bytes:
    """Return JSON with the experts of all slots of the decoder layers 0 to the last of `layers` [L]."""
    slots = sound(placement, layers).slots
    named = np.asarray(layers, np.int64)
    filled = start_layout(placement.experts, slots.shape[1], placement.gpus, int(named.max()) + 1).slots.copy()
    filled[named] = slots
    return json.dumps({"physical_to_logical_map": filled.tolist()}, separators=(",", ":")).encode()
