"""How experts of neighbouring layers go together: what follows what, how much one tells of the other, what stays local.

Numbers for `expert_pairs`, whose counts F[i, j] say how often expert i of one layer and j of a later one served the
same token. A placement saves transfers only as far as experts follow each other; published gains do not carry over
from one trace to another, so these numbers come before any plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .placement import Floats, Placement
from .traffic import home


@dataclass(frozen=True)
class Pairs:
    """Counts [E, E] of the pairs of two layers."""

    layer: int
    next_layer: int
    counts: NDArray[np.int64]


def of_tables(tables: Mapping[str, pd.DataFrame], job: str, experts: int) -> list[Pairs]:
    """Return the pairs of each two layers of a job, sorted; [] where none are recorded."""
    rows = tables.get("expert_pairs", pd.DataFrame())
    rows = rows[(rows["job"].astype(str) == job).to_numpy()] if len(rows) else rows
    found = []
    for _, part in rows.groupby(["layer", "next_layer"]) if len(rows) else ():
        counts = np.zeros((experts, experts), dtype=np.int64)
        known = ((part["expert"] < experts) & (part["next_expert"] < experts)).to_numpy()
        one, other = part["expert"].to_numpy()[known], part["next_expert"].to_numpy()[known]
        np.add.at(counts, (one, other), part["routed_tokens"].to_numpy()[known])
        found.append(Pairs(int(part["layer"].iloc[0]), int(part["next_layer"].iloc[0]), counts))
    return found


def follows(counts: NDArray[Any]) -> Floats:
    """Return P(j | i) [E, E]: where tokens of expert i go next; rows without tokens are 0 (ExFlow, Fast-LLM #188).

    >>> follows(np.array([[3, 1], [0, 0]])).tolist()
    [[0.75, 0.25], [0.0, 0.0]]
    """
    x = np.asarray(counts, np.float64)
    total = x.sum(-1, keepdims=True)
    return np.where(total > 0, x / np.where(total > 0, total, 1.0), 0.0)


def mutual_bits(counts: NDArray[Any]) -> float:
    """Return the mutual information in bits: 0 where one layer tells nothing of the next.

    >>> mutual_bits(np.array([[5, 0], [0, 5]])), mutual_bits(np.array([[5, 5], [5, 5]]))
    (1.0, 0.0)
    """
    p = np.asarray(counts, np.float64) / max(float(np.sum(counts)), 1.0)
    even = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    some = p > 0
    return float((p[some] * np.log2(p[some] / even[some])).sum() + 0.0)


def local_share(pairs: Pairs, placement: Placement, layers: NDArray[Any]) -> float:
    """Return the share of pairs that a placement keeps on one GPU, by the first replica; NaN for unknown layers."""
    place = {int(layer): at for at, layer in enumerate(layers)}
    total = float(pairs.counts.sum())
    if pairs.layer not in place or pairs.next_layer not in place or not total:
        return float("nan")
    on = home(placement)
    same = on[place[pairs.layer]][:, None] == on[place[pairs.next_layer]][None]
    return float(pairs.counts[same].sum()) / total
