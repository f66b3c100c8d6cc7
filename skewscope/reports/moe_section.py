"""What a report says of experts: per job and phase the balance by every definition, the ladder, drift and advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from ..moe import metrics, noise, pairs, traffic
from ..moe.advice import advise, hot_experts
from ..moe.diagnosis import Diagnosis, apart, diagnose, key
from ..moe.ladder import Ladder
from ..signals.view import remembered

if TYPE_CHECKING:
    import pandas as pd

Document = dict[str, Any]
Tables = Mapping[str, "pd.DataFrame"]
RUNGS = ("now", "now_step", "ceiling", "ceiling_step", "bound", "group_bound", "plan", "held_out", "held_out_step",
         "kept", "replanned")  # fmt: skip
WORST_LAYERS = 5
OF_EXPERTS = ("max_over_mean", "gini", "entropy", "effective_share", "variation", "coverage_10_percent", "p99_over_p50",
              "dead", "cold")  # fmt: skip
OF_GPUS = ("max_over_mean", "imbalance_ratio", "variation", "min_violation", "mean_violation")


def section(tables: Tables) -> list[Document]:
    """Return one entry per job and phase of the recorded loads of experts, [] where there are none."""
    rows = tables.get("expert_loads")
    if rows is None or not len(rows):
        return []
    try:
        found = remembered(rows, key(tables), lambda: diagnose(tables))
    except UsageError as error:
        return [_unusable(str(error))]
    return [_entry(one, [other for other in found if other.loads.job == one.loads.job], tables) for one in found]


def _unusable(why: str) -> Document:
    return {"job": "", "phase": "", "steps": 0, "layers": 0, "experts": 0, "warnings": [why]}


def _entry(found: Diagnosis, phases: list[Diagnosis], tables: Tables) -> Document:
    loads, rungs = found.loads, found.ladder
    return {
        "job": loads.job, "phase": loads.phase, "steps": len(loads.steps), "layers": len(loads.layers),
        "experts": int(loads.counts.shape[2]), "top_k": loads.top_k or None,
        "model": found.model.name if found.model is not None else None, "gpus": found.gpus or None,
        "nodes": rungs.nodes if rungs is not None else None, "slots": rungs.slots if rungs is not None else None,
        "basis": found.layout.basis, "judged_steps": len(found.judged),
        "picks_per_step": found.picks_per_step, "design_effect": float(np.median(found.deff)),
        "definitions": _definitions(found), "reported": _reported(tables, found),
        "ladder": _ladder(found, rungs) if rungs is not None else None,
        "expert_level": _level(found.judged.sum(0), found, OF_EXPERTS), **_levels(found),
        "even_router": float(np.median(found.even_hottest)),
        "hottest": [{"layer": layer, "expert": expert, "max_over_mean": ratio}
                    for layer, expert, ratio in hot_experts(found, WORST_LAYERS)],
        "drift": _drift(found), "phases_apart_bits": apart(phases) if len(phases) > 1 else None,
        "dead": {"share": float(found.dead.mean()), "worst_layer": int(loads.layers[int(found.dead.argmax())]),
                 "by_chance": float(noise.zero_probability(1.0 / loads.counts.shape[2], _independent(found)))},
        "traffic": _traffic(found), "affinity": _affinity(found, tables), "kept_balance": found.kept,
        "cost_s": found.cost_s, "advice": [asdict(one) for one in advise(found, apart(phases))],
        "warnings": [*loads.warnings, *found.layout.warnings],
    }  # fmt: skip


def _independent(found: Diagnosis) -> float:
    """Return the picks of a layer in all steps that count as independent."""
    return float(found.loads.total().sum(-1).min() / np.max(found.deff))


def _definitions(found: Diagnosis) -> Document | None:
    """Return what each project would print for single steps of these loads; None where no GPUs are known."""
    placement = found.layout.placement
    if placement is None:
        return None
    dense = found.model.dense_layers if found.model is not None else 0
    loads = placement.gpu_loads(found.judged)
    return metrics.definitions(loads, placement.slot_loads(found.judged.sum(0)), dense)


def _reported(tables: Tables, found: Diagnosis) -> Document:
    """Return the mean balance that engines report of this job and phase, by whose definition it is."""
    rows = tables.get("balance_reports")
    if rows is None or not len(rows):
        return {}
    mine = rows[((rows["job"].astype(str) == found.loads.job) & (rows["phase"].astype(str) == found.loads.phase)
                 & (rows["layer"] < 0)).to_numpy()]  # fmt: skip
    means = mine.groupby(mine["definition"].astype(str))["balance_ratio"].mean()
    return {str(name): float(value) for name, value in means.items()}


def _ladder(found: Diagnosis, rungs: Ladder) -> Document:
    binding = rungs.binding()
    worst = np.argsort(rungs.now, kind="stable")[:WORST_LAYERS]
    return {
        "limit": rungs.limit, "windows": rungs.windows, "steps_per_window": rungs.steps_per_window,
        "mean": {name: float(getattr(rungs, name).mean()) for name in RUNGS},
        "losses": {name: float(one.mean()) for name, one in rungs.losses().items()},
        "binding": {name: binding.count(name) for name in dict.fromkeys(binding)},
        "slots_needed": found.slots_needed,
        "worst": [{"layer": int(found.loads.layers[at]), "binding": binding[at],
                   **{name: float(getattr(rungs, name)[at]) for name in RUNGS}} for at in worst.tolist()],
    }  # fmt: skip


def _traffic(found: Diagnosis) -> Document | None:
    """Return how uneven the all-to-all is, and how many nodes a token touches; None where no GPUs are known."""
    placement = found.layout.placement
    if placement is None:
        return None
    loads = found.judged.mean(0)
    _, received = traffic.skew(traffic.gpu_matrix(placement.gpu_loads(loads), 1.0))
    tokens = found.picks_per_step / found.loads.top_k if found.loads.top_k else 0.0
    touched = traffic.nodes_touched(loads, placement, tokens) if tokens and placement.nodes > 1 else None
    model = found.model
    size = traffic.dispatch_bytes(loads, placement, tokens, model.hidden) if model is not None and tokens else None
    return {
        "received_max_over_mean": float(received.mean()),
        "nodes_per_token": float(touched.mean()) if touched is not None else None,
        "dispatch_bytes_per_layer": float(size.mean()) if size is not None else None,
    }  # fmt: skip


def _affinity(found: Diagnosis, tables: Tables) -> list[Document]:
    """Return how layers follow each other: mutual information, and the pairs that stay on a GPU beside 1 / G."""
    placement = found.layout.placement
    return [
        {"layer": one.layer, "next_layer": one.next_layer, "mutual_bits": pairs.mutual_bits(one.counts),
         "local_share": pairs.local_share(one, placement, found.loads.layers) if placement is not None else None,
         "random_share": 1.0 / placement.gpus if placement is not None else None}
        for one in pairs.of_tables(tables, found.loads.job, int(found.loads.counts.shape[2]))
    ]  # fmt: skip


def _level(loads: np.ndarray[Any, Any], found: Diagnosis, names: tuple[str, ...]) -> Document:
    told = metrics.level(loads, found.loads.layers)
    return {name: asdict(told[name]) for name in names}


def _levels(found: Diagnosis) -> Document:
    """Return metrics of GPUs and nodes, None where these are not known."""
    placement = found.layout.placement
    if placement is None:
        return {"gpu_level": None, "node_level": None}
    gpus = placement.gpu_loads(found.judged.sum(0))
    nodes = gpus.reshape(len(gpus), placement.nodes, -1).sum(-1)
    return {
        "gpu_level": _level(gpus, found, OF_GPUS),
        "node_level": _level(nodes, found, OF_GPUS) if placement.nodes > 1 else None,
    }


def _drift(found: Diagnosis) -> Document | None:
    moved = found.drift
    if moved is None:
        return None
    steps = found.loads.steps
    return {
        "steps": [int(steps[edge]) for edge in moved.edges[1:-1]], "bits": moved.bits.mean(-1).tolist(),
        "floor_bits": moved.floor.mean(-1).tolist(), "hottest_kept": moved.overlap.mean(-1).tolist(),
        "changes": [{"step": int(steps[one.place]), "bits": one.bits,
                     "worst_layer": int(found.loads.layers[one.worst_layer])} for one in found.changes],
        "bursts": [[int(steps[first]), int(steps[last])] for first, last in found.bursts],
    }  # fmt: skip
