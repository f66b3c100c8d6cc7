"""Which experts the tokens of a job go to: popularity in each window, the loads that follow, and who computes them.

Popularity is that of a router with a good balancing loss: experts of a layer differ by some percent, all layers alike
in spread. Faults make some experts hotter or starve others; the ranks that hold them compute more or less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..frames import frame
from . import noise
from .noise import Array
from .scenario import JobPlan

if TYPE_CHECKING:
    import pandas as pd

    from .training import Run
    from .world import World

LAYERS, EXPERTS_PER_RANK, TOP_K = 4, 4, 2  # of the model that is simulated; only its MoE layers
EXPERT_SHARE = 0.35  # OWN: of compute time; DeepSeek-V3's training reports about a third in experts
SPREAD_RATIO = 0.08  # OWN: of the logarithm of popularity; the hottest of 64 is then 1.2 times the mean
CLUMPED_TOKENS = 4.0  # design effect: measured 4 on calibrated loads, 9 to 42 on recorded ones of small models
EVERY_STEPS = 10  # between two steps whose loads are kept
CAPACITY_RATIO = 2.0  # times the mean load; what is beyond is dropped, where the job drops at all


class Router:
    """The experts of one job. `logits` [windows, layers, experts] may be edited; `drops` says whether tokens drop.

    `moves` are the times at which the job moves experts, and for how long it stands still: (s of the run, s).
    """

    def __init__(self, plan: JobPlan, windows: int, seed: int, at: int) -> None:
        self.plan, self.experts, self.drops = plan, plan.ep * EXPERTS_PER_RANK, False
        self.moves: list[tuple[float, float]] = []
        drawn = noise.rng(seed, "experts", at).standard_normal((LAYERS, self.experts))
        self.logits = np.repeat(SPREAD_RATIO * drawn[None], windows, axis=0)

    def of_rank(self, ep: int) -> Array:
        """Return the experts that an expert-parallel rank holds."""
        return np.arange(ep * EXPERTS_PER_RANK, (ep + 1) * EXPERTS_PER_RANK)

    def heat(self, experts: Array, factor: Array) -> None:
        """Make some experts of all layers `factor` [windows] times as popular as they were."""
        self.logits[:, :, experts] += np.log(np.maximum(factor, 1e-9))[:, None, None]

    @property
    def shares(self) -> Array:
        """Share of a layer's picks that each expert gets [windows, layers, experts]."""
        grown = np.exp(self.logits)
        return np.asarray(grown / grown.sum(axis=-1, keepdims=True))

    @property
    def hottest(self) -> Array:
        """Load of the busiest expert over the mean of its layer, in the worst layer [windows]."""
        return np.asarray(self.shares.max(axis=(1, 2)) * self.experts)

    @property
    def dropped(self) -> Array:
        """Share of picks beyond the capacity of their expert [windows]."""
        if not self.drops:
            return np.zeros(len(self.logits))
        beyond = np.maximum(self.shares - CAPACITY_RATIO / self.experts, 0.0)
        return np.asarray(beyond.sum(axis=-1).mean(axis=-1))

    def ranks(self) -> Array:
        """Return the load of each expert-parallel rank over the mean [windows, ep], all layers together."""
        whole = self.shares.mean(axis=1).reshape(len(self.logits), self.plan.ep, EXPERTS_PER_RANK)
        return np.asarray(whole.sum(axis=-1) * self.plan.ep)


def coordinate(plan: JobPlan) -> Array:
    """Return the expert-parallel coordinate of each rank of a job [ranks], as the table `ranks` tells it.

    >>> coordinate(JobPlan(ranks=8, tp=2, ep=2)).tolist()
    [0, 0, 1, 1, 0, 0, 1, 1]
    """
    place = np.arange(plan.ranks)
    return np.asarray(place // (plan.tp * plan.cp) % plan.dp % plan.ep)


def of_job(world: World, job: int, condition: str) -> Router:
    """Return the router of a job; raises UsageError where it has no expert parallelism."""
    if job not in world.routers:
        raise UsageError(f"{condition} strikes a job with expert parallelism: set ep of the job to 2 or more")
    return world.routers[job]


def needed(count: int, experts: int, load: Array) -> Array:
    """Return how much more popular `count` experts of a rank must be for it to have `load` times the mean [windows].

    Of a rank's four experts so many grow by the factor f: (4 - c + c f) / 4 = load (E - c + c f) / E.

    >>> float(needed(4, 16, np.array([1.5]))[0].round(2))
    1.8
    """
    held, few = EXPERTS_PER_RANK, min(count, EXPERTS_PER_RANK)
    most = np.minimum(load, 0.95 * experts / held)  # all tokens on one rank
    return np.asarray((most * held * (experts - few) - experts * (held - few)) / (few * (experts - most * held)))


def put(world: World, job: int, before: Array) -> None:
    """Let the ranks of a job compute what its router sends them, against the loads `before` [windows, ep]."""
    router = world.routers[job]
    of = coordinate(router.plan)
    gpus = world.fleet.jobs[job].gpus
    world.rank.edit("expert_load")[:, gpus] *= (router.ranks() / before)[:, of]


def expert_loads(world: World, at: int, run: Run) -> pd.DataFrame:
    """Return the table `expert_loads` of a run: every tenth step, summed over ranks."""
    router, plan = world.routers[at], world.fleet.jobs[at].plan
    steps = np.arange(0, run.steps, EVERY_STEPS)
    ends = run.start_s[steps] + run.seconds[steps]
    shares = router.shares[[world.window(float(end)) for end in ends]]
    picks = plan.tokens * plan.dp * TOP_K
    rng = noise.rng(world.seed, "tokens", at)
    # Tokens of a request are alike: shares of one step scatter more than independent picks would.
    gamma = rng.gamma(np.maximum(shares * picks / (CLUMPED_TOKENS - 1.0), 1e-12))
    drawn = gamma / gamma.sum(axis=-1, keepdims=True)
    counts = np.array([rng.multinomial(picks, layer) for step in drawn for layer in step])
    step, layer, expert = np.meshgrid(steps, np.arange(LAYERS), np.arange(router.experts), indexing="ij")
    return frame("expert_loads", {
        "job": plan.name, "step": step.ravel(), "layer": layer.ravel(), "expert": expert.ravel(), "rank": -1,
        "routed_tokens": counts.ravel(), "dropped_tokens": _dropped(counts, router).ravel(), "phase": "train",
        "top_k": TOP_K, "source": "simulation",
    })  # fmt: skip


def _dropped(counts: Array, router: Router) -> Array:
    if not router.drops:
        return np.full(counts.shape, -1)
    most = np.ceil(CAPACITY_RATIO * counts.sum(axis=-1, keepdims=True) / router.experts)
    return np.asarray(np.maximum(counts - most, 0).astype(np.int64))


def balance_reports(world: World, at: int, run: Run) -> pd.DataFrame:
    """Return what the job reports of its balance just before and after each time that it moved experts."""
    router, plan = world.routers[at], world.fleet.jobs[at].plan
    moves = [(when, length) for when, length in router.moves if when < run.end_s]
    balance = 1.0 / np.maximum(router.ranks().max(axis=-1), 1e-9)
    rows = [(when - 1.0, balance[world.window(when - 1.0)]) for when, _ in moves]
    rows += [(when + length + 1.0, balance[world.window(when + length + 1.0)]) for when, length in moves]
    rows.sort()
    start_ns = world.scenario.start_ns
    times = np.array([start_ns + int(when * 1e9) for when, _ in rows], dtype=np.int64)
    ends_ns = start_ns + ((run.start_s + run.seconds) * 1e9).astype(np.int64)
    return frame("balance_reports", {
        "job": plan.name, "step": np.searchsorted(ends_ns, times), "layer": -1, "phase": "train",
        "definition": "skewscope", "balance_ratio": np.array([ratio for _, ratio in rows]), "t_ns": times,
        "source": "simulation",
    })  # fmt: skip
