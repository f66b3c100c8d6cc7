"""Expert statistics of TensorRT-LLM: the folder of `EXPERT_STATISTIC_PATH`, a safetensors file per rank.

Each array is called ITERATION_LAYER and holds counts [experts] of the rank's own tokens, or in `*_raw` files the picks
[tokens, k] themselves; ranks are summed. `meta_info.json` tells the number of experts and of picks per token. TensorRT-
LLM records nothing, and says nothing of it, unless expert parallelism and attention data parallelism are both on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Columns, Reading
from ..errors import Unreadable
from . import _bytes, _expert_rows, _safetensors
from ._expert_join import LOADS, sum_ranks

Array = np.ndarray[Any, Any]

KEY = re.compile(r"(\d{1,12})_(\d{1,4})")
SNIFFED = re.compile(rb'"\d{1,12}_\d{1,4}":\s*\{')
MOST_COUNTS = 1 << 27  # of one file
MOST_PICKS = 64  # experts a token picks; wider arrays are pairs of experts
RANK = re.compile(r"rank_?(\d{1,6})(?!\d)")


class Meta(msgspec.Struct):
    """What `meta_info.json` tells."""

    num_experts: int = -1
    num_experts_per_token: int = -1


class TrtllmStatistic:
    """Reads `rank*.safetensors` and `meta_info.json`."""

    format: ClassVar[str] = "trtllm-statistic"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a rank's statistic or the description of all."""
        if _safetensors.looks_like(head):
            return 0.95 if SNIFFED.search(head, 8) else 0.0
        told = head.lstrip().startswith(b"{") and b'"num_experts_per_token"' in head and b'"num_experts"' in head
        return 0.9 if told and len(head) < 4096 else 0.0

    def read(self, path: Path) -> Reading:
        """Return the `expert_loads` of one rank; raises Unreadable without one array of counts."""
        content, damage = _bytes.whole(path)
        if content.lstrip().startswith(b"{"):
            return self._description(path, content)
        found, lost = _safetensors.arrays(content)
        named = {(int(hit[1]), int(hit[2])): part for name, part in found.items() if (hit := KEY.fullmatch(name))}
        if not named:
            raise Unreadable(f"no array called ITERATION_LAYER in {len(found) + len(lost)}", "copy the file again")
        if all(_is_pairs(part) for part in named.values()):
            return Reading(str(path), self.format, error="not used: pairs of picks within a layer")
        reading = Reading(str(path), self.format, events=len(named))
        told = RANK.search(path.name)
        reading.rank = int(told[1]) if told else -1
        counts, steps, layers, top_k, holes = _grid(named)
        if holes:
            lost.append(f"{holes} of the iterations' layers")
        reading.batches, reading.warnings = _expert_rows.loads(
            counts, steps, layers, source=self.format, rank=reading.rank, top_k=top_k
        )
        if holes:
            reading.batches = [(table, _told(columns, named)) for table, columns in reading.batches]
        raw = any(part.ndim == 2 for part in named.values())
        reading.job = {"join": put_together, "picks": raw, "experts": counts.shape[2]}
        if damage or lost:
            reading.status = "partial"
            reading.error = damage or f"{', '.join(lost[:3])} {'...' if len(lost) > 3 else ''} missing or damaged"
        return reading

    def _description(self, path: Path, content: bytes) -> Reading:
        try:
            meta = msgspec.json.decode(content, type=Meta)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"not a whole meta_info.json: {error}"[:300]) from None
        reading = Reading(str(path), self.format, fingerprint=str(path))
        reading.job = {"join": put_together, "meta": meta}
        return reading


def put_together(readings: Sequence[Reading]) -> dict[str, str]:
    """Sum the ranks of each folder, tell their rows the picks per token, and refuse picks that are counted already."""
    metas: dict[Path, Meta] = {}
    counted: dict[tuple[Path, int], str] = {}
    for reading in readings:
        folder = Path(reading.path).parent
        if "meta" in reading.job:
            metas[folder] = reading.job.pop("meta")
        elif not reading.job["picks"]:
            counted[folder, reading.rank] = reading.path
    refused: dict[str, str] = {}
    kept = []
    for reading in readings:
        folder = Path(reading.path).parent
        if reading.job.pop("picks", False) and (folder, reading.rank) in counted:
            refused[reading.path] = f"the picks that {counted[folder, reading.rank]} counts: not used"
            continue
        experts = reading.job.pop("experts", -1)
        if folder in metas and experts > 0:
            _describe(reading, metas[folder], experts)
        kept.append(reading)
    return refused | sum_ranks(kept)


def _describe(reading: Reading, meta: Meta, experts: int) -> None:
    top_k = meta.num_experts_per_token
    if 0 < top_k <= MOST_PICKS:
        reading.batches = [
            (table, {**columns, "top_k": top_k} if table == LOADS else columns) for table, columns in reading.batches
        ]
    if experts > meta.num_experts > 0:
        reading.warnings.append(
            f"the counts are of {experts} experts, meta_info.json tells {meta.num_experts}: of another model or run?"
        )


def _is_pairs(part: Array) -> bool:
    return part.ndim == 2 and part.shape[0] == part.shape[1] and part.shape[1] > MOST_PICKS


def _grid(named: Mapping[tuple[int, int], Array]) -> tuple[Array, Array, Array, int, int]:
    """Return counts [T, L, E], iterations, layers, picks per token (-1 unknown) and how many places had no array."""
    rows: dict[tuple[int, int], Array] = {}
    top_k = -1
    for key, part in named.items():
        if part.ndim == 2 and part.shape[1] <= MOST_PICKS and part.dtype.kind in "iu":
            top_k = max(top_k, part.shape[1])
            rows[key] = _counted(part)
        elif part.ndim == 1 and part.dtype.kind in "iuf" and 0 < len(part) <= _expert_rows.MOST_EXPERTS:
            rows[key] = _expert_rows.whole(part)
    if not rows:
        raise Unreadable("arrays that are neither counts [experts] nor picks [tokens, k]")
    steps, step = np.unique([step for step, _ in rows], return_inverse=True)
    layers, layer = np.unique([layer for _, layer in rows], return_inverse=True)
    shape = (len(steps), len(layers), max(len(row) for row in rows.values()))
    if np.prod(shape, dtype=float) > MOST_COUNTS:
        raise Unreadable(f"{shape[0]:,} iterations of {shape[1]:,} layers of {shape[2]:,} experts cannot be meant")
    counts = np.zeros(shape, dtype=np.int64)
    for at, below, row in zip(step.tolist(), layer.tolist(), rows.values(), strict=True):
        counts[at, below, : len(row)] = row
    return counts, steps, layers, top_k, counts.shape[0] * counts.shape[1] - len(rows)


def _told(columns: Columns, named: Collection[tuple[int, int]]) -> Columns:
    """Return rows without the zeros that stand where no array was: nobody told that these experts had no token."""
    place = columns["step"].astype(np.int64) << 16 | columns["layer"]
    kept = np.isin(place, [step << 16 | layer for step, layer in named]) | (columns["routed_tokens"] > 0)
    return {name: column[kept] if isinstance(column, np.ndarray) else column for name, column in columns.items()}


def _counted(picks: Array) -> Array:
    held = picks[picks >= 0].astype(np.int64)
    if held.max(initial=0) >= _expert_rows.MOST_EXPERTS:
        raise Unreadable(f"picks of expert {held.max()} cannot be meant")
    return np.bincount(held, minlength=1)
