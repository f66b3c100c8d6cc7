"""What the jobs do to the devices: shares of time and bytes per window and GPU, from the runs of all jobs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import meetings
from .fleet import Job
from .noise import Array
from .own_work import H2D_SHARE
from .training import Run
from .world import WINDOW_S, World

WIRE_SHARE = 0.85  # of an adapter's rate that a large transfer reaches
INSIDE_SHARE = 0.60  # of the sum of NVLinks


@dataclass(frozen=True)
class Activity:
    """Shares of time 0-1 and bytes per window, all [windows, gpus]; `held` is the share that a job has the GPU."""

    held: Array
    compute: Array
    transfer: Array
    waiting: Array
    wire_bytes: Array
    nvlink_bytes: Array
    h2d_bytes: Array
    d2h_bytes: Array

    @property
    def busy(self) -> Array:
        """Share of time in which a kernel runs; one that waits for others counts."""
        return np.asarray(np.clip(self.compute + self.transfer + self.waiting, 0.0, 1.0))


def empty(world: World, windows: int) -> Activity:
    """Return the activity of a fleet on which nothing runs."""
    return Activity(*(np.zeros((windows, world.fleet.gpus)) for _ in range(8)))


def add_run(activity: Activity, world: World, job: Job, run: Run) -> None:
    """Add what one training job does, in place."""
    windows = len(activity.held)
    gpus = job.gpus
    away = world.courses[world.fleet.jobs.index(job)].absent(windows, job.plan.ranks)
    activity.held[:, gpus] += held_share(job.plan.start_s, run.end_s, windows)[:, None] * (1.0 - away)
    for name in ("compute", "transfer", "waiting"):
        getattr(activity, name)[:, gpus] += run.spread[name][:windows] / WINDOW_S
    if run.stop is not None:
        spinning = held_share(run.stop.at_s, run.end_s, windows)[:, None] * np.ones(job.plan.ranks)
        spinning[:, list(run.stop.absent)] = 0.0
        activity.waiting[:, gpus] += spinning
    steps = steps_per_window(run, job.plan.step_s)[:windows, None]
    usual = meetings.usual_transfers(job.plan, run.layout)
    hardware = world.fleet.hardware
    outside = sum(usual.get(group, 0.0) for group in ("dp", "ep", "pp"))
    activity.wire_bytes[:, gpus] += steps * outside * hardware.nic_bytes_per_s * WIRE_SHARE
    inside = sum(usual.get(group, 0.0) for group in ("tp", "cp"))
    speed = hardware.nvlinks * hardware.nvlink_bytes_per_s * INSIDE_SHARE
    activity.nvlink_bytes[:, gpus] += steps * inside * speed
    per_step = job.plan.step_s * hardware.pcie_bytes_per_s
    activity.h2d_bytes[:, gpus] += steps * H2D_SHARE * 0.6 * per_step
    d2h = world.rank.knob("d2h_share")[:windows, gpus]
    activity.d2h_bytes[:, gpus] += steps * (0.002 + 0.6 * d2h) * per_step


def held_share(begin_s: float, end_s: float, windows: int) -> Array:
    """Return the share of each window [windows] that lies between two times.

    >>> held_share(45.0, 75.0, 4).tolist()
    [0.0, 0.5, 0.5, 0.0]
    """
    start = np.arange(windows) * WINDOW_S
    return np.asarray(np.clip((np.minimum(end_s, start + WINDOW_S) - np.maximum(begin_s, start)) / WINDOW_S, 0.0, 1.0))


def steps_per_window(run: Run, usual_s: float) -> Array:
    """Return how many steps' worth of work was done in each window [windows], parts of steps included."""
    done, spent = run.sums["steps"][:, 0], run.sums["step_s"][:, 0]
    length = np.where(done > 0, spent / np.maximum(done, 1.0), usual_s)
    return np.asarray(run.spread["steps_s"].mean(axis=1) / length)
