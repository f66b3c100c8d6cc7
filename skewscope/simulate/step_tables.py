"""Tables with a row for every step and rank, for jobs small enough to look at each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..frames import concat, frame
from .fleet import Fleet, Job
from .noise import Array
from .training import Run

if TYPE_CHECKING:
    import pandas as pd

OWN = ("compute", "host", "h2d", "d2h", "rollout")


def parts_ns(run: Run) -> dict[str, Array]:
    """Return nanoseconds [steps, ranks] of own work, input, gc, transfer, waiting and planned work."""
    shape = run.detail["compute"].shape
    groups = run.layout.groups
    zero = np.zeros(shape)
    planned = (run.detail["checkpoint"] + run.detail["eval"]) * np.ones(shape)
    return {
        "compute": sum((run.detail[name] for name in OWN if name in run.detail), zero) * 1e9,
        "input": run.detail["input"] * 1e9, "gc": run.detail["gc"] * 1e9, "checkpoint": planned * 1e9,
        "transfer": sum((run.detail[f"transfer_{group}"] for group in groups), zero) * 1e9,
        "wait": sum((run.detail[f"wait_{group}"] for group in groups), zero) * 1e9,
    }  # fmt: skip


def rank_steps(fleet: Fleet, job: Job, run: Run, start_ns: int) -> pd.DataFrame:
    """Return the table `rank_steps`: every rank's step split into own work, transfer and waiting."""
    parts = parts_ns(run)
    steps, ranks = parts["compute"].shape
    step, rank = np.repeat(np.arange(steps), ranks), np.tile(np.arange(ranks), steps)
    begin = start_ns + (run.start_s * 1e9).astype(np.int64)
    length = (run.seconds * 1e9).astype(np.int64)
    flat = {name: values.ravel() for name, values in parts.items()}
    own = flat["compute"] + flat["input"] + flat["gc"]
    spent = own + flat["checkpoint"] + flat["transfer"] + flat["wait"]
    slowest = (parts["compute"] + parts["input"] + parts["gc"]).argmax(axis=1)
    return frame("rank_steps", {
        "job": job.plan.name, "step": step, "rank": rank, "node": [fleet.nodes[node] for node in (
            (job.first_gpu + rank) // fleet.gpus_per_node)],
        "start_ns": np.repeat(begin, ranks), "end_ns": np.repeat(begin + length, ranks),
        "stage": rank // (ranks // job.plan.pp), "work_ns": own, "own_ns": own, "compute_ns": flat["compute"],
        "input_ns": flat["input"], "gc_ns": flat["gc"], "checkpoint_ns": flat["checkpoint"],
        "transfer_ns": flat["transfer"], "wait_ns": flat["wait"],
        "idle_ns": np.maximum(np.repeat(length, ranks) - spent, 0.0), "comm_ns": flat["transfer"] + flat["wait"],
        "hidden_ns": 0.0, "wait_for_rank": np.repeat(slowest, ranks), "work_tokens": job.plan.tokens,
        "source": "simulation",
    })  # fmt: skip


def steps(job: Job, run: Run, start_ns: int) -> pd.DataFrame:
    """Return the table `steps`: whole steps and their phases, one after the other on each rank's clock."""
    parts = parts_ns(run)
    count, ranks = parts["compute"].shape
    rank, step = np.tile(np.arange(ranks), count), np.repeat(np.arange(count), ranks)
    begin = np.repeat(start_ns + (run.start_s * 1e9).astype(np.int64), ranks)
    length = np.repeat((run.seconds * 1e9).astype(np.int64), ranks)
    compute = parts["compute"].ravel()
    phases = {
        "data": parts["input"].ravel(), "forward": 0.35 * compute, "backward": 0.6 * compute,
        "gc": parts["gc"].ravel(), "sync": (parts["transfer"] + parts["wait"]).ravel(), "optimizer": 0.05 * compute,
        "checkpoint": parts["checkpoint"].ravel(),
    }  # fmt: skip
    common = {"job": job.plan.name, "step": step, "rank": rank, "work_tokens": job.plan.tokens, "source": "simulation"}
    found = [frame("steps", {**common, "phase": "step", "start_ns": begin, "end_ns": begin + length})]
    now = begin.astype(np.int64)
    for phase, spent in phases.items():
        end = now + spent.astype(np.int64)
        if spent.any():
            table = frame("steps", {**common, "phase": phase, "start_ns": now, "end_ns": end})
            found.append(table[(spent > 0)])
        now = end
    return concat("steps", found)
