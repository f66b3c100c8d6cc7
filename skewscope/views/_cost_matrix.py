"""Arithmetic and memory of matrix products and convolutions.

A product of [m, k] and [k, n] takes a multiplication and an addition per (m, n, k): 2 m n k (Golub and Van Loan, Matrix
Computations, 1.1); a bias adds m n. A convolution is such a product for each element of its output over its filter
(Chetlur et al., cuDNN, arXiv 1410.0759): 2 x out x (filter / output channels); its two gradients cost that once each.
Bytes are what must cross the memory once: every input read, the output written.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from ._arguments import Arguments, Cost, element_bytes

SCALAR_TYPES = {
    "5": 2,
    "6": 4,
    "7": 8,
    "15": 2,
    "23": 1,
    "24": 1,
}  # c10::ScalarType: Half, Float, Double, BFloat16, ...


def mm(of: Arguments, first: int = 0, bias: int = -1) -> Cost | None:
    """Return the cost of a product of two matrices at `first` and the next; `bias` is the place of an added one.

    >>> mm(Arguments([[4, 8], [8, 2]], ["float", "float"], []))
    Cost(flops=128, moved_bytes=224.0, unit='matrix', family='matmul')
    """
    left, right = of.shape(first), of.shape(first + 1)
    if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
        return None
    out = left[0] * right[1]
    added = of.count(bias) if bias >= 0 else 0
    moved = of.moved((first, prod(left)), (first + 1, prod(right)), (first, out), (max(bias, 0), added))
    return Cost(2 * out * left[1] + (out if added else 0), moved, "matrix", "matmul")


def addmm(of: Arguments) -> Cost | None:
    """Return the cost of a bias and a product: bias, left, right."""
    return mm(of, 1, 0)


def bmm(of: Arguments, first: int = 0, bias: int = -1) -> Cost | None:
    """Return the cost of a batch of products [b, m, k] and [b, k, n]."""
    left, right = of.shape(first), of.shape(first + 1)
    if len(left) != 3 or len(right) != 3 or left[2] != right[1]:
        return None
    out = left[0] * left[1] * right[2]
    added = of.count(bias) if bias >= 0 else 0
    moved = of.moved((first, prod(left)), (first + 1, prod(right)), (first, out), (max(bias, 0), added))
    return Cost(2 * out * left[2] + (out if added else 0), moved, "matrix", "matmul")


def baddbmm(of: Arguments) -> Cost | None:
    """Return the cost of a batch of products with what is added first: added, left, right."""
    return bmm(of, 1, 0)


def linear(of: Arguments) -> Cost | None:
    """Return the cost of a linear layer: input [..., k], weight [n, k], bias."""
    given, weight = of.shape(0), of.shape(1)
    if not given or len(weight) != 2 or given[-1] != weight[1]:
        return None
    rows = prod(given[:-1])
    out, added = rows * weight[0], of.count(2)
    moved = of.moved((0, prod(given)), (1, prod(weight)), (0, out), (2, added))
    return Cost(2 * out * weight[1] + (out if added else 0), moved, "matrix", "matmul")


def matmul(of: Arguments) -> Cost | None:
    """Return the cost of a product of [..., m, k] and [..., k, n] with the batches of either side."""
    left, right = of.shape(0), of.shape(1)
    if len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
        return None
    batch = max(prod(left[:-2]), prod(right[:-2]))
    out = batch * left[-2] * right[-1]
    moved = of.moved((0, prod(left)), (1, prod(right)), (0, out))
    return Cost(2 * out * left[-1], moved, "matrix", "matmul")


def scaled_mm(of: Arguments) -> Cost | None:
    """Return the cost of _scaled_mm(left, right, scales, bias, scale of the result, type of the output)."""
    found = mm(of)
    if found is None:
        return None
    out = of.shape(0)[0] * of.shape(1)[1]
    given = SCALAR_TYPES.get(of.value(6)) or element_bytes(of.value(6)) or of.size(0)
    moved = of.moved((0, of.count(0)), (1, of.count(1)))
    return found._replace(moved_bytes=None if moved is None or given is None else moved + out * given)


def grouped_mm(of: Arguments) -> Cost | None:
    """Return the cost of a grouped product [rows of all groups, k] x [groups, k, n] (either order of k and n)."""
    left, right = of.shape(0), of.shape(1)
    if len(left) == 3 and len(right) == 3:
        return bmm(of)
    if len(left) != 2 or len(right) != 3 or left[1] not in right[1:]:
        return None
    inner = left[1]
    out = left[0] * (right[1] * right[2] // inner)
    return Cost(2 * out * inner, of.moved((0, prod(left)), (1, prod(right)), (0, out)), "matrix", "matmul")


def _conv(of: Arguments, padding: int, stride: int, dilation: int, transposed: bool, bias: int = -1) -> Cost | None:
    given, weight = of.shape(0), of.shape(1)
    if not 3 <= len(given) <= 5 or len(weight) != len(given):
        return None
    added = of.count(bias) if bias >= 0 else 0
    if transposed:
        flops, out = 2 * prod(given) * prod(weight[1:]), 0
        return Cost(flops, None, "matrix", "convolution")
    axes = len(given) - 2
    pads, steps, holes = (
        _each(of.whole(index), axes, usual) for index, usual in ((padding, 0), (stride, 1), (dilation, 1))
    )
    sizes = [
        (size + 2 * pad - hole * (kernel - 1) - 1) // step + 1
        for size, pad, step, hole, kernel in zip(given[2:], pads, steps, holes, weight[2:], strict=True)
    ]
    out = given[0] * weight[0] * prod(sizes)
    moved = of.moved((0, prod(given)), (1, prod(weight)), (0, out), (max(bias, 0), added))
    return Cost(2 * out * prod(weight[1:]) + (out if added else 0), moved, "matrix", "convolution")


def convolution(of: Arguments) -> Cost | None:
    """Return the cost of a convolution: input, weight, bias, stride, padding, dilation, transposed, ..."""
    return _conv(of, 4, 3, 5, of.flag(6), bias=2)


def cudnn_convolution(of: Arguments) -> Cost | None:
    """Return the cost of a convolution as cuDNN takes it: input, weight, padding, stride, dilation, groups, ..."""
    return _conv(of, 2, 3, 4, transposed=False)


def miopen_convolution(of: Arguments) -> Cost | None:
    """Return the cost of a convolution as MIOpen takes it: input, weight, bias, padding, stride, dilation, ..."""
    return _conv(of, 3, 4, 5, transposed=False, bias=2)


def convolution_backward(of: Arguments) -> Cost | None:
    """Return the cost of the gradients of a convolution that are asked for: gradient, input, weight, ..., mask."""
    gradient, given, weight = of.shape(0), of.shape(1), of.shape(2)
    if len(weight) < 3 or len(given) != len(weight) or len(gradient) != len(weight):
        return None
    once = 2 * (prod(given) if of.flag(7) else prod(gradient)) * prod(weight[1:])
    mask = [word.strip() == "True" for word in of.value(10).strip("[]").split(",")]
    wanted = mask if len(mask) == 3 else [True, True, bool(of.shapes[3:4] and of.shapes[3])]
    moved = of.moved(
        (0, prod(gradient) * (wanted[0] + wanted[1])),
        (2, prod(weight) * (wanted[0] + wanted[1])),
        (1, prod(given) * (wanted[0] + wanted[1])),
    )
    bias = prod(gradient) if wanted[2] else 0
    return Cost(once * (wanted[0] + wanted[1]) + bias, moved, "matrix", "convolution")


def _each(numbers: list[int], axes: int, usual: int) -> list[int]:
    """Return one number per axis, where one may stand for all."""
    numbers = numbers or [usual]
    return numbers * axes if len(numbers) == 1 else numbers[:axes] + [usual] * (axes - len(numbers))


MATRIX: dict[str, Callable[[Arguments], Cost | None]] = {
    "aten::mm": mm,
    "aten::addmm": addmm,
    "aten::bmm": bmm,
    "aten::baddbmm": baddbmm,
    "aten::linear": linear,
    "aten::matmul": matmul,
    "aten::_scaled_mm": scaled_mm,
    "aten::_grouped_mm": grouped_mm,
    "aten::_addmm_activation": addmm,
    "aten::_int_mm": mm,
    "primus_turbo::grouped_gemm": grouped_mm,
    "primus_turbo::grouped_gemm_impl": grouped_mm,
    "aten::convolution": convolution,
    "aten::_convolution": convolution,
    "aten::cudnn_convolution": cudnn_convolution,
    "aten::miopen_convolution": miopen_convolution,
    "aten::convolution_backward": convolution_backward,
}
