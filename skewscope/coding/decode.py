"""Decoding: which combination of the results that arrived is the sum of all chunks.

For cyclic codes the left null space N of E [workers, s] and one full solution a0 are kept; a set K of missing workers
then costs one s x s system, N[K] z = -a0[K], and the weights are a0 + N z.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UsageError
from .matrices import Code

Array = np.ndarray[Any, Any]
ZERO = 1e-12  # a singular value below this share of the largest is none


class Decoder:
    """Decodes one code for any set of missing workers.

    >>> from skewscope.coding.matrices import build
    >>> Decoder(build("fractional", 4, 1)).weights(np.array([0])).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self.repeats = len(code.groups) > 0
        if self.repeats:
            self._sizes = len(np.unique(code.groups))
            return
        left, scale, right = np.linalg.svd(code.matrix)
        rank = min(len(code.matrix) - code.losses, int((scale > ZERO * scale[0]).sum()))
        self._null = left[:, rank:]
        self._full = left[:, :rank] @ ((right[:rank].sum(axis=1)) / scale[:rank])

    def weights(self, missing: Array) -> Array:
        """Return the weights a [workers], 0 for the `missing` workers, with a E = 1.

        Raises UsageError where the results that arrived do not determine the sum.
        """
        missing = np.asarray(missing, dtype=np.int64)
        if self.repeats:
            return self._one_per_group(missing)
        if len(missing) > self.code.losses:
            raise UsageError(f"{len(missing)} workers are missing and the code survives {self.code.losses}")
        null, full = self._null[missing], self._full[missing]
        if len(missing) == null.shape[1]:
            step = np.linalg.solve(null, -full)
        else:
            step = np.linalg.lstsq(null, -full, rcond=None)[0]
        found: Array = self._full + self._null @ step
        found[missing] = 0.0
        return found

    def _one_per_group(self, missing: Array) -> Array:
        groups = self.code.groups.copy()
        groups[missing] = -1
        present, first = np.unique(groups, return_index=True)
        first = first[present >= 0]
        if len(first) < self._sizes:
            lost = int(np.setdiff1d(self.code.groups, present)[0])
            members = ", ".join(map(str, np.flatnonzero(self.code.groups == lost)))
            raise UsageError(f"group {lost} lost all its workers ({members}), so its part of the batch is missing")
        found = np.zeros(len(groups))
        found[first] = 1.0
        return found


def residual(code: Code, weights: Array) -> float:
    """Return max_j |(a E)_j - 1|: what is missing of the sum even in exact arithmetic of the workers.

    >>> from skewscope.coding.matrices import build
    >>> code = build("fractional", 4, 1)
    >>> residual(code, np.array([1.0, 1.0, 0.0, 0.0])), residual(code, np.array([1.0, 0.0, 0.0, 0.0]))
    (0.0, 1.0)
    """
    return float(np.abs(weights @ code.matrix - 1).max())


def amplification(code: Code, weights: Array) -> float:
    """Return max_j sum_i |a_i E_ij|: by how much the rounding of a worker's result grows.

    >>> from skewscope.coding.matrices import build
    >>> amplification(build("fractional", 4, 1), np.array([1.0, 1.0, 0.0, 0.0]))
    1.0
    """
    return float((np.abs(weights) @ np.abs(code.matrix)).max())


def best_weights(code: Code, missing: Array) -> Array:
    """Return the weights that come closest to the sum of all chunks in least squares, for any set of missing workers.

    >>> from skewscope.coding.matrices import build
    >>> best_weights(build("fractional", 4, 1), np.array([0, 2])).round(6).tolist()
    [0.0, 0.5, 0.0, 0.5]
    """
    alive = np.setdiff1d(np.arange(len(code.matrix)), missing)
    found = np.zeros(len(code.matrix))
    ones = np.ones(code.matrix.shape[1])
    found[alive] = np.linalg.lstsq(code.matrix[alive].T, ones, rcond=None)[0]
    return found
