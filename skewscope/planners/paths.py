"""Spread large flows over the fabric's links so that none waits on another's.

Takes a table with one row per flow: the leaf switches of its ends, its size, and, where known, the spine that it takes
today. Says which links carry more than one flow, what that costs, and three remedies: a spine for each flow, more queue
pairs, and an order of nodes in which a ring leaves each leaf once.

How it works: flows of equal size get spines by colouring a bipartite graph, which is the optimum; others the largest
first. Where today's spines are not known, random hashes stand for them (mean of 1,000, seeded). A rail-optimised fabric
has a leaf per rail: name the rail's leaf.

What to know: flows are taken to start together and to be cut by the busiest link on their way. Adaptive routing already
spreads packets; measure first whether flows collide (`ecmp-collision`, `rail-imbalance`).

Examples:
  skewscope plan paths flows.csv --spines 8
  skewscope plan paths flows.csv --spines 8 --link 50 --out spines.csv --html plan.html

Worked example: four flows of 1 GB between two leaves and two others, over two spines of 50 GB/s, all on spine 0 today.

>>> import numpy as np
>>> flows = Flows(np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3]), np.full(4, 1e9), 2)
>>> made = planned(Named(flows, ("a", "b", "c", "d"), np.zeros(4, dtype=int)), Wanted(link_bytes_per_s=50e9))
>>> made.current["exchange_s"], made.proposed["exchange_s"], made.optimal
(0.04, 0.02, True)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..errors import UsageError
from ..optimize import paths
from ..optimize.paths import Flows
from ..plans import Picture, Plan
from . import _rounds, _tables

Array = np.ndarray[Any, Any]

GIGA = 1e9
PAIRS = (1, 2, 4, 8, 16)
NEAR_RATIO = 1.1  # of the best spread: so many queue pairs are enough
LEAST_GAIN_RATIO = 0.02
PROVED_RATIO = 1e-9
LISTED = 32


@dataclass(frozen=True)
class Named:
    """Flows with the `leaves`' names, today's `spine` [flows] or None, and the `nodes` that a ring joins, if named."""

    flows: Flows
    leaves: tuple[str, ...]
    spine: Array | None = None
    nodes: tuple[str, ...] = ()
    node_leaf: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What is asked for, as the flags say."""

    link_bytes_per_s: float = 50 * GIGA
    seed: int = 0
    out: str | None = None


class Paths:
    """`skewscope plan paths`."""

    name: ClassVar[str] = "paths"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        columns = "src_leaf, dst_leaf, gigabytes; spine (from 0) where known; src, dst (nodes of a ring) where known"
        add("flows", metavar="FLOWS", help=f"a table (CSV, Parquet): {columns}")
        add("--spines", type=_rounds.whole, required=True, metavar="K", help="spines that each leaf is linked to")
        add(
            "--link", type=_tables.positive, default=50.0, metavar="GB/S", help="speed of a link (default: %(default)s)"
        )
        add("--seed", type=_rounds.count, default=0, help="of random hashes (default: %(default)s)")
        add("--out", metavar="FILE", help="write the spines as CSV: flow, src_leaf, dst_leaf, spine")

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        return planned(read(Path(args.flows), args.spines), Wanted(args.link * GIGA, args.seed, args.out))


def read(path: Path, spines: int) -> Named:
    """Return the flows of a table; raises UsageError naming the column and the row."""
    rows = _tables.read(path)
    missing = {"src_leaf", "dst_leaf", "gigabytes"} - set(rows.columns)
    if missing:
        raise UsageError(f"{path}: columns {', '.join(sorted(missing))} are missing; has {', '.join(rows.columns)}")
    ends = [rows[name].astype(str) for name in ("src_leaf", "dst_leaf")]
    names = sorted(set(ends[0]) | set(ends[1]))
    up, down = (pd.Categorical(one, categories=names).codes.astype(np.int64) for one in ends)
    spine = None
    if "spine" in rows.columns:
        named = _tables.column(rows, "spine", path)
        spine = named.astype(np.int64)
        bad = (spine >= spines) | (spine != named)
        if bad.any():
            row = int(bad.argmax())
            raise UsageError(
                f"{path}: column spine, row {row + 1}: wants 0 to {spines - 1} (--spines), not {named[row]:g}"
            )
    nodes = tuple(rows["src"].astype(str)) if {"src", "dst"} <= set(rows.columns) and _is_ring(rows) else ()
    size = _tables.column(rows, "gigabytes", path) * GIGA
    return Named(Flows(up, down, size, spines), tuple(names), spine, nodes, tuple(ends[0]) if nodes else ())


def _is_ring(rows: pd.DataFrame) -> bool:
    """Return whether each flow begins where the one before ended, and the last ends at the first."""
    return bool((rows["dst"].astype(str).to_numpy() == np.roll(rows["src"].astype(str).to_numpy(), -1)).all())


def planned(named: Named, wanted: Wanted) -> Plan:
    """Return the plan: spines for flows, queue pairs, and the ring's order."""
    flows = named.flows
    by_hash = {pairs: float(paths.hashed(flows, pairs, seed=wanted.seed).mean()) for pairs in PAIRS}
    spine = paths.spread(flows)
    busiest = float(flows.loads(spine).max(initial=0.0))
    now = by_hash[1] if named.spine is None else float(flows.loads(named.spine).max(initial=0.0))
    changed = busiest < now * (1 - LEAST_GAIN_RATIO)
    chosen = spine if changed or named.spine is None else named.spine
    after = busiest if changed else now
    least = min(flows.least_bytes(), after)
    gap = after / least - 1 if least > 0 else 0.0
    enough = next((pairs for pairs in PAIRS if by_hash[pairs] <= NEAR_RATIO * least), PAIRS[-1])
    ring = _ring(named)
    return Plan(
        name="paths",
        inputs={"flows": len(flows.size), "leaves": flows.leaves, "spines": flows.spines,
                "link_bytes_per_s": wanted.link_bytes_per_s, "spines_known": named.spine is not None,
                "seed": wanted.seed},
        objective="exchange_s", current=_metrics(flows, named.spine, now, wanted),
        proposed=_metrics(flows, chosen if changed or named.spine is not None else None, after, wanted),
        verdict=_verdict(named, now, after, changed, wanted),
        plan={"spine": chosen, "hashed_bytes": {str(pairs): one for pairs, one in by_hash.items()},
              "queue_pairs": enough, "ring": ring},
        lower_bound=least / wanted.link_bytes_per_s, gap=max(gap, 0.0), optimal=gap <= PROVED_RATIO,
        steps=list(_steps(named, chosen, changed, enough, by_hash, ring)),
        pictures=_pictures(named, chosen, by_hash, least, wanted),
        files={wanted.out: _file(named, chosen)} if wanted.out else {},
    )  # fmt: skip


def _metrics(flows: Flows, spine: Array | None, busiest: float, wanted: Wanted) -> dict[str, Any]:
    return {"exchange_s": busiest / wanted.link_bytes_per_s, "busiest_link_gb": busiest / GIGA,
            "flows_that_share": None if spine is None else _sharing(flows, spine)}  # fmt: skip


def _sharing(flows: Flows, spine: Array) -> int:
    """Return how many flows share a link with another."""
    count = Flows(flows.up, flows.down, np.ones(len(flows.size)), flows.spines).loads(spine)
    crossing = flows.up != flows.down
    meets = (count[0, flows.up, spine] > 1) | (count[1, flows.down, spine] > 1)
    return int((meets & crossing).sum())


def _ring(named: Named) -> dict[str, Any] | None:
    if not named.nodes:
        return None
    leaf = np.unique(np.array(named.node_leaf), return_inverse=True)[1]
    order = paths.ring(leaf)
    return {"crossings_now": paths.crossings(leaf), "crossings": paths.crossings(leaf[order]),
            "order": [named.nodes[at] for at in order]}  # fmt: skip


def _verdict(named: Named, now: float, after: float, changed: bool, wanted: Wanted) -> str:
    seconds = [one / wanted.link_bytes_per_s for one in (now, after)]
    if not changed:
        return f"Leave the flows where they are: no spread saves {LEAST_GAIN_RATIO:.0%} of {seconds[0]:.4g} s."
    today = "as they are" if named.spine is not None else "by a random hash, on average"
    return (f"Choose spines: the exchange takes {seconds[1]:.4g} s, not {seconds[0]:.4g} ({today}): "
            f"{1 - after / now:.0%} less.")  # fmt: skip


def _steps(
    named: Named, spine: Array, changed: bool, enough: int, by_hash: dict[int, float], ring: dict[str, Any] | None
) -> Iterator[str]:
    if ring is not None and ring["crossings"] < ring["crossings_now"]:
        yield (f"order the ring so that each leaf is entered once: {ring['crossings']} flows leave a leaf instead of "
               f"{ring['crossings_now']} (plan.ring.order); then plan again")  # fmt: skip
    if not changed:
        return
    crossing = np.flatnonzero(named.flows.up != named.flows.down)
    moved = crossing if named.spine is None else crossing[spine[crossing] != named.spine[crossing]]
    for flow in moved[:LISTED].tolist():
        up, down = named.leaves[named.flows.up[flow]], named.leaves[named.flows.down[flow]]
        yield f"flow {flow} ({up} to {down}): spine {spine[flow]}"
    if len(moved) > LISTED:
        yield f"and {len(moved) - LISTED} flows more: plan.spine in the JSON, or --out FILE"
    yield "choose a source port that hashes to the spine, or control paths at the switches"
    if enough > 1:
        share = 1 - by_hash[enough] / by_hash[1]
        yield (f"without path control: {enough} queue pairs per flow (NCCL_IB_QPS_PER_CONNECTION={enough}, "
               f"NCCL_IB_SPLIT_DATA_ON_QPS=1) take {share:.0%} off the busiest link, on average")  # fmt: skip


def _file(named: Named, spine: Array) -> bytes:
    flows = named.flows
    rows = (f"{flow},{named.leaves[up]},{named.leaves[down]},{spine[flow]}"
            for flow, (up, down) in enumerate(zip(flows.up.tolist(), flows.down.tolist(), strict=True)))  # fmt: skip
    return ("flow,src_leaf,dst_leaf,spine\n" + "\n".join(rows) + "\n").encode()


def _pictures(
    named: Named, spine: Array, by_hash: dict[int, float], least: float, wanted: Wanted
) -> Sequence[Picture]:  # fmt: skip
    flows = named.flows
    seconds = [one / wanted.link_bytes_per_s for one in by_hash.values()]
    known = {} if named.spine is None else {"up, now": flows.loads(named.spine)[0] / GIGA}
    planned_loads = flows.loads(spine) / GIGA
    return (
        Picture("heatmap", "Load of the links", f"The busiest carries {planned_loads.max(initial=0.0):.4g} GB planned; "
                f"none can do with less than {least / GIGA:.4g}.", "spine", "leaf",
                {**known, "up, planned": planned_loads[0], "down, planned": planned_loads[1]}, z="carried, GB"),
        Picture("lines", "Queue pairs", f"Random hashes: {seconds[0]:.4g} s with one pair, {seconds[-1]:.4g} with "
                f"{PAIRS[-1]}.", "queue pairs per flow", "exchange, s",
                {"hashed": (list(PAIRS), seconds),
                 "chosen": (list(PAIRS), [float(flows.loads(spine).max(initial=0.0)) / wanted.link_bytes_per_s] * 5)}),
    )  # fmt: skip
