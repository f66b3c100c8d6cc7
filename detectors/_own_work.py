"""A rank's own work, the step less the time in collectives, and what explains that it takes longer than its peers'."""

from __future__ import annotations

from typing import Any

import numpy as np

from skewscope import subjects
from skewscope.contracts import Frames
from skewscope.signals.impact import JobCost
from skewscope.signals.peers import LEAST_PEERS, peer_median
from skewscope.signals.view import Signal, signal
from skewscope.subjects import Subject

from . import _clocks

Array = np.ndarray[Any, Any]
STEPS, PHASES, SM_ACTIVE, WORK = (
    "skewscope_steps_total", "skewscope_phase_seconds_total", "skewscope_gpu_sm_active_seconds_total",
    "skewscope_work_units_total",
)  # fmt: skip
RUN_DELAY, THROTTLED = "skewscope_rank_run_delay_seconds_total", "skewscope_rank_cpu_throttled_seconds_total"
WAITS = ("data", "h2d", "gc", "checkpoint", "eval", "comm_wait")  # phases that are no compute
UNITS = ("tokens", "samples", "microbatches", "squared_tokens", "other")
LOW_CLOCK_RATIO = 0.97  # OWN: against peers; a clock that much lower explains half of a tenth


def seconds(cost: JobCost) -> Signal:
    """Return the own work of each rank of a job in seconds a step."""
    jobs = np.full(len(cost.rank), cost.job, dtype=object)
    own_s = cost.step_s[:, None] - cost.waiting_s
    window_s = float(cost.t_ns[1] - cost.t_ns[0]) / 1e9 if len(cost.t_ns) > 1 else 30.0
    return Signal(cost.t_ns, window_s, cost.node, cost.device, jobs, cost.rank, own_s)


def stages(told: Signal, tables: Frames) -> Array:
    """Return [series]: the pipeline stage of each rank where the layout is known, else one name for all."""
    ranks = tables["ranks"]
    here = ranks[((ranks["job"].astype(str) == str(told.job[0])) & (ranks["pp"] >= 0)).to_numpy()]
    stage = dict(zip(here["rank"].tolist(), here["pp"].tolist(), strict=True))
    return np.array([stage.get(int(rank), -1) for rank in told.rank])


def experts(told: Signal, tables: Frames) -> Array:
    """Return [series]: the expert-parallel coordinate of each rank, which says whose experts it holds; -1 unknown."""
    ranks = tables["ranks"]
    here = ranks[((ranks["job"].astype(str) == str(told.job[0])) & (ranks["ep"] >= 0)).to_numpy()]
    held = dict(zip(here["rank"].tolist(), here["ep"].tolist(), strict=True))
    return np.array([held.get(int(rank), -1) for rank in told.rank])


def peers(told: Signal, tables: Frames) -> Array:
    """Return [series]: a name for those that do the same work: the stage, and the experts held where others hold them.

    Ranks with other experts get other tokens, so that one may be slower for good reason (`moe-rank-imbalance`).
    """
    stage, held = stages(told, tables), experts(told, tables)
    both = stage * (int(held.max(initial=-1)) + 2) + held
    _, count = np.unique(both, return_counts=True)
    return both if len(count) and count.min() > LEAST_PEERS + 1 else stage


def spread(ratio: Array) -> Array:
    """Return [1, series]: by how much equal ranks differ, from their means over the windows; robust, never negative.

    A rank does not count in its own: with three others one outlier must not hide itself.
    """
    known = np.isfinite(ratio).any(axis=0)
    mean = np.full(ratio.shape[1], np.nan)
    mean[known] = np.nanmedian(ratio[:, known], axis=0)
    off = np.abs(mean - np.nanmedian(mean)) if known.any() else mean
    return np.nan_to_num(1.4826 * peer_median(off[None], np.zeros(len(off))))


def explained(told: Signal, tables: Frames, groups: Array) -> Array:
    """Return [windows, ranks]: seconds a step beyond the peers' that are waiting for input, copies, or a processor."""
    found = np.zeros(told.values.shape)
    for phase in WAITS:
        found += _excess(_per_step(told, tables, PHASES, phase=phase), groups)
    for metric in (RUN_DELAY, THROTTLED):
        found += _excess(_per_step(told, tables, metric), groups)
    return found


def more_work(told: Signal, tables: Frames, groups: Array) -> Array:
    """Return [windows, ranks]: how many times the work of the peers a rank was given, at least 1."""
    found = np.ones(told.values.shape)
    for unit in UNITS:
        units = _per_step(told, tables, WORK, unit=unit)
        if not np.isfinite(units).any():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.fmax(found, units / peer_median(units, groups))
    return np.where(np.isfinite(found), found, 1.0)


def sm_active(told: Signal, tables: Frames, groups: Array) -> Array:
    """Return [windows, ranks]: time with active SMs a step against the peers, NaN where it is not told."""
    active_s = _per_step(told, tables, SM_ACTIVE)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(active_s / peer_median(active_s, groups))


def clock_is_low(told: Signal, tables: Frames, groups: Array) -> Array:
    """Return [windows, ranks]: where heat or a brake holds the clock, or whatever holds it below that of the peers."""
    clock = told.aligned(signal(tables, _clocks.SM_CLOCK, domain="sm"))
    low = clock <= LOW_CLOCK_RATIO * peer_median(clock, groups)
    return np.asarray(low | _clocks.held_back(told, tables))


def host_is_told(tables: Frames) -> bool:
    """Return whether anything tells of the host's part in a step: phases or waiting for a processor."""
    names = tables["windows"]["metric"].cat.categories
    return PHASES in names or RUN_DELAY in names


def gpu(told: Signal, column: int) -> Subject:
    """Return the GPU of a rank, the rank where nobody says which."""
    device = str(told.device[column])
    if device.startswith("gpu"):
        return subjects.gpu(str(told.node[column]), device[3:], rank=int(told.rank[column]))
    return told.subject(column)


def _per_step(told: Signal, tables: Frames, metric: str, **labels: Any) -> Array:  # noqa: ANN401 - as of signal()
    """Return a counter's growth a step [windows, ranks], of the rank or of the GPU that it runs on."""
    grown = told.aligned(signal(tables, metric, take="increase", **labels))
    if not np.isfinite(grown).any():
        return grown
    steps = told.aligned(signal(tables, STEPS, take="increase"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(steps > 0, grown / steps, np.nan)


def _excess(values: Array, groups: Array) -> Array:
    """Return by how much values [windows, ranks] exceed the peers', 0 where nobody knows."""
    if not np.isfinite(values).any():
        return np.zeros(values.shape)
    return np.asarray(np.maximum(np.nan_to_num(values - peer_median(values, groups)), 0.0))
