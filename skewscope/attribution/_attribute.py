"""From canonical tables to the derived ones: the order in which the parts of attribution work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from .. import tables as schema
from ..frames import all_tables, empty
from ..stats import intervals, segments
from . import (
    blame,
    calls,
    clocks,
    decompose,
    endpoints,
    event_graph,
    layout,
    pairs,
    pricing,
    step_spread,
    timeline,
    work,
)
from .price_series import PriceSeries
from .whatif import attribute_ops, is_operation_trace

Array = np.ndarray[Any, Any]

DERIVED = tuple(name for name in schema.names() if schema.table(name).derived)
VIOLATING_SHARE = 0.2  # classes of calls in which more than this share is impossible were matched wrongly
TOLERANCE_NS = 2_000_000
FEWEST_ROUNDS = 3  # with fewer repetitions of the calls' pattern nothing in the recording is a step


@dataclass(frozen=True)
class Attribution:
    """The derived tables, and what could not be decided, in words; `prices` is what `blame` was written from."""

    tables: dict[str, pd.DataFrame]
    warnings: list[str] = field(default_factory=list)
    prices: PriceSeries | None = None


def attribute(given: Mapping[str, pd.DataFrame]) -> Attribution:
    """Return all derived tables of a recording, empty where it does not show them.

    Operation-level traces (forward, backward, send, receive per microbatch) go to the operation graph; everything else
    that has calls goes to the call graph. Recordings with neither give empty tables.
    """
    tables = all_tables(given)
    derived = {name: empty(name) for name in DERIVED}
    if is_operation_trace(tables["ops"]):
        made, warnings = attribute_ops(tables)
        return Attribution({**derived, **made}, warnings)
    return _attribute_calls(tables, derived)


def _attribute_calls(tables: dict[str, pd.DataFrame], derived: dict[str, pd.DataFrame]) -> Attribution:
    """Return the derived tables from collectives, activity and steps."""
    collectives = layout.number_steps(layout.name_groups(tables["collectives"]), tables["steps"])
    warnings: list[str] = []
    node_of = layout.nodes(tables["ranks"])
    matched, alignment = _matched(collectives, node_of)
    wrong = _mismatched(collectives, matched, alignment, warnings)
    if wrong.any():
        collectives = layout.only(collectives, ~wrong)
        matched, alignment = _matched(collectives, node_of)
    doubt = clocks.SIGNIFICANT * alignment.uncertainty_of(matched.rank)
    derived["clocks"] = clocks.table(alignment, node_of)
    derived["arrivals"] = calls.arrivals(collectives, matched, doubt)
    derived["pair_delays"] = pairs.pair_delays(tables["links"], collectives, matched)
    primary = _primary(collectives)
    chosen = layout.only(collectives, (collectives["source"] == primary).to_numpy())
    prices = None
    if len(chosen):
        made, prices = _priced(tables, chosen, alignment, node_of, derived["pair_delays"], primary)
        derived.update(made)
    if not len(derived["rank_steps"]) and len(tables["steps"]):
        derived.update(step_spread.attribute_steps(tables["steps"], node_of))
    return Attribution(derived, warnings, prices)


def _priced(
    tables: dict[str, pd.DataFrame], collectives: pd.DataFrame, alignment: clocks.Alignment, node_of: dict[int, str],
    pair_table: pd.DataFrame, source: str,
) -> tuple[dict[str, pd.DataFrame], PriceSeries | None]:  # fmt: skip
    """Return `rank_steps`, `step_times` and `blame` of the calls of one recorder, and the prices step by step."""
    if (collectives["step"] < 0).all():
        collectives = layout.number_rounds(collectives)
        if collectives["step"].nunique() < FEWEST_ROUNDS:
            return {}, None
    else:
        collectives = layout.only(collectives, (collectives["step"] >= 0).to_numpy())
    asked = collectives["rank"].to_numpy(), collectives["ready_ns"].to_numpy()
    aligned = collectives.assign(ready_ns=asked[1] + alignment.shift(*asked))
    stage_of = layout.stages(tables["ranks"], aligned)
    matched = calls.match(collectives)
    if not (matched.ready >= 0).any():
        return {}, None
    shift = alignment.shift(matched.rank, matched.ready)
    matched = calls.on_common_clock(matched, shift, np.asarray(collectives["op"] == "send")[matched.row])
    step_of_row = collectives["step"].to_numpy()[matched.row]
    act = timeline.activity(tables["ops"] if source != "flight-recorder" else empty("ops"), alignment)
    may_hold = np.ones(len(matched.row), dtype=bool)
    if not len(act.busy.lane):
        may_hold = timeline.waited_by_rhythm(matched, step_of_row)
    line = timeline.timeline(matched, act.busy, may_hold)
    start = collectives["start_ns"].to_numpy()[matched.row]
    graph = event_graph.build(matched, np.where(start >= 0, start + shift, -1), line)
    own = work.work(collectives, matched, line, act, stage_of)
    step = step_of_row[line.row]
    pricer = pricing.pricer(graph, line, own, step)
    slow = _slow_ends(pair_table, collectives, matched, graph)
    prices = blame.series(pricer, stage_of, slow) if len(own.rank) else None
    rank_steps = decompose.rank_steps(
        tables["steps"], matched, line, own, act, alignment, step, node_of, stage_of, source
    )
    ideal = prices.ideal_ns if prices is not None else np.zeros(0)
    times = decompose.step_times(rank_steps, pricer.steps, pricer.base_ns, ideal, source)
    listed = blame.table(prices, node_of) if prices is not None else empty("blame")
    return {"rank_steps": rank_steps, "step_times": times, "blame": listed}, prices


def _slow_ends(
    pair_table: pd.DataFrame, collectives: pd.DataFrame, matched: calls.Calls, graph: event_graph.EventGraph
) -> dict[int, Array]:
    """Return per rank with a slow network end the factor of each transfer node, were it as fast as the others."""
    found = endpoints.slow_ends(pair_table)
    if not found or not len(graph.transfer):
        return {}
    of_call = matched.runs.of[graph.transfer_row]
    row = matched.row[graph.transfer_row]
    begin = matched.last_ready
    end = segments.maximum(np.maximum(matched.end, begin[matched.runs.of]), matched.runs)
    lanes = np.zeros(len(begin), dtype=np.int64)
    flight = intervals.union(lanes, begin, end)
    members = matched.runs.size[of_call]
    moved = collectives["message_bytes"].to_numpy()[row].astype(float)
    busy = float((flight.end - flight.start).sum())
    return {rank: endpoints.transfer_scale(speeds, graph.transfer_row, of_call, moved, members, busy)
            for rank, speeds in found.items()}  # fmt: skip


def _matched(collectives: pd.DataFrame, node_of: dict[int, str]) -> tuple[calls.Calls, clocks.Alignment]:
    """Return the calls on the common clock, and how the clocks were aligned."""
    matched = calls.match(collectives)
    alignment = clocks.align(collectives, matched, node_of)
    sends = np.asarray(collectives["op"] == "send")[matched.row]
    return calls.on_common_clock(matched, alignment.shift(matched.rank, matched.ready), sends), alignment


def _primary(collectives: pd.DataFrame) -> str:
    """Return the source whose calls are decomposed: completions known first, then steps, then the most rows."""
    if not len(collectives):
        return ""
    whole = ((collectives["end_ns"] >= 0) & (collectives["ready_ns"] >= 0)).to_numpy()
    whole = whole & (collectives["source"] != "flight-recorder").to_numpy()
    stepped = (collectives["step"] >= 0).to_numpy()
    worth = {}
    for source in collectives["source"].unique():
        mine = (collectives["source"] == source).to_numpy()
        worth[str(source)] = (whole[mine].mean() > 0.5, stepped[mine].mean() > 0.5, int(mine.sum()))
    return max(worth, key=lambda source: worth[source])


def _mismatched(
    collectives: pd.DataFrame, matched: calls.Calls, alignment: clocks.Alignment, warnings: list[str]
) -> Array:
    """Return which rows of `collectives` belong to classes that were matched wrongly; adds a warning for each class."""
    wrong = np.zeros(len(collectives), dtype=bool)
    if not len(matched.row):
        return wrong
    synchronising = np.asarray(collectives["op"].isin(calls.SYNCHRONISING))[matched.row][matched.runs.first]
    doubt = segments.maximum(alignment.uncertainty_of(matched.rank), matched.runs)
    sends = np.asarray(collectives["op"] == "send")[matched.row]  # a buffered send may end before anybody receives
    ending = replace(matched, end=np.where(sends, -1, matched.end))
    bad = calls.violations(ending, TOLERANCE_NS + 2 * doubt) & synchronising & (matched.runs.size > 1)
    kind = segments.numbered(*(collectives[name].cat.codes.to_numpy() for name in ("source", "group", "op_class")))
    of_call = kind[matched.row][matched.runs.first]
    share = np.bincount(of_call, bad) / np.maximum(np.bincount(of_call, synchronising), 1)
    suspect = np.flatnonzero(share > VIOLATING_SHARE)
    if len(suspect):
        wrong = np.isin(kind, suspect)
        count = int(wrong.sum())
        warnings.append(
            f"{count} calls of {len(suspect)} kinds could not be matched across ranks (a member would have finished "
            "before another began): their communicator is not in the recording"
        )
    return wrong
