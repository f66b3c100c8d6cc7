"""Arithmetic and memory of attention, forward and backward.

Scores are a product of [queries, d] and [d, keys] per head, the output one of [queries, keys] and [keys, d]: 4 x
queries x keys x d per head in all, half of it where attention is causal; the softmax is small beside it and left out.
Backward takes five such products where the scores are computed again (FlashAttention-2, arXiv 2307.08691, section
4.1: 2.5 times forward), four where they were kept. Bytes: queries, keys, values and output once; backward also their
gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

from ._arguments import Arguments, Cost


def attention(
    of: Arguments, causal: int = -1, *, heads: int = 1, first: int = 0, products: float = 2, masks: tuple[str, ...] = ()
) -> Cost | None:
    """Return the cost of attention whose query, key and value stand at `first` and the two places after it.

    `heads` is the axis of the heads (1, or 2 where the sequence comes before), `causal` the place of the flag, which
    also holds where its value is one of `masks`; `products` of matrices are computed: 2 forward, 5 or 4 backward.

    >>> attention(Arguments([[1, 2, 8, 4]] * 3, ["c10::Half"] * 3, []))
    Cost(flops=2048.0, moved_bytes=512.0, unit='matrix', family='attention')
    """
    query, key, value = (of.shape(first + index) for index in range(3))
    if len(query) != 4 or len(key) != 4 or len(value) != 4:
        return None
    length = 3 - heads
    rows, columns = query[length], key[length]
    flops = products * query[0] * query[heads] * rows * columns * (query[3] + value[3])
    if causal >= 0 and (of.flag(causal) or of.value(causal) in masks):
        flops *= _seen(rows, columns)
    out = prod(query[:3]) * value[3]
    each = 1 if products == 2 else 2
    moved = of.moved(
        (first, prod(query) * each), (first + 1, prod(key) * each), (first + 2, prod(value) * each), (first, out)
    )
    return Cost(float(flops), moved, "matrix", "attention")


def _seen(rows: int, columns: int) -> float:
    """Return the share of the scores that a causal mask keeps: a half, or what lies under the diagonal.

    >>> _seen(8, 8), _seen(2, 4)
    (0.5, 0.375)
    """
    if rows == columns:
        return 0.5
    square = min(rows, columns)
    return (square * (square + 1) / 2 + max(rows - columns, 0) * columns) / (rows * columns)


ATTENTION: dict[str, Callable[[Arguments], Cost | None]] = {
    "aten::_scaled_dot_product_flash_attention": partial(attention, causal=4),
    "aten::_scaled_dot_product_efficient_attention": partial(attention, causal=6),
    "aten::_scaled_dot_product_cudnn_attention": partial(attention, causal=6),
    "aten::_flash_attention_forward": partial(attention, causal=8, heads=2),
    "aten::_efficient_attention_forward": partial(attention, causal=9, heads=2, masks=("1", "2")),
    "aten::_scaled_dot_product_flash_attention_backward": partial(attention, causal=11, first=1, products=5),
    "aten::_scaled_dot_product_efficient_attention_backward": partial(attention, causal=11, first=1, products=5),
    "aten::_scaled_dot_product_cudnn_attention_backward": partial(attention, causal=14, first=1, products=5),
    "aten::_flash_attention_backward": partial(attention, causal=11, heads=2, first=1, products=5),
    "aten::_efficient_attention_backward": partial(attention, heads=2, first=1, products=5),
    "flash_attn::_flash_attn_forward": partial(attention, causal=5, heads=2),
    "flash_attn::_flash_attn_backward": partial(attention, causal=11, heads=2, first=1, products=5),
    "aiter::_flash_attn_forward": partial(attention, causal=5, heads=2),
    "flash_attn_3::fwd": partial(attention, heads=2),
}
