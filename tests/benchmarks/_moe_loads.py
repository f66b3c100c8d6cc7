"""Expert loads made up for benchmarks: skew that grows with depth, router groups, drifting domains, clumped tokens.

Calibrated to the figures that are published of a like generator: balance of the start-up layout and of EPLB, same and
next window, within a few hundredths for every profile. All random numbers come from one seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

DOMAINS = 6
PICKS_CAP_ROUNDS = 6


@dataclass(frozen=True)
class Model:
    """MoE layers, experts, experts per token and router groups."""

    layers: int
    experts: int
    picks: int
    groups: int = 1


@dataclass(frozen=True)
class Profile:
    """How skewed and how steady: standard deviations of log popularity, in the first and last layer, and the rest.

    `group` and `domain` are spreads between groups and domains, `special` the share of experts that a domain prefers,
    `drift` the step of the mixture of domains, `clump` how many tokens go together (variance over that of chance).
    """

    first: float
    last: float
    group: float
    domain: float
    special: float
    drift: float
    clump: float
    zipf: bool = False
    bursts: bool = False
    shift: bool = False


MODELS = {
    "DeepSeek-V3": Model(58, 256, 8, 8),
    "Qwen3-235B": Model(94, 128, 8),
    "Kimi-K2": Model(60, 384, 8),
    "Mixtral": Model(32, 8, 2),
}
R1_LIKE = Profile(0.25, 1.3, 0.42, 0.75, 0.03, 0.2, 8)
PROFILES = {
    "r1-like": R1_LIKE,
    "burst": replace(R1_LIKE, bursts=True),
    "shift": replace(R1_LIKE, shift=True),
    "mild": Profile(0.15, 0.85, 0.26, 0.45, 0.01, 0.1, 5),
    "heavy": Profile(0.5, 1.5, 0.4, 1.5, 0.08, 0.4, 10),
    "zipf": Profile(0.5, 1.1, 0.0, 0.3, 0.0, 0.12, 5, zipf=True),
    "aux-loss": Profile(0.08, 0.16, 0.0, 0.08, 0.0, 0.12, 4),
}


def made(model: str, profile: str, steps: int = 64, tokens: int = 4096, seed: int = 0) -> np.ndarray:
    """Return counts [steps, layers, experts] that sum to tokens x picks in every layer of every step."""
    size, shape = MODELS[model], PROFILES[profile]
    rng = np.random.default_rng([seed, sum(map(ord, model))])
    popular = softmax(base(size, shape, rng)[None] + domains(size, shape, rng))
    share = np.einsum("td,dle->tle", softmax(mixture(shape, steps, rng)), popular)
    total = tokens * size.picks
    share = rng.gamma(total * share / (shape.clump - 1)) + 1e-9
    return rng.multinomial(total, capped(share, size.picks)).astype(np.int64)


def base(size: Model, shape: Profile, rng: np.random.Generator) -> np.ndarray:
    """Return log popularity [layers, experts] that all domains share."""
    depth = np.linspace(0, 1, size.layers)[:, None]
    spread = (shape.first + (shape.last - shape.first) * depth) * rng.uniform(0.85, 1.15, (size.layers, 1))
    if shape.zipf:
        rank = np.argsort(rng.random((size.layers, size.experts)), axis=1) + 1.0
        return -spread * np.log(rank)
    groups = shape.group * depth * rng.standard_normal((size.layers, size.groups))
    return spread * rng.standard_normal((size.layers, size.experts)) + np.repeat(groups, size.experts // size.groups, 1)


def domains(size: Model, shape: Profile, rng: np.random.Generator) -> np.ndarray:
    """Return what each domain adds to log popularity [domains, layers, experts]."""
    depth = np.linspace(0, 1, size.layers)[:, None]
    spread = shape.domain * (shape.first + (shape.last - shape.first) * depth)
    whole = (DOMAINS, size.layers, size.experts)
    return spread * rng.standard_normal(whole) + 2.0 * (rng.random(whole) < shape.special)


def mixture(shape: Profile, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return logits of domains [steps, domains]: a slow return to a mean, with bursts or a shift of traffic."""
    mean = 0.6 * rng.standard_normal(DOMAINS)
    found, now = np.empty((steps, DOMAINS)), mean.copy()
    for step in range(steps):
        now = mean + 0.97 * (now - mean) + shape.drift * rng.standard_normal(DOMAINS)
        found[step] = now
    step = int(rng.integers(2, 6)) if shape.bursts else steps
    while step < steps:
        length = int(rng.integers(1, 6))
        found[step : step + length, rng.integers(DOMAINS)] += rng.uniform(1, 2.2)
        step += length + int(rng.integers(2, 6))
    if shape.shift:
        found[steps // 2 :, int(np.argmin(mean))] += 3.0
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return shares along the last axis."""
    power = np.exp(logits - logits.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def capped(share: np.ndarray, picks: int) -> np.ndarray:
    """Return shares none of which is more than every token's pick."""
    for _ in range(PICKS_CAP_ROUNDS):
        share = np.minimum(share / share.sum(-1, keepdims=True), 1 / picks)
    return share / share.sum(-1, keepdims=True)


def unlike(seed: int, workloads: int = 4, layers: int = 24, experts: int = 60, picks: int = 4,
           halves: int = 2) -> np.ndarray:  # fmt: skip
    """Return counts [halves, workloads, layers, experts] of unlike workloads of a model like Qwen1.5-MoE."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.6, 1.4, layers)[:, None]
    logits = spread * rng.standard_normal((layers, experts)) + 0.9 * rng.standard_normal((workloads, layers, experts))
    share, total = capped(softmax(logits), picks), 200_000
    return np.stack(
        [rng.multinomial(total, capped(rng.gamma(total * share / 29) + 1e-9, picks)) for _ in range(halves)]
    )
