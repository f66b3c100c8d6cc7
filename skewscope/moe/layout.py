"""Where the experts of a recorded job live: its recorded map, else the start layout over its expert-parallel ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UsageError
from ..frames import frame
from .loads import Loads, placements_of
from .placement import Placement, lint, start_layout

Tables = Mapping[str, pd.DataFrame]
NO_GPUS = (
    "neither a placement nor an expert-parallel size is recorded: loads of GPUs are unknown, only experts are judged; "
    'put the engine\'s map beside the loads, or a job.json with "parallelism": {"ep": N}'
)


@dataclass(frozen=True)
class Layout:
    """`placement` is None where nobody says; `basis` says where it comes from; `since` is the step from which it holds.

    `recorded` is False where the start layout is assumed; `ranks` [G] lists one global rank of each expert-parallel
    rank, -1 unknown; `warnings` say what is wrong with the map.
    """

    placement: Placement | None
    basis: str
    recorded: bool = False
    since: int = -1
    ranks: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def layout(tables: Tables, loads: Loads) -> Layout:
    """Return where the experts of these loads live."""
    warnings: tuple[str, ...] = ()
    rows = placements_of(tables, loads)
    if len(rows):
        found, warnings = _recorded(rows, loads, _parallel(tables, loads.job))
        if found is not None:
            nodes, ranks = _places(tables, loads.job, found.gpus)
            placed = Placement(found.slots, found.gpus, found.experts, nodes)
            since = _newest(rows, loads)
            return Layout(placed, "the recorded map of experts", True, since, ranks, (*warnings, *lint(placed)))
    gpus = _parallel(tables, loads.job)
    if gpus < 2:
        return Layout(None, NO_GPUS, warnings=warnings)
    experts = loads.counts.shape[-1]
    nodes, ranks = _places(tables, loads.job, gpus)
    placed = start_layout(experts, -(-experts // gpus) * gpus, gpus, len(loads.layers), nodes)
    said = f"no map of experts is recorded: blocks of experts over {gpus} expert-parallel ranks are assumed"
    return Layout(placed, said, ranks=ranks, warnings=warnings)


def with_expert_ranks(tables: Tables, world: int, parallelism: Mapping[str, int]) -> pd.DataFrame:
    """Return the table `ranks` with the expert-parallel coordinate of each rank, where the job's sizes are declared.

    Megatron's order: tensor fastest, then context, then data with experts inside it. It is returned as it is where
    coordinates are told already, no size is declared, or no loads of experts are there.

    >>> from ..frames import all_tables, frame
    >>> one = frame("expert_loads", {"job": "j", "step": [0], "layer": 0, "expert": 0, "rank": -1, "routed_tokens": 5})
    >>> with_expert_ranks(all_tables({"expert_loads": one}), 4, {"ep": 2, "tp": 1})["ep"].tolist()
    [0, 1, 0, 1]
    """
    ranks, size = tables["ranks"], int(parallelism.get("ep") or 0)
    if size < 2 or not len(tables["expert_loads"]) or (len(ranks) and (ranks["ep"] >= 0).any()):
        return ranks
    inner = max(int(parallelism.get("tp") or 1), 1) * max(int(parallelism.get("cp") or 1), 1)
    if len(ranks):
        return ranks.assign(ep=(ranks["rank"].to_numpy() // inner % size).astype(np.int32))
    number = np.arange(max(world, size * inner))
    job = str(tables["expert_loads"]["job"].iloc[0])
    return frame("ranks", {"job": job, "rank": number, "ep": number // inner % size})


def _recorded(rows: pd.DataFrame, loads: Loads, parallel: int) -> tuple[Placement | None, tuple[str, ...]]:
    """Return the newest map that holds for the loads; None with the reason where it is not whole."""
    if not len(rows):
        return None, ()
    rows = rows[(rows["step"] == _newest(rows, loads)).to_numpy()]
    rows = rows[rows["layer"].isin(loads.layers.tolist()).to_numpy()]
    rows = rows.sort_values(["layer", "rank", "slot"], kind="stable").drop_duplicates(["layer", "slot"])
    layers, at = np.unique(rows["layer"].to_numpy(), return_inverse=True)
    counts = np.bincount(at) if len(at) else np.zeros(0, dtype=np.int64)
    if len(layers) < len(loads.layers) or not len(counts) or counts.min() != counts.max():
        return None, ("the recorded map of experts does not hold the same slots in every layer of the loads: left out",)
    slots = rows["expert"].to_numpy().reshape(len(layers), -1)
    gpus = int(rows["rank"].nunique()) if (rows["rank"] >= 0).all() else parallel
    if gpus < 1 or slots.min() < 0 or slots.max() >= loads.counts.shape[-1] or slots.shape[1] % gpus:
        return None, ("the recorded map of experts names no ranks, empty slots or unknown experts: left out",)
    found = Placement(slots, gpus, loads.counts.shape[-1])
    try:
        found.gpu_loads(loads.total())
    except UsageError as error:
        return None, (f"the recorded map of experts does not fit the loads ({error}): left out",)
    return found, ()


def _newest(rows: pd.DataFrame, loads: Loads) -> int:
    """Return the step of the newest map that was there before the last loads, else of the oldest."""
    steps = np.unique(rows["step"].to_numpy())
    before = steps[steps <= loads.steps.max()]
    return int(before[-1] if len(before) else steps[0])


def _of_job(tables: Tables, job: str) -> pd.DataFrame:
    ranks = tables.get("ranks", pd.DataFrame())
    return ranks[((ranks["job"].astype(str) == job) & (ranks["ep"] >= 0)).to_numpy()] if len(ranks) else ranks


def _parallel(tables: Tables, job: str) -> int:
    ranks = _of_job(tables, job)
    return int(ranks["ep"].max()) + 1 if len(ranks) else 0


def _places(tables: Tables, job: str, gpus: int) -> tuple[int, tuple[int, ...]]:
    """Return the nodes of one expert-parallel group (1 where unknown or uneven) and a global rank of each member."""
    ranks = _of_job(tables, job).sort_values("rank") if len(_of_job(tables, job)) else pd.DataFrame()
    if not len(ranks) or int(ranks["ep"].max()) + 1 != gpus:
        return 1, ()
    first: Any = ranks.drop_duplicates("ep").sort_values("ep")
    nodes = [str(node) for node in first["node"]]
    count = len(set(nodes)) if all(nodes) else 1
    return (count if gpus % count == 0 else 1), tuple(int(rank) for rank in first["rank"])
