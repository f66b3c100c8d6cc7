"""Is a code safe in the dtype of the gradient? Tried on neighbouring and random sets of missing workers.

Workers encode in fp64 and send their result in the dtype; the decoder adds in fp64. What counts is the error beyond the
rounding that the dtype costs without coding. A verdict speaks of the sets that were tried, all of them where there
are few; repetition codes are safe by their form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from ..errors import UsageError
from .decode import Decoder, amplification, residual
from .matrices import Code, build

Array = np.ndarray[Any, Any]
DTYPES = ("fp64", "fp32", "bf16")
LOSS_LIMIT = 1e-3
FEW_SETS, SETS_OF_A_KIND = 500, 10
ELEMENTS = 256
DRAWS = 6


@dataclass(frozen=True)
class Verdict:
    """What the worst set of missing workers does to a gradient sent as `dtype`.

    `residual_ratio` is lost even without rounding; `amplification_ratio` is the growth of rounding errors;
    `error_ratio` and `uncoded_error_ratio` are relative errors (2-norm) of a random gradient, with and without coding;
    `lost_ratio` is the difference. `missing` is the worst set, `sets_count` how many were tried.
    """

    dtype: str
    residual_ratio: float
    amplification_ratio: float
    error_ratio: float
    uncoded_error_ratio: float
    lost_ratio: float
    missing: tuple[int, ...]
    sets_count: int
    safe: bool
    reason: str


def rounded(values: Array, dtype: str) -> Array:
    """Return fp64 values as they are after a trip through `dtype` (to nearest, ties to even).

    >>> rounded(np.array([1.0, 1.00390625, 1.01171875]), "bf16").tolist()
    [1.0, 1.0, 1.015625]
    """
    if dtype not in DTYPES:
        raise UsageError(f"no dtype is called {dtype!r}; there are {', '.join(DTYPES)}")
    if dtype == "fp64":
        return values
    single: Array = values.astype(np.float32)
    if dtype == "bf16":
        bits: Array = single.view(np.uint32).astype(np.uint64)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        single = bits.astype(np.uint32).view(np.float32)
    return single.astype(float)


def missing_sets(workers: int, losses: int, seed: int = 0) -> Iterator[Array]:
    """Yield sets of `losses` missing workers: all where they are few, else neighbouring ranks and random ones."""
    if comb(workers, losses) <= FEW_SETS:
        yield from (np.array(one, dtype=np.int64) for one in combinations(range(workers), losses))
        return
    for start in np.linspace(0, workers, SETS_OF_A_KIND, endpoint=False).astype(np.int64):
        yield (start + np.arange(losses)) % workers
    draw = np.random.default_rng(seed)
    for _ in range(SETS_OF_A_KIND):
        yield draw.choice(workers, losses, replace=False)


def judge(code: Code, dtype: str, seed: int = 0) -> Verdict:
    """Return whether `code` is safe for gradients of `dtype`, with the worst set and the reason in words.

    >>> judge(build("uneven-fractional", 7, 2), "bf16").safe
    True
    """
    decoder = Decoder(code)
    chunks = np.random.default_rng([seed, 1]).standard_normal((code.matrix.shape[1], ELEMENTS))
    total = chunks.sum(axis=0)
    size = float(np.linalg.norm(total))
    plain = float(np.linalg.norm(rounded(chunks, dtype).sum(axis=0) - total)) / size
    sent = rounded(code.matrix @ chunks, dtype)
    worst, count, left, grown = (-1.0, np.zeros(0)), 0, 0.0, 0.0
    for missing in missing_sets(len(code.matrix), code.losses, seed):
        weights = decoder.weights(missing)
        left, grown = max(left, residual(code, weights)), max(grown, amplification(code, weights))
        worst = max(worst, (float(np.linalg.norm(weights @ sent - total)) / size, missing), key=lambda one: one[0])
        count += 1
    lost = max(0.0, worst[0] - plain, left)
    safe = bool(np.isfinite(lost) and lost <= LOSS_LIMIT)
    return Verdict(dtype, left, grown, worst[0], plain, lost, tuple(worst[1].astype(int).tolist()), count, safe,
                   _reason(code, dtype, lost, grown, safe))  # fmt: skip


def _reason(code: Code, dtype: str, lost: float, grown: float, safe: bool) -> str:
    if len(code.groups):
        return "coefficients are all 1, so no set of missing workers amplifies rounding"
    said = f"rounding grows up to {grown:.2g} times and {lost:.1e} of the gradient is lost in {dtype}"
    if safe:
        return f"{said}, within {LOSS_LIMIT:g}"
    return f"{said}, more than {LOSS_LIMIT:g}; take uneven-fractional, whose coefficients are 1"


def safest(kind: str, workers: int, losses: int, dtype: str, seed: int = 0) -> tuple[Code, Verdict]:
    """Return a code of `kind` and its verdict for `dtype`; random codes are drawn again a few times while unsafe.

    The verdict says whether to use it: a code that loses more than `LOSS_LIMIT` of a gradient is to be refused.

    >>> safest("cyclic-random", 64, 8, "bf16")[1].safe
    False
    """
    tried = []
    for number in range(DRAWS if kind == "cyclic-random" and losses else 1):
        code = build(kind, workers, losses, seed + number)
        tried.append((code, judge(code, dtype, seed)))
        if tried[-1][1].safe:
            break
    return min(tried, key=lambda one: one[1].lost_ratio)
