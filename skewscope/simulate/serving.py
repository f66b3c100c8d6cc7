"""Replicas of an inference engine: requests arrive with the day, queue, are read and answered token by token.

A replica is one tensor-parallel group. Per window it reads prompts and makes tokens at a speed that its slowest GPU
decides; what it cannot take waits, and who finds a long queue goes away. Latencies follow from queue and load as in a
processor-sharing server. This is a fluid model: it has no single requests, so its tails are those of the load; only
the time between tokens has a distribution. What else holds requests up takes a share of their time from the gateway to
the last token (knobs `..._share` of the area `rank`): `total_s` is that time, and the price of a fault its growth.
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
LOAD_SPREAD, EVENED = 0.35, 2.0  # OWN: of the logarithm of the replicas' requests, and how many spreads occur
SLOTS = 160.0  # requests that run together
QUEUE_MOST = 320.0  # requests: who finds more waiting goes away
STEP_S = 0.022  # between two tokens at low load
REQUEST_S = ANSWER_TOKENS / TOKENS_PER_S + PROMPT_TOKENS / PROMPT_TOKENS_PER_S  # of a replica's time
LONG_PROMPTS = 8.0  # OWN: times the usual prompt, where these take all the time
PRESSED_USAGE = 0.93  # of the KV cache, where requests are put back for lack of it
KV_TOKEN_BYTES = 320e3  # of a model of 70 billion parameters with grouped heads
BOUNDS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)  # vLLM's, of the time of a token
TOKEN_SPREAD_RATIO, STALLED_SHARE = 0.25, 0.03  # OWN: spread of usual tokens; tokens that wait for a long prompt
OUTSIDE = ("ingress_share", "backlog_share", "jitter_share")  # between the gateway and the engine: no engine sees it
SHARES = ("gate_share", "kv_share", "switch_share", "drain_share", "stall_share", "transfer_share", "attention_share",
          *OUTSIDE)  # fmt: skip
MOST_SHARE = 0.97


class Serving:
    """One serving job over the windows of the run; arrays are [windows, replicas]."""

    def __init__(self, world: World, job: Job, at: int, windows: int, place: Places) -> None:
        self.world, self.job, self.windows = world, job, windows
        self.replicas = job.plan.ranks // job.plan.tp
        self.first = job.gpus.start + np.arange(self.replicas) * job.plan.tp
        self.node = self.first // world.fleet.gpus_per_node
        self.speed = self._speed()
        self.share = {name: np.minimum(self._knob(name), MOST_SHARE) for name in SHARES}
        rng = noise.rng(world.seed, "requests", at)
        hours = (world.scenario.start_ns / 3.6e12 + np.arange(windows) * WINDOW_S / 3600.0) % 24.0
        idle = rng.random(self.replicas) < noise.IDLE_PODS_RATIO * (self.replicas > 8)
        # Routing evens load somewhat: no replica gets more than twice the usual.
        uneven = np.clip(rng.standard_normal(self.replicas), -EVENED, EVENED)
        share = np.where(idle, 0.03, np.exp(LOAD_SPREAD * uneven))
        rate = job.plan.requests_per_s * np.outer(noise.day_ratio(hours), share)
        more = noise.rng(world.seed, "burst", at).poisson(self._knob("burst") / REQUEST_S * WINDOW_S)
        # People wait for their answers before they ask again, so what the gateway holds back is not asked meanwhile.
        self.arrived = np.floor((rng.poisson(rate * WINDOW_S) + more) * (1.0 - self.share["gate_share"]))
        drawn = noise.rng(world.seed, "prompts", at).standard_normal((windows, self.replicas))
        self._long = np.exp(0.5 * drawn - 0.125)  # how many of the prompts are long, over the mean
        self._flow()
        self._latencies()

    def _knob(self, name: str) -> Array:
        return self.world.rank.knob(name)[: self.windows, self.first]

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
        left = np.zeros(self.replicas)
        for window in range(self.windows):
            most = self.speed[window] * WINDOW_S / REQUEST_S
            there = left + self.arrived[window]
            done = np.minimum(there, np.floor(most))
            left = np.minimum(there - done, QUEUE_MOST)
            load = np.minimum(there / np.maximum(most, 1e-9), 1.0)
            self.finished[window], self.waiting[window] = done, left
            self.running[window] = SLOTS * load**2
        most = np.maximum(self.speed * WINDOW_S / REQUEST_S, 1e-9)
        self.load = np.minimum((self.finished + self.waiting) / most, 1.0)

    def _latencies(self) -> None:
        """Work out what requests wait for: all that holds them up takes its share of their whole time."""
        slow = np.maximum(self.speed, 0.05)
        rate = np.maximum(self.finished / WINDOW_S, 1e-3)
        shares = dict(self.share)
        shares["stall_share"] = shares["stall_share"] / (1.0 - shares["stall_share"]) * self._long
        shares["stall_share"] = shares["stall_share"] / (1.0 + shares["stall_share"])
        self.prompt_tokens = PROMPT_TOKENS * (1.0 + LONG_PROMPTS * shares["stall_share"])
        self.queue_s = self.waiting / rate
        self.between_s = STEP_S * (1.0 + 1.2 * self.load**3) / slow
        self.transfer_s = np.full(rate.shape, self.job.plan.transfer_s)
        prefill_s = self.prompt_tokens / PROMPT_TOKENS_PER_S / slow + 0.04
        own_s = self.queue_s + prefill_s + self.transfer_s + ANSWER_TOKENS * self.between_s
        self.total_s = own_s / (1.0 - np.minimum(sum(shares.values()), MOST_SHARE))
        held_s = {name: share * self.total_s for name, share in shares.items()}
        self.gate_s = held_s["gate_share"]
        self.outside_s = {name: held_s[name] for name in OUTSIDE}
        self.transfer_s = self.transfer_s + held_s["transfer_share"]
        self.stalled_s = held_s["stall_share"] / ANSWER_TOKENS
        queued_s = 0.5 * held_s["kv_share"] + held_s["drain_share"]
        self.queue_s = self.queue_s + queued_s
        self.waiting = self.waiting + queued_s * rate
        self.between_s = self.between_s + (0.5 * held_s["kv_share"] + held_s["switch_share"]) / ANSWER_TOKENS
        self.between_s = self.between_s + held_s["attention_share"] / ANSWER_TOKENS
        self.first_s = self.queue_s + prefill_s + self.transfer_s
        self.running = self.running * (1.0 - self.share["drain_share"])

    def add(self, activity: Activity) -> None:
        """Add what the replicas do to their GPUs, in place."""
        share = np.repeat(self.load * (1.0 - self.share["drain_share"]), self.job.plan.tp, axis=1)
        gpus = self.job.gpus
        activity.held[:, gpus] += 1.0
        activity.compute[:, gpus] += 0.82 * share
        activity.transfer[:, gpus] += 0.14 * share
        made = np.repeat(self.finished, self.job.plan.tp, axis=1)
        activity.nvlink_bytes[:, gpus] += made * (PROMPT_TOKENS + ANSWER_TOKENS) * 2.6e6
        activity.h2d_bytes[:, gpus] += made * 4e5
        activity.d2h_bytes[:, gpus] += made * 1e6

    def series(self) -> Iterator[Series]:
        """Yield the engines' metrics, each replica's by the node that it runs on, and those of the gateway."""
        gauges = {
            "requests_running": self.running, "requests_waiting": self.waiting, "kv_cache_usage_ratio": self._used(),
            "endpoint_up": (self.speed > 0).astype(float),
        }  # fmt: skip
        counters = self._counters()
        for replica in range(self.replicas):
            name = f"{self.job.plan.name}-{replica}"
            for metric, values in gauges.items():
                yield self._made(metric, name, replica, values, counter=False)
            for metric, values in counters.items():
                yield self._made(metric, name, replica, values, counter=True)
            yield from self._buckets(name, replica)
        yield from self._gateway()

    def _counters(self) -> dict[str, Array]:
        kv, switch = self.share["kv_share"], self.share["switch_share"]
        thrown = np.floor((0.5 * kv + (0.22 + 0.6 * switch) * (switch > 0)) * self.finished)
        found = {"requests_finished_total": self.finished, "preemptions_total": thrown}
        found["prompt_tokens_total"] = np.round(self.finished * self.prompt_tokens)
        found["generation_tokens_total"] = np.round(self.finished * ANSWER_TOKENS)
        between_s = self.between_s + self.stalled_s
        sums = {
            "time_to_first_token_seconds": (self.first_s, self.finished),
            "inter_token_latency_seconds": (between_s, self.finished * ANSWER_TOKENS),
            "request_seconds": (self.first_s + ANSWER_TOKENS * between_s, self.finished),
            "queue_seconds": (self.queue_s, self.finished),
        }
        if self.job.plan.transfer_s:
            sums["kv_transfer_seconds"] = (self.transfer_s, self.finished)
            sums["kv_transfer_bytes"] = (self.prompt_tokens * KV_TOKEN_BYTES, self.finished)
        for metric, (mean, count) in sums.items():
            found[f"{metric}_sum"], found[f"{metric}_count"] = mean * count, count
        return found

    def _used(self) -> Array:
        """Return the share of the KV cache in use [windows, replicas]."""
        pressed = np.clip(PRESSED_USAGE + 0.2 * self.share["kv_share"], 0.0, 0.99)
        return np.where(self.share["kv_share"] > 0, pressed, np.clip(0.12 + 0.75 * self.load, 0.0, 0.87))

    def _buckets(self, name: str, replica: int) -> Iterator[Series]:
        """Yield how many tokens came within each bound: most in the usual time, some after a long prompt."""
        tokens = self.finished * ANSWER_TOKENS
        late_s = self.between_s + self.stalled_s / STALLED_SHARE
        for bound_s in (*BOUNDS_S, np.inf):
            usual, late = (below(bound_s, median_s) for median_s in (self.between_s, late_s))
            within = np.round(tokens * ((1.0 - STALLED_SHARE) * usual + STALLED_SHARE * late))
            text = "+Inf" if bound_s == np.inf else f"{bound_s:g}"
            yield self._made("inter_token_latency_seconds_bucket", f"{name},le={text}", replica, within, counter=True)

    def _gateway(self) -> Iterator[Series]:
        """Yield what the gateway before all replicas tells; it runs on the first node."""
        name = f"{self.job.plan.name}-gateway"
        held_s = (self.finished * self.gate_s).sum(axis=1, keepdims=True)
        shown = {
            "gateway_requests_waiting": held_s / WINDOW_S, "gateway_queue_seconds_sum": held_s,
            "gateway_queue_seconds_count": self.finished.sum(axis=1, keepdims=True),
        }  # fmt: skip
        for metric, values in shown.items():
            counter = metric != "gateway_requests_waiting"
            yield self._made(metric, name, 0, values, counter=counter, engine="gateway")

    def _made(
        self, metric: str, name: str, replica: int, values: Array, *, counter: bool, engine: str = "vllm"
    ) -> Series:
        at = np.array([self.node[replica]])
        column = values[:, [replica]]
        swing = 0.0 if counter or metric == "endpoint_up" else 0.05 * column
        if metric == "requests_running":  # a batch that is not refilled falls from full to half of what is gone
            drained = self.share["drain_share"][:, [replica]]
            swing = np.where(drained > 0, column * drained / (1.0 - drained), swing)
        labels = f"engine={engine},model={self.job.plan.name},replica={name}"
        labels = f"replica={name}" if metric == "endpoint_up" else labels
        return Series(f"skewscope_serving_{metric}", labels, "node", counter, lambda: Shown(column, swing), at=at)


def below(bound_s: float, median_s: Array) -> Array:
    """Return which share of log-normal times lies below a bound, within 0.01 (logistic instead of normal)."""
    z = np.log(bound_s / median_s) / TOKEN_SPREAD_RATIO
    return np.asarray(1.0 / (1.0 + np.exp(-1.702 * np.clip(z, -30.0, 30.0))))
