"""Pairs of experts of two layers as CSV: layer_a, layer_b, expert_a, expert_b, count, perhaps per model and domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ..contracts import Coded, Reading
from ..errors import Unreadable
from . import _bytes, _csv_table
from ._expert_rows import MOST_EXPERTS, MOST_LAYERS
from ._workload import workload

Array = np.ndarray[Any, Any]

KNOWN = {
    "layer": ("layer_a", "layer", "from_layer"), "next_layer": ("layer_b", "next_layer", "to_layer"),
    "expert": ("expert_a", "expert", "from_expert"), "next_expert": ("expert_b", "next_expert", "to_expert"),
    "routed_tokens": ("count", "tokens", "routed_tokens"),
}  # fmt: skip
NAMES = ("model", "domain", "dataset", "workload")
ALL_PICKS = "topk"
LIMITS = {"layer": MOST_LAYERS, "next_layer": MOST_LAYERS, "expert": MOST_EXPERTS, "next_expert": MOST_EXPERTS}


class ExpertPairsCsv:
    """Reads such tables."""

    format: ClassVar[str] = "expert-pairs-csv"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely the first line names two layers, two experts and a count."""
        if b"\0" in head:
            return 0.0
        names = _csv_table.header(head)
        return 0.92 if len(_csv_table.meaning(names, KNOWN)) == len(KNOWN) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_pairs`; raises Unreadable without one whole row."""
        content, damage = _bytes.whole(path)
        table, torn = _csv_table.table(content, NAMES)
        names = [name.strip().strip('"').lower() for name in table.column_names]
        found = _csv_table.meaning(names, KNOWN)
        if len(found) < len(KNOWN):
            raise Unreadable(f"columns {', '.join(names[:6])} are no pairs of experts")
        rows, sound = _numbers(table, found)
        lost = int((~sound).sum())
        reading = Reading(str(path), self.format)
        if "mode" in names:
            sound &= _all_picks(_csv_table.text(table.column(names.index("mode"))), reading)
        if not sound.any():
            raise Unreadable("no row with whole numbers for layers, experts and count")
        told = [_csv_table.text(table.column(names.index(name))) for name in NAMES if name in names]
        job = _csv_table.joined(told, workload(path), table.num_rows)
        reading.batches.append(("expert_pairs", {
            "job": Coded(job.codes[sound], job.values), "source": self.format,
            **{name: column[sound] for name, column in rows.items()},
        }))  # fmt: skip
        reading.events = int(sound.sum())
        if damage or torn or lost:
            reading.status = "partial"
            reading.error = damage or torn or f"{lost} rows without whole numbers are left out"
        return reading


def _numbers(table: pa.Table, found: dict[str, int]) -> tuple[dict[str, Array], Array]:
    """Return the columns and which rows are sound."""
    sound = np.ones(table.num_rows, dtype=bool)
    rows = {}
    for name, place in found.items():
        rows[name], fit = _csv_table.numbers(table.column(place), name)
        sound &= fit & (rows[name] < LIMITS.get(name, 1 << 53))
    return rows, sound


def _all_picks(mode: Coded, reading: Reading) -> Array:
    """Return which rows are of the mode that holds all picks, where there is one."""
    whole = np.array([value == ALL_PICKS for value in mode.values], dtype=bool)
    if not whole.any() or whole.all():
        return np.ones(len(mode.codes), dtype=bool)
    reading.warnings.append(f"rows of other modes than {ALL_PICKS} are left out: the same tokens again")
    kept: Array = whole[mode.codes]
    return kept
