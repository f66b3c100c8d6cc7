"""Picks of single tokens to counts per expert, and to pairs of experts that serve a token in neighbouring layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts import Columns
from ..errors import Unreadable
from ._expert_rows import MOST_EXPERTS, MOST_LAYERS, MOST_ROWS, Batch, loads

Array = np.ndarray[Any, Any]

WINDOW_TOKENS = 1024  # a trace without steps is cut into runs of so many tokens
PADDING_RUN = 64  # so many tokens in a row with the same two or more experts are padding or a warm-up
MOST_COUNTS = 1 << 27  # steps x layers x experts of one file
LEAST_PAIRS = 1 << 20  # cells of a table of pairs that any two layers may have; more need picks that could fill them
CELLS_OF_PICK = 256
MOST_PICKS = 64
CHUNK_TOKENS = 1 << 14


class Picks:
    """Counts of picks, taken in the order of the file: by step and layer, and pairs of neighbouring layers."""

    def __init__(self) -> None:
        self.padding: dict[tuple[int, ...], int] = {}  # picks that were repeated, and by how many tokens
        self.tokens = 0
        self.top_k = -1
        self._counts: dict[tuple[int, int], Array] = {}
        self._pairs: dict[tuple[int, int], Array] = {}
        self._cells = 0

    def add(self, step: int, layer: int, ids: Array) -> None:
        """Count `ids` [n, k] (-1: no pick) of one layer; raises Unreadable for ids that cannot be experts."""
        flat = ids[ids >= 0]
        highest = int(flat.max(initial=-1))
        if highest >= MOST_EXPERTS or not 0 <= layer < MOST_LAYERS or not 0 <= step < 1 << 53:
            raise Unreadable(f"expert {highest} of layer {layer} in step {step} cannot be meant")
        self.tokens += len(ids)
        self.top_k = max(self.top_k, ids.shape[1])
        more = np.bincount(flat, minlength=1)
        known = self._counts.get((step, layer))
        self._cells += 0 if known is not None else len(more)
        if self._cells > MOST_COUNTS:
            raise Unreadable("more counts than memory: cut the trace into shorter files")
        self._counts[step, layer] = more if known is None else _sum(known, more)

    def add_run(self, layer: int, rows: Sequence[Sequence[int]]) -> Array:
        """Count the picks of one layer in a record without steps; return which rows are no padding.

        Every 1,024 tokens are taken for a step; rows may have different lengths. Raises Unreadable as `add`.
        """
        width = max(map(len, rows))
        ids = np.array([[*row, *[-1] * (width - len(row))] for row in rows], dtype=np.int64)
        kept = self.without_padding(ids)
        text = ids[kept]
        for first in range(0, len(text), WINDOW_TOKENS):
            self.add(first // WINDOW_TOKENS, layer, text[first : first + WINDOW_TOKENS])
        self.tokens += int((~kept).sum())
        return kept

    def pair(self, layer: int, ids: Array, next_layer: int, next_ids: Array) -> None:
        """Count all pairs of the experts of the same tokens in two layers, `ids` and `next_ids` [n, k]."""
        width = int(max(ids.max(initial=-1), next_ids.max(initial=-1))) + 1
        cells = width * width
        most = min(max(LEAST_PAIRS, CELLS_OF_PICK * ids.size), MOST_COUNTS // (len(self._pairs) + 1))
        if not 0 < cells <= most:
            return
        found = np.zeros((width, width), dtype=np.int64)
        for first in range(0, len(ids), CHUNK_TOKENS):
            one, other = ids[first : first + CHUNK_TOKENS, :, None], next_ids[first : first + CHUNK_TOKENS, None, :]
            held = (one >= 0) & (other >= 0)
            codes = (one * np.int64(width) + other)[held]
            found += np.bincount(codes, minlength=width * width).reshape(width, width)
        known = self._pairs.get((layer, next_layer))
        self._pairs[layer, next_layer] = found if known is None else _wider(known, found)

    def without_padding(self, ids: Array) -> Array:
        """Return which of `ids` [n, k] are no padding; those that are, are remembered for the warning."""
        kept = ~repeated(ids)
        if not kept.all():
            rows, count = np.unique(ids[~kept], axis=0, return_counts=True)
            for row, tokens in zip(rows.tolist(), count.tolist(), strict=True):
                self.padding[tuple(row)] = self.padding.get(tuple(row), 0) + tokens
        return kept

    def batches(
        self, *, source: str, job: str = "job", rank: int = -1, phase: str = ""
    ) -> tuple[list[Batch], list[str]]:
        """Return `expert_loads` and `expert_pairs`, and warnings; raises Unreadable where nothing was counted."""
        if not any(counts.any() for counts in self._counts.values()):
            raise Unreadable("not one pick of an expert")
        steps, layers = (sorted({key[at] for key in self._counts}) for at in (0, 1))
        width = max(len(counts) for counts in self._counts.values())
        if len(steps) * len(layers) * width > MOST_COUNTS:
            raise Unreadable(f"{len(steps):,} steps of {len(layers)} layers of {width} experts: cut the trace")
        place = {step: at for at, step in enumerate(steps)}, {layer: at for at, layer in enumerate(layers)}
        counts = np.zeros((len(steps), len(layers), width), dtype=np.int64)
        for (step, layer), found in self._counts.items():
            counts[place[0][step], place[1][layer], : len(found)] = found
        made, told = loads(
            counts, steps, layers, source=source, job=job, rank=rank, phase=phase,
            top_k=self.top_k if self.top_k <= MOST_PICKS else -1,
        )  # fmt: skip
        return [*made, *self._paired(source, job)], [*_padding(self.padding, self.tokens), *told]

    def _paired(self, source: str, job: str) -> list[Batch]:
        return pair_rows([(*layers, found) for layers, found in sorted(self._pairs.items())], source=source, job=job)


def pair_rows(found: Sequence[tuple[int, int, Array]], *, source: str, job: str) -> list[Batch]:
    """Return rows of `expert_pairs` for (layer, next layer, tokens [E, E]); pairs that never came are left out.

    >>> pair_rows([(0, 1, np.array([[0, 4], [0, 0]]))], source="x", job="j")[0][1]["next_expert"].tolist()
    [1]
    """
    made = []
    for layer, next_layer, tokens in found:
        expert, next_expert = np.nonzero(tokens)
        if len(expert):
            made.append((layer, next_layer, expert, next_expert, tokens[expert, next_expert]))
    if not made or sum(len(part[2]) for part in made) > MOST_ROWS:
        return []
    sizes = [len(part[2]) for part in made]
    columns: Columns = {
        "job": job, "layer": np.repeat([part[0] for part in made], sizes),
        "next_layer": np.repeat([part[1] for part in made], sizes), "expert": np.concatenate([p[2] for p in made]),
        "next_expert": np.concatenate([p[3] for p in made]), "routed_tokens": np.concatenate([p[4] for p in made]),
        "source": source,
    }  # fmt: skip
    return [("expert_pairs", columns)]


def trace(picks: Array, *, source: str, job: str) -> tuple[list[Batch], list[str]]:
    """Return `expert_loads` and `expert_pairs` of `picks` [tokens, layers, k], and warnings; raises Unreadable.

    Every 1,024 tokens are taken for a step.

    >>> made, _ = trace(np.array([[[0], [1]], [[0], [0]]]), source="x", job="j")
    >>> made[0][1]["routed_tokens"].tolist(), made[1][1]["routed_tokens"].tolist()
    ([2, 0, 1, 1], [1, 1])
    """
    if picks.ndim != 3 or picks.dtype.kind not in "iu" or not picks.size or picks.shape[2] > MOST_PICKS:
        raise Unreadable(f"picks want whole numbers [tokens, layers, k], not {picks.dtype} {picks.shape}")
    if picks.shape[1] > MOST_LAYERS:
        raise Unreadable(f"{picks.shape[1]} layers cannot be meant")
    found = Picks()
    ids = picks.astype(np.int64) if picks.dtype.kind == "u" else picks
    kept = ~repeated(ids.reshape(len(ids), -1), ids.shape[2])
    if not kept.all():
        found.padding[()] = int((~kept).sum())
        ids = ids[kept]
    for layer in range(ids.shape[1]):
        for first in range(0, len(ids), WINDOW_TOKENS):
            found.add(first // WINDOW_TOKENS, layer, ids[first : first + WINDOW_TOKENS, layer])
        if layer:
            found.pair(layer - 1, ids[:, layer - 1], layer, ids[:, layer])
    found.tokens = len(picks)
    made, told = found.batches(source=source, job=job)
    if len(ids) > WINDOW_TOKENS:
        told.append(f"the trace has no steps: every {WINDOW_TOKENS:,} tokens are taken for one")
    return made, told


def repeated(ids: Array, top_k: int = 0) -> Array:
    """Return which tokens of `ids` [n, k] stand in a run of so many with the same picks that no text can cause it.

    >>> repeated(np.array([[1, 2]] * 100 + [[3, 1]])).sum()
    np.int64(100)
    """
    if len(ids) < PADDING_RUN or (top_k or ids.shape[1]) < 2:
        return np.zeros(len(ids), dtype=bool)
    begins = np.flatnonzero(np.concatenate(([True], (ids[1:] != ids[:-1]).any(axis=1))))
    lengths = np.diff(np.concatenate((begins, [len(ids)])))
    return np.repeat(lengths >= PADDING_RUN, lengths)


def _padding(padding: dict[tuple[int, ...], int], tokens: int) -> list[str]:
    if not padding:
        return []
    lost = sum(padding.values())
    most = max(padding, key=lambda row: padding[row])
    named = f" (experts {', '.join(map(str, most))})" if most else ""
    return [
        f"{lost:,} of {tokens:,} rows of picks stand in runs of {PADDING_RUN} or more that are the same{named}: "
        "padding or a warm-up run, left out"
    ]


def _sum(one: Array, other: Array) -> Array:
    if len(one) < len(other):
        one, other = other, one
    made = one.copy()
    made[: len(other)] += other
    return made


def _wider(one: Array, other: Array) -> Array:
    width = max(len(one), len(other))
    made = np.zeros((width, width), dtype=np.int64)
    made[: len(one), : len(one)] += one
    made[: len(other), : len(other)] += other
    return made
