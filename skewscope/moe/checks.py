"""Faults of recorded expert loads, each as a message with numbers and the mend; no message where all is well.

Every one was met in the records of a real engine: padding counted as tokens, counts multiplied by the data-parallel
size, ranks not summed or summed twice, windows that overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

UNEVEN_RATIO = 1e-3  # layers of one step see the same tokens: beyond it something else was counted
FEW = 32  # counts; with fewer a common divisor is chance
FEW_VALUES = 8  # different counts; a load forced to be even has one
PADDING_RATIO = 3.0  # padding lifts the same few experts so far above all others
PADDING_SPREAD_RATIO = 0.1  # and all of them alike
PADDING_SHARE_RATIO = 0.8  # in so many of the steps
MOST_PICKED = 64  # experts that a token picks
MOST_PADDED = 16  # of those that padding is looked for, where the picks are not known
NAMED = 3


def check(counts: Array, layers: Array, top_k: int = 0) -> list[str]:
    """Return what is wrong with routed tokens `counts` [T, L, E] of the model's `layers` [L]; top_k 0 is unknown.

    >>> check(np.array([[[8, 4, 3, 1], [4, 8, 3, 1], [8, 4, 3, 9]]]), np.array([3, 4, 5]))[0][:57]
    'layer 5 counts 24 tokens where the median layer counts 16'
    """
    if not counts.size or not counts.any():
        return ["no token is routed at all: was the recorder started before the load, and stopped after it?"]
    return [
        *conservation(counts, layers), *indivisible(counts, top_k), *multiplied(counts), *one_rank_only(counts),
        *padding_experts(counts, layers, top_k),
    ]  # fmt: skip


def conservation(counts: Array, layers: Array) -> list[str]:
    """Return layers whose tokens differ from those of the other layers of the same steps; `counts` is [T, L, E].

    >>> conservation(np.array([[[2, 2], [1, 3]]]), np.array([0, 1]))
    []
    """
    tokens = counts.sum(axis=2)
    usual = np.median(tokens, axis=1, keepdims=True)
    off = np.abs(tokens - usual) > np.maximum(UNEVEN_RATIO * usual, 0.5)
    worst = np.argsort(-off.sum(axis=0), kind="stable")[:NAMED]
    told = []
    for at in worst[off.sum(axis=0)[worst] > 0].tolist():
        wrong = off[:, at]
        step = int(np.argmax(np.abs(tokens[:, at] - usual[:, 0])))
        told.append(
            f"layer {layers[at]} counts {tokens[step, at]:,} tokens where the median layer counts "
            f"{usual[step, 0]:,.0f} ({int(wrong.sum())} of {len(wrong)} steps): padding or dummy batches are counted, "
            "tokens were dropped, or records are missing; record again without padding, or leave this layer out"
        )
    more = int(off.any(axis=0).sum()) - len(told)
    return told + ([f"and {more} more layers count other tokens than the median layer"] if more > 0 else [])


def indivisible(counts: Array, top_k: int) -> list[str]:
    """Return a message where the tokens of layers are no multiples of the picks of a token; top_k 0 asks nothing.

    >>> indivisible(np.array([[[3, 4]]]), 2)[0][:43]
    '1 of 1 sums over experts are no multiple of'
    """
    if top_k <= 1:
        return []
    sums = counts.sum(axis=2)
    odd = int((sums % top_k != 0).sum())
    if not odd:
        return []
    return [
        f"{odd} of {sums.size} sums over experts are no multiple of top_k = {top_k}: tokens were dropped, a rank's "
        "record is missing, or top_k is another; check the model's configuration and copy all ranks' files"
    ]


def multiplied(counts: Array, tokens: int = 0, top_k: int = 0) -> list[str]:
    """Return a message where tokens are counted several times.

    With `tokens` (of one layer, all steps) and `top_k` the sum itself tells; else a divisor that all counts share.

    >>> multiplied(np.full((1, 1, 4), 60), tokens=30, top_k=2)[0][:41]
    'every token is counted 4 times: 240 picks'
    """
    if tokens > 0 and top_k > 0 and counts.ndim == 3 and counts.shape[1]:
        picks = int(np.median(counts.sum(axis=(0, 2))))
        times = picks / (tokens * top_k)
        whole = round(times)
        if whole > 1 and abs(times - whole) < 0.02 * whole:
            return [_times(whole, f"{picks:,} picks a layer for {tokens:,} tokens of {top_k} picks")]
        return []
    found = counts[counts > 0]
    if len(found) < FEW:
        return []
    divisor = int(np.gcd.reduce(found.astype(np.int64)))
    if divisor < 2 or len(np.unique(found)) < FEW_VALUES:
        return []
    return [_times(divisor, f"all {len(found):,} counts are multiples of {divisor}")]


def _times(times: int, why: str) -> str:
    return (
        f"every token is counted {times} times: {why}; the data-parallel size may have been multiplied in: divide by "
        f"{times} (shares and ratios are right as they are)"
    )


def one_rank_only(counts: Array) -> list[str]:
    """Return a message where in all layers only one aligned block of experts has tokens, as in one rank's own file.

    >>> one_rank_only(np.array([[[0, 0, 5, 6]]]))[0][:43]
    'only experts 2 to 3 of 4 have tokens in any'
    """
    experts = counts.shape[2]
    used = np.flatnonzero(counts.any(axis=(0, 1)))
    first, size = int(used[0]), int(used[-1]) + 1 - int(used[0])
    aligned = size < experts and experts % size == 0 and first % size == 0
    if not aligned or size < 2 or len(used) < size:
        return []
    return [
        f"only experts {first} to {first + size - 1} of {experts} have tokens in any layer: this is the record of one "
        f"of {experts // size} ranks; copy the other ranks' files too, they are summed here"
    ]


def padding_experts(counts: Array, layers: Array, top_k: int = 0) -> list[str]:
    """Return layers where the same few experts stand alike and far above all others in nearly every step.

    That is what padding, dummy batches or a warm-up do: each of their tokens picks the same experts.

    >>> padding_experts(np.array([[[900, 901, 10, 12, 9, 11]]]), np.array([5]))[0][:47]
    'layer 5: experts 0, 1 get at least 75 times the'
    """
    told = []
    for at, layer in enumerate(layers.tolist()):
        found = _lifted(counts[:, at], top_k)
        if found:
            names, times = found
            told.append(
                f"layer {layer}: experts {', '.join(map(str, names))} get at least {times:.0f} times the tokens of any "
                "other, and all alike: padding, dummy batches or a warm-up run are counted; leave them out and record "
                "again"
            )
    return told[:NAMED] + ([f"and {len(told) - NAMED} more layers of this kind"] if len(told) > NAMED else [])


def _lifted(counts: Array, top_k: int) -> tuple[list[int], float] | None:
    """Return the experts that padding lifts in `counts` [T, E] and how many times above the next, or None."""
    busy = counts[counts.any(axis=1)]
    experts = counts.shape[1]
    if not len(busy):
        return None
    total = busy.sum(axis=0)
    order = np.argsort(-total, kind="stable")
    sizes = [top_k] if top_k > 1 else list(range(2, MOST_PADDED + 1))
    for size in sizes:
        if size >= experts // 2 + 1 or not _stands_out(total[order], size):
            continue
        inside = busy[:, order[:size]].min(axis=1) > busy[:, order[size:]].max(axis=1)
        if inside.mean() >= PADDING_SHARE_RATIO:
            return sorted(order[:size].tolist()), float(total[order[size - 1]] / max(total[order[size]], 1))
    return None


def _stands_out(falling: Array, size: int) -> bool:
    """Return whether the first `size` of falling totals are alike and far above the rest."""
    alike = falling[0] - falling[size - 1] <= PADDING_SPREAD_RATIO * falling[0]
    return bool(alike and falling[size - 1] > PADDING_RATIO * max(int(falling[size]), 1))


def window_beyond_interval(window_steps: int, interval_steps: int) -> list[str]:
    """Return a message where the window of recorded steps is longer than the steps between two rearrangements.

    >>> window_beyond_interval(1000, 500)[0][:37]
    'the window of 1000 steps is longer th'
    """
    if window_steps <= interval_steps or interval_steps <= 0:
        return []
    return [
        f"the window of {window_steps} steps is longer than the {interval_steps} steps between rearrangements: it is "
        f"never full, and holds loads of the map before; set window_size to at most {interval_steps}"
    ]
