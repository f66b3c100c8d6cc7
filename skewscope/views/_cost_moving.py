"""Arithmetic and memory of operators that mostly move: elementwise, reductions, norms, softmax, tables, optimizers.

Bytes are each input read once and the output written once. Operations are counted from the definition, per element of
the input: one for an elementwise operator or a reduction; softmax 5 (largest, difference, exponential, sum, quotient)
and 4 backward; layer and batch norm (arXiv 1607.06450, 1502.03167) 7 (sum, difference, square, sum, scaling, weight,
bias) and 9 backward; RMS norm (arXiv 1910.07467) 4 and 8 backward. They never decide: memory does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from ._arguments import Arguments, Cost

UNARY = (
    "sigmoid silu gelu relu neg pow rsqrt sqrt exp log tanh abs sin cos reciprocal square erf clamp clamp_min clamp_max"
    " hardtanh leaky_relu softplus logical_not bitwise_not sign floor ceil round isnan isfinite dropout native_dropout"
)
BINARY = (
    "add sub mul div maximum minimum eq ne lt le gt ge logical_and logical_or bitwise_and bitwise_or fmod"
    " remainder atan2"
    " sigmoid_backward tanh_backward threshold_backward gelu_backward silu_backward masked_fill"
)
TERNARY = "addcmul addcdiv where lerp"
REDUCED = "sum mean max min amax amin norm linalg_vector_norm std var logsumexp prod any all argmax argmin"
SAME = "cumsum cumprod flip roll"
FOREACH_READS = {  # lists of tensors that come in, and how many of them go out
    "_foreach_add_": 1,
    "_foreach_mul_": 1,
    "_foreach_div_": 1,
    "_foreach_sub_": 1,
    "_foreach_addcmul_": 1,
    "_foreach_addcdiv_": 1,
    "_foreach_lerp_": 1,
    "_foreach_sqrt": 1,
    "_foreach_sqrt_": 1,
    "_foreach_neg": 1,
    "_foreach_zero_": 1,
    "_foreach_copy_": 1,
    "_foreach_norm": 0,
    "_fused_adamw_": 3,
    "_fused_adam_": 3,
    "_fused_sgd_": 2,
}


def elementwise(of: Arguments, inputs: int = 1, operations: int = 1) -> Cost | None:
    """Return the cost of an operator that reads its first `inputs` arguments and writes as many elements as it makes.

    >>> elementwise(Arguments([[4, 1], [4, 8]], ["float", "float"], []), 2)
    Cost(flops=32, moved_bytes=272.0, unit='vector', family='elementwise')
    """
    shapes = [of.shape(index) for index in range(inputs)]
    wide = [index for index, shape in enumerate(shapes) if shape]
    if not wide:
        return None
    out = _broadcast([shapes[index] for index in wide])
    largest = max(wide, key=lambda index: (of.size(index) or 0, -index))
    moved = of.moved(*((index, of.count(index)) for index in wide), (largest, out))
    return Cost(out * operations, moved, "vector", "elementwise")


def copied(of: Arguments) -> Cost | None:
    """Return the cost of copy_(target, source): the source read, the target written."""
    if not of.shape(0):
        return None
    return Cost(0, of.moved((1, of.count(1)), (0, of.count(0))), "vector", "copy")


def filled(of: Arguments) -> Cost | None:
    """Return the cost of fill_ and zero_: the target written."""
    return Cost(0, of.moved((0, of.count(0))), "vector", "copy") if of.shape(0) else None


def joined(of: Arguments) -> Cost | None:
    """Return the cost of cat(list of tensors): all read, all written; the bytes are not known without their type."""
    count = _listed(of, 0)
    if not count:
        return None
    size = _list_size(of, 0)
    return Cost(0, None if size is None else 2.0 * count * size, "vector", "copy")


def reduced(of: Arguments) -> Cost | None:
    """Return the cost of a reduction over the axes that its second argument names, all of them where it names none."""
    given = of.shape(0)
    if not given:
        return None
    axes = [axis % len(given) for axis in of.whole(1)]
    out = prod(size for axis, size in enumerate(given) if axis not in axes) if axes else 1
    return Cost(prod(given), of.moved((0, prod(given) + out)), "vector", "reduction")


def normalized(of: Arguments, operations: int, given: int = 0, weights: int = 2, passes: int = 2) -> Cost | None:
    """Return the cost of a norm: the input read and the output written (`passes` of them), weights and statistics."""
    if not of.shape(given):
        return None
    own = of.count(weights) * (2 if passes == 2 else 3)
    moved = of.moved((given, of.count(given) * passes), (weights if of.count(weights) else given, own))
    return Cost(operations * of.count(given), moved, "vector", "norm")


def softmax(of: Arguments, operations: int = 5, passes: int = 2) -> Cost | None:
    """Return the cost of a softmax: `passes` over the elements."""
    count = of.count(0)
    return Cost(operations * count, of.moved((0, count * passes)), "vector", "softmax") if count else None


def embedded(of: Arguments) -> Cost | None:
    """Return the cost of embedding(table [rows, d], indices): the rows asked for read and written, the indices read."""
    table = of.shape(0)
    if len(table) != 2 or not of.count(1):
        return None
    return Cost(0, of.moved((0, 2 * of.count(1) * table[1]), (1, of.count(1))), "vector", "embedding")


def embedding_backward(of: Arguments) -> Cost | None:
    """Return the cost of embedding_dense_backward(gradient, indices, rows): its table of gradients is written."""
    gradient, rows = of.shape(0), of.whole(2)
    if not gradient or not rows or rows[0] < 0:
        return None
    moved = of.moved((0, prod(gradient) + rows[0] * gradient[-1]), (1, of.count(1)))
    return Cost(prod(gradient), moved, "vector", "embedding")


def foreach(of: Arguments, written: int) -> Cost | None:
    """Return the cost of an operator over lists of tensors: all lists read, `written` of them written."""
    lists = [index for index in range(len(of.shapes)) if _listed(of, index)]
    if not lists:
        return None
    reads = sum(_listed(of, index) for index in lists)
    first = _listed(of, lists[0])
    size = _list_size(of, lists[0])
    moved = None if size is None else float(size * (reads + written * first))
    return Cost(first * max(len(lists), 1), moved, "vector", "optimizer")


def touched(of: Arguments, *, both_ways: tuple[int, ...] = ()) -> Cost | None:
    """Return the cost of a fused kernel whose arguments are its inputs and outputs: each once, `both_ways` ones twice.

    Its arithmetic is not known from them and counts as none.
    """
    parts = [(index, of.count(index) * (2 if index in both_ways else 1)) for index in range(len(of.shapes))]
    return Cost(0, of.moved(*parts), "vector", "fused") if any(count for _, count in parts) else None


def _listed(of: Arguments, index: int) -> int:
    """Return the elements of a list of tensors, 0 where the argument is none."""
    given: Any = of.shapes[index] if index < len(of.shapes) else []
    return sum(prod(shape) for shape in given if shape) if given and isinstance(given[0], list | tuple) else 0


def _list_size(of: Arguments, index: int) -> int | None:
    """Return the bytes of an element of a list of tensors, where its types are recorded one by one."""
    kind = of.dtypes[index] if index < len(of.dtypes) else ""
    if isinstance(kind, list | tuple) and kind:
        return Arguments([], list(kind), []).size(0)
    return of.size(index)


def _broadcast(shapes: list[tuple[int, ...]]) -> int:
    """Return the elements that tensors of these shapes make together."""
    axes = max(len(shape) for shape in shapes)
    return prod(max(((1,) * (axes - len(shape)) + shape)[axis] for shape in shapes) for axis in range(axes))


def _both(names: str) -> list[str]:
    return [f"aten::{name}{end}" for name in names.split() for end in ("", "_")]


MOVING: dict[str, Callable[[Arguments], Cost | None]] = {
    **dict.fromkeys(_both(UNARY), elementwise),
    **dict.fromkeys(_both(BINARY), partial(elementwise, inputs=2)),
    **dict.fromkeys(_both(TERNARY), partial(elementwise, inputs=3, operations=2)),
    **dict.fromkeys([f"aten::{name}" for name in REDUCED.split()], reduced),
    **dict.fromkeys([f"aten::{name}" for name in SAME.split()], elementwise),
    **{f"aten::{name}": partial(foreach, written=written) for name, written in FOREACH_READS.items()},
    **dict.fromkeys(("aten::fill_", "aten::zero_"), filled),
    **dict.fromkeys(("aten::native_layer_norm",), partial(normalized, operations=7)),
    **dict.fromkeys(
        ("aten::native_layer_norm_backward",), partial(normalized, operations=9, given=1, weights=5, passes=3)
    ),
    **dict.fromkeys(
        ("aten::native_batch_norm", "aten::cudnn_batch_norm", "aten::miopen_batch_norm", "aten::native_group_norm"),
        partial(normalized, operations=7, weights=1),
    ),
    **dict.fromkeys(
        ("aten::native_batch_norm_backward", "aten::cudnn_batch_norm_backward", "aten::miopen_batch_norm_backward"),
        partial(normalized, operations=9, passes=3),
    ),
    "aten::_fused_rms_norm": partial(normalized, operations=4),
    "aten::rms_norm": partial(normalized, operations=4),
    "aten::_fused_rms_norm_backward": partial(normalized, operations=8, given=1, weights=4, passes=3),
    "aten::_softmax": softmax,
    "aten::_log_softmax": softmax,
    "aten::_softmax_backward_data": partial(softmax, operations=4, passes=3),
    "aten::_log_softmax_backward_data": partial(softmax, operations=4, passes=3),
    "aten::embedding": embedded,
    "aten::embedding_dense_backward": embedding_backward,
    "aten::copy_": copied,
    "aten::cat": joined,
    "_C::rms_norm": touched,
    "_C::silu_and_mul": touched,
    "_C::gelu_and_mul": touched,
    "_C::fused_add_rms_norm": partial(touched, both_ways=(0, 1)),
}
