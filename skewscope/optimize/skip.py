"""What partial pipelines would bring (SkipPipe, 2025): some microbatches pass over slow stages, so these keep pace.

A what-if only: layers that are passed over are not trained by that microbatch, so it is another training, and nothing
here says whether it converges. The first and the last stage are never skipped: they hold the embedding and the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .pipeline_run import Schedule, Times, run

Array = np.ndarray[Any, Any]

MOST_OF_A_STAGE = 0.5  # of the microbatches; a stage that more of them pass over hardly learns


@dataclass(frozen=True)
class Skipped:
    """`counts` [stages] microbatches that pass over each stage, and the `makespan_s` then."""

    counts: Array
    makespan_s: float


def counts(stage_s: Array, microbatches: int, share: float) -> Array:
    """Return how many microbatches pass over each stage, [stages], so that the slowest stage has least left.

    At most `share` of all passes are skipped; `stage_s` [stages] seconds per microbatch. Taking the next pass from the
    stage with most left is the optimum; it stops where an outer stage has most left.

    >>> counts(np.array([1.0, 2.0, 1.0]), 8, 0.5).tolist()
    [0, 4, 0]
    """
    found = np.zeros(len(stage_s), dtype=np.int64)
    most = np.full(len(stage_s), int(MOST_OF_A_STAGE * microbatches))
    most[[0, -1]] = 0
    for _ in range(int(share * len(stage_s) * microbatches)):
        left = stage_s * (microbatches - found)
        stage = int(left.argmax())
        if found[stage] >= most[stage]:
            break
        found[stage] += 1
    return found


def skipped(schedule: Schedule, times: Times, share: float) -> Skipped:
    """Return the run of a schedule of one chunk per device in which slow stages are passed over, evenly spread.

    >>> from . import schedule_1f1b
    >>> from .pipeline_run import even
    >>> slow = np.array([1.0, 2.0, 1.0])
    >>> skipped(schedule_1f1b.schedule(3, 8), even(3, 8, slow, 2 * slow), 0.25).makespan_s
    41.0
    """
    stage_s = (times.forward_s + times.backward_s).mean(axis=1)
    number = counts(stage_s, schedule.microbatches, share)
    at = np.arange(schedule.microbatches)
    # Stages begin at other microbatches, so that no single one passes over all of them.
    turn = at[None, :] + np.arange(len(number))[:, None]
    over = turn * number[:, None] % schedule.microbatches < number[:, None]
    kept = Times(np.where(over, 0.0, times.forward_s), np.where(over, 0.0, times.backward_s), times.weight_share,
                 times.transfer_s)  # fmt: skip
    return Skipped(over.sum(axis=1), run(schedule, kept).makespan_s)
