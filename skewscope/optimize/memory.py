"""What a rank of a transformer's training holds, by pipeline stage: states, activations, and what frees them.

Mixed precision Adam keeps 2 bytes of weights, 2 of gradients and 12 of optimizer states per parameter. ZeRO
(Rajbhandari and others, SC 2020) divides the last by the data-parallel ranks (stage 1), then the gradients (2), then
the weights (3). Activations of a layer and a microbatch are s b h (34 + 5 a s / h) bytes (Korthikanti and others, MLSys
2023): 34 s b h without the attention's inner part (recomputed, or never stored by flash attention), 2 s b h where all
is recomputed. Estimates leave out fragmentation, and what libraries hold: `other_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

RECOMPUTE = ("none", "selective", "full")
OFFLOADABLE = 0.5  # of activations; PipeOffload (2025) finds at least half in most settings
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "gathered", "other")


@dataclass(frozen=True)
class Model:
    """A transformer. `key_value_hidden` is the size of all KV heads; `gated` MLPs have three matrices."""

    layers: int
    hidden: int
    heads: int
    sequence: int
    vocabulary: int
    ffn: int
    key_value_hidden: int
    gated: bool = False

    @property
    def layer_parameters(self) -> int:
        """Return the parameters of one layer, biases and norms left out.

        >>> Model(1, 4, 1, 8, 10, 16, 4).layer_parameters  # 12 h^2
        192
        """
        attention = 2 * self.hidden**2 + 2 * self.hidden * self.key_value_hidden
        return attention + (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def embedding_parameters(self) -> int:
        """Return the parameters of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    @property
    def attention_share(self) -> float:
        """Return the attention's inner products as a share of a step: what selective recompute adds.

        >>> round(Model(1, 12288, 96, 2048, 51200, 49152, 12288).attention_share, 4)
        0.009
        """
        inner = 4.0 * self.sequence * self.hidden
        return inner / (3 * (2 * self.layer_parameters + inner))


@dataclass(frozen=True)
class Setup:
    """How it is trained. `split` [stages] layers, `held` [stages] microbatches held at once (by the schedule).

    `zero` 0 to 3; `recompute` one of `RECOMPUTE`; `offload_optimizer` whether its states live on the host;
    `offload_activations` the share of activations that does.
    """

    split: Array
    held: Array
    data: int
    tensor: int = 1
    microbatch: int = 1
    microbatches: int = 1
    sequence_parallel: bool = False
    zero: int = 0
    recompute: str = "none"
    offload_optimizer: bool = False
    offload_activations: float = 0.0
    weight_bytes: int = 2
    gradient_bytes: int = 2
    optimizer_bytes: int = 12
    other_bytes: float = 0.0


def parameters(model: Model, it: Setup) -> Array:
    """Return the parameters of a rank of each stage before ZeRO divides them, [stages]."""
    found = it.split * float(model.layer_parameters)
    found[0] += model.embedding_parameters
    found[-1] += model.embedding_parameters
    return np.asarray(found / it.tensor)


def layer_activation_bytes(model: Model, it: Setup, recompute: str | None = None) -> float:
    """Return what one layer keeps of one microbatch, in bytes.

    >>> gpt3 = Model(96, 12288, 96, 2048, 51200, 49152, 12288)
    >>> layer_activation_bytes(gpt3, Setup(np.array([96]), np.array([1]), 1)) / (2048 * 12288)
    114.0
    """
    base = float(model.sequence * it.microbatch * model.hidden)
    kind = it.recompute if recompute is None else recompute
    whole = it.tensor if it.sequence_parallel else 1
    if kind == "full":
        return 2 * base / whole
    inner = 5.0 * model.heads * model.sequence / model.hidden if kind == "none" else 0.0
    return base * (10 / whole + 24 / it.tensor + inner / it.tensor)


def stages(model: Model, it: Setup) -> dict[str, Array]:
    """Return the bytes of a rank of each stage by part, each [stages].

    >>> model = Model(1, 4, 1, 8, 0, 16, 4)
    >>> {name: part.tolist() for name, part in stages(model, Setup(np.array([1]), np.array([1]), 4, zero=1)).items()
    ...  if part.any()}
    {'weights': [384.0], 'gradients': [384.0], 'optimizer': [576.0], 'activations': [1408.0]}
    """
    count = parameters(model, it)
    shared = [it.data if it.zero >= stage else 1 for stage in (3, 2, 1)]
    held = it.held * it.split * layer_activation_bytes(model, it) * (1 - it.offload_activations)
    if it.recompute == "full":  # one layer at a time is whole again
        held = held + layer_activation_bytes(model, it, "selective")
    logits = np.zeros(len(count))
    logits[-1] = 4.0 * model.sequence * it.microbatch * model.vocabulary / it.tensor
    largest = max(model.layer_parameters, model.embedding_parameters) / it.tensor
    return {
        "weights": count * it.weight_bytes / shared[0],
        "gradients": count * it.gradient_bytes / shared[1],
        "optimizer": np.zeros(len(count)) if it.offload_optimizer else count * it.optimizer_bytes / shared[2],
        "activations": np.asarray(held), "logits": logits,
        "gathered": np.full(len(count), largest * it.weight_bytes * (it.zero == 3 and it.data > 1)),
        "other": np.full(len(count), float(it.other_bytes)),
    }  # fmt: skip


def total(model: Model, it: Setup) -> Array:
    """Return the bytes of a rank of each stage, [stages]."""
    return np.asarray(sum(stages(model, it).values()))


@dataclass(frozen=True)
class Speeds:
    """What tells the cost: `compute_s` of a step, bytes/s between data-parallel ranks and to the host."""

    compute_s: float
    link_bytes_per_s: float
    host_bytes_per_s: float


def extra_s(model: Model, it: Setup, speeds: Speeds) -> float:
    """Return what the memory saved costs per step in seconds, nothing hidden: an upper bound, on the heaviest stage.

    Full recomputation repeats the forward pass, a third of the step; ZeRO 3 gathers the weights for every forward and
    every backward pass instead of once per step; ZeRO 1 and 2 move as many bytes as an all-reduce. An offloaded
    optimizer sends gradients down and weights up.
    """
    count = float(parameters(model, it).max())
    recompute = {"none": 0.0, "selective": model.attention_share, "full": 1 / 3}[it.recompute] * speeds.compute_s
    gathers = (2 * it.microbatches - 1) * (it.zero == 3) * (it.data - 1) / it.data
    sharded = it.data if it.zero else 1
    down = count * (it.weight_bytes + it.gradient_bytes) * it.offload_optimizer / sharded
    layers = float(it.split.max())
    out = 2 * it.microbatches * layers * layer_activation_bytes(model, it) * it.offload_activations
    return (
        recompute + gathers * count * it.weight_bytes / speeds.link_bytes_per_s + (down + out) / speeds.host_bytes_per_s
    )


def options(it: Setup) -> Iterator[Setup]:
    """Yield every way to save memory, today's first, from nothing to all at once."""
    yield it
    zeros = range(4) if it.data > 1 else (0,)
    for zero, recompute, optimizer, activations in product(zeros, RECOMPUTE, (False, True), (0.0, OFFLOADABLE)):
        made = replace(it, zero=zero, recompute=recompute, offload_optimizer=optimizer, offload_activations=activations)
        if _ways(made) != _ways(it):
            yield made


def _ways(it: Setup) -> tuple[int, str, bool, float]:
    return it.zero, it.recompute, it.offload_optimizer, it.offload_activations


def single(it: Setup) -> Iterator[Setup]:
    """Yield what differs from today in one thing only."""
    for one in options(it):
        if sum(a != b for a, b in zip(_ways(one), _ways(it), strict=True)) == 1:
            yield one


def cheapest(model: Model, it: Setup, speeds: Speeds, capacity_bytes: float) -> Setup | None:
    """Return the setup that fits and costs least, today's where equal; None where none fits. All are tried."""
    fitting = [one for one in options(it) if float(total(model, one).max()) <= capacity_bytes]
    return min(fitting, key=lambda one: extra_s(model, one, speeds), default=None)
