"""Load statistics as JSON lines, as proposed for vLLM: tokens per rank and per slot, with the map of each step.

https://github.com/vllm-project/vllm/pull/41141. A line of type `eplb_initial_mapping` tells the map before the first
step. Slots are folded to experts with the map of their own line, so that a rearrangement in between does no harm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Columns, Reading
from ..errors import Unreadable
from . import _bytes, _expert_rows

Array = np.ndarray[Any, Any]
UNEVEN_RATIO = 0.001


class Line(msgspec.Struct):
    """One line of either type."""

    record_type: str = ""
    step: int = -1
    num_ranks: int = 0
    tokens: list[list[float]] = []
    expert_load: list[list[float]] = []
    p2l_map: list[list[int]] = []
    initial_global_assignments: dict[int, list[int]] = {}


class EplbLoadStats:
    """Reads `*eplb_load_stats*.jsonl`."""

    format: ClassVar[str] = "eplb-load-stats"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; a map alone is a map file, but such a line may also open a file of statistics."""
        if not head.lstrip().startswith(b"{"):
            return 0.0
        return 0.97 if b'"eplb_load_stats"' in head else 0.5 if b'"eplb_initial_mapping"' in head else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_loads`, `expert_placements` and `balance_reports`; raises Unreadable without one line."""
        content, damage = _bytes.whole(path)
        found = _Found()
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                found.take(line, number)
        if not found.counts:
            raise Unreadable(f"no line of statistics: {found.reason or 'only a map of slots'}")
        reading = Reading(str(path), self.format, events=len(found.counts))
        found.tell(reading, self.format)
        if damage or found.bad:
            told = f"{len(found.bad)} lines are torn and left out, the first is line {(found.bad or [0])[0]}"
            reading.status, reading.error = "partial", damage or f"{told}: {found.reason}"
        return reading


class _Found:
    """What the lines told so far."""

    def __init__(self) -> None:
        self.counts: list[Array] = []
        self.steps: list[int] = []
        self.experts: list[Array] = []
        self.ranks: list[Array] = []
        self.maps: list[tuple[int, Array, int]] = []  # first step, map [L, P], ranks
        self.layers: Array | None = None
        self.bad: list[int] = []
        self.reason = ""

    def take(self, line: bytes, number: int) -> None:
        """Read one line."""
        try:
            told = msgspec.json.decode(line, type=Line)
            if told.record_type == "eplb_initial_mapping":
                self._mapping(told)
            elif told.record_type == "eplb_load_stats":
                self._statistics(told)
        except (
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            ValueError,
            OverflowError,
            Unreadable,
        ) as error:
            self.bad.append(number)
            self.reason = self.reason or str(error)[:200]

    def _mapping(self, told: Line) -> None:
        layers = sorted(told.initial_global_assignments)
        table = np.array([told.initial_global_assignments[layer] for layer in layers], dtype=np.int64)
        if table.ndim == 2 and table.size:
            self.layers = np.array(layers)
            self._note(0, table, 0)

    def _statistics(self, told: Line) -> None:
        counts = _expert_rows.whole(np.array(told.expert_load))
        if counts.ndim != 2 or told.step < 0 or self.counts and counts.shape != self.counts[0].shape:
            raise Unreadable("tokens per slot want an even table [layers, slots], of the same size in each line")
        table = np.array(told.p2l_map, dtype=np.int64) if told.p2l_map else self.maps[-1][1] if self.maps else None
        if table is None or table.shape != counts.shape:
            raise Unreadable("a line without its p2l_map [layers, slots]")
        if table.min() < -1 or table.max() >= _expert_rows.MOST_EXPERTS:
            raise Unreadable(f"p2l_map names experts {table.min()} to {table.max()}")
        ranks = _expert_rows.whole(np.array(told.tokens)) if told.tokens else np.zeros((len(counts), 0), np.int64)
        if ranks.ndim != 2 or len(ranks) != len(counts):
            raise Unreadable("tokens per rank want an even table [layers, ranks]")
        self._note(told.step, table, ranks.shape[1] or max(told.num_ranks, 0))
        self.counts.append(counts)
        self.steps.append(told.step)
        self.experts.append(table)
        self.ranks.append(ranks)

    def _note(self, step: int, table: Array, ranks: int) -> None:
        """Remember a map that is another than the one before; one without ranks learns them from the next line."""
        if self.maps and np.array_equal(self.maps[-1][1], table):
            first, known, before = self.maps[-1]
            self.maps[-1] = (first, known, before or ranks)
        else:
            self.maps.append((step, table, ranks))

    def tell(self, reading: Reading, source: str) -> None:
        """Put the rows of all lines into `reading`."""
        counts, experts = np.stack(self.counts), np.stack(self.experts)
        layers = self.layers if self.layers is not None and len(self.layers) == counts.shape[1] else None
        layers = np.arange(counts.shape[1]) if layers is None else layers
        reading.batches, reading.warnings = _expert_rows.loads(
            counts, self.steps, layers, source=source, experts=experts
        )  # fmt: skip
        for step, table, ranks in self.maps:
            even = ranks if ranks and table.shape[1] % ranks == 0 else 0
            if len(table) == len(layers):
                reading.batches.append(_expert_rows.placements(table, layers, source=source, step=step, ranks=even))
        if len(self.maps) > 1:
            reading.warnings.append(
                f"the map of slots changes {len(self.maps) - 1} times: each step is folded by its own"
            )
        if all(part.shape == self.ranks[0].shape for part in self.ranks) and self.ranks[0].shape[1]:
            tokens = np.stack(self.ranks)
            reading.batches.append(("balance_reports", _balance(tokens, self.steps, layers, source)))
            reading.warnings += _disagree(tokens, counts)


def _balance(ranks: Array, steps: list[int], layers: Array, source: str) -> Columns:
    mean, most = ranks.mean(axis=2).ravel(), ranks.max(axis=2).ravel().astype(float)
    ratio = np.divide(mean, most, out=np.ones_like(mean), where=most > 0)
    step, layer = np.repeat(steps, len(layers)), np.tile(layers, len(steps))
    return {
        "job": "job", "step": step, "layer": layer, "definition": "ranks",
        "balance_ratio": ratio, "mean_tokens": mean, "max_tokens": most, "source": source,
    }  # fmt: skip


def _disagree(ranks: Array, counts: Array) -> list[str]:
    """Return a warning where the ranks' tokens are others than those of the slots."""
    of_ranks, of_slots = int(ranks.sum()), int(counts.sum())
    if abs(of_ranks - of_slots) <= UNEVEN_RATIO * max(of_slots, 1):
        return []
    times = of_slots / max(of_ranks, 1)
    return [
        f"the slots hold {of_slots:,} tokens, the ranks {of_ranks:,} ({times:.3g} times): one of them counts padding, "
        "or counts tokens once per data-parallel rank; shares are right where the ratio is whole"
    ]
