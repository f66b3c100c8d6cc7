"""Replicas of an inference engine: requests arrive with the day, queue, are read and answered token by token.

A replica is one tensor-parallel group. Per window it reads prompts and makes tokens at a speed that its slowest GPU
decides; what it cannot take waits. Latencies follow from queue and load as in a processor-sharing server. This is a
fluid model: it has no single requests, so its tails are those of the load, not of request lengths.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import noise
from .activity import Activity
from .fleet import Job
from .noise import Array
from .own_work import clock_ratio
from .series import Places, Series, Shown
from .world import WINDOW_S, World

PROMPT_TOKENS, ANSWER_TOKENS = 900.0, 260.0
TOKENS_PER_S = 2600.0  # of a replica at full batch
PROMPT_TOKENS_PER_S = 45_000.0
SLOTS = 160.0  # requests that run together
STEP_S = 0.022  # between two tokens at low load
ENGINE = "engine=vllm,model=chat-70b,replica="


class Serving:
    """One serving job over the windows of the run; arrays are [windows, replicas]."""

    def __init__(self, world: World, job: Job, at: int, windows: int, place: Places) -> None:
        self.world, self.job, self.windows = world, job, windows
        self.replicas = job.plan.ranks // job.plan.tp
        first = job.gpus.start + np.arange(self.replicas) * job.plan.tp
        self.node = first // world.fleet.gpus_per_node
        self.speed = self._speed()
        rng = noise.rng(world.seed, "requests", at)
        hours = (world.scenario.start_ns / 3.6e12 + np.arange(windows) * WINDOW_S / 3600.0) % 24.0
        idle = rng.random(self.replicas) < noise.IDLE_PODS_RATIO * (self.replicas > 8)
        share = np.where(idle, 0.03, np.exp(0.35 * rng.standard_normal(self.replicas)))
        rate = job.plan.requests_per_s * np.outer(noise.day_ratio(hours), share)
        self.arrived = rng.poisson(rate * WINDOW_S).astype(float)
        self._flow()

    def _speed(self) -> Array:
        ratio = clock_ratio(self.world)[: self.windows, self.job.gpus]
        gpu = self.world.gpu
        factor = ratio**noise.CLOCK_SHARE * gpu.knob("speed")[: self.windows, self.job.gpus]
        factor = factor * (1.0 - np.minimum(gpu.knob("foreign")[: self.windows, self.job.gpus], 0.95))
        factor = factor / (1.0 + self.world.rank.knob("host_share")[: self.windows, self.job.gpus])
        inside = gpu.knob("nvlink_rate")[: self.windows, self.job.gpus]
        lost = gpu.knob("reports")[: self.windows, self.job.gpus]
        factor = factor / (1.0 + 0.25 * (1.0 / np.maximum(inside, 1e-3) - 1.0)) * (lost > 0.5)
        return np.asarray(factor.reshape(self.windows, self.replicas, -1).min(axis=2))

    def _flow(self) -> None:
        shape = (self.windows, self.replicas)
        self.finished, self.waiting, self.running = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        cost = ANSWER_TOKENS / TOKENS_PER_S + PROMPT_TOKENS / PROMPT_TOKENS_PER_S
        left = np.zeros(self.replicas)
        for window in range(self.windows):
            most = self.speed[window] * WINDOW_S / cost
            there = left + self.arrived[window]
            done = np.minimum(there, np.floor(most))
            left = there - done
            load = np.minimum(there / np.maximum(most, 1e-9), 1.0)
            self.finished[window] = done
            self.running[window] = SLOTS * load**2
            self.waiting[window] = np.maximum(left - SLOTS * (left > SLOTS), 0.0)
        most = np.maximum(self.speed * WINDOW_S / cost, 1e-9)
        self.load = np.minimum((self.finished + self.waiting) / most, 1.0)
        self.between_s = STEP_S * (1.0 + 1.2 * self.load**3) / np.maximum(self.speed, 0.05)
        self.queue_s = self.waiting / np.maximum(self.finished / WINDOW_S, 1e-3)

    def add(self, activity: Activity) -> None:
        """Add what the replicas do to their GPUs, in place."""
        share = np.repeat(self.load, self.job.plan.tp, axis=1)
        gpus = self.job.gpus
        activity.held[:, gpus] += 1.0
        activity.compute[:, gpus] += 0.82 * share
        activity.transfer[:, gpus] += 0.14 * share
        made = np.repeat(self.finished, self.job.plan.tp, axis=1)
        activity.nvlink_bytes[:, gpus] += made * (PROMPT_TOKENS + ANSWER_TOKENS) * 2.6e6
        activity.h2d_bytes[:, gpus] += made * 4e5
        activity.d2h_bytes[:, gpus] += made * 1e6

    def series(self) -> Iterator[Series]:
        """Yield the engines' metrics; each replica is told by the node that it runs on."""
        tokens = {"prompt": PROMPT_TOKENS, "generation": ANSWER_TOKENS}
        used = np.clip(0.12 + 0.75 * self.load, 0.0, 0.99)
        thrown = np.floor(np.where(self.waiting > SLOTS, 0.03, 0.0) * self.finished)
        gauges = {"requests_running": self.running, "requests_waiting": self.waiting, "kv_cache_usage_ratio": used}
        counters = {"requests_finished_total": self.finished, "preemptions_total": thrown}
        counters |= {f"{kind}_tokens_total": np.round(self.finished * size) for kind, size in tokens.items()}
        first_s = self.queue_s + PROMPT_TOKENS / PROMPT_TOKENS_PER_S / np.maximum(self.speed, 0.05) + 0.04
        sums = {
            "time_to_first_token_seconds": (first_s, self.finished),
            "inter_token_latency_seconds": (self.between_s, self.finished * ANSWER_TOKENS),
            "request_seconds": (first_s + ANSWER_TOKENS * self.between_s, self.finished),
            "queue_seconds": (self.queue_s, self.finished),
        }
        for replica in range(self.replicas):
            name = f"{self.job.plan.name}-{replica}"
            for metric, values in gauges.items():
                yield self._made(metric, name, replica, values, counter=False)
            for metric, values in counters.items():
                yield self._made(metric, name, replica, values, counter=True)
            for metric, (mean, count) in sums.items():
                yield self._made(f"{metric}_sum", name, replica, mean * count, counter=True)
                yield self._made(f"{metric}_count", name, replica, count, counter=True)
            up = (self.speed > 0).astype(float)
            yield self._made("endpoint_up", name, replica, up, counter=False)

    def _made(self, metric: str, name: str, replica: int, values: Array, *, counter: bool) -> Series:
        at = np.array([self.node[replica]])
        column = values[:, [replica]]
        swing = 0.0 if counter or metric == "endpoint_up" else 0.05 * column
        labels = f"replica={name}" if metric == "endpoint_up" else f"{ENGINE}{name}"
        full = f"skewscope_serving_{metric}"
        return Series(full, labels, "node", counter, lambda: Shown(column, swing), at=at)
