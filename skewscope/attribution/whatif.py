"""What-if analysis of operation-level traces: the price of every cause, by replaying the job with it repaired.

The ideal job (arXiv 2505.05713): every compute operation takes the mean of its kind, every transfer the median of its
kind. The slowdown is the replayed length of the steps over the ideal one. Each cause is priced by giving its
operations alone their ideal durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from . import _pipeline_prices as prices
from . import _pipeline_tables as derived
from ._pipeline_bench import Bench, Repair, Scenario, bench
from ._pipeline_verdict import Limits, Verdict, classify
from ._pipeline_work import Work, add_targets, measure
from .pipeline_graph import pipelines

Array = np.ndarray[Any, Any]

UNLIKE_SHARE = 0.10  # replays of whole recordings stay within a few percent
WORST_SHARE = 0.03  # of the workers: what the published worker metric takes out


@dataclass(frozen=True)
class WhatIf:
    """Step lengths [S] in ns (measured, replayed, ideal), the verdict, and the price list.

    `blame` is the canonical table; `warnings` says in words what could not be used.
    """

    bench: Bench
    work: Work
    base_ns: Array
    replay_ns: Array
    ideal_ns: Array
    verdict: Verdict
    blame: pd.DataFrame
    warnings: list[str] = field(default_factory=list)

    @property
    def steps(self) -> Array:
        """Step numbers, [S]."""
        return self.bench.steps

    @property
    def slowdown(self) -> float:
        """Replayed over ideal mean step length, 1.0 = no straggling."""
        return float(self.replay_ns.mean() / self.ideal_ns.mean())

    def explained(self, repairs: tuple[Repair, ...]) -> float:
        """Return the share of the loss that goes when the operations of `repairs` become ideal."""
        mended = self.bench.lengths([Scenario(repairs)])[0]
        return float((self.replay_ns - mended).mean() / (self.replay_ns - self.ideal_ns).mean())


def is_operation_trace(ops: pd.DataFrame) -> bool:
    """Return whether `ops` holds the forward passes of a pipeline, microbatch by microbatch.

    >>> is_operation_trace(pd.DataFrame({"op": ["forward_compute", "gc"]}))
    True
    """
    return bool((ops["op"] == "forward_compute").any())


def whatif(ops: pd.DataFrame, ranks: pd.DataFrame, limits: Limits | None = None) -> WhatIf | None:
    """Return the analysis of the canonical `ops` and `ranks`, or None where no step can be replayed."""
    made, warnings = pipelines(ops, ranks)
    if not made:
        return None
    limits = limits or Limits()
    found = bench(made)
    work = measure(found)
    base = np.zeros(len(found.steps))
    for pipeline, columns in zip(made, found.columns, strict=True):
        base[columns] = np.nanmax(pipeline.lattice.end, axis=(0, 1))
    now, ideal = found.lengths([Scenario(), Scenario(ideal=True)])
    off = float(np.abs(now / np.maximum(base, 1.0) - 1.0).mean())
    if off > UNLIKE_SHARE:
        warnings.append(f"the replay differs from the recorded step times by {off:.0%}: operations are missing from it")
    verdict = classify(found, work, now - ideal, limits)
    add_targets(found, work, frozenset(verdict.slow))
    table = prices.blame(prices.Priced(found, work, verdict, limits, base, now - ideal))
    return WhatIf(found, work, base, now, ideal, verdict, table, warnings)


def worst_workers_share(found: WhatIf) -> float:
    """Return the published worker metric M_W: the share of the loss that the worst 3 % of workers explain.

    Workers are ranked by what their replica and their stage, each alone as recorded, add to the ideal job.
    """
    stages, replicas = found.work.rank.shape
    alone = [Repair("actual", replica=one) for one in range(replicas)]
    alone += [Repair("actual", stage=one) for one in range(stages)]
    length = found.bench.lengths([Scenario((one,), ideal=True) for one in alone]).mean(axis=1)
    score = np.minimum(length[None, :replicas], length[replicas:, None])
    score = np.where(found.work.rank >= 0, score, -np.inf)
    count = -int(-(found.work.rank >= 0).sum() * WORST_SHARE // 1)
    order = np.lexsort((found.work.rank.ravel(), -score.ravel()))[:count]
    worst = [np.unravel_index(int(one), score.shape) for one in order]
    return found.explained(tuple(Repair("ideal", (), int(stage), int(replica)) for stage, replica in worst))


def last_stage_share(found: WhatIf) -> float:
    """Return the published stage metric M_S: the share of the loss that the last stage explains."""
    return found.explained((Repair("ideal", stage=found.work.rank.shape[0] - 1),))


def attribute_ops(tables: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return `blame`, `step_times`, `rank_steps` and `arrivals` of an operation-level trace, and what to know of them.

    No tables where none can be made.
    """
    ops = tables["ops"]
    found = whatif(ops, tables["ranks"])
    if found is None:
        return {}, []
    source = str(ops["source"].iloc[0])
    made = found.bench.pipelines
    derived_tables = {
        "blame": found.blame,
        "step_times": derived.step_times(found.bench, found.base_ns, found.replay_ns, found.ideal_ns, source),
        "rank_steps": derived.rank_steps(made, tables["ranks"], source),
        "arrivals": derived.arrivals(found.bench, source),
    }
    return derived_tables, list(found.warnings)
