"""What each rank does by itself in a step: compute, launching, input, copies, garbage collection, generation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from . import noise
from .fleet import Job
from .noise import Array
from .rl import generators, rollout_factors
from .routing import EXPERT_SHARE
from .world import World

BLOCK = 64  # steps whose random numbers are drawn together, so that a replay meets the same ones
HOST_SHARE, INPUT_SHARE, H2D_SHARE = 0.03, 0.004, 0.008  # of a usual step
THROTTLED_CLOCK = {"sw_thermal": 0.80, "hw_thermal": 0.50, "hw_power_brake": 0.50}  # PAGE: hardware cuts by 2 or more
LIMIT_EXPONENT = 0.45  # clock ~ power**0.45 near the limit: power goes with clock times voltage squared
PARTS = ("compute", "host", "input", "h2d", "d2h", "gc", "rollout")


def clock_ratio(world: World) -> Array:
    """Return the mean SM clock [windows, gpus] as a share of what a healthy busy GPU has."""
    gpu = world.gpu
    ratio = np.minimum(gpu.knob("clock_cap"), np.minimum(gpu.knob("limit"), 1.0) ** LIMIT_EXPONENT)
    for reason, clock in THROTTLED_CLOCK.items():
        share = np.clip(gpu.knob(reason), 0.0, 1.0)
        ratio = ratio * (1.0 - share) + np.minimum(ratio, clock) * share
    return np.asarray(ratio)


class OwnWork:
    """Seconds of own work of a job's ranks, step by step; the same seed gives the same jitter at the same step."""

    def __init__(self, world: World, at: int) -> None:
        job = world.fleet.jobs[at]
        plan = job.plan
        self._plan, self._seed, self._at = plan, world.seed, at
        shares = plan.tp_share * (plan.tp > 1) + plan.dp_share + plan.ep_share * (plan.ep > 1)
        shares += plan.pp_share * (plan.pp > 1) + HOST_SHARE + INPUT_SHARE + H2D_SHARE
        self.rollout_s = plan.step_s * plan.rollout_share if plan.kind == "rl" else 0.0
        # A pipeline's bubble is part of the usual step.
        bubble = 1.0 + (plan.pp - 1) / plan.microbatches
        self._generators = generators(plan)
        alone = bool(self._generators.any())  # who trains does not generate
        self.compute_s = (plan.step_s * (1.0 - shares) - self.rollout_s * (not alone)) / bubble
        drawn = noise.rng(world.seed, "silicon").standard_normal(world.fleet.gpus)
        self.silicon = np.exp(noise.SILICON_SPREAD_RATIO * drawn)[job.gpus]
        self._factor = device_factor(world, job) * self.silicon
        self._knobs = {name: world.rank.knob(name)[:, job.gpus] for name in (
            "host_share", "input_share", "h2d_factor", "d2h_share", "gc_rate", "gc_share", "rollout_spread",
            "rollout_factor")}  # fmt: skip
        self._pcie = world.gpu.knob("pcie_rate")[:, job.gpus]
        self._block = lru_cache(maxsize=2)(self._draw)

    def parts(self, window: int, first: int, count: int) -> dict[str, Array]:
        """Return seconds [count, ranks] of each part of own work for steps that begin in a window."""
        jitter, quick, pause = self._rows(first, count)
        step_s, knobs = self._plan.step_s, {name: knob[window] for name, knob in self._knobs.items()}
        steps = np.arange(first, first + count)[:, None]
        size = _ramp(steps, self._plan.ramp_steps) * _warm_up(steps, self._plan.warmup_steps)
        host = step_s * (HOST_SHARE + knobs["host_share"]) * quick
        found = {
            "compute": self.compute_s * self._factor[window] * jitter * size,
            "host": host,
            "input": step_s * (INPUT_SHARE + knobs["input_share"]) * quick,
            "h2d": step_s * H2D_SHARE * knobs["h2d_factor"] / self._pcie[window] * quick,
            "d2h": step_s * knobs["d2h_share"] * quick,
            "gc": step_s * knobs["gc_share"] * (pause < knobs["gc_rate"]) * quick,
        }
        if self.rollout_s:
            spread = float(knobs["rollout_spread"].max())
            factor = rollout_factors(self._seed, self._at, first, count, self._plan, spread) * knobs["rollout_factor"]
            found["rollout"] = self.rollout_s * factor * self._factor[window]
            if self._generators.any():
                found["rollout"] = np.where(self._generators, found["rollout"], 0.0)
                found["compute"] = np.where(self._generators, 0.0, found["compute"])
        return found

    def _rows(self, first: int, count: int) -> tuple[Array, Array, Array]:
        block = first // BLOCK
        within = slice(first % BLOCK, first % BLOCK + count)
        jitter, quick, pause = self._block(block)
        return jitter[within], quick[within], pause[within]

    def _draw(self, block: int) -> tuple[Array, Array, Array]:
        """Return factors of compute and of host work, and numbers 0-1 that decide on pauses, each [BLOCK, ranks]."""
        rng = noise.rng(self._seed, "steps", self._at, block)
        shape = (BLOCK, self._plan.ranks)
        jitter = np.exp(self._plan.jitter_ratio * rng.standard_normal(shape, dtype=np.float32)).astype(np.float64)
        jitter *= np.exp(noise.STEP_DRIFT_RATIO * rng.standard_normal((BLOCK, 1)))
        spiked = np.flatnonzero(rng.random(BLOCK) < noise.SPIKE_STEPS_RATIO)
        jitter[spiked, rng.integers(0, shape[1], len(spiked))] *= 1.0 + rng.exponential(
            noise.SPIKE_MEAN_RATIO, len(spiked)
        )
        quick = np.exp(0.05 * rng.standard_normal(shape, dtype=np.float32)).astype(np.float64)
        return jitter, quick, rng.random(shape)


def device_factor(world: World, job: Job) -> Array:
    """Return by how much device time is longer than usual [windows, ranks]."""
    ratio = clock_ratio(world)[:, job.gpus]
    knob = {name: world.gpu.knob(name)[:, job.gpus] for name in ("speed", "foreign")}
    clock = noise.CLOCK_SHARE / ratio + 1.0 - noise.CLOCK_SHARE
    gap = 1.0 + world.rank.knob("launch_gap")[:, job.gpus]
    experts = 1.0 + EXPERT_SHARE * (world.rank.knob("expert_load")[:, job.gpus] - 1.0)
    return np.asarray(clock / knob["speed"] / (1.0 - np.minimum(knob["foreign"], 0.95)) * gap * experts)


def _warm_up(steps: Array, count: int) -> Array:
    if not count:
        return np.ones_like(steps, dtype=np.float64)
    return np.asarray(1.0 + (noise.FIRST_STEP_RATIO - 1.0) * np.exp(-3.0 * steps / count))


def _ramp(steps: Array, count: int) -> Array:
    return np.asarray(np.minimum(1.0, 0.6 + 0.4 * steps / count)) if count else np.ones(1)
