"""Seconds instead of ratios: how long the experts of a layer compute, and what their imbalance costs a step.

A GPU needs for each of its experts the longer of two times: multiplying its tokens (compute-bound, prefill and
training) or reading its weights once (memory-bound, decode with few tokens per expert). Speeds are the peaks of data
sheets unless `sustained_ratio` says otherwise, so a cost told from them is the least that it can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .placement import Placement

Floats = NDArray[np.float64]
TRAINING_PASSES = 3.0  # of the multiplications of a forward pass: backward makes the gradients of input and weights
MATRICES = 3  # of a gated expert: gate, up and down


@dataclass(frozen=True)
class Hardware:
    """Peaks of one GPU and its links (one direction), from the vendor's data sheet; 0 where it has no such unit."""

    name: str
    fp8_flops_per_s: float
    bf16_flops_per_s: float
    memory_bytes_per_s: float
    nvlink_bytes_per_s: float
    network_bytes_per_s: float

    def flops_per_s(self, weight_bytes: float) -> float:
        """Return the peak for weights of so many bytes each; one-byte weights without a unit go through bf16."""
        return self.fp8_flops_per_s if weight_bytes <= 1 and self.fp8_flops_per_s else self.bf16_flops_per_s


@dataclass(frozen=True)
class Shape:
    """The experts of a model: MoE layers, experts, picks per token, sizes, router groups (1: none), dense layers."""

    name: str
    layers: int
    experts: int
    top_k: int
    hidden: int
    intermediate: int
    groups: int = 1
    dense_layers: int = 0
    weight_bytes: float = 2.0  # as published

    def expert_bytes(self, weight_bytes: float) -> float:
        """Return the bytes of one expert.

        >>> SHAPES["deepseek-v3"].expert_bytes(1) / 1e6
        44.040192
        """
        return MATRICES * self.hidden * self.intermediate * weight_bytes

    @property
    def token_flops(self) -> float:
        """Return the operations of one token in one expert: 88.1 million for DeepSeek-V3."""
        return 2.0 * MATRICES * self.hidden * self.intermediate


HARDWARE = {one.name: one for one in (  # dense peaks, SXM boards
    Hardware("h100", 1979e12, 989e12, 3.35e12, 450e9, 50e9), Hardware("h200", 1979e12, 989e12, 4.8e12, 450e9, 50e9),
    Hardware("a100", 0.0, 312e12, 2.039e12, 300e9, 25e9),
)}  # fmt: skip
SHAPES = {one.name: one for one in (  # from the models' published configurations
    Shape("deepseek-v3", 58, 256, 8, 7168, 2048, 8, 3, 1.0), Shape("kimi-k2", 60, 384, 8, 7168, 2048, 1, 1, 1.0),
    Shape("qwen3-235b", 94, 128, 8, 4096, 1536), Shape("qwen3-30b", 48, 128, 8, 2048, 768),
    Shape("mixtral-8x7b", 32, 8, 2, 4096, 14336), Shape("mixtral-8x22b", 56, 8, 2, 6144, 16384),
    Shape("olmoe-1b-7b", 16, 64, 8, 2048, 1024), Shape("qwen1.5-moe", 24, 60, 4, 2048, 1408),
)}  # fmt: skip


def shape_of(layers: int, experts: int, top_k: int = 0) -> Shape | None:
    """Return the known model with so many MoE layers and experts (and picks, where told), None for no or two of them.

    >>> shape_of(58, 256).name
    'deepseek-v3'
    """
    found = [one for one in SHAPES.values() if (one.layers, one.experts) == (layers, experts)
             and top_k in (0, one.top_k)]  # fmt: skip
    return found[0] if len(found) == 1 else None


def hardware_of(text: str) -> Hardware | None:
    """Return the GPU that a name speaks of, as "NVIDIA H100 80GB HBM3"; None for others.

    >>> hardware_of("NVIDIA A100-SXM4-80GB").name
    'a100'
    """
    return next((one for name, one in HARDWARE.items() if name in text.lower()), None)


def shape(name: str) -> Shape:
    """Return a known model by name; raises UsageError with the names."""
    if name not in SHAPES:
        raise UsageError(f"no model is called {name!r}; there are {', '.join(SHAPES)}")
    return SHAPES[name]


def hardware(name: str) -> Hardware:
    """Return a known GPU by name; raises UsageError with the names."""
    if name not in HARDWARE:
        raise UsageError(f"no GPU is called {name!r}; there are {', '.join(HARDWARE)}")
    return HARDWARE[name]


def break_even_tokens(board: Hardware, weight_bytes: float = 1.0) -> float:
    """Return the tokens per expert from which it is compute-bound: b F / (2 BW).

    >>> round(break_even_tokens(HARDWARE["h200"])), round(break_even_tokens(HARDWARE["h100"]))
    (206, 295)
    """
    return weight_bytes * board.flops_per_s(weight_bytes) / (2.0 * board.memory_bytes_per_s)


@dataclass(frozen=True)
class Clock:
    """How long experts take: a model on a GPU, bytes of a weight, a share of the peak, passes per step."""

    model: Shape
    board: Hardware
    weight_bytes: float = 1.0
    sustained_ratio: float = 1.0
    passes: float = 1.0  # 3 in training

    def __post_init__(self) -> None:
        if not (self.weight_bytes > 0 and 0 < self.sustained_ratio <= 1 and self.passes > 0):
            raise UsageError(f"weights of {self.weight_bytes} bytes, {self.sustained_ratio} of the peak and "
                             f"{self.passes} passes cannot be")  # fmt: skip

    @property
    def token_s(self) -> float:
        """Return the seconds of one token in one compute-bound expert."""
        speed = self.board.flops_per_s(self.weight_bytes) * self.sustained_ratio
        return self.passes * self.model.token_flops / speed

    @property
    def stream_s(self) -> float:
        """Return the seconds in which the weights of one expert are read: 9.2 us for DeepSeek-V3 on H200."""
        return self.model.expert_bytes(self.weight_bytes) / (self.board.memory_bytes_per_s * self.sustained_ratio)

    def expert_s(self, tokens: NDArray[Any]) -> Floats:
        """Return seconds [..] per expert of its tokens: the longer of multiplying and reading; 0 without tokens."""
        n = np.asarray(tokens, np.float64)
        return np.asarray(np.where(n > 0, np.maximum(n * self.token_s, self.stream_s), 0.0))

    def gpu_s(self, counts: NDArray[Any], placement: Placement) -> Floats:
        """Return seconds [.., L, G] of each GPU's experts in a step of loads [.., L, E], equal split over replicas."""
        spent = self.expert_s(placement.slot_loads(counts))
        return np.asarray(spent.reshape(*spent.shape[:-1], placement.gpus, -1).sum(-1))

    def is_memory_bound(self, counts: NDArray[Any]) -> bool:
        """Return whether most experts with tokens get fewer than the break-even: then tokens are not the time."""
        x = np.asarray(counts, np.float64)
        some = x[x > 0]
        return bool(len(some)) and float(np.median(some)) < break_even_tokens(self.board, self.weight_bytes)


def imbalance_s(gpu_s: NDArray[Any]) -> float:
    """Return what perfect balance would save of a step: sum over layers of max - mean, mean over steps [.., L, G].

    >>> imbalance_s(np.array([[1.0, 3.0], [2.0, 2.0]]))
    1.0
    """
    x = np.asarray(gpu_s, np.float64)
    return float((x.max(-1) - x.mean(-1)).sum(-1).mean())


def gain_s(now_s: NDArray[Any], plan_s: NDArray[Any]) -> float:
    """Return what a plan saves of a step: sum over layers of max now - max planned, mean over steps [.., L, G]."""
    before, after = (np.asarray(one, np.float64).max(-1).sum(-1).mean() for one in (now_s, plan_s))
    return float(before - after)


def speed_up(expert_share: float, now: float, plan: float) -> float:
    """Return how much faster the step is (Amdahl): experts take `expert_share` of it, balance goes from now to plan.

    >>> round(speed_up(0.4, 0.5, 1.0), 3)
    1.25
    """
    if not (0 <= expert_share <= 1 and now > 0 and plan > 0):
        raise UsageError(f"a share of {expert_share} and balances of {now} and {plan} cannot be")
    return 1.0 / (1.0 - expert_share + expert_share * now / plan)


def pay_back_steps(migration_s: float, gained_s: float) -> float:
    """Return after how many steps a migration has paid for itself; infinite where nothing is gained."""
    return migration_s / gained_s if gained_s > 0 else float("inf")
