"""What a node tells of a whole job: bus bandwidth, and the distribution of its steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..metrics import metric
from . import meetings
from .noise import Array
from .rank_series import COUNTED_BYTES, RankSeries
from .series import Places, Series, Shown
from .world import WINDOW_S

STEP = "skewscope_step_duration_seconds"


def series(ranks: RankSeries, place: Places, fleet_nodes_first: int) -> Iterator[Series]:
    """Yield the series of one job on each of its nodes; `fleet_nodes_first` is its first node."""
    at = np.array([row for row, job in enumerate(place.job) if job == ranks.job.plan.name])
    per = ranks.world.fleet.gpus_per_node
    nodes = (ranks.job.first_gpu + np.arange(ranks.job.plan.ranks)) // per - fleet_nodes_first
    for group in ranks.run.layout.groups:
        if ranks.call_bytes(group) >= COUNTED_BYTES and group != "pp":
            yield _bandwidth(ranks, group, nodes, at)
    yield from _durations(ranks, nodes, at)


def _bandwidth(ranks: RankSeries, group: str, nodes: Array, at: Array) -> Series:
    """Return bytes that cross the slowest link by the algorithm's lower bound, over the median duration on the node."""
    usual = meetings.usual_transfers(ranks.job.plan, ranks.run.layout)[group]
    hardware = ranks.world.fleet.hardware
    inside = group in ("tp", "cp")
    speed = hardware.nvlinks * hardware.nvlink_bytes_per_s * 0.75 if inside else hardware.nic_bytes_per_s * 0.9
    spent = ranks.sums[f"wait_{group}"] + ranks.sums[f"transfer_{group}"]
    median = np.stack([np.median(spent[:, nodes == node], axis=1) for node in np.unique(nodes)], axis=1)
    seen = ranks.sums["steps"] * np.ones(median.shape[1]) > 0
    rate = np.where(seen, speed * usual * ranks.sums["steps"] / np.where(seen, median, 1.0), 0.0)
    labels = f"op={meetings.OPS[group]},group={group}"
    name = "skewscope_collective_bus_bandwidth_bytes_per_second"
    return Series(name, labels, "job", False, lambda: Shown(rate, 0.03 * rate, seen), at=at)


def _durations(ranks: RankSeries, nodes: Array, at: Array) -> Iterator[Series]:
    run = ranks.run
    ends = np.minimum(((run.start_s + run.seconds) // WINDOW_S).astype(int), ranks.windows - 1)
    members = np.bincount(nodes.astype(int)).astype(float)
    on = np.repeat(ranks.held > 0, len(members), axis=1)

    def counter(name: str, labels: str, chosen: Array) -> Series:
        per_window = np.bincount(ends, weights=chosen, minlength=ranks.windows)[: ranks.windows]
        values = np.outer(per_window, members)
        return Series(name, labels, "job", True, lambda: Shown(values, present=on), at=at, agent=True)

    for bound in (*metric(STEP).buckets, np.inf):
        text = "+Inf" if bound == np.inf else f"{bound:g}"
        yield counter(f"{STEP}_bucket", f"le={text}", (run.seconds <= bound).astype(float))
    yield counter(f"{STEP}_sum", "", run.seconds)
    yield counter(f"{STEP}_count", "", np.ones(len(run.seconds)))
