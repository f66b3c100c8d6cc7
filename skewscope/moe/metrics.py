"""Every number that is in use for the balance of experts: one function each, by the name and formula of who prints it.

All but `balancedness_*` take loads [.., n] along the last axis, of experts, GPUs or nodes alike; what the n are is the
level. Layers without tokens give the value of perfect balance, as they have nothing to balance. Sources stand beside
each; the three balancedness numbers of vLLM, SGLang and this project differ by design and must never be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .placement import balancedness

Floats = NDArray[np.float64]
SGLANG_EPSILON = 1e-5
COLD_RATIO = 0.05  # of the mean: an expert with less is cold (NeMo Automodel #1232)
COVERAGE_SHARE = 0.1  # of the experts, whose share of all picks is told


def overload(loads: NDArray[Any]) -> Floats:
    """Return the overload factor, max / mean [..] (Megatron-LM #4110, vLLM-Ascend, least-loaded EP): 1 is even.

    >>> overload(np.array([1.0, 3.0])).tolist()
    1.5
    """
    return np.asarray(1.0 / balancedness(loads))


def imbalance(loads: NDArray[Any]) -> Floats:
    """Return the imbalance ratio, (max - mean) / mean [..] (TensorRT-LLM; MaxVio of the loss-free paper): 0 is even."""
    return np.asarray(overload(loads) - 1.0)


def violations(loads: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return max, min and average violation: (max - mean), (mean - min) and mean abs, over the mean (Megatron #136).

    >>> [float(one) for one in violations(np.array([1.0, 3.0, 2.0]))]
    [0.5, 0.5, 0.3333333333333333]
    """
    x, mean = _over_mean(loads)
    return x.max(-1) - mean, mean - x.min(-1), np.asarray(np.abs(x - mean[..., None]).mean(-1))


def variation(loads: NDArray[Any]) -> Floats:
    """Return the coefficient of variation, std / mean [..] (TensorRT-LLM's table; GShard's loss is its square).

    >>> float(variation(np.array([1.0, 3.0])))
    0.5
    """
    x, _ = _over_mean(loads)
    return np.asarray(x.std(-1))


def gini(loads: NDArray[Any]) -> Floats:
    """Return the Gini coefficient [..], 2 sum(i x_(i)) / (n sum x) - (n + 1) / n: 0 is even, 1 - 1/n all on one.

    >>> gini(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 9.0]])).tolist()
    [0.0, 0.75]
    """
    x = np.sort(np.asarray(loads, np.float64), axis=-1)
    n, total = x.shape[-1], x.sum(-1)
    ranked = (x * np.arange(1, n + 1)).sum(-1)
    return np.asarray(np.where(total > 0, 2 * ranked / (n * np.where(total > 0, total, 1)) - (n + 1) / n, 0.0))


def entropy(loads: NDArray[Any]) -> Floats:
    """Return the normalised entropy [..], -sum p ln p / ln n (Fast-LLM #188): 1 is uniform, 0 all on one.

    >>> entropy(np.array([[1.0, 1.0], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    n = np.asarray(loads).shape[-1]
    return np.asarray(_nats(loads) / math.log(n) if n > 1 else np.ones(np.asarray(loads).shape[:-1]))


def effective_share(loads: NDArray[Any]) -> Floats:
    """Return exp(entropy) / n [..]: the share of experts that would give the same entropy if used evenly."""
    return np.asarray(np.exp(_nats(loads)) / np.asarray(loads).shape[-1])


def quantile_ratio(loads: NDArray[Any], high: float = 0.99, low: float = 0.5) -> Floats:
    """Return one quantile over another [..], p99 / p50 unless told otherwise (Megatron-LM #2398); inf over 0."""
    above, below = np.quantile(np.asarray(loads, np.float64), [high, low], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(above > 0, above / below, 1.0))


def coverage(loads: NDArray[Any], hottest: int = 0) -> Floats:
    """Return the share of all picks [..] that the `hottest` (0: a tenth) take (Megatron trace analysis).

    >>> float(coverage(np.array([6.0, 1.0, 2.0, 1.0]), 2))
    0.8
    """
    x = np.sort(np.asarray(loads, np.float64), axis=-1)[..., ::-1]
    count = hottest or max(1, round(COVERAGE_SHARE * x.shape[-1]))
    total = x.sum(-1)
    return np.asarray(x[..., :count].sum(-1) / np.where(total > 0, total, 1))


def dead(loads: NDArray[Any]) -> Floats:
    """Return the share of experts that got no token [..]; with few tokens that is noise (`noise.zero_probability`).

    >>> dead(np.array([0, 0, 4, 4])).tolist()
    0.5
    """
    return np.asarray((np.asarray(loads) <= 0).mean(-1))


def cold(loads: NDArray[Any], ratio: float = COLD_RATIO) -> Floats:
    """Return the share of experts with less than `ratio` of the mean [..] (NeMo Automodel #1232)."""
    x = np.asarray(loads, np.float64)
    return np.asarray((x < ratio * x.mean(-1, keepdims=True)).mean(-1))


def dropped(loads: NDArray[Any], capacity_factor: float) -> Floats:
    """Return the share of picks beyond the capacity C = ceil(factor * n / E) of each expert [..] (GShard, Tutel).

    >>> float(dropped(np.array([6.0, 1.0, 1.0]), 1.0))
    0.375
    """
    if not capacity_factor > 0:
        raise UsageError(f"a capacity factor is above 0, not {capacity_factor}")
    x = np.asarray(loads, np.float64)
    total = x.sum(-1)
    most = np.ceil(capacity_factor * total / x.shape[-1])
    beyond = np.maximum(x - most[..., None], 0.0).sum(-1)
    return np.asarray(beyond / np.where(total > 0, total, 1))


def activated(counts: NDArray[Any], held: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many of its experts each GPU runs [.., L, G]: `held` [L, G, E] says which it has (METRO).

    In the memory-bound regime a GPU reads the weights of each expert that gets a token, however many: this, not the
    tokens, is its time.
    """
    return np.asarray(np.einsum("...le,lge->...lg", np.asarray(counts) > 0, np.asarray(held).astype(np.int64)))


def activated_expected(shares: NDArray[Any], held: NDArray[Any], tokens: float) -> Floats:
    """Return the expected number of experts that a GPU runs [.., L, G] for `tokens` independent tokens.

    `shares` [.., L, E] are chances that one token picks an expert (they sum to k): sum over experts 1 - (1 - q)^tokens.
    """
    some = 1.0 - (1.0 - np.clip(np.asarray(shares, np.float64), 0.0, 1.0)) ** tokens
    return np.asarray(np.einsum("...le,lge->...lg", some, np.asarray(held).astype(np.float64)))


def pressure(counts: NDArray[Any], replicas: NDArray[Any], gpus: int) -> Floats:
    """Return the replication pressure per expert [.., L, E], w / (m r): above 1 no packing helps, only a replica does.

    `m` is the mean load of the `gpus` and `r` the replicas [L, E] of each expert.

    >>> pressure(np.array([[6, 1, 1]]), np.array([[1, 1, 1]]), 2).tolist()
    [[1.5, 0.25, 0.25]]
    """
    w = np.asarray(counts, np.float64)
    mean = w.sum(-1, keepdims=True) / gpus
    return np.asarray(w / np.where(mean > 0, mean, 1.0) / np.maximum(np.asarray(replicas), 1))


def balancedness_mean(gpu_loads: NDArray[Any]) -> float:
    """Return this project's balancedness: the mean over steps and MoE layers of mean / max.

    `gpu_loads` is [.., L, G] here and in the three below.

    >>> loads = np.array([[5.0, 5.0], [1.0, 3.0]])
    >>> [round(one(loads), 4) for one in (balancedness_mean, balancedness_vllm, balancedness_sglang)]
    [0.8333, 0.875, 0.8333]
    """
    found = balancedness(gpu_loads)
    return float(found.mean()) if found.size else 1.0


def balancedness_vllm(gpu_loads: NDArray[Any]) -> float:
    """Return vLLM's `balancedness`: the sum over layers of means over the sum of maxima; one bad layer is diluted.

    Steps are averaged after that. vLLM before #51813 reduced over the wrong axis: numbers of old logs mean nothing.
    """
    x = np.asarray(gpu_loads, np.float64)
    mean, most = x.mean(-1).sum(-1), x.max(-1).sum(-1)
    return float(np.where(most > 0, mean / np.where(most > 0, most, 1.0), 1.0).mean())


def balancedness_sglang(gpu_loads: NDArray[Any], dense_layers: int = 0) -> float:
    """Return SGLang's gauge: the mean over all decoder layers of (mean + e) / (max + e); dense layers count as 1.

    `dense_layers` are those without experts: DeepSeek-V3's three of 61 lift 0.40 to 0.43.
    """
    x = np.asarray(gpu_loads, np.float64)
    ratio = (x.mean(-1) + SGLANG_EPSILON) / (x.max(-1) + SGLANG_EPSILON)
    layers = ratio.shape[-1]
    return float(((ratio.sum(-1) + dense_layers) / (layers + dense_layers)).mean())


def imbalance_trtllm(gpu_loads: NDArray[Any]) -> float:
    """Return TensorRT-LLM's imbalance ratio: (max - mean) / mean, averaged over iterations, then over layers.

    An average of ratios: 1 / (1 + it) is not a balancedness averaged in another order.
    """
    found = imbalance(gpu_loads)
    return float(found.mean()) if found.size else 0.0


def hotness_ascend(gpu_loads: NDArray[Any]) -> tuple[float, float]:
    """Return vLLM-Ascend's hotness: mean and max over layers of max / mean of the loads of all steps together."""
    x = np.asarray(gpu_loads, np.float64)
    found = overload(x.reshape(-1, *x.shape[-2:]).sum(0))
    return float(found.mean()), float(found.max())


def definitions(gpu_loads: NDArray[Any], slot_loads: NDArray[Any] | None = None,
                dense_layers: int = 0) -> dict[str, float]:  # fmt: skip
    """Return what each project would print for the same loads [.., L, G], by name of the project.

    `slots` is the balance of slots [.., L, P] instead of GPUs, as tasks that evolve EPLB score it: 0.3 where GPUs are
    even, so it says nothing about GPUs.
    """
    mean, most = hotness_ascend(gpu_loads)
    said = {
        "skewscope": balancedness_mean(gpu_loads), "vllm": balancedness_vllm(gpu_loads),
        "sglang": balancedness_sglang(gpu_loads, dense_layers), "trtllm_imbalance": imbalance_trtllm(gpu_loads),
        "ascend_mean": mean, "ascend_max": most,
    }  # fmt: skip
    return said if slot_loads is None else said | {"slots": balancedness_mean(slot_loads)}


LEVEL: Mapping[str, Callable[[NDArray[Any]], Floats]] = {  # per layer, of experts, GPUs or nodes
    "max_over_mean": overload, "imbalance_ratio": imbalance, "variation": variation, "gini": gini, "entropy": entropy,
    "effective_share": effective_share, "p99_over_p50": quantile_ratio, "coverage_10_percent": coverage, "dead": dead,
    "cold": cold, "max_violation": lambda x: violations(x)[0], "min_violation": lambda x: violations(x)[1],
    "mean_violation": lambda x: violations(x)[2],
}  # fmt: skip
HIGHER_IS_BETTER = ("entropy", "effective_share", "balancedness")


@dataclass(frozen=True)
class Spread:
    """One metric over layers: least, median, p90, greatest and mean, and the layer that is worst."""

    low: float
    p50: float
    p90: float
    high: float
    mean: float
    worst_layer: int


def over_layers(
    values: NDArray[Any], layers: Sequence[int] | NDArray[Any], *, higher_is_better: bool = False
) -> Spread:
    """Return the spread of a metric [L] over layers, with the model's number of the worst one.

    >>> over_layers(np.array([1.0, 3.0, 2.0]), [4, 5, 6]).worst_layer
    5
    """
    x = np.asarray(values, np.float64)
    worst = int(np.nanargmin(x) if higher_is_better else np.nanargmax(x))
    low, middle, high, top = np.nanquantile(x, [0.0, 0.5, 0.9, 1.0]).tolist()
    return Spread(low, middle, high, top, float(np.nanmean(x)), int(np.asarray(layers)[worst]))


def level(loads: NDArray[Any], layers: Sequence[int] | NDArray[Any]) -> dict[str, Spread]:
    """Return every metric of one level over layers, for loads [L, n] of experts, GPUs or nodes."""
    return {name: over_layers(of(np.asarray(loads)), layers, higher_is_better=name in HIGHER_IS_BETTER)
            for name, of in LEVEL.items()}  # fmt: skip


def _over_mean(loads: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return loads over their mean and the mean of that (1, or 1 where nothing came)."""
    x = np.asarray(loads, np.float64)
    mean = x.mean(-1, keepdims=True)
    scaled = np.where(mean > 0, x / np.where(mean > 0, mean, 1.0), 1.0)
    return scaled, np.ones(scaled.shape[:-1])


def _nats(loads: NDArray[Any]) -> Floats:
    """Return the entropy of shares in nats [..]; of nothing that of even shares."""
    x = np.asarray(loads, np.float64)
    total = x.sum(-1, keepdims=True)
    p = np.where(total > 0, x / np.where(total > 0, total, 1.0), 1.0 / x.shape[-1])
    return np.asarray((p * -np.log(np.where(p > 0, p, 1.0))).sum(-1) + 0.0)
