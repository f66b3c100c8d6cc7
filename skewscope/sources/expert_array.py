"""Arrays of numpy (`.npy`, `.npz`): counts [layers, experts] or [steps, layers, experts], picks, maps of slots.

Counts are told by their name in an `.npz`, picks by their shape [tokens, layers(, k)] or a name like `trace`. Picks
have no steps: each run of tokens is taken for one. Counts as columns (`layer`, `expert`, `count`) are summed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes, _expert_picks, _expert_rows, _numpy_file
from ._workload import workload

Array = np.ndarray[Any, Any]

COUNTS = ("counts", "expert_counts", "logical_count", "logical_counts", "expert_load", "expert_loads", "loads", "load",
          "weight", "weights", "tokens_per_expert", "routed_tokens")  # fmt: skip
PICKS = ("trace", "topk_ids", "routed_experts", "expert_ids", "routes")
MAPS = ("phy2log", "physical_to_logical_map", "phy2log_map")
COLUMNS = ("layer", "expert", "count")
AXES = ("steps", "layers", "meta")
PICKED = ("trace", "route", "topk")  # in the name of a file
# Of an array without a name: picks are numbers below so many, of at most so many in a row, of far more tokens than
# layers; fewer rows can be anything.
MOST_PICKED, WIDEST, FAR_MORE, FEWEST = 4096, 16, 16, 64


class Meta(msgspec.Struct):
    """What a text `meta` beside counts may tell."""

    topk: int = -1
    first: int = 0  # number of the first MoE layer


class ExpertArray:
    """Reads such files."""

    format: ClassVar[str] = "expert-array"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; which arrays an archive holds, only `read` can tell."""
        if head.startswith(_numpy_file.MAGIC):
            return 0.6
        length = int.from_bytes(head[26:28], "little")
        is_archive = head.startswith(_numpy_file.ZIP_MAGIC) and head[30 : 30 + length].endswith(b".npy")
        return 0.6 if is_archive else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_loads`, and `expert_pairs` of picks; raises Unreadable for other arrays."""
        content, damage = _bytes.whole(path)
        if damage:
            raise Unreadable(damage, "copy the file again")
        reading = Reading(str(path), self.format)
        if content.startswith(_numpy_file.MAGIC):
            self._one(path, _numpy_file.array(content), reading)
        else:
            self._named(path, content, reading)
        reading.events = sum(_expert_rows.length(columns) for _, columns in reading.batches)
        return reading

    def _one(self, path: Path, found: Array, reading: Reading) -> None:
        if _are_picks(found, path.name.lower()):
            self._picks(path, found, reading)
        else:
            self._counts(path, found, {}, reading)

    def _named(self, path: Path, content: bytes, reading: Reading) -> None:
        found = _numpy_file.arrays(content, (*COUNTS, *PICKS, *MAPS, *COLUMNS, *AXES))
        counts = next((found[name] for name in COUNTS if name in found), None)
        picks = next((found[name] for name in PICKS if name in found), None)
        table = next((found[name] for name in MAPS if name in found), None)
        if counts is not None:
            self._counts(path, counts, found, reading)
        elif picks is not None:
            self._picks(path, picks, reading)
        elif all(name in found for name in COLUMNS):
            self._columns(path, found, reading)
        elif table is None:
            there = ", ".join(_numpy_file.Archive(content).names[:6]) or "nothing"
            raise Unreadable(f"an archive of {there}", f"call the counts {COUNTS[0]}, the picks {PICKS[0]}")
        if table is not None:
            layers = np.arange(len(table) if table.ndim else 0)
            reading.batches.append(_expert_rows.placements(table, layers, source=self.format, job=workload(path)))

    def _counts(self, path: Path, counts: Array, beside: dict[str, Array], reading: Reading) -> None:
        counts = counts[None] if counts.ndim == 2 else counts
        if counts.ndim != 3:
            raise Unreadable(f"counts want [layers, experts] or [steps, layers, experts], not {counts.shape}")
        meta = _meta(beside.get("meta"))
        steps = _axis(beside.get("steps"), len(counts), 0)
        layers = _axis(beside.get("layers"), counts.shape[1], meta.first)
        reading.batches, reading.warnings = _expert_rows.loads(
            counts, steps, layers, source=self.format, job=workload(path), top_k=meta.topk
        )

    def _picks(self, path: Path, picks: Array, reading: Reading) -> None:
        picks = picks[:, :, None] if picks.ndim == 2 else picks
        reading.batches, reading.warnings = _expert_picks.trace(picks, source=self.format, job=workload(path))

    def _columns(self, path: Path, found: dict[str, Array], reading: Reading) -> None:
        layer, expert, count = (found[name] for name in COLUMNS)
        sound = layer.ndim == 1 and layer.shape == expert.shape == count.shape and len(layer)
        if not sound or any(part.dtype.kind not in "iu" for part in (layer, expert, count)):
            raise Unreadable("columns layer, expert and count want equally many whole numbers")
        if expert.min() < 0 or expert.max() >= _expert_rows.MOST_EXPERTS:
            raise Unreadable(f"experts {expert.min()} to {expert.max()} cannot be meant")
        layers, place = np.unique(layer.astype(np.int64), return_inverse=True)
        width = int(expert.max()) + 1
        summed = np.bincount(place * width + expert, _expert_rows.whole(count), len(layers) * width)
        self._counts(path, summed.reshape(len(layers), width), {"layers": layers}, reading)


def _are_picks(found: Array, name: str) -> bool:
    """Return whether an array without a name holds picks: small whole numbers, far more tokens than layers.

    >>> _are_picks(np.zeros((5000, 12), np.int64), "x.npy"), _are_picks(np.array([[40, 2], [3, 9]]), "x.npy")
    (True, False)
    """
    if found.dtype.kind not in "iu" or found.ndim not in (2, 3) or not found.size:
        return False
    if any(word in name for word in PICKED):
        return True
    if found.max() >= MOST_PICKED:
        return False
    if found.ndim == 2:
        return bool(found.shape[0] > FAR_MORE * found.shape[1])
    return 1 < found.shape[2] <= WIDEST and _differ(found)


def _differ(found: Array) -> bool:
    """Return whether rows [tokens, layers, k] look like picks: never one twice, most numbers used, no common sum."""
    if found.shape[0] * found.shape[1] < FEWEST:
        return False
    apart = (np.diff(np.sort(found, axis=2), axis=2) != 0).all()
    dense = 2 * len(np.unique(found)) > int(found.max())
    sums = found.sum(axis=2)
    conserved = found.shape[1] > 1 and (sums == sums[:, :1]).all(axis=1).mean() > 0.5
    return bool(apart and dense and not conserved)


def _axis(given: Array | None, size: int, first: int) -> Array:
    if given is None or given.shape != (size,) or given.dtype.kind not in "iu":
        return np.arange(first, first + size)
    return given


def _meta(given: Array | None) -> Meta:
    text = _numpy_file.texts(given) if given is not None else ""
    try:
        told = msgspec.json.decode(text or "{}", type=Meta)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Meta()
    return told if 0 <= told.first < _expert_rows.MOST_LAYERS and told.topk < 1024 else Meta()
