"""Prices ranks where nothing but step times per rank is recorded: the slowest rank sets the pace of the step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .. import subjects
from ..frames import concat, frame
from ..stats.robust import leave_one_out_median
from ..stats.window import chance_of_hits, present

Array = np.ndarray[Any, Any]

CANDIDATES = 8
NOISE_SHARE = 0.05


def attribute_steps(steps: pd.DataFrame, node_of: dict[int, str]) -> dict[str, pd.DataFrame]:
    """Return `rank_steps`, `step_times` and `blame` from whole steps alone.

    Ranks that wait for each other inside the step have equal steps, and nobody can be named from them. Where step
    times are taken before the ranks meet, they differ, and the step lasts as long as its slowest rank.
    """
    whole = steps[(steps["phase"] == "step").to_numpy()].drop_duplicates(["step", "rank"])
    length = (whole["end_ns"] - whole["start_ns"]).to_numpy().astype(float)
    rows = frame("rank_steps", {
        "job": "job", "step": whole["step"], "rank": whole["rank"],
        "node": [node_of.get(int(rank), "") for rank in whole["rank"]], "start_ns": whole["start_ns"],
        "end_ns": whole["end_ns"], "work_ns": length, "own_ns": length, "compute_ns": 0.0, "input_ns": 0.0,
        "gc_ns": 0.0, "checkpoint_ns": 0.0, "transfer_ns": 0.0, "wait_ns": 0.0, "idle_ns": 0.0, "comm_ns": 0.0,
        "work_tokens": whole["work_tokens"], "source": whole["source"],
    })  # fmt: skip
    numbers, place = np.unique(whole["step"].to_numpy(), return_inverse=True)
    ranks, lane = np.unique(whole["rank"].to_numpy(), return_inverse=True)
    table = np.full((len(numbers), len(ranks)), np.nan)
    table[place, lane] = length
    pace = np.nanmax(table, axis=1)
    start = pd.Series(whole["start_ns"].to_numpy()).groupby(place).min().to_numpy()
    ideal = np.nanmedian(table, axis=1)
    times = frame("step_times", {
        "job": "job", "step": numbers, "start_ns": start, "duration_ns": pace, "replay_ns": pace, "ideal_ns": ideal,
        "planned": False, "ranks_count": np.isfinite(table).sum(axis=1), "source": str(whole["source"].iloc[0]),
    })  # fmt: skip
    return {"rank_steps": rows, "step_times": times, "blame": _prices(table, ranks, numbers, start)}


def _prices(table: Array, ranks: Array, numbers: Array, start: Array) -> pd.DataFrame:
    """Return `blame` rows of the ranks that set the pace most; `table` [steps, ranks] in ns, NaN unknown."""
    usual = leave_one_out_median(table)
    excess = np.nan_to_num(np.maximum(table - usual, 0.0))
    fair = np.nanmedian(table, axis=1)
    worst = np.argsort(-excess.sum(axis=0), kind="stable")[:CANDIDATES]
    rows = []
    for lane in worst if len(ranks) > 1 else []:
        gain = excess[:, lane]
        first, last = present(gain, NOISE_SHARE * float(np.median(fair)))
        inside = slice(first, last + 1) if first >= 0 else slice(0, len(gain))
        hits = excess[inside, lane] >= excess[inside].max(axis=1)
        chance = chance_of_hits(hits, len(gain), 1.0 / len(ranks), len(ranks))
        pace = fair[inside] + gain[inside]
        known = np.isfinite(table[inside, lane])
        rows.append(frame("blame", {
            "job": "job", "kind": "rank", "subject": subjects.rank("job", int(ranks[lane])).id, "rank": ranks[lane],
            "cause": "own", "lost_s": gain[inside].mean() / 1e9, "lost_share_ratio": gain[inside].sum() / pace.sum(),
            "rate_ratio": np.nanmedian((table / usual)[inside, lane][known]) if known.any() else np.nan,
            "steps_count": len(gain), "first_step": numbers[first] if first >= 0 else -1,
            "last_step": numbers[last] if first >= 0 else -1, "start_ns": start[first] if first >= 0 else -1,
            "end_ns": start[last] if first >= 0 else -1, "hit_share_ratio": float(hits.mean()),
            "confidence_ratio": 1.0 - chance, "peers_count": len(ranks) - 1, "model": "steps",
        }))  # fmt: skip
    return concat("blame", rows)
