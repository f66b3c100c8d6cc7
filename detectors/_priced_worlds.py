"""Builders of small worlds for rooms that read derived tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.frames import all_tables, concat, frame

STEP_NS = 1_000_000_000
RANKS = 8
STEPS = 20


def priced(
    rank: int = -1, lost_share: float = 0.0, hit_share: float = 1.0, causes: Mapping[str, float] | None = None,
    job: Mapping[str, float] | None = None, own: Any = None, tokens: Any = None, phases: Any = None,  # noqa: ANN401
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Return tables of a job of 8 ranks and 20 steps of one second with a given price list.

    `rank` costs `lost_share` of the step (and `causes` of it: share by cause); `job` holds shares of job-wide causes;
    `own`, `tokens`, `phases` are [steps, ranks] arrays of own seconds, tokens, and forward seconds.
    """
    rows = []
    if rank >= 0:
        for cause, share in {"own": lost_share, **(causes or {})}.items():
            rows.append(blame_row("rank", cause, share, rank=rank, hit_share=hit_share, rate=1.0 + 2 * lost_share))
    for cause, share in (job or {}).items():
        rows.append(blame_row("job", cause, share))
    step, lane = np.repeat(np.arange(STEPS), RANKS), np.tile(np.arange(RANKS), STEPS)
    work = np.full(STEPS * RANKS, 0.8) if own is None else np.asarray(own, dtype=float).ravel()
    forward = work / 3 if phases is None else np.asarray(phases, dtype=float).ravel()
    steps = frame("rank_steps", {
        "job": "job", "step": step, "rank": lane, "start_ns": step * STEP_NS, "end_ns": (step + 1) * STEP_NS,
        "work_ns": work * 1e9, "own_ns": work * 1e9, "compute_ns": work * 1e9, "input_ns": 0.0, "gc_ns": 0.0,
        "checkpoint_ns": 0.0,
        "transfer_ns": 0.0, "wait_ns": 0.0, "idle_ns": 0.0, "comm_ns": 0.0, "forward_ns": forward * 1e9,
        "backward_ns": (work - forward) * 1e9,
        "work_tokens": -1 if tokens is None else np.asarray(tokens).ravel(),
    })  # fmt: skip
    times = frame("step_times", {
        "job": "job", "step": np.arange(STEPS), "start_ns": np.arange(STEPS) * STEP_NS,
        "duration_ns": float(STEP_NS), "planned": False, "ranks_count": RANKS,
    })  # fmt: skip
    return all_tables({"blame": concat("blame", rows), "rank_steps": steps, "step_times": times})


def blame_row(
    kind: str, cause: str, share: float, *, rank: int = -1, stage: int = -1, hit_share: float = 1.0, rate: float = 1.0
) -> pd.DataFrame:
    """Return one row of `blame` that costs `share` of a step of one second."""
    subject = subjects.rank("job", rank) if rank >= 0 else subjects.job("job")
    if kind == "stage":
        subject = subjects.stage("job", stage)
    return frame("blame", {
        "job": "job", "kind": kind, "subject": subject.id, "rank": rank, "stage": stage, "cause": cause,
        "lost_s": [share], "lost_share_ratio": share, "rate_ratio": rate, "steps_count": STEPS, "first_step": 0,
        "last_step": STEPS - 1, "start_ns": 0, "end_ns": STEPS * STEP_NS, "hit_share_ratio": hit_share,
        "confidence_ratio": 0.99 if hit_share >= 0.5 else 0.3, "peers_count": RANKS - 1, "model": "calls",
    })  # fmt: skip


def rotating(long_ratio: float = 2.0) -> np.ndarray[Any, Any]:
    """Return own seconds [steps, ranks] in which another rank is `long_ratio` times as long in each step."""
    own = np.full((STEPS, RANKS), 0.5)
    own[np.arange(STEPS), (3 * np.arange(STEPS)) % RANKS] *= long_ratio
    return own


def with_pairs(tables: dict[str, pd.DataFrame], slow: Mapping[tuple[int, int], float]) -> dict[str, pd.DataFrame]:
    """Return `tables` with probed speeds of all pairs of 4 ranks: 1 GB/s, divided by `slow` for some (src, dst)."""
    pairs = [(src, dst) for src in range(4) for dst in range(4) if src != dst]
    return {**tables, "pair_delays": frame("pair_delays", {
        "job": "job", "src_rank": [src for src, _ in pairs], "dst_rank": [dst for _, dst in pairs],
        "transfers_count": 1, "speed_bytes_per_s": [1e9 / slow.get(pair, 1.0) for pair in pairs], "source": "probe",
    })}  # fmt: skip


def arriving(late_ratio: float, steps: int = STEPS, late_s: float = 0.01) -> dict[str, pd.DataFrame]:
    """Return a world of 4 ranks and 4 calls per step in which rank 2 is last by `late_s` at this share of the calls."""
    tables = priced()
    calls = np.arange(4 * steps)
    call, rank = np.repeat(calls, 4), np.tile(np.arange(4), len(calls))
    mine = (call * 7) % len(calls) < late_ratio * len(calls)
    late = np.where(mine, rank == 2, rank == call % 2)
    start = call * (STEP_NS // 4)
    arrivals = frame("arrivals", {
        "job": "job", "step": call // 4, "rank": rank, "group": "0", "group_size": 4, "seq": call, "op": "all_reduce",
        "call": call, "members_count": 4, "ready_ns": start + (late * late_s * 1e9).astype(np.int64),
        "end_ns": start + 200_000_000, "late_ns": late * late_s * 1e9, "wait_ns": ~late * late_s * 1e9,
        "transfer_ns": 1e6, "last": late, "by_wait": False,
    })  # fmt: skip
    times = tables["step_times"]
    return {**tables, "arrivals": arrivals, "step_times": times[(times["step"] < steps).to_numpy()]}
