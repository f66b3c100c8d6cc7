"""Replays repairs of pipelines: many scenarios at once, each a start (as recorded or ideal) and a list of repairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _pipeline_links as links
from . import replay
from .pipeline_graph import Pipeline

Array = np.ndarray[Any, Any]

COMMUNICATION = frozenset(
    (
        *links.TRAFFIC,
        links.GATHER,
        links.REDUCE,
        links.SEPARATE,
        links.EMBEDDING,
        links.CLIP,
        "layernorm_grads_all_reduce",
    )
)
BATCH_BYTES = 12_000_000  # scenarios replayed at once: about what the caches hold
NOBODY: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Repair:
    """Operations that take other durations: those of `kinds` (empty = all), `stage` and `replica` (-1 = all).

    `to` is "ideal" (mean of the kind for work, median for transfers), "even" (mean of kind, stage and step), "balanced"
    (as "even", and all stages at the mean load), "none" (0) or "actual".
    """

    to: str
    kinds: tuple[str, ...] = ()
    stage: int = -1
    replica: int = -1


@dataclass(frozen=True)
class Scenario:
    """What to replay: the recorded durations (or the ideal ones) with `repairs` applied in order."""

    repairs: tuple[Repair, ...] = ()
    ideal: bool = False


@dataclass(frozen=True)
class Bench:
    """Pipelines with the durations that repairs put in place.

    `targets` per pipeline and name [n, 1 or replicas, 1 or s] in ns; `column` per pipeline its columns of `steps` [S].
    """

    pipelines: Sequence[Pipeline]
    steps: Array
    columns: list[Array]
    targets: list[dict[str, Array]]

    def lengths(self, scenarios: Sequence[Scenario]) -> Array:
        """Return the length of each step under each scenario, [scenarios, S] in ns."""
        found = np.zeros((len(scenarios), len(self.steps)))
        for pipeline, columns, targets in zip(self.pipelines, self.columns, self.targets, strict=True):
            replicas, steps = pipeline.work.shape[1:]
            batch = max(1, BATCH_BYTES // (8 * pipeline.nodes * replicas * steps))
            for first in range(0, len(scenarios), batch):
                some = scenarios[first : first + batch]
                found[first : first + batch, columns] = _replayed(pipeline, targets, some)
        return found


def bench(pipelines: Sequence[Pipeline]) -> Bench:
    """Return the bench of pipelines with the targets "actual", "ideal" and "none"."""
    steps = np.sort(np.concatenate([pipeline.lattice.step for pipeline in pipelines]))
    columns = [np.searchsorted(steps, pipeline.lattice.step) for pipeline in pipelines]
    usual = _usual(pipelines)
    targets = []
    for pipeline in pipelines:
        ideal = np.array([usual[name] for name in pipeline.lattice.kinds])[pipeline.lattice.kind]
        actual = np.nan_to_num(pipeline.work)
        targets.append({
            "actual": actual, "ideal": ideal[:, None, None], "none": np.zeros((len(ideal), 1, 1)),
        })  # fmt: skip
    return Bench(pipelines, steps, columns, targets)


def _usual(pipelines: Sequence[Pipeline]) -> dict[str, float]:
    """Return what an operation of each kind takes in the ideal job, in ns: mean of work, median of transfers."""
    kinds = pipelines[0].lattice.kinds
    found = {}
    for index, name in enumerate(kinds):
        values = np.concatenate([one.work[one.lattice.kind == index].ravel() for one in pipelines])
        values = values[np.isfinite(values)]
        usual = np.median if name in COMMUNICATION else np.mean
        found[name] = float(usual(values)) if len(values) else 0.0
    return found


def _replayed(pipeline: Pipeline, targets: dict[str, Array], scenarios: Sequence[Scenario]) -> Array:
    """Return the step lengths of one pipeline under some scenarios, [scenarios, s] in ns."""
    replicas, steps = pipeline.work.shape[1:]
    values = np.zeros((pipeline.nodes, replicas, len(scenarios), steps))
    absent = ~np.isfinite(pipeline.work)
    ragged = bool(absent.any())
    for at, scenario in enumerate(scenarios):
        start = targets["ideal" if scenario.ideal else "actual"]
        values[pipeline.node, :, at] = np.broadcast_to(start, pipeline.work.shape)
        for repair in scenario.repairs:
            _apply(repair, pipeline, targets[repair.to], values[:, :, at])
        if ragged:
            values[pipeline.node, :, at] = np.where(absent, 0.0, values[pipeline.node, :, at])
    replay.sweep(pipeline.plan, values)
    return np.asarray(values[pipeline.plan.sinks].max(axis=(0, 1)))


def _apply(repair: Repair, pipeline: Pipeline, target: Array, values: Array) -> None:
    lattice = pipeline.lattice
    chosen = lattice.of_kind(*repair.kinds) if repair.kinds else np.ones(len(lattice.kind), dtype=bool)
    if repair.stage >= 0:
        chosen = chosen & (lattice.stage == repair.stage)
    rows = np.flatnonzero(chosen)
    lanes = slice(None) if repair.replica < 0 else slice(repair.replica, repair.replica + 1)
    target = target[rows]
    values[pipeline.node[rows], lanes] = target if target.shape[1] == 1 else target[:, lanes]
