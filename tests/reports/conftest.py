"""A made-up analysis: rank 5 computes slowly from step 10 on, rank 2 waits for it, a link cannot be judged."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Reading, Window
from skewscope.frames import all_tables, frame

SLOW, SINCE = 5, 10


@dataclass
class Recording:
    inputs: tuple[Reading, ...]
    world_size: int
    tables: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    parallelism: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    recording: Recording
    tables: dict[str, Any]
    findings: tuple[Finding, ...]
    job: dict[str, Any]
    summary: dict[str, Any]
    warnings: tuple[str, ...]
    explains: dict[int, tuple[int, ...]] = field(default_factory=dict)


def tables(ranks: int = 8, steps: int = 40, host: str = "n{}", seed: int = 7) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    step, rank = (part.ravel() for part in np.meshgrid(np.arange(steps), np.arange(ranks), indexing="ij"))
    slow = (rank == SLOW) & (step >= SINCE)
    own = 1e9 * (1 + 0.01 * random.standard_normal(len(rank))) + 0.5e9 * slow
    last = own.reshape(steps, ranks).max(axis=1)
    length = last + 0.1e9
    start = np.concatenate([[0.0], np.cumsum(length)[:-1]]) + 1.7e18
    wait = np.repeat(last, ranks) - own
    rows = {
        "job": "job", "step": step, "rank": rank, "node": [host.format(r // 4) for r in rank], "work_ns": own,
        "own_ns": own,
        "start_ns": np.repeat(start, ranks), "end_ns": np.repeat(start + length, ranks), "compute_ns": own * 0.9,
        "input_ns": own * 0.02, "gc_ns": 0.0, "checkpoint_ns": 0.0, "transfer_ns": 0.1e9, "wait_ns": wait,
        "idle_ns": 0.0, "comm_ns": 0.1e9 + wait,
    }  # fmt: skip
    late = own - np.repeat(np.median(own.reshape(steps, ranks), axis=1), ranks)
    calls = {
        "job": "job", "step": step, "rank": rank, "group": "dp", "seq": step, "call": step, "op": "all_reduce",
        "members_count": ranks, "late_ns": late, "wait_ns": wait, "transfer_ns": 0.1e9, "last": wait == 0,
        "by_wait": False,
    }  # fmt: skip
    times = {
        "job": "job", "step": np.arange(steps), "start_ns": start, "duration_ns": length, "ideal_ns": 1.1e9,
        "planned": False, "ranks_count": ranks,
    }  # fmt: skip
    made = {"rank_steps": rows, "arrivals": calls, "step_times": times}
    return all_tables({name: frame(name, columns) for name, columns in made.items()})


def findings(steps: int = 40, host: str = "n1") -> tuple[Finding, ...]:
    window = Window(1_700_000_000 * 10**9, 1_700_000_050 * 10**9, SINCE, steps - 1)
    proof = (Evidence("own_over_peers", 1.5, 1.0, 1.1, "ratio"), Evidence("votes", 0.97, None, float("nan"), "ratio"))
    culprit = Finding(
        "gpu-slow-silent", subjects.rank("job", SLOW, node=host), "culprit", "S2", 0.95, window, 0.375, 0.25, proof,
        "Rank 5 computes 50 % longer than its peers.", "Move rank 5 to another GPU.", ("coll-late-rank",),
    )  # fmt: skip
    victim = replace(
        culprit, condition="coll-slow-group", subject=subjects.group("job", "dp"), role="victim", severity="S3"
    )
    victim = replace(
        victim, summary="All-reduces of group dp take long: they wait for rank 5.", lost_s=0.0, lost_share=0.0
    )
    context = replace(
        victim, condition="coll-slow-link", subject=subjects.link("job", 1, 2), role="context", severity="S4"
    )
    context = replace(context, summary="Too few transfers between rank 1 and rank 2 to judge the link.", evidence=())
    return victim, context, culprit


def world(ranks: int = 8, steps: int = 40, host: str = "n{}", *, quiet: bool = False) -> Analysis:
    inputs = tuple(Reading(f"traces/r{rank}.json.gz", "kineto", rank, events=1000) for rank in range(ranks - 1))
    inputs += (Reading("traces/cut.json", "kineto", 7, events=10, status="partial", error="the file ends early"),)
    summary = {
        "step_time_s": {"mean": 1.475, "p50": 1.6, "p99": float("nan")}, "ideal_step_time_s": 1.1, "slowdown": 1.34,
        "wasted_share": 0.25, "wasted_gpu_hours": np.float64(0.0333),
        "verdict": "Rank 5 on n1 computes slowly: 0.38 s of every 1.48 s step (25 %) are lost.",
    }  # fmt: skip
    if quiet:
        summary["verdict"] = "Nobody is slow: all 8 ranks do the same work in the same time."
    job = {"ranks": ranks, "steps": steps, "start_ns": 0, "end_ns": 59 * 10**9, "parallelism": {"dp": ranks, "pp": 1}}
    found = () if quiet else findings(steps, host.format(1))
    made = tables(ranks, steps, host)
    return Analysis(
        Recording(inputs, ranks, made), made, found, job, summary, ("Clocks of n0 and n1 differ by 2 ms.",), {2: (0,)}
    )


@pytest.fixture
def make_world():
    """Return the builder of made-up analyses: (ranks, steps, host pattern, quiet=) -> Analysis."""
    return world
