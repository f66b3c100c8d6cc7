"""Router traces of Megatron-LM (`--moe-routing-trace-path`): a JSON line per rank, step and layer with all picks.

Layers of the multi-token prediction block are counted behind those of the decoder. A rank sees its own tokens: the
files of all ranks are summed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from ._expert_join import sum_ranks
from ._expert_picks import MOST_PICKS, Picks, repeated
from ._expert_rows import length
from ._lines import Lines
from ._whole import Rank

Array = np.ndarray[Any, Any]

SNIFFED = re.compile(rb'"stage": ?"\w+"')
STAGE, DECODER = "pre_dispatch", "decoder"
MTP_FIRST = 2048  # a layer of the other block is put so far up until the decoder's last is known
PHASE = "train"


class Line(msgspec.Struct):
    """One line; the places of hidden states and logits in it are of no use here."""

    step: int
    layer: int
    top_indices: list[list[int]]
    stage: str = STAGE
    block: str = DECODER
    rank: Rank = -1
    num_tokens: int = -1
    topk: int = -1
    mtp_idx: int | None = None


class RouterTrace:
    """Reads `router_trace_rank*.jsonl`."""

    format: ClassVar[str] = "router-trace"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a trace."""
        first = head.lstrip()[:4096]
        known = first.startswith(b"{") and b'"top_indices"' in first and SNIFFED.search(first)
        return 0.97 if known else 0.0

    def read(self, path: Path) -> Reading:
        """Return `expert_loads` and `expert_pairs` of one rank; raises Unreadable without one whole line."""
        trace, lines = _Trace(), Lines(path)
        for number, line in lines:
            trace.take(line, number)
        reading = Reading(str(path), self.format, rank=trace.rank)
        if not trace.lines:
            raise Unreadable(f"no whole line of a router trace: {trace.reason}", "copy the file again")
        picks = trace.picks
        reading.batches, reading.warnings = picks.batches(source=self.format, rank=trace.rank, phase=PHASE)
        reading.batches = [(table, trace.numbered(columns)) for table, columns in reading.batches]
        reading.events = sum(length(columns) for _, columns in reading.batches)
        reading.job = {"join": sum_ranks}
        if trace.other:
            reading.warnings.append(f"{trace.other} lines of other stages than {STAGE} are left out")
        if lines.damage or trace.bad:
            told = f"{len(trace.bad)} lines are torn and left out, the first is line {(trace.bad or [0])[0]}"
            reading.status, reading.error = "partial", lines.damage or f"{told}: {trace.reason}"
        return reading


class _Trace:
    """What the lines told so far."""

    def __init__(self) -> None:
        self.picks = Picks()
        self.rank = -1
        self.lines = self.other = 0
        self.bad: list[int] = []
        self.reason = ""
        self._before: tuple[int, int, Array] | None = None  # step, layer and picks of the line before

    def take(self, line: bytes, number: int) -> None:
        """Read one line."""
        try:
            told = msgspec.json.decode(line, type=Line)
            if told.stage != STAGE:
                self.other += 1
                return
            self._count(told, _ids(told))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Unreadable) as error:
            self.bad.append(number)
            self.reason = self.reason or str(error)[:200]

    def _count(self, told: Line, ids: Array) -> None:
        layer = told.layer if told.block == DECODER else MTP_FIRST + max(told.layer, told.mtp_idx or 0)
        kept = self.picks.without_padding(ids)
        self.picks.add(told.step, layer, ids[kept])
        self.picks.tokens += int((~kept).sum())
        before = self._before
        if before and before[0] == told.step and before[1] < layer and before[2].shape == ids.shape:
            both = kept & ~repeated(before[2])
            self.picks.pair(before[1], before[2][both], layer, ids[both])
        self._before = (told.step, layer, ids)
        self.rank = max(self.rank, told.rank)
        self.lines += 1

    def numbered(self, columns: Any) -> dict[str, Any]:  # noqa: ANN401 - columns of a table
        """Return columns with the layers of the other block right behind the decoder's last."""
        layers = np.concatenate([columns[name] for name in ("layer", "next_layer") if name in columns])
        decoder = layers[layers < MTP_FIRST]
        first = int(decoder.max()) + 1 if len(decoder) else 0
        moved = dict(columns)
        for name in ("layer", "next_layer"):
            if name in columns:
                moved[name] = np.where(columns[name] >= MTP_FIRST, columns[name] - MTP_FIRST + first, columns[name])
        return moved


def _ids(told: Line) -> Array:
    """Return the picks [n, k] of a line; raises Unreadable where they are not those that it announces."""
    sizes = {len(row) for row in told.top_indices}
    if len(sizes) > 1 or told.top_indices and not 0 < min(sizes) <= MOST_PICKS:
        raise Unreadable("rows of picks with different lengths")
    if told.num_tokens >= 0 and told.num_tokens != len(told.top_indices):
        raise Unreadable(f"{len(told.top_indices)} rows of picks for {told.num_tokens} tokens")
    try:
        ids = np.array(told.top_indices, dtype=np.int64)
    except OverflowError:
        raise Unreadable("an expert with a number beyond all sense") from None
    return ids if ids.ndim == 2 else np.zeros((0, max(told.topk, 1)), dtype=np.int64)
