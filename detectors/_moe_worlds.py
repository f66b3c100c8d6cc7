"""Small worlds of experts for `cases()`: loads of four layers and sixteen experts, maps, and ranks seen live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skewscope.frames import all_tables, concat, frame

from ._live_worlds import EPOCH_NS, WINDOW_S, Fleet

TABLES = dict[str, pd.DataFrame]
Array = np.ndarray[Any, Any]
LAYERS, EXPERTS, EP = 4, 16, 4
JOB = "llm"


def loads(
    *, hot: float = 1.0, every: int = EXPERTS, warm: float = 1.0, dead: Sequence[int] = (), steps: int = 128,
    tokens: int = 16384, phase: str = "train", drops: float = 0.0, since: int = 0, seed: int = 7,
) -> pd.DataFrame:  # fmt: skip
    """Return `expert_loads` of a router that is even but for what is asked for, with the noise of `tokens` picks.

    From step `since` on every `every`-th expert is `hot` times as popular, the first four (those of one rank) `warm`
    times, and `dead` ones get nothing; `drops` is the share of picks dropped.
    """
    rng = np.random.default_rng(seed)
    popular = np.ones((steps, EXPERTS))
    popular[since:, ::every] *= hot
    popular[since:, : EXPERTS // EP] *= warm
    popular[since:, list(dead)] = 0.0
    shares = popular / popular.sum(axis=1, keepdims=True)
    counts = np.stack([rng.multinomial(tokens, one, size=LAYERS) for one in shares])
    step, layer, expert = np.meshgrid(np.arange(steps), np.arange(LAYERS), np.arange(EXPERTS), indexing="ij")
    lost = np.where(step >= since, np.round(counts * drops), 0) if drops else np.full(counts.shape, -1)
    return frame("expert_loads", {
        "job": JOB, "step": step.ravel(), "layer": layer.ravel(), "expert": expert.ravel(), "rank": -1,
        "routed_tokens": counts.ravel(), "dropped_tokens": lost.ravel().astype(np.int64), "phase": phase,
    })  # fmt: skip


def tables(made: pd.DataFrame, *, ep: int = 0, apart: bool = False) -> TABLES:
    """Return the tables of a job with these loads; `ep` ranks hold blocks of experts, or `apart` one of each four."""
    given = {"expert_loads": made}
    if ep:
        given["ranks"] = frame("ranks", {"job": JOB, "rank": np.arange(ep), "ep": np.arange(ep), "node": "n0"})
    if apart:
        slot, layer = np.meshgrid(np.arange(EXPERTS), np.arange(LAYERS))
        expert = slot % (EXPERTS // ep) * ep + slot // (EXPERTS // ep)
        given["expert_placements"] = frame("expert_placements", {
            "job": JOB, "step": 0, "layer": layer.ravel(), "slot": slot.ravel(), "expert": expert.ravel(),
            "rank": slot.ravel() // (EXPERTS // ep),
        })  # fmt: skip
    return all_tables(given)


def live(*, ratio: float, late_s: float = 0.0, ranks: Sequence[int] = (0, EP), dropped: float = 0.0) -> TABLES:
    """Return live windows of eight ranks on two hosts, four of which hold all experts; some are late from window 10.

    `ratio` is the hook's busiest expert over the mean, `dropped` the share of tokens dropped, both from window 10 on.
    """
    fleet = Fleet()
    if late_s:
        fleet.late(list(ranks), late_s)
    found = fleet.tables()
    calls = found["windows"]["labels"].cat.rename_categories({"op=all_reduce,group=dp": "op=all_to_all,group=ep"})
    found["windows"] = found["windows"].assign(labels=calls)
    number = np.arange(8)
    found["ranks"] = frame("ranks", {
        "job": JOB, "rank": number, "node": [f"n{one // EP}" for one in number], "gpu": number % EP, "ep": number % EP,
    })  # fmt: skip
    after = np.arange(fleet.windows_count) >= 10
    rows = [_rank_rows("skewscope_moe_expert_max_mean_ratio", np.where(after, ratio, 1.1), counter=False)]
    if dropped:
        rows.append(_rank_rows("skewscope_moe_tokens_total", np.full(len(after), 1e6), counter=True))
        rows.append(_rank_rows("skewscope_moe_dropped_tokens_total", 1e6 * dropped * after, counter=True))
    found["windows"] = concat("windows", [found["windows"], *rows])
    return found


def _rank_rows(metric: str, values: Array, *, counter: bool) -> pd.DataFrame:
    count, ranks = len(values), np.arange(2 * EP)
    rank, column = np.repeat(ranks, count), np.tile(values, len(ranks))
    unknown = np.full(len(column), np.nan)
    gauge, grown = (unknown, column) if counter else (column, unknown)
    ends = EPOCH_NS + (np.arange(1, count + 1) * WINDOW_S * 1e9).astype(np.int64)
    return frame("windows", {
        "t_ns": np.tile(ends, len(ranks)), "window_ns": int(WINDOW_S * 1e9), "metric": metric, "labels": "",
        "node": [f"n{one // EP}" for one in rank], "device": [f"gpu{one % EP}" for one in rank], "job": JOB,
        "rank": rank, "mean_value": gauge, "low_value": gauge, "high_value": gauge, "last_value": column,
        "increase_value": grown, "samples_count": 2,
    })  # fmt: skip


def all_to_alls(
    slow: dict[tuple[int, int], float], *, transfer_s: float = 0.002, late_s: float = 0.0, steps: int = 20,
    often: int = 10,
) -> TABLES:  # fmt: skip
    """Return arrivals of two layers (dispatch, combine, dispatch, combine) a step of four ranks.

    `slow` maps (rank, leg) to how many times its transfers take, in `often` of ten calls; with `late_s` rank 1 comes
    late and nobody is slow.
    """
    made = steps_of(0.1, steps)
    call, rank = np.repeat(np.arange(4 * steps), EP), np.tile(np.arange(EP), 4 * steps)
    times = np.array([slow.get((int(one), int(number) % 2), 1.0) for number, one in zip(call, rank, strict=True)])
    times = np.where(call // 2 % 10 < often, times, 1.0)
    late = np.where(rank == 1, late_s, 0.0) * 1e9
    ready = EPOCH_NS + call * 25_000_000
    made["arrivals"] = frame("arrivals", {
        "job": JOB, "step": call // 4, "rank": rank, "group": "ep0", "group_size": EP, "seq": call, "op": "all_to_all",
        "call": call, "members_count": EP, "ready_ns": ready + late.astype(np.int64), "late_ns": late,
        "wait_ns": np.where(rank == 1, 0.0, late_s * 1e9), "transfer_ns": times * transfer_s * 1e9 * _jitter(len(call)),
        "last": (rank == 1) & (late_s > 0), "by_wait": False,
    })  # fmt: skip
    return all_tables(made)


def steps_of(step_s: float, count: int) -> TABLES:
    """Return `step_times` of equal steps."""
    number = np.arange(count)
    return {"step_times": frame("step_times", {
        "job": JOB, "step": number, "start_ns": EPOCH_NS + (number * step_s * 1e9).astype(np.int64),
        "duration_ns": step_s * 1e9, "planned": False, "ranks_count": EP,
    })}  # fmt: skip


def live_calls(*, slow: float = 1.0, elsewhere: float = 1.0, ranks: Sequence[int] = (2,)) -> TABLES:
    """Return live windows in which the shortest all-to-all (and all-reduce) of ranks takes longer from window 10 on."""
    fleet = Fleet()
    if slow > 1:
        fleet.slow_transfer(0.03)
    found = fleet.tables()
    number = np.arange(2 * EP)
    found["ranks"] = frame("ranks", {"job": JOB, "rank": number, "dp": number, "tp": 0, "pp": 0, "ep": number % EP})
    parts = [found["windows"]]
    for labels, base_s, times in (
        ("op=all_to_all,group=ep", 0.002, slow),
        ("op=all_reduce,group=dp", 0.004, elsewhere),
    ):
        for one in range(2 * EP):
            grown = np.where((np.arange(fleet.windows_count) >= 10) & (one in ranks), times, 1.0)
            parts.append(_one_rank("skewscope_collective_min_seconds", labels, base_s * grown, one, counter=False))
            count = np.full(len(grown), 60 * 8.0)
            parts.append(_one_rank("skewscope_collectives_total", labels, count, one, counter=True))
            parts.append(_one_rank("skewscope_collective_bytes_total", labels, count * 2e6, one, counter=True))
    found["windows"] = concat("windows", parts)
    return found


def _one_rank(metric: str, labels: str, values: Array, rank: int, *, counter: bool) -> pd.DataFrame:
    rows = _rank_rows(metric, values, counter=counter)
    return rows[(rows["rank"] == rank).to_numpy()].assign(labels=pd.Categorical([labels] * len(values)))


def _jitter(count: int) -> Array:
    return np.asarray(1.0 + 0.02 * ((np.arange(count) * 7) % 5 - 2))
