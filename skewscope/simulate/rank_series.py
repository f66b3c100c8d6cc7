"""Ranks as the agent's collectors of processes and collectives show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from . import meetings, noise
from .activity import WIRE_SHARE, held_share
from .fleet import Job
from .hang import standing
from .noise import Array
from .own_work import device_factor
from .rl import median_ratio
from .routing import TOP_K
from .series import Series, Shown
from .training import RL, Run
from .world import WINDOW_S, World

COUNTED_BYTES = 2**20  # bus bandwidth is told of collectives of at least so many bytes
PHASES = {"data": "input", "h2d": "h2d", "gc": "gc", "other": "d2h"}
FORWARD_SHARE, OPTIMIZER_SHARE = 0.32, 0.05  # OWN: of compute time; the rest is backward


class RankSeries:
    """Computes what the ranks of one training job show, [windows, ranks]; `at` are their places in the area rank."""

    def __init__(self, world: World, job: Job, run: Run, at: Array, windows: int) -> None:
        self.world, self.job, self.run, self.windows = world, job, run, windows
        self.at = at
        self.sums = {name: values[:windows] for name, values in run.sums.items()}
        self.held = held_share(job.plan.start_s, run.end_s, windows)[:, None]
        course = world.courses[world.fleet.jobs.index(job)]
        self.on = np.repeat(self.held > 0, job.plan.ranks, axis=1) & (course.absent(windows, job.plan.ranks) < 1.0)

    def _knob(self, name: str) -> Array:
        return self.world.rank.knob(name)[: self.windows, self.job.gpus]

    def series(self) -> Iterator[Series]:
        """Yield all series of the job's ranks."""
        yield from self._process()
        yield from self._steps()
        for group in self.run.layout.groups:
            yield from self._group(group)
            yield from self._progress(group)

    def _made(self, metric: str, labels: str, counter: bool, make: Callable[[], Shown]) -> Series:
        return Series(f"skewscope_{metric}", labels, "rank", counter, make, at=self.at, agent=counter)

    def _counter(self, metric: str, labels: str, values: Array) -> Series:
        return self._made(metric, labels, True, lambda: Shown(values, present=self.on))

    def _gauge(self, metric: str, labels: str, values: Array, swing: Array | float = 0.0) -> Series:
        return self._made(metric, labels, False, lambda: Shown(values, swing, self.on))

    def _process(self) -> Iterator[Series]:
        seed, name = self.world.seed, self.job.plan.name
        working = self.held * np.ones(self.job.plan.ranks)
        if self.run.stop is not None:
            stuck = held_share(self.run.stop.at_s, self.run.end_s, self.windows)
            working[:, list(self.run.stop.absent)] -= stuck[:, None]
        delay = noise.smooth(noise.RUN_DELAY_RATIO * working, seed, f"delay {name}", 0.15) + self._knob("run_delay")
        yield self._counter("rank_run_delay_seconds_total", "", np.maximum(delay, 0.0) * WINDOW_S)
        cores = noise.smooth(1.15 * working, seed, f"cpu {name}", 0.03) + self._knob("cpu") * working
        yield self._counter("rank_cpu_seconds_total", "", np.maximum(cores, 0.02) * WINDOW_S)
        extra = self._knob("switches_per_s")
        switches = noise.smooth(1400.0 * working, seed, f"switches {name}", 0.05) + extra
        metric = "rank_context_switches_total"
        yield self._counter(metric, "kind=voluntary", np.round(switches * WINDOW_S))
        forced = 4.0 * working + 300.0 * self._knob("run_delay")
        yield self._counter(metric, "kind=involuntary", np.round(forced * WINDOW_S))
        yield self._gauge("rank_resident_memory_bytes", "", np.full(working.shape, 5.6e10), 1e8)
        yield self._gauge("rank_heartbeat_age_seconds", "", np.full(working.shape, 0.5), 0.3)

    def _steps(self) -> Iterator[Series]:
        ranks = np.ones(self.job.plan.ranks)
        done, spent = self.sums["steps"] * ranks, self.sums["step_s"] * ranks
        yield self._counter("steps_total", "", done)
        yield self._counter("step_seconds_total", "", spent)
        yield self._counter("work_units_total", "unit=tokens", done * self.job.plan.tokens)
        newest = _filled(self.run.last_end_s[: self.windows]) + self.world.scenario.start_ns / 1e9
        seen = self.on & np.isfinite(newest)[:, None]
        yield self._made("step_last_timestamp_seconds", "", False,
                         lambda: Shown(np.nan_to_num(newest)[:, None] * ranks, present=seen))  # fmt: skip
        metric = "phase_seconds_total"
        for phase, part in PHASES.items():
            seconds = self.sums[part] + (self.sums["rollout"] if phase == "other" else 0.0)
            yield self._counter(metric, f"phase={phase}", seconds)
        compute, host = self.sums["compute"], self.sums["host"]
        backward = 1.0 - FORWARD_SHARE - OPTIMIZER_SHARE
        yield self._counter(metric, "phase=forward", FORWARD_SHARE * (compute + host))
        yield self._counter(metric, "phase=backward", backward * (compute + host))
        yield self._counter(metric, "phase=optimizer", OPTIMIZER_SHARE * (compute + host))
        groups = self.run.layout.groups
        comm = sum(self.sums[f"wait_{group}"] + self.sums[f"transfer_{group}"] for group in groups) + 0.0 * done
        yield self._counter(metric, "phase=comm_wait", np.asarray(comm))
        for phase in ("checkpoint", "eval"):
            yield self._counter(metric, f"phase={phase}", self.sums[phase] * ranks)
        if self.job.plan.ep > 1:
            yield from self._experts(done)
        if self.job.plan.kind == "rl":
            yield from self._reinforced()

    def _reinforced(self) -> Iterator[Series]:
        """Yield the phases of reinforcement learning, and how long answers take."""
        for name in RL:
            phase, state = name.split("_")
            yield self._counter("rl_seconds_total", f"phase={phase},state={state}", self.sums[name])
        steps = self.sums["steps"]
        longest = self.sums["rollout"] / np.maximum(steps, 1.0)
        plan = self.job.plan
        usual = plan.step_s * plan.rollout_share * median_ratio(plan)
        median = usual * self._knob("rollout_factor") * device_factor(self.world, self.job)[: self.windows]
        told = (longest > 0) & (steps > 0)
        for statistic, values in (("median", median), ("max", longest)):
            yield self._made("rl_answer_seconds", f"statistic={statistic}", False, _told(values, told))

    def _experts(self, done: Array) -> Iterator[Series]:
        """Yield what the hook tells of routing: each rank its own tokens, which go to the experts of all ranks."""
        at = self.world.fleet.jobs.index(self.job)
        router = self.world.routers[at]
        tokens = noise.smooth(done * self.job.plan.tokens * TOP_K, self.world.seed, "routed", 0.03)
        yield self._counter("moe_tokens_total", "", np.round(tokens))
        hottest = router.hottest[: self.windows, None] * np.ones(self.job.plan.ranks)
        yield self._gauge("moe_expert_max_mean_ratio", "", hottest, 0.03 * hottest)
        if router.drops:
            lost = tokens * router.dropped[: self.windows, None]
            yield self._counter("moe_dropped_tokens_total", "", np.round(lost))

    def call_bytes(self, group: str) -> float:
        """Return the bytes of one call."""
        usual = meetings.usual_transfers(self.job.plan, self.run.layout)[group]
        hardware = self.world.fleet.hardware
        inside = group in ("tp", "cp")
        speed = hardware.nvlinks * hardware.nvlink_bytes_per_s * 0.5 if inside else hardware.nic_bytes_per_s
        return usual * speed * WIRE_SHARE / 2.0 / self.run.layout.calls[group]

    def _group(self, group: str) -> Iterator[Series]:
        labels = f"op={meetings.OPS[group]},group={group}"
        calls = self.sums["steps"] * np.full(self.job.plan.ranks, self.run.layout.calls[group])
        spent = self.sums[f"wait_{group}"] + self.sums[f"transfer_{group}"]
        yield self._counter("collectives_total", labels, calls)
        yield self._counter("collective_seconds_total", labels, spent)
        yield self._counter("collective_bytes_total", labels, np.round(calls * self.call_bytes(group)))
        least = self.run.least[group][: self.windows]
        seen = np.isfinite(least) & self.on
        shortest = np.where(seen, least, 0.0)
        yield self._made("collective_min_seconds", labels, False, lambda: Shown(shortest, 0.02 * shortest, seen))
        if self.run.layout.local_members(group) > 1:
            tag = f"group={group}"
            yield self._counter("collective_local_lateness_seconds_total", tag, self.sums[f"late_{group}"])
            yield self._counter("collective_local_last_arrivals_total", tag, np.round(self.sums[f"last_{group}"]))

    def _progress(self, group: str) -> Iterator[Series]:
        """Yield where each rank stands in a group: its newest call, and for how long one has been open."""
        calls = self.run.layout.calls[group]
        ranks = self.job.plan.ranks
        begun = np.cumsum(self.sums["steps"] * calls, axis=0) * np.ones(ranks)
        share = (self.sums[f"wait_{group}"] + self.sums[f"transfer_{group}"]) / WINDOW_S
        open_now = np.clip(share, 0.0, 1.0)
        age = share / np.maximum(self.sums["steps"], 1.0) * WINDOW_S / calls / 2.0
        stop = self.run.stop
        if stop is not None:
            waiting = standing(self.run, group)
            after = np.arange(1, self.windows + 1) * WINDOW_S > stop.at_s
            seconds = np.maximum(np.arange(1, self.windows + 1) * WINDOW_S - 8.0 - stop.at_s, 0.0)
            begun = begun + np.outer(after, waiting)
            open_now = np.where(after[:, None], waiting, open_now)
            age = np.where(after[:, None], np.outer(seconds, waiting), age)
        tag = f"group={group}"
        if group != "pp":  # pairs have no common numbers
            yield self._gauge("collective_last_sequence", tag, begun)
        yield self._gauge("collective_in_flight", tag, open_now, np.minimum(open_now, 1.0 - open_now))
        yield self._gauge("collective_in_flight_age_seconds", tag, age, 0.5 * age * (age < 5.0))


def _told(values: Array, told: Array) -> Callable[[], Shown]:
    return lambda: Shown(values, 0.02 * values, told)


def _filled(times: Array) -> Array:
    """Return `times` with the last known one where none is known."""
    known = np.where(np.isfinite(times), times, -np.inf)
    newest = np.maximum.accumulate(known)
    return np.asarray(np.where(np.isfinite(newest), newest, np.nan))
