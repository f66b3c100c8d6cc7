"""A plan of experts as a `Plan`: metrics before and after, the arrays, the pictures and the files for engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..moe import affinity, traffic
from ..moe.migration import holds
from ..moe.placement import Placement
from ..plans import Plan
from . import _moe_exports, _moe_pictures, _moe_words
from ._moe_made import Made

OBJECTIVE = "max_over_mean"
PROVED_RATIO = 1e-6
ASSUMED = (
    "tokens are split evenly over replicas; seconds and copies are at the peaks of data sheets, so both are the least "
    "that they can be"
)
CROSS_NODE = "copies of tokens that leave their node, one per node, over top-k; picks taken for independent"


def document(made: Made, inputs: Mapping[str, Any], exports: Sequence[tuple[str, str]] = ()) -> Plan:
    """Return the plan; `inputs` are the paths that were read."""
    files, written = {}, []
    for name, path in exports:
        files[path], how = _moe_exports.written(name, made.proposed, made.layers)
        written.append(f"Give the engine {path}. {how}")
    best = float((1 / made.best).mean())
    now, planned = metrics(made, made.given.current), metrics(made, made.proposed)
    gap = planned[OBJECTIVE] / best - 1
    return Plan(
        "moe", {**inputs, **_asked(made)}, OBJECTIVE, now, planned, _moe_words.verdict(made), _contents(made),
        lower_bound=best, optimal=_is_optimal(made, gap), gap=max(gap, 0.0), solve_s=made.solve_s,
        steps=_moe_words.steps(made, written), warnings=_moe_words.warnings(made),
        pictures=_moe_pictures.pictures(made), files=files,
    )  # fmt: skip


def _is_optimal(made: Made, gap: float) -> bool:
    return gap <= PROVED_RATIO or made.wanted.max_moves < 0 and made.proven is not None and bool(made.proven.all())


def metrics(made: Made, placement: Placement) -> dict[str, Any]:
    """Return the metrics of the running placement or of the plan; None where one cannot be known."""
    balance, is_plan = made.balance(placement), placement is made.proposed
    held, back, clock = made.held, made.pay_back, made.given.clock
    later = None if held is None else float((held.later if is_plan else held.kept).mean())
    seconds = None if back is None else back.step_s - (back.gain_s if is_plan else 0.0)
    extra = placement.slots.shape[1] - placement.experts
    size = None if clock is None else clock.model.expert_bytes(clock.weight_bytes)
    spare = None if size is None else extra / placement.gpus * len(made.layers) * size / 2.0**30
    return {
        "balancedness_mean": float(balance.mean()), "balancedness_min": float(balance.min()),
        OBJECTIVE: float((1 / balance).mean()), "balancedness_later": later,
        "moves": int(made.moved.copies.sum()) if is_plan else 0, "cross_node_share": cross_node(made, placement),
        "experts_s": seconds, "redundant_gib": spare,
        "duplicates": int(placement.slots.size - holds(placement).sum()), **_local(made, placement),
    }  # fmt: skip


def _local(made: Made, placement: Placement) -> dict[str, float]:
    if made.given.pairs is None:
        return {}
    gpu, node = affinity.local_shares(made.given.pairs, placement)
    return {"pairs_on_gpu_share": gpu, "pairs_on_node_share": node}


def cross_node(made: Made, placement: Placement) -> float | None:
    """Return the share of a token's picks that leave its node, one copy per node; None where top-k is not known."""
    if placement.nodes == 1:
        return 0.0
    if not made.given.top_k:
        return None
    total = made.given.loads.total()
    tokens = float(total.sum(-1).mean()) / made.given.top_k
    touched = traffic.nodes_touched(total, placement, tokens)
    return float(touched.mean()) * (1 - 1 / placement.nodes) / made.given.top_k


def _asked(made: Made) -> dict[str, Any]:
    given, wanted, clock = made.given, made.wanted, made.given.clock
    loads = given.loads
    splits = 0 if made.held is None else len(made.held.later)
    return {
        "steps": [len(one.steps) for one in given.workloads], "layers": len(loads.layers),
        "experts": made.proposed.experts, "top_k": given.top_k or None, "phase": loads.phase or None,
        "gpus": wanted.gpus, "nodes": wanted.nodes, "slots": wanted.slots, "groups": wanted.groups or None,
        "max_moves": None if wanted.max_moves < 0 else wanted.max_moves, "horizon_windows": wanted.horizon or None,
        "load_limit": wanted.load_limit or None,
        "running placement": given.known, "model": clock.model.name if clock else None,
        "gpu": clock.board.name if clock else None, "weight_bytes": clock.weight_bytes if clock else None,
        "held-out splits": splits, "assumed": ASSUMED, "cross_node_share": CROSS_NODE,
    }  # fmt: skip


def _contents(made: Made) -> dict[str, Any]:
    held, back = made.held, made.pay_back
    ladder = [
        {
            "rung": name,
            "mean": float(one.mean()),
            "worst": float(one.min()),
            "worst_layer": made.layers[int(one.argmin())],
        }
        for name, one in made.rungs()
    ]
    later = None
    if held is not None:
        low, high = held.interval
        later = {"mean": held.mean, "least": low, "greatest": high, "gain_over_running": float(held.gains.mean()),
                 "splits": len(held.later)}  # fmt: skip
    return {
        "recommended": not _moe_words.against(made), "limit_now": _moe_words.limit(made),
        "limit_planned": _moe_words.limit(made, planned=True), "gpus": made.wanted.gpus, "nodes": made.wanted.nodes,
        "layers": made.layers, "phy2log": made.proposed.slots, "logcnt": made.proposed.replicas(),
        "bound": made.best, "binding": made.binding, "copies": made.moved.copies, "held_out": later,
        "pay_back": None if back is None else {**asdict(back), "steps": back.steps}, "ladder": ladder,
        "copies_against_balance": [asdict(one) for one in made.budgets],
        "redundancy": [asdict(one) for one in made.redundancy], "what_if": [asdict(one) for one in made.whatifs],
        "workloads": [asdict(one) for one in made.served], "systems": [asdict(one) for one in made.systems],
        "locality": [{**vars(one), "placement": None} for one in made.frontier],
    }  # fmt: skip
