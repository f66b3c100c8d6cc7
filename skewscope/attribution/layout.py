"""Where ranks sit: hosts, pipeline stages, and the communicators of calls that the recorder left unnamed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..stats import segments

Array = np.ndarray[Any, Any]

REPEATING_SHARE = 0.8
EQUAL_SHARE = 0.15
LONGEST_PERIOD = 4096  # calls; a step with more than that is not recognised by its pattern
SAME_CALL_NS = 3_000_000  # two recorders note one call of a rank within this


def nodes(ranks: pd.DataFrame) -> dict[int, str]:
    """Return the host of each rank that has one.

    >>> from skewscope.frames import frame
    >>> nodes(frame("ranks", {"job": "job", "rank": [0, 1], "node": ["a", ""]}))
    {0: 'a'}
    """
    return {int(rank): str(node) for rank, node in zip(ranks["rank"], ranks["node"], strict=True) if node}


def stages(ranks: pd.DataFrame, collectives: pd.DataFrame) -> dict[int, int]:
    """Return the pipeline stage of each rank: as recorded, else from who sends to whom first; empty if no pipeline."""
    known = ranks[(ranks["pp"] >= 0).to_numpy()]
    if len(known) and known["pp"].nunique() > 1:
        return {int(rank): int(stage) for rank, stage in zip(known["rank"], known["pp"], strict=True)}
    return _stages_from_traffic(collectives)


def _stages_from_traffic(collectives: pd.DataFrame) -> dict[int, int]:
    """Return stages from sends: activations flow forward before gradients flow back.

    Within a step the first message between two ranks goes downstream; a rank's stage is its distance from the ranks
    that nobody feeds. Loops (rings, context parallelism) have no such order: no stages.
    """
    sends = collectives[((collectives["op"] == "send") & (collectives["peer"] >= 0)).to_numpy()]
    if not len(sends):
        return {}
    first = sends.groupby(["step", "rank", "peer"], observed=True)["ready_ns"].min().reset_index()
    back = first.rename(columns={"rank": "peer", "peer": "rank", "ready_ns": "back_ns"})
    both = first.merge(back, how="left", on=["step", "rank", "peer"])
    both["downstream"] = both["back_ns"].isna() | (both["ready_ns"] < both["back_ns"])
    votes = both.groupby(["rank", "peer"])["downstream"].mean()
    pairs = votes[votes > 0.5].reset_index()
    edges = list(zip(pairs["rank"].astype(int), pairs["peer"].astype(int), strict=True))
    depth = {rank: 0 for edge in edges for rank in edge}
    for _ in range(len(depth)):
        deeper = {dst: depth[src] + 1 for src, dst in edges if depth[dst] < depth[src] + 1}
        if not deeper:
            return depth
        depth.update(deeper)
    return {}


def name_groups(collectives: pd.DataFrame) -> pd.DataFrame:
    """Return `collectives` with unnamed communicators taken from another recorder's entry of the same call.

    A gloo trace does not say which process group a call belongs to, the flight recorder of the same rank does: the
    entry nearest in time with the same operation and size is the same call.
    """
    unnamed = (collectives["group"] == "").to_numpy() & (collectives["ready_ns"] >= 0).to_numpy()
    named = (collectives["source"] == "flight-recorder").to_numpy() & (collectives["ready_ns"] >= 0).to_numpy()
    if not unnamed.any() or not named.any():
        return collectives
    columns = ["rank", "op", "message_bytes", "ready_ns"]
    left = collectives.loc[unnamed, columns].assign(row=np.flatnonzero(unnamed)).sort_values("ready_ns")
    right = collectives.loc[named, [*columns, "group", "group_size"]].sort_values("ready_ns")
    for part in (left, right):
        part["op"] = part["op"].astype(str)
    joined = pd.merge_asof(
        left, right, on="ready_ns", by=["rank", "op", "message_bytes"], direction="nearest", tolerance=SAME_CALL_NS
    )
    found = joined[joined["group"].notna()]
    group = np.array(collectives["group"].astype(object), dtype=object)
    size = collectives["group_size"].to_numpy().copy()
    group[found["row"]] = found["group"].astype(str)
    size[found["row"]] = found["group_size"].astype(int)
    return replaced(collectives, group=group, group_size=size)


def replaced(collectives: pd.DataFrame, **columns: Array) -> pd.DataFrame:
    """Return `collectives` with some columns replaced; the others are shared, not copied."""
    typed = {
        name: pd.Categorical(values) if collectives[name].dtype == "category" else np.asarray(values).astype(
            collectives[name].to_numpy().dtype)
        for name, values in columns.items()
    }  # fmt: skip
    return collectives.assign(**typed)


def only(table: pd.DataFrame, rows: Array) -> pd.DataFrame:
    """Return the rows marked True, numbered from 0; the table itself where that is all of them."""
    return table if rows.all() else table[rows].reset_index(drop=True)


def number_steps(collectives: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """Return `collectives` with unknown steps taken from the recorded spans of the rank's steps."""
    whole = steps[(steps["phase"] == "step").to_numpy()]
    missing = (collectives["step"] < 0).to_numpy() & (collectives["ready_ns"] >= 0).to_numpy()
    if not missing.any() or not len(whole):
        return collectives
    spans = whole[["rank", "start_ns", "end_ns", "step"]].sort_values("start_ns")
    calls = collectives.loc[missing, ["rank", "ready_ns"]].assign(row=np.flatnonzero(missing)).sort_values("ready_ns")
    joined = pd.merge_asof(calls, spans, left_on="ready_ns", right_on="start_ns", by="rank", direction="backward")
    inside = joined[(joined["ready_ns"] < joined["end_ns"]).to_numpy()]
    step = collectives["step"].to_numpy().copy()
    step[inside["row"]] = inside["step"].astype(np.int64)
    return replaced(collectives, step=step)


def number_rounds(collectives: pd.DataFrame) -> pd.DataFrame:
    """Return `collectives` of a recording without steps, with a step number per repetition of the calls' pattern.

    The pattern's length is the shortest period of the busiest rank's sequence of (group, operation, size), as in
    fail-slow detectors that find the iteration from the call sequence (Greyhound, ATC'25).
    """
    usable = np.flatnonzero((collectives["ready_ns"] >= 0).to_numpy())
    if not len(usable):
        return collectives
    table = collectives.iloc[usable]
    codes = (table[name].cat.codes.to_numpy() for name in ("group", "op"))
    symbol = segments.numbered(*codes, table["message_bytes"].to_numpy())
    rank, ready = table["rank"].to_numpy(), table["ready_ns"].to_numpy()
    order = segments.ordered(rank, ready)
    lanes = segments.runs(rank[order])
    busiest = int(np.argmax(lanes.size))
    mine = order[lanes.first[busiest] : lanes.first[busiest] + lanes.size[busiest]]
    period = shortest_period(symbol[mine])
    keys = ["source", "group", "op_class", "seq"]
    numbered = table.iloc[mine][keys].assign(round=np.arange(len(mine)) // period).drop_duplicates(keys)
    same_call = table[keys].merge(numbered, how="left", on=keys)["round"].to_numpy()
    by_time = np.searchsorted(ready[mine][::period], ready, side="right") - 1
    step = collectives["step"].to_numpy().copy()
    step[usable] = np.where(np.isfinite(same_call), np.nan_to_num(same_call), np.maximum(by_time, 0)).astype(np.int64)
    return replaced(collectives, step=step)


def shortest_period(symbols: Array) -> int:
    """Return the p for which most symbols[i] = symbols[i + p], the shortest of equals; the length if none fits.

    At least 80 % must repeat; periods within 15 % of the best count as equal (multiples of the true one may
    fit better by chance, having fewer repetitions).

    >>> shortest_period(np.array([1, 2, 2, 1, 2, 2, 1, 2]))
    3
    """
    count = len(symbols)
    periods = range(1, min(count // 2, LONGEST_PERIOD) + 1)
    share = np.array([np.mean(symbols[period:] == symbols[:-period]) for period in periods])
    if not len(share) or share.max() < REPEATING_SHARE:
        return max(count, 1)
    return int(np.argmax(share >= share.max() - EQUAL_SHARE)) + 1
