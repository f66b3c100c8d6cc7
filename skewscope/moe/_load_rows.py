"""Rows of table `expert_loads` to arrays: one recording of a job, steps that all ranks hold, ranks summed."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import UsageError

Array = np.ndarray[Any, Any]
NAMED = 3


def split(rows: pd.DataFrame, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (text, rows) for each text of a column, sorted; a column that is missing is empty.

    >>> [(text, len(part)) for text, part in split(pd.DataFrame({"job": ["b", "a", "b"]}), "job")]
    [('a', 1), ('b', 2)]
    """
    if name not in rows:
        yield "", rows
        return
    codes, values = pd.factorize(rows[name])
    texts = {code: str(value) for code, value in enumerate(values)} | ({-1: ""} if (codes < 0).any() else {})
    for code, text in sorted(texts.items(), key=lambda item: item[1]):
        yield text, rows if len(texts) == 1 else rows[codes == code]


def one_source(rows: pd.DataFrame) -> tuple[pd.DataFrame, str, list[str]]:
    """Return the rows of the finest recording (in order of time, most steps, most rows), its format, and a warning."""
    parts = list(split(rows, "source"))
    if len(parts) < 2:
        return rows, parts[0][0], []

    def fineness(part: tuple[str, pd.DataFrame]) -> tuple[bool, int, int]:
        ordered = "unordered" not in part[1] or not part[1]["unordered"].any()
        return ordered, part[1]["step"].nunique(), len(part[1])

    best = max(parts, key=fineness)
    others = ", ".join(name or "unnamed" for name, part in parts if part is not best[1])
    told = f"{len(parts)} recordings tell of the same job: {best[0] or 'unnamed'} is taken, not {others}"
    return best[1], best[0], [told]


def held_by_all(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of steps that every rank holds, in whatever phase, and a warning on the others.

    >>> rows = pd.DataFrame({"step": [0, 1, 0], "rank": [0, 0, 1]})
    >>> held_by_all(rows)[0]["step"].tolist()
    [0, 0]
    """
    steps, step = np.unique(rows["step"].to_numpy(), return_inverse=True)
    ranks, rank = np.unique(rows["rank"].to_numpy(), return_inverse=True)
    if len(ranks) < 2:
        return rows, []
    pairs = np.unique(step * len(ranks) + rank)
    whole = np.bincount(pairs // len(ranks), minlength=len(steps)) == len(ranks)
    if whole.all():
        return rows, []
    if not whole.any():
        return rows, [f"no step is held by all {len(ranks)} ranks: each sum is of some of them; copy all ranks' files"]
    lost = f"{int((~whole).sum())} of {len(steps)} steps are held by some of the {len(ranks)} ranks only: left out"
    return rows[whole[step]], [lost]


def experts(rows: pd.DataFrame, job: str, most: int) -> int:
    """Return how many experts a layer has; raises UsageError where more than `most` counts would come of them."""
    expert = rows["expert"].to_numpy()
    steps, layers = rows["step"].nunique(), rows["layer"].nunique()
    width = int(expert.max()) + 1
    if expert.min() < 0 or float(width) * steps * layers > most:
        raise UsageError(
            f"expert_loads of job {job!r}: experts {expert.min()} to {expert.max()} in {layers} layers and {steps} "
            "steps cannot be meant; check column expert, or cut the recording into shorter windows"
        )
    return width


def summed(rows: pd.DataFrame, width: int) -> tuple[NDArray[np.int64], Array, Array, list[str]]:
    """Return counts [T, L, `width`] summed over ranks and slots, steps, layers, and warnings on ranks that repeat."""
    steps, step = np.unique(rows["step"].to_numpy(), return_inverse=True)
    layers, layer = np.unique(rows["layer"].to_numpy(), return_inverse=True)
    shape = (len(steps), len(layers), width)
    flat = (step * shape[1] + layer) * width + rows["expert"].to_numpy().astype(np.int64)
    tokens = rows["routed_tokens"].to_numpy().clip(min=0)
    total = np.zeros(shape, dtype=np.int64)
    seen: dict[bytes, int] = {}
    twins: dict[int, list[int]] = {}
    ranks = 0
    for rank, mine in _by_rank(rows["rank"].to_numpy()):
        # Sums of whole numbers in floats are exact up to 2^53.
        part = np.bincount(flat[mine], tokens[mine], total.size).astype(np.int64).reshape(shape)
        first = seen.setdefault(blake2b(part.data, digest_size=16).digest(), rank)
        if first != rank and part.any():
            twins.setdefault(first, []).append(rank)
        else:
            total += part
        ranks += 1
    return total, steps, layers, [_twice(first, others, ranks) for first, others in twins.items()][:NAMED]


def _by_rank(rank: Array) -> Iterator[tuple[int, Array | slice]]:
    """Yield each rank and where its rows are."""
    if len(rank) and rank[0] == rank[-1] and (rank == rank[0]).all():
        yield int(rank[0]), slice(None)
        return
    order = np.argsort(rank, kind="stable")
    ranks, first = np.unique(rank[order], return_index=True)
    yield from zip(ranks.tolist(), np.split(order, first[1:]), strict=True)


def _twice(first: int, others: list[int], ranks: int) -> str:
    if len(others) + 1 == ranks:
        return f"all {ranks} ranks hold identical counts: they are summed over ranks already, and one of them is taken"
    names = ", ".join(map(str, others[:NAMED])) + (" ..." if len(others) > NAMED else "")
    return f"rank {names} holds the same counts as rank {first}: the same tokens, counted once"
