"""Counts per expert as JSON: of SGLang, of REAP's observer, and histories of windows.

SGLang's `--init-expert-location` takes `logical_count` [layers][experts] or [steps][layers][experts]; REAP writes
`layers` {layer: {total_tokens, expert_frequency}}; histories are `load_history` of `logical_expert_load`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from ..moe import checks
from . import _bytes, _expert_rows
from ._workload import workload

Array = np.ndarray[Any, Any]
KEYS = (b'"logical_count"', b'"expert_frequency"', b'"logical_expert_load"')


class Layer(msgspec.Struct):
    """One layer of REAP."""

    expert_frequency: list[float]
    total_tokens: int = 0


class Window(msgspec.Struct):
    """One window of a history."""

    logical_expert_load: list[list[float]]


class Counts(msgspec.Struct):
    """Any of the documents; the fields of the others stay empty."""

    logical_count: list[Any] = []
    layers: dict[int, Layer] = {}
    load_history: list[Window] = []


class ExpertCountsJson:
    """Reads such documents."""

    format: ClassVar[str] = "expert-counts-json"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a document."""
        return 0.9 if head.lstrip().startswith(b"{") and any(key in head for key in KEYS) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_loads`; raises Unreadable where the document is cut or its rows are uneven."""
        content, damage = _bytes.whole(path)
        try:
            told = msgspec.json.decode(content, type=Counts)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"damaged document of counts: {damage or error}"[:300], "copy the file again") from None
        layers, counts = _counts(told)
        reading = Reading(str(path), self.format, events=counts.size)
        top_k, said = _picks(told, counts)
        reading.batches, reading.warnings = _expert_rows.loads(
            counts, np.arange(len(counts)), layers, source=self.format, job=workload(path), top_k=top_k
        )
        reading.warnings += said
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _counts(told: Counts) -> tuple[list[int], Array]:
    """Return layers and counts [T, L, E]."""
    layers = sorted(told.layers)
    given: list[Any] = told.logical_count
    if layers:
        width = max(len(told.layers[layer].expert_frequency) for layer in layers)
        rows = (told.layers[layer].expert_frequency for layer in layers)
        given = [[row + [0.0] * (width - len(row)) for row in rows]]
    elif told.load_history:
        given = [window.logical_expert_load for window in told.load_history]
    try:
        counts = np.array(given)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"the counts are no even table: {error}"[:200]) from None
    counts = counts[None] if counts.ndim == 2 else counts
    if counts.ndim != 3 or counts.dtype.kind not in "iuf" or not counts.size:
        raise Unreadable(f"counts want numbers [layers][experts] or [steps][layers][experts], not {counts.shape}")
    return layers or list(range(counts.shape[1])), counts


def _picks(told: Counts, counts: Array) -> tuple[int, list[str]]:
    """Return the picks of a token where the document tells its tokens, else -1, and a warning where they clash."""
    found = []
    for layer in told.layers.values():
        picks = sum(layer.expert_frequency)
        if not 0 < layer.total_tokens < 1 << 63 or not picks:
            continue
        found.append(picks / layer.total_tokens)
    if not found:
        return -1, []
    top_k = float(np.median(found))
    # The bounds come first: infinity cannot be rounded.
    if not 0.5 < top_k <= checks.MOST_PICKED + 0.5 or abs(top_k - round(top_k)) > 0.01:
        return -1, [f"{top_k:.3g} picks a token: tokens were dropped, or total_tokens counts others"]
    return round(top_k), []
