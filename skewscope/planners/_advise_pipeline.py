"""Remedies of a pipeline: layers moved between its stages, or a rank drained that is slower than its replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from ..optimize.partition import Problem, partition
from ..stats.bursts import SLOW_RATIO
from ._advise_options import CHRONIC_SHARE, MOST_CELLS, MOST_ROUNDS, RESTART, Option
from ._pipeline_input import PARTS

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]

NS = 1e9


@dataclass(frozen=True)
class Pipeline:
    """A recorded pipeline: `own_s` [rounds, ranks] own work, `stage` [ranks], `ranks` [ranks], `step_s` [rounds]."""

    own_s: Array
    stage: Array
    ranks: Array
    step_s: Array

    def usual_s(self) -> Array:
        """Return the median of each stage's replicas, [rounds, stages].

        >>> one = Pipeline(np.array([[1.0, 2.0, 6.0]]), np.array([0, 0, 1]), np.arange(3), np.array([9.0]))
        >>> one.usual_s().tolist()
        [[1.5, 6.0]]
        """
        return np.stack([np.median(self.own_s[:, self.stage == one], axis=1) for one in np.unique(self.stage)], axis=1)


def pipeline(tables: Mapping[str, pd.DataFrame]) -> Pipeline:
    """Return the pipeline of a recording, its latest rounds; raises UsageError where none was recorded."""
    rows = tables["rank_steps"]
    rows = rows[(rows["stage"] >= 0).to_numpy()]
    if rows["stage"].nunique() < 2:
        raise UsageError("the recording shows no pipeline: no several stages, numbered from 0")
    own = rows.assign(own=rows["own_ns"] - rows["checkpoint_ns"]).pivot_table(
        index="step", columns="rank", values="own", aggfunc="max"
    )
    times = tables["step_times"].drop_duplicates("step").set_index("step")
    own = own[own.notna().all(axis=1) & ~own.index.isin(times.index[times["planned"].to_numpy()])]
    own = own.tail(min(MOST_ROUNDS, max(20, MOST_CELLS // max(1, own.shape[1]))))
    if not len(own):
        raise UsageError("no step of the recording shows all stages")
    stage = rows.groupby("rank")["stage"].first().reindex(own.columns).to_numpy()
    length = times["duration_ns"].reindex(own.index).to_numpy() / NS
    work = own.to_numpy() / NS
    return Pipeline(work, stage, own.columns.to_numpy(), np.where(np.isfinite(length), length, work.max(axis=1)))


def options(made: Pipeline) -> Iterator[Option]:
    """Yield the remedies of a pipeline."""
    yield partition_option(made.usual_s(), made.step_s)
    if (drained := drain_option(made)) is not None:
        yield drained


def drain_option(made: Pipeline) -> Option | None:
    """Return a spare host for ranks that are slower than their replicas for good; None where there are none.

    What the slowest rank needs beyond the slowest stage is what everybody waits for.

    >>> own = np.array([[1.0, 1.0, 1.0, 2.0, 1.0, 1.0]] * 4)
    >>> found = drain_option(Pipeline(own, np.array([0, 0, 0, 1, 1, 1]), np.arange(6), np.full(4, 2.5)))
    >>> found.step_s.tolist(), found.params["ranks"]
    ([1.5, 1.5, 1.5, 1.5], [3])
    """
    usual = made.usual_s()[:, np.searchsorted(np.unique(made.stage), made.stage)]
    slow = ((made.own_s > SLOW_RATIO * usual).mean(axis=0) > CHRONIC_SHARE).nonzero()[0]
    if not len(slow):
        return None
    healed = made.own_s.copy()
    healed[:, slow] = usual[:, slow]
    saved = made.own_s.max(axis=1) - healed.max(axis=1)
    return Option(
        "drain", "none", "exclude-next", np.maximum(made.step_s - saved, 0.0),
        "a spare host is there, and the slowness stays with the host and does not follow the job",
        f"{RESTART}, one spare host", "the cause may follow the job: validate the host before",
        {"ranks": [int(one) for one in made.ranks[slow]]},
    )  # fmt: skip


def partition_option(work_s: Array, step_s: Array) -> Option:
    """Return layers moved between stages, from own work per step [rounds, stages] and step times [rounds].

    Stages count as equal parts of 5 % each, as layers are unknown: the slowest stage, which a long pipeline waits for
    once per microbatch, gets as short as whole parts allow.

    >>> made = partition_option(np.array([[1.0, 1.0, 2.0]] * 4), np.full(4, 2.5))
    >>> made.step_s.round(2).tolist()[0], made.params["parts_by_stage"]
    (1.85, [27, 20, 13])
    """
    usual = np.median(work_s, axis=0)
    cost = np.repeat(usual / PARTS, PARTS)
    made = partition(Problem(cost, np.ones(len(usual))))
    saved = work_s.max(axis=1) * (1 - made.times_s.max() / usual.max())
    return Option(
        "re-partition the pipeline", "pipeline", "move-layers", np.maximum(step_s - np.maximum(saved, 0.0), 0.0),
        "layers are fine enough to be moved in parts of a stage, and there are many more microbatches than stages",
        RESTART, "memory per stage changes",
        {"parts_by_stage": made.sizes.tolist(), "part": f"{100 // PARTS} % of a stage"},
    )  # fmt: skip
