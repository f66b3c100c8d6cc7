"""Remedies for what is not one worker's slowness: uneven tokens, uneven stages, uneven experts, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from ..moe.diagnosis import diagnose, key
from ..optimize import checkpoint, sequence_cost
from ..optimize.speeds import Rounds
from ..signals.view import remembered
from . import _lengths, sequence
from ._advise_options import Option, today_s

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
Tables = Mapping[str, "pd.DataFrame"]

NS = 1e9
FIT_CELLS = 50_000
RESTART_S = 600.0
ASSUMED_RANGE = 3.0  # an assumed mean time between failures may be three times longer or shorter
FEWEST_SAVES = 2
SHARDED_REST_RATIO = 0.05  # what stays uneven where the longest documents are split


def repack_option(rounds: Rounds) -> Option | None:
    """Return even tokens per rank, None where tokens are unknown or do not explain who is slow.

    Own work is fitted by the tokens and their squares; then every rank gets the mean of the modelled work, and what
    the model does not explain stays. That is what a perfect deal gives: a document longer than a rank's mean share
    forbids it.

    >>> from dataclasses import replace
    >>> from skewscope.optimize.speeds import of_times
    >>> own = np.array([[1.0, 2.0], [3.0, 1.0]] * 4)
    >>> repack_option(replace(of_times(own), load=100 * own)).step_s[:2].round(6).tolist()
    [1.5, 2.0]
    """
    load, own = rounds.load, rounds.own_s
    if not np.isfinite(load).all() or len(np.unique(load)) < 2:
        return None
    every = max(1, load.size // FIT_CELLS)
    tokens = load.ravel()[::every].astype(float)
    scale = float(tokens.max())
    try:
        cost = sequence_cost.fit(tokens / scale, (tokens / scale) ** 2, own.ravel()[::every])
    except UsageError:
        return None
    if cost.r2 is None or cost.r2 < sequence_cost.LEAST_R2:
        return None
    model = cost.of(load / scale)
    level = own - model + model.mean(axis=1, keepdims=True)
    return Option(
        "re-pack sequences", "sequence", "repack-sequences", np.asarray(level.max(axis=1) + rounds.exposed_s),
        "no single document costs more than a rank's mean share; one that does must be sharded over several ranks "
        "(`skewscope plan sequence`)",
        "a new data order", "the order of samples changes; keep the seed", {"explained_ratio": cost.r2},
    )  # fmt: skip


def dealt_option(rounds: Rounds, lengths: str, per_step: int | None) -> Option:
    """Return the best deal of sequences whose lengths are known, or the sharding of the longest where that binds.

    Own work is taken to be in proportion to the cost of the sequences: it shrinks as the heaviest rank's cost does.
    Raises UsageError or Unreadable for lengths that cannot be dealt or read.
    """
    made = sequence.planned(_lengths.read([lengths]), sequence.Wanted(len(rounds.workers), per_step))
    now, then = made.current["heaviest_over_mean_ratio"], made.proposed["heaviest_over_mean_ratio"]
    binds = bool(made.plan["floor_binds"])
    if binds:
        then = 1.0 + SHARDED_REST_RATIO
    today = today_s(rounds)
    own = today - rounds.exposed_s
    return Option(
        "shard long sequences" if binds else "re-pack sequences", "sequence",
        "shard-sequences" if binds else "repack-sequences", np.asarray(today - own * (1 - min(then / now, 1.0))),
        "the ranks are slow because of their sequences, and the longest document can be split over several ranks"
        if binds else "the ranks are slow because of their sequences",
        "sequence parallelism for the longest documents" if binds else "a new data order",
        "no deal helps below the longest document: shard it" if binds else "the order of samples changes; keep the "
        "seed", {"floor_over_mean_ratio": made.lower_bound, "way": made.plan["way"]},
    )  # fmt: skip


def experts_option(tables: Tables, step_s: Array) -> Option | None:
    """Return a new placement of experts, priced at the peak speeds of data sheets; None where that is not known."""
    rows = tables.get("expert_loads")
    if rows is None or not len(rows):
        return None
    try:
        found = remembered(rows, key(tables), lambda: diagnose(tables))
    except UsageError:
        return None
    priced = [(one, one.cost_s) for one in found if one.cost_s and one.ladder is not None]
    if not priced:
        return None
    worst, cost_s = max(priced, key=lambda one: one[1] or 0.0)
    rungs = worst.ladder
    if rungs is None or cost_s is None:
        return None
    held = np.where(np.isfinite(rungs.held_out), rungs.held_out, rungs.plan)
    now, then = float(np.nanmean(1 / rungs.now) - 1), float(np.nanmean(1 / held) - 1)
    part = max(0.0, 1 - then / now) if now > 0 else 0.0
    return Option(
        "rebalance experts", "moe", "rebalance-experts", np.maximum(step_s - cost_s * part, 0.0),
        "loads stay as they were: the plan is judged on the window after the one it was made for",
        "moving expert weights once", "loads drift: measure again after the move",
        {"balance_now": float(np.nanmean(rungs.now)), "balance_planned": float(np.nanmean(held))},
    )  # fmt: skip


def checkpoint_option(tables: Tables, step_s: Array, ranks: int) -> Option | None:
    """Return the best interval between checkpoints, None where the recording does not show two saves or more."""
    found = saves(tables)
    if found is None:
        return None
    save_s, every_s = found
    mttf_s = checkpoint.assumed_mttf_s(ranks)

    def saved_s(mttf: float) -> float:
        now, best = (checkpoint.overhead_ratio(one, save_s, mttf, RESTART_S)
                     for one in (every_s, checkpoint.exact_s(save_s, mttf)))  # fmt: skip
        return float(step_s.mean()) * min(now - best, 1.0)  # more is lost than the recorded steps, where saves are rare

    ends = sorted(saved_s(mttf_s * factor) for factor in (1 / ASSUMED_RANGE, 1.0, ASSUMED_RANGE))
    best_s = checkpoint.exact_s(save_s, mttf_s)
    return Option(
        "checkpoint interval", "checkpoint", "respace-checkpoints", np.maximum(step_s - saved_s(mttf_s), 0.0),
        f"failures come as often as in the published run of Llama 3, one in {mttf_s / 3600:.3g} h for {ranks} ranks; "
        "give your own to `skewscope plan checkpoint`",
        "none", "a longer gap loses more work when a host fails",
        {"save_s": save_s, "interval_now_s": every_s, "interval_s": best_s}, range_s=(ends[0], ends[-1]),
    )  # fmt: skip


def saves(tables: Tables) -> tuple[float, float] | None:
    """Return (mean blocking save, mean useful time between saves) in seconds."""
    steps = tables.get("steps")
    if steps is None or not len(steps):
        return None
    rows = steps[(steps["phase"] == "checkpoint").to_numpy()]
    if rows["step"].nunique() < FEWEST_SAVES:
        return None
    by_step = rows.groupby("step").agg(start_ns=("start_ns", "min"), end_ns=("end_ns", "max"))
    length = (by_step["end_ns"] - by_step["start_ns"]).to_numpy() / NS
    between = np.diff(np.sort(by_step["start_ns"].to_numpy())) / NS - length[:-1].mean()
    return (float(length.mean()), float(between.mean())) if length.mean() > 0 and between.mean() > 0 else None


def others(tables: Tables, step_s: Array, ranks: int) -> Iterator[Option]:
    """Yield the remedies that any job may have, whatever its ranks share."""
    for made in (experts_option(tables, step_s), checkpoint_option(tables, step_s, ranks)):
        if made is not None:
            yield made
