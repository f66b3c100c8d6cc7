"""What-if: tokens of an expert split freely over its replicas, for each batch anew, instead of evenly.

LPLB and SGLang's `lp` dispatch do this with the batch's own counts. The least load of the hottest GPU is the optimum of
a linear program; its dual is a set of experts that live on too few GPUs between them: no split relieves these, only
another placement does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Floats, Placement

TIGHT = 1e-7


@dataclass(frozen=True, eq=False)
class FreeSplit:
    """The best split of each layer: `slot_tokens` [L, P], and which experts and GPUs it is tight on.

    `hottest` [L] are tokens of the hottest GPU, `balance` [L] mean over it. `gpus` and `experts` name, by layer, the
    GPUs that are all that hot and the experts that live only on them; a layer without tokens has none.
    """

    slot_tokens: Floats
    hottest: Floats
    balance: Floats
    gpus: tuple[tuple[int, ...], ...]
    experts: tuple[tuple[int, ...], ...]

    def said(self, layer: int) -> str:
        """Return what binds in a layer as one sentence."""
        named = ", ".join(map(str, self.experts[layer]))
        return (f"experts {{{named}}} live only on GPUs {{{', '.join(map(str, self.gpus[layer]))}}}: "
                f"{self.hottest[layer]:g} tokens each at best")  # fmt: skip


def free_split(counts: NDArray[Any], placement: Placement) -> FreeSplit:
    """Return the best split of tokens per expert [L, E] on a placement; raises UsageError where they do not fit.

    >>> two = Placement(np.array([[0, 1, 0, 2]]), gpus=2, experts=3)
    >>> found = free_split(np.array([[6, 8, 2]]), two)
    >>> found.hottest.tolist(), found.slot_tokens.tolist()
    ([8.0], [[0.0, 8.0, 6.0, 2.0]])
    >>> found.said(0)
    'experts {1} live only on GPUs {0}: 8 tokens each at best'
    """
    tokens = np.asarray(counts, np.float64)
    placement.gpu_loads(tokens)  # raises where they do not fit
    slots, hottest, gpus, experts = [], [], [], []
    for load, held in zip(tokens, placement.by_gpu(), strict=True):
        split, highest, tight = _layer(load, held)
        slots.append(split)
        hottest.append(highest)
        gpus.append(tuple(int(gpu) for gpu in tight))
        inside = np.bincount(held[tight].ravel(), minlength=len(load))
        only = (inside == np.bincount(held.ravel(), minlength=len(load))) & (load > 0) & (inside > 0)
        experts.append(tuple(int(expert) for expert in np.flatnonzero(only)))
    high = np.array(hottest)
    balance = np.where(high > 0, tokens.sum(1) / placement.gpus / np.where(high > 0, high, 1.0), 1.0)
    return FreeSplit(np.stack(slots), high, np.minimum(balance, 1.0), tuple(gpus), tuple(experts))


def _layer(load: Floats, held: NDArray[np.int32]) -> tuple[Floats, float, NDArray[np.int64]]:
    """Return tokens of each slot [P], of the hottest GPU, and the GPUs in the tight set."""
    gpus, per_gpu = held.shape
    slots = held.size
    if not load.any():
        return np.zeros(slots), 0.0, np.zeros(0, np.int64)
    from scipy.optimize import linprog  # type: ignore[import-untyped]
    from scipy.sparse import coo_array  # type: ignore[import-untyped]

    unit = load.sum() / gpus
    slot = np.arange(slots)
    cost = np.zeros(slots + 1)
    cost[-1] = 1.0
    most = coo_array((np.concatenate([np.ones(slots), np.full(gpus, -1.0)]),
                      (np.concatenate([slot // per_gpu, np.arange(gpus)]),
                       np.concatenate([slot, np.full(gpus, slots)]))), shape=(gpus, slots + 1))  # fmt: skip
    all_tokens = coo_array((np.ones(slots), (held.ravel(), slot)), shape=(len(load), slots + 1))
    found = linprog(cost, most.tocsr(), np.zeros(gpus), all_tokens.tocsr(), load / unit, method="highs")
    tight = np.flatnonzero(found.ineqlin.marginals < -TIGHT)
    return np.maximum(found.x[:slots], 0) * unit, float(found.fun * unit), tight
