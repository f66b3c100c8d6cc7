"""Runs a training job over the ground state, step by step in blocks, and sums up what every rank did per window."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import meetings, noise
from .fleet import Job
from .meetings import Layout, Met
from .noise import Array
from .own_work import BLOCK, PARTS, OwnWork
from .rl import PHASES, phases
from .world import HANG_S, WINDOW_S, Stop, World

TRANSFER_SPREAD_RATIO = 0.03
SPREAD = ("compute", "transfer", "waiting", "steps_s")
RL = tuple(f"{phase}_{state}" for phase in PHASES for state in ("busy", "idle"))


@dataclass
class Run:
    """What a job did. `sums` hold amounts of the steps that ended in a window, `spread` seconds within it.

    Arrays of `sums` and `spread` are [windows, ranks]; `detail` keeps [steps, ranks] where asked for.
    """

    layout: Layout
    start_s: Array
    seconds: Array
    planned: npt.NDArray[np.bool_]
    sums: dict[str, Array]
    spread: dict[str, Array]
    least: dict[str, Array]
    detail: dict[str, Array] = field(default_factory=dict)
    stop: Stop | None = None
    end_s: float = 0.0
    end_window: int = 0
    last_end_s: Array = field(default_factory=lambda: np.zeros(0))  # [windows] when the newest step ended

    @property
    def steps(self) -> int:
        """Steps that were finished."""
        return len(self.seconds)


def run(world: World, at: int, *, detail: bool = False) -> Run:
    """Return the run of job number `at`."""
    return _Runner(world, at, detail).run()


def saving_factor(world: World, job: Job) -> Array:
    """Return by how much saving a checkpoint takes longer than usual [windows]: the slowest rank decides."""
    return np.asarray(world.rank.knob("checkpoint_factor")[:, job.gpus].max(axis=1))


class _Runner:
    def __init__(self, world: World, at: int, detail: bool) -> None:
        self.world, self.job = world, world.fleet.jobs[at]
        self.plan = self.job.plan
        self.layout = meetings.layout_of(world.fleet, self.job)
        self.own = OwnWork(world, at)
        self.usual = meetings.usual_transfers(self.plan, self.layout)
        self.slow = meetings.transfer_factors(world, self.job, self.layout)
        self.at, self.keep = at, detail
        self.saving = saving_factor(world, self.job)
        course = world.courses[at]
        self.stalls = sorted(course.stalls)
        self.stop = course.stop
        shape = (world.windows, self.plan.ranks)
        groups = self.layout.groups
        names = (*PARTS, *(f"{kind}_{group}" for kind in ("wait", "transfer", "late", "last") for group in groups))
        self.sums = {name: np.zeros(shape) for name in (*names, *(RL if self.plan.kind == "rl" else ()))}
        self.sums.update({name: np.zeros((world.windows, 1)) for name in ("steps", "step_s", "checkpoint", "eval")})
        self.spread = {name: np.zeros(shape) for name in SPREAD}
        self.least = {group: np.full(shape, np.inf) for group in groups}
        self.last_end_s = np.full(world.windows, np.nan)
        self.kept: dict[str, list[Array]] = {}
        self.starts: list[Array] = []
        self.lengths: list[Array] = []
        self.plans: list[npt.NDArray[np.bool_]] = []

    def run(self) -> Run:
        """Return the whole run."""
        now, step, usual = self.plan.start_s, 0, self.plan.step_s
        end = self.world.windows * WINDOW_S
        while step < self.plan.steps and now < end - HANG_S / 2:
            now = self._restart(now)
            window = self.world.window(now)
            count = min(BLOCK - step % BLOCK, self.plan.steps - step, int((window + 1) * WINDOW_S - now) // usual + 2)
            taken, now, stopped = self._block(step, int(count), now, window)
            step += taken
            usual = max(float(self.lengths[-1].min()), 1e-3) if taken else usual
            if stopped:
                break
        stopped_at = self.stop if self.stop is not None and step < self.plan.steps and self.stop.at_s <= now else None
        finish = stopped_at.at_s + HANG_S if stopped_at else now
        whole = np.concatenate
        return Run(
            self.layout, whole([np.zeros(0), *self.starts]), whole([np.zeros(0), *self.lengths]),
            whole([np.zeros(0, dtype=bool), *self.plans]), self.sums, self.spread, self.least,
            {name: np.concatenate(parts) for name, parts in self.kept.items()}, stopped_at, finish,
            self.world.window(finish), self.last_end_s,
        )  # fmt: skip

    def _restart(self, now: float) -> float:
        while self.stalls and self.stalls[0][2] == "restart" and self.stalls[0][0] <= now:
            now = max(now, self.stalls[0][0] + self.stalls[0][1])
            self.stalls.pop(0)
        return now

    def _block(self, step: int, count: int, now: float, window: int) -> tuple[int, float, bool]:
        """Run up to `count` steps that begin in a window; return how many, the time, and whether the job stopped."""
        parts = self.own.parts(window, step, count)
        own = sum(parts.values())
        noisy = self._noise(step, count)
        transfers = {group: self.usual[group] * self.slow[group][window] * noisy for group in self.layout.groups}
        met = meetings.meet(np.asarray(own), transfers, self.layout)
        extra = self._planned(step, count, window)
        seconds = met.seconds + extra["checkpoint"] + extra["eval"]
        ends = now + np.cumsum(seconds)
        starts = ends - seconds
        taken = int((starts < (window + 1) * WINDOW_S).sum())
        taken, stalled = self._stalled(starts, ends, taken, met, seconds)
        if stalled:
            ends = now + np.cumsum(seconds)
            starts = ends - seconds
        stopped = self.stop is not None and bool((ends[:taken] > self.stop.at_s).any())
        if stopped and self.stop is not None:
            taken = int((ends[:taken] <= self.stop.at_s).sum())
        if taken:
            self._add(_cut(parts, taken), _cut_met(met, taken), starts[:taken], seconds[:taken], _cut(extra, taken))
            now = float(ends[taken - 1])
        return taken, self.stop.at_s if stopped and self.stop else now, stopped

    def _stalled(self, starts: Array, ends: Array, taken: int, met: Met, seconds: Array) -> tuple[int, bool]:
        """Lengthen the transfer of the step in which the next stall falls, in place; steps after it come later."""
        if not self.stalls or not taken or self.stalls[0][0] >= ends[taken - 1]:
            return taken, False
        when, length, kind = self.stalls[0]
        step = int(np.searchsorted(ends[:taken], when, side="right"))
        if kind == "restart":
            return max(step, 1), False
        self.stalls.pop(0)
        group = "dp" if "dp" in self.layout.groups else self.layout.groups[-1]
        met.transfer[group] = met.transfer[group].copy()
        met.transfer[group][step] += length
        seconds[step] += length
        return step + 1, True

    def _noise(self, step: int, count: int) -> Array:
        drawn = noise.rng(self.world.seed, "transfers", self.at, step // BLOCK).standard_normal((BLOCK, 1))
        within = slice(step % BLOCK, step % BLOCK + count)
        return np.asarray(np.exp(TRANSFER_SPREAD_RATIO * drawn[within]) * np.ones(self.plan.ranks))

    def _planned(self, step: int, count: int, window: int) -> dict[str, Array]:
        saving_s = self.plan.checkpoint_s * self.saving[window]
        number = np.arange(step, step + count) + 1
        found = {}
        for name, every, length in (
            ("checkpoint", self.plan.checkpoint_steps, saving_s),
            ("eval", self.plan.eval_steps, self.plan.eval_s),
        ):
            found[name] = np.where(number % every == 0, length, 0.0) if every else np.zeros(count)
        return found

    def _add(self, parts: dict[str, Array], met: Met, starts: Array, seconds: Array, extra: dict[str, Array]) -> None:
        amounts = dict(parts)
        calls = self.layout.calls
        for group in self.layout.groups:
            amounts[f"wait_{group}"], amounts[f"transfer_{group}"] = met.wait[group], met.transfer[group]
            if self.layout.local_members(group) > 1:
                late, last = self._lateness(group, met.arrival[group])
                amounts[f"late_{group}"], amounts[f"last_{group}"] = late, last * calls[group]
        per_step = {"steps": np.ones(len(seconds)), "step_s": seconds, **extra}
        amounts.update({name: values[:, None] for name, values in per_step.items()})
        if self.plan.kind == "rl":
            amounts.update(phases(parts, seconds - extra["checkpoint"] - extra["eval"], self.plan))
        ends = starts + seconds
        where = np.minimum((ends // WINDOW_S).astype(int), self.world.windows - 1)
        for window in np.unique(where):
            mine = where == window
            for name, values in amounts.items():
                self.sums[name][window] += values[mine].sum(axis=0)
            for group in self.layout.groups:
                shortest = ((met.transfer[group] + met.wait[group])[mine] / calls[group]).min(axis=0)
                np.minimum(self.least[group][window], shortest, out=self.least[group][window])
            self.last_end_s[window] = ends[mine].max()
        self._spread(parts, met, starts, seconds)
        self.starts.append(starts)
        self.lengths.append(seconds)
        self.plans.append((extra["checkpoint"] + extra["eval"]) > 0)
        if self.keep:
            for name, values in amounts.items():
                self.kept.setdefault(name, []).append(np.array(values))

    def _lateness(self, group: str, arrival: Array) -> tuple[Array, Array]:
        """Return by how much each rank comes after the first of its node [steps, ranks], and 1.0 where it is last."""
        near = self.layout.locally(group, arrival)
        late = near - near.min(axis=2, keepdims=True)
        last = (near == near.max(axis=2, keepdims=True)).astype(np.float64)
        return late.reshape(arrival.shape), last.reshape(arrival.shape)

    def _spread(self, parts: dict[str, Array], met: Met, starts: Array, seconds: Array) -> None:
        """Share out the seconds of steps over the windows that they touch."""
        ends = starts + seconds
        shape = parts["compute"].shape
        transfer, waiting = np.zeros(shape), np.zeros(shape)
        for group in self.layout.groups:
            transfer += met.transfer[group]
            waiting += met.wait[group]
        busy = parts["compute"] + parts.get("rollout", 0.0)
        amounts = {"compute": busy, "transfer": transfer, "waiting": waiting}
        last = self.world.window(float(ends[-1]))
        for window in range(self.world.window(float(starts[0])), last + 1):
            begin = window * WINDOW_S
            overlap = np.clip(np.minimum(ends, begin + WINDOW_S) - np.maximum(starts, begin), 0.0, None)
            share = overlap / seconds
            for name, values in amounts.items():
                self.spread[name][window] += share @ values
            self.spread["steps_s"][window] += overlap.sum()


def _cut(parts: dict[str, Array], count: int) -> dict[str, Array]:
    return {name: values[:count] for name, values in parts.items()}


def _cut_met(met: Met, count: int) -> Met:
    return Met(met.seconds[:count], _cut(met.wait, count), _cut(met.transfer, count), _cut(met.arrival, count))
