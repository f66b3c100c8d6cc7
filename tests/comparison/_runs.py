"""Made-up runs with known differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from skewscope.comparison.run import Run
from skewscope.frames import all_tables, frame

NS = 10**9


def made(
    name: str, *, ranks: int = 4, steps: int = 40, compute_s: float = 0.08, wait_s: float = 0.02, noise: float = 0.01,
    kernels: dict[str, tuple[int, float]] | None = None, tokens: int = -1, slow: int = -1, seed: int = 0, **report: Any,
) -> Run:  # fmt: skip
    """Return a run whose ranks compute `compute_s` a step and wait `wait_s`; `kernels` gives calls and seconds each."""
    random = np.random.default_rng(seed)
    step, rank = (part.ravel() for part in np.meshgrid(np.arange(steps), np.arange(ranks), indexing="ij"))
    common = np.repeat(1 + noise * random.standard_normal(steps), ranks)
    own = NS * compute_s * common * np.where(rank == slow, 1.5, 1.0)
    length = np.repeat(own.reshape(steps, ranks).max(axis=1), ranks) + NS * wait_s
    start = np.repeat(np.concatenate([[0], np.cumsum(length.reshape(steps, ranks)[:, 0])[:-1]]), ranks) + 1.7e18
    nothing = dict.fromkeys(("input_ns", "gc_ns", "checkpoint_ns", "transfer_ns", "idle_ns"), 0.0)
    rows = {
        "job": "job", "step": step, "rank": rank, "node": "n0", "start_ns": start, "end_ns": start + length,
        "work_ns": own, "own_ns": own, "compute_ns": own, "wait_ns": length - own, "comm_ns": length - own, **nothing,
    }  # fmt: skip
    times = {"job": "job", "step": np.arange(steps), "start_ns": start[::ranks], "duration_ns": length[::ranks],
             "planned": False, "ranks_count": ranks}  # fmt: skip
    marks = {"job": "job", "step": step, "rank": rank, "phase": "step", "start_ns": start.astype(np.int64),
             "end_ns": (start + length).astype(np.int64), "work_tokens": tokens}  # fmt: skip
    given = {"rank_steps": frame("rank_steps", rows), "step_times": frame("step_times", times),
             "steps": frame("steps", marks), **_ops(kernels or {}, step, rank, start, common)}  # fmt: skip
    document = {"inputs": [{"format": "made-up"}], "job": {"ranks": ranks, "steps": steps}, "findings": [], "steps": []}
    return Run(name, {**document, **report}, all_tables(given))


def _ops(kernels: dict[str, tuple[int, float]], step: Any, rank: Any, start: Any, common: Any) -> dict[str, Any]:
    if not kernels:
        return {}
    parts = []
    for name, (calls, seconds) in kernels.items():
        begin = np.repeat(start, calls).astype(np.int64) + np.tile(np.arange(calls) * 1000, len(step))
        length = np.repeat(NS * seconds * common, calls).astype(np.int64)
        parts.append(frame("ops", {
            "job": "job", "rank": np.repeat(rank, calls), "step": np.repeat(step, calls), "op": "kernel", "stream": 7,
            "name": [name] * len(begin), "start_ns": begin, "end_ns": begin + length, "launch_ns": begin,
        }))  # fmt: skip
    from skewscope.frames import concat

    return {"ops": concat("ops", parts)}
