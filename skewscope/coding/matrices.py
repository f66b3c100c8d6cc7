"""Encoding matrices: row i says what worker i returns, as a combination of the gradients of the chunks of the batch.

Any workers - s rows must span the vector of ones. Fractional repetition has coefficients 1 and is safe in every dtype;
cyclic codes need no groups but amplify rounding (see `safety`), the unit circle worst where neighbours are lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from . import fractional

Array = np.ndarray[Any, Any]
NODE_WORKERS = 8
KINDS = ("uneven-fractional", "fractional", "cyclic-random", "unit-circle")


@dataclass(frozen=True)
class Code:
    """A code: `matrix` E [workers, chunks], any `losses` (s) rows may be missing.

    `groups` [workers] names the group of each worker in repetition codes, empty for the others.
    """

    kind: str
    matrix: Array
    losses: int
    groups: Array

    @property
    def load(self) -> float:
        """Share of the batch of the most loaded worker."""
        return float((self.matrix != 0).sum(axis=1).max() / self.matrix.shape[1])


def build(kind: str, workers: int, losses: int, seed: int = 0, spread: bool = True) -> Code:
    """Return a code of one of `KINDS`; raises UsageError where it cannot be built for these numbers.

    The unit circle breaks where neighbours are lost, so `spread` gives the ranks of a node, which fail together,
    distant places in it; random cyclic codes bear neighbours better than others, so their ranks stay where they are.

    >>> build("uneven-fractional", 5, 1).matrix.tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    if kind not in KINDS:
        raise UsageError(f"no code is called {kind!r}; there are {', '.join(KINDS)}")
    if not 0 <= losses < workers:
        raise UsageError(f"a code of {workers} workers survives 0 to {workers - 1} losses, not {losses}")
    if kind == "uneven-fractional":
        return _repetition(kind, workers, losses)
    if kind == "fractional":
        if workers % (losses + 1):
            raise UsageError(f"fractional repetition wants s + 1 = {losses + 1} to divide {workers} workers; "
                             "take uneven-fractional")  # fmt: skip
        return _repetition(kind, workers, losses)
    if kind == "cyclic-random":
        made = _cyclic_random(workers, losses, seed)
    else:
        made = _unit_circle(workers, losses)[positions(workers) if spread else slice(None)]
    return Code(kind, made, losses, np.zeros(0, dtype=np.int64))


def _repetition(kind: str, workers: int, losses: int) -> Code:
    """Return groups of at least s + 1 workers that compute the same chunk each."""
    groups = workers // (losses + 1)
    of = fractional.members(workers, groups)
    return Code(kind, (of[:, None] == np.arange(groups)).astype(float), losses, of)


def positions(workers: int, node_workers: int = NODE_WORKERS) -> Array:
    """Return the place in a cyclic code of each rank [workers]: ranks of one node are spread over the circle.

    >>> positions(6, 2).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    rank = np.arange(workers)
    order = np.lexsort((rank // node_workers, rank % node_workers))
    place = np.empty(workers, dtype=np.int64)
    place[order] = rank
    return place


def _cyclic_random(workers: int, losses: int, seed: int) -> Array:
    """Return the random cyclic code of Tandon and others: H b_i = 0 for a random H [s, n] whose columns sum to zero.

    Row i is 1 at column i and solves H[:, i+1..i+s] x = -H[:, i] on the s columns after it.
    """
    if losses == 0:
        return np.eye(workers)
    parity = np.random.default_rng(seed).standard_normal((losses, workers))
    parity[:, -1] = -parity[:, :-1].sum(axis=1)
    after = (np.arange(workers)[:, None] + np.arange(1, losses + 1)) % workers  # [n, s]
    solved = np.linalg.solve(parity[:, after].transpose(1, 0, 2), -parity.T[:, :, None])[..., 0]
    matrix = np.eye(workers)
    np.put_along_axis(matrix, after, solved, axis=1)
    return matrix


def _unit_circle(workers: int, losses: int) -> Array:
    """Return the cyclic MDS code of Raviv and others: row 0 is the polynomial with s consecutive roots of unity.

    The roots lie opposite to 1, where the row sum is largest; coefficients are real where n - s is odd.
    """
    if losses == 0:
        return np.eye(workers)
    if (workers - losses) % 2 == 0:
        raise UsageError(f"the unit-circle code of {workers} workers has complex coefficients for s={losses}; take "
                         f"s={losses + 1}")  # fmt: skip
    roots = np.exp(2j * np.pi * unit_roots(workers, losses) / workers)
    row = np.zeros(workers)
    row[: losses + 1] = np.poly(roots).real[::-1]
    return np.stack([np.roll(row, shift) for shift in range(workers)])


def unit_roots(workers: int, losses: int) -> Array:
    """Return the exponents F of the roots: s consecutive numbers, symmetric about workers / 2.

    >>> unit_roots(8, 3).tolist()
    [3, 4, 5]
    """
    return np.arange(losses) + (workers - losses + 1) // 2


def of_layout(held: list[Array], partitions: int, losses: int, seed: int = 0) -> Code:
    """Return the code of Wang and others for workers that hold the partitions `held`, each on s + 1 of them.

    With a random C [s + 1, workers], the coefficients d of a partition on workers W solve C[:, W] d = 1, so C E is all
    ones; a combination of the rows of C that is zero at the missing workers decodes. Raises UsageError where a
    partition is not on exactly s + 1 workers.

    >>> code = of_layout([np.array([0, 1]), np.array([0]), np.array([1])], 2, 1)
    >>> (code.matrix != 0).sum(axis=0).tolist()
    [2, 2]
    """
    holds = np.zeros((len(held), partitions), dtype=bool)
    for worker, part in enumerate(held):
        holds[worker, part] = True
    if (holds.sum(axis=0) != losses + 1).any():
        partition = int(np.flatnonzero(holds.sum(axis=0) != losses + 1)[0])
        raise UsageError(f"partition {partition} is on {int(holds[:, partition].sum())} workers, not on {losses + 1}")
    owners = np.nonzero(holds.T)[1].reshape(partitions, losses + 1)
    random = np.random.default_rng(seed).standard_normal((losses + 1, len(held)))
    parts = random[:, owners].transpose(1, 0, 2)  # [partitions, s + 1, s + 1]
    solved = np.linalg.solve(parts, np.ones((partitions, losses + 1, 1)))[..., 0]
    matrix = np.zeros(holds.shape)
    matrix[owners.T, np.arange(partitions)] = solved.T
    return Code("heterogeneous", matrix, losses, np.zeros(0, dtype=np.int64))
