"""Maps of slots to experts, as engines take them: JSON of SGLang, vLLM and vLLM-Ascend, YAML of TensorRT-LLM.

SGLang: `physical_to_logical_map` [layers][slots]. vLLM (proposed): `initial_global_assignments` {layer: [slots]} with
`record_type`. vLLM-Ascend: `layer_list` of `device_list` of `device_expert`. TensorRT-LLM: `num_slots` and
`initial_global_assignments`. The map holds from step 0 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import yaml

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes, _expert_rows

Array = np.ndarray[Any, Any]

MOST_BYTES = 1 << 26
ASSIGNMENTS = b"initial_global_assignments"
Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Device(msgspec.Struct):
    """The slots of one rank, as vLLM-Ascend writes them."""

    device_expert: list[int]
    device_id: int = -1


class Layer(msgspec.Struct):
    """One layer, as vLLM-Ascend writes it."""

    layer_id: int
    device_list: list[Device]


class Map(msgspec.Struct):
    """Any of the maps; the fields of the others stay empty."""

    physical_to_logical_map: list[list[int]] = []
    initial_global_assignments: dict[int, list[int]] = {}
    num_slots: int = 0
    layer_list: list[Layer] = []


class ExpertMap:
    """Reads `*.json` and `*.yaml` that place experts."""

    format: ClassVar[str] = "expert-map"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a map."""
        if b"\0" in head:
            return 0.0
        if head.lstrip().startswith(b"{"):
            ascend = b'"layer_list"' in head and b'"device_list"' in head and b'"device_expert"' in head
            others = b'"physical_to_logical_map"' in head or b'"initial_global_assignments"' in head
            return 0.9 if ascend or others and b'"eplb_load_stats"' not in head else 0.0
        top = [line.partition(b":")[0] for line in head.split(b"\n") if line[:1].isalpha()]
        return 0.9 if ASSIGNMENTS in top else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_placements`; raises Unreadable where layers do not have equally many slots."""
        content, damage = _bytes.whole(path, MOST_BYTES)
        told = _parsed(content, damage)
        if told.layer_list:
            layers, rows, ranks = _of_devices(told.layer_list)
        elif told.initial_global_assignments:
            layers = sorted(told.initial_global_assignments)
            rows, ranks = [told.initial_global_assignments[layer] for layer in layers], 0
        else:
            layers, rows, ranks = list(range(len(told.physical_to_logical_map))), told.physical_to_logical_map, 0
        table = _table(layers, rows, told.num_slots)
        reading = Reading(str(path), self.format, events=table.size)
        reading.batches.append(_expert_rows.placements(table, layers, source=self.format, ranks=ranks))
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _parsed(content: bytes, damage: str) -> Map:
    try:
        if content.lstrip().startswith(b"{"):
            return msgspec.json.decode(content, type=Map)
        told: Map = msgspec.convert(yaml.load(content, Loader), Map)  # noqa: S506 - one of the two safe loaders
        return told
    except (yaml.YAMLError, ValueError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise Unreadable(f"damaged map of slots: {damage or why}"[:300], "write it anew") from None


def _of_devices(layers: Sequence[Layer]) -> tuple[list[int], list[list[int]], int]:
    """Return layers, slots of each and the number of ranks."""
    ranks = {len(layer.device_list) for layer in layers}
    sizes = {len(device.device_expert) for layer in layers for device in layer.device_list}
    if len(ranks) != 1 or len(sizes) != 1:
        raise Unreadable(
            f"layers with {_words(ranks)} devices of {_words(sizes)} experts: the map wants equally many everywhere"
        )
    ordered = sorted(layers, key=lambda layer: layer.layer_id)
    rows = []
    for layer in ordered:
        devices = sorted(layer.device_list, key=lambda device: device.device_id)
        rows.append([expert for device in devices for expert in device.device_expert])
    return [layer.layer_id for layer in ordered], rows, ranks.pop()


def _table(layers: Sequence[int], rows: Sequence[Sequence[int]], slots: int) -> Array:
    sizes = {len(row) for row in rows}
    if len(sizes) != 1 or not rows[0]:
        raise Unreadable(f"layers with {_words(sizes)} slots: a map wants equally many in each of its layers")
    if slots and sizes != {slots}:
        raise Unreadable(f"num_slots is {slots}, the layers have {_words(sizes)}")
    if len(set(layers)) < len(layers) or min(layers) < 0:
        raise Unreadable("a layer is named twice or below 0")
    try:
        return np.array(rows, dtype=np.int64)
    except OverflowError:
        raise Unreadable("experts with numbers beyond all sense") from None


def _words(numbers: set[int]) -> str:
    return " or ".join(str(number) for number in sorted(numbers)[:4]) or "no"
