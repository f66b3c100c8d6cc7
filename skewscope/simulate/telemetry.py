"""All series of a world: what follows from load and knobs, the states of gauges, and what devices counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from . import attention, info_series, job_series, serving_network
from .activity import Activity
from .gpu_series import GpuSeries
from .host_series import HostSeries
from .nic_series import WRAPPING, NicSeries
from .noise import Array
from .rank_series import RankSeries
from .series import Places, Series, Shown
from .serving import Serving
from .training import Run
from .world import Area, World

# Still told of a GPU whose driver no longer answers: what the agent itself knows, and the kernel log.
TOLD_WITHOUT_DRIVER = ("skewscope_gpu_access_state", "skewscope_gpu_xid_errors_total")
AGENTS_OWN = ("skewscope_gpu_xid_errors_total", "skewscope_gpu_events_total", "skewscope_kernel_messages_total",
              "skewscope_nvml_")  # fmt: skip
SWINGING = {"skewscope_rank_pinned_memory_bytes": "pinned_swing", "skewscope_gpu_bar1_used_bytes": "bar1_swing"}


def series(
    world: World, activity: Activity, runs: dict[int, Run], serving: dict[int, Serving], place: dict[str, Places]
) -> list[Series]:
    """Return every series, sorted by metric and labels; values are computed when asked for."""
    windows = len(activity.held)
    found = [_unless_lost(world, one) for one in GpuSeries(world, activity).series()]
    found += NicSeries(world, activity).series()
    found += info_series.series(world, activity, place)
    found += HostSeries(world, activity.held, runs).series()
    for at, run in runs.items():
        job = world.fleet.jobs[at]
        rows = np.array([row for row, name in enumerate(place["rank"].job) if name == job.plan.name])
        ranks = RankSeries(world, job, run, rows, windows)
        found += ranks.series()
        found += job_series.series(ranks, place["job"], job.first_gpu // world.fleet.gpus_per_node)
    for one in serving.values():
        found += attention.series(one)
        found += serving_network.series(one)
    for area in world.areas.values():
        found += [_unless_lost(world, one) for one in _states(world, area, windows, place)]
        found += [_unless_lost(world, one) for one in _counted(area, windows)]
    return sorted(found, key=lambda one: (one.metric, one.labels))


def _states(world: World, area: Area, windows: int, place: dict[str, Places]) -> Iterator[Series]:
    """Yield gauges: the usual ones, and those that something touched."""
    held = None
    if area.kind == "rank":
        held = np.array([gpu for gpu in range(world.fleet.gpus) if world.fleet.job_of(gpu) >= 0])
    for metric, labels in {**area.usual, **area.levels}:
        touched = area.levels.get((metric, labels))
        usual = area.usual.get((metric, labels), 0.0)
        yield Series(metric, labels, area.kind, False, _state(area, metric, touched, usual, windows, held))


def _state(
    area: Area, metric: str, touched: Array | None, usual: float, windows: int, held: Array | None
) -> Callable[[], Shown]:
    def make() -> Shown:
        values = np.full((windows, area.devices), usual) if touched is None else touched[:windows]
        swing: Array | float = 0.0
        if metric in SWINGING:
            swing = values * (0.002 + area.knob(SWINGING[metric])[:windows])
        if metric == "skewscope_rdma_port_up":
            away = np.clip(area.knob("away")[:windows], 0.0, 1.0)
            values, swing = values * (1.0 - away), np.minimum(away, 1.0 - away)
        if held is not None:
            values = values[:, held]
            swing = swing[:, held] if isinstance(swing, np.ndarray) else swing
        return Shown(values, swing)

    return make


def _counted(area: Area, windows: int) -> Iterator[Series]:
    """Yield the counters of errors; those that grow with packets come with the traffic."""
    for (metric, labels), counts in area.counts.items():
        if (metric, labels) not in area.per_packet:
            agent = metric.startswith(AGENTS_OWN)
            bits = 32 if metric in WRAPPING else 64
            yield Series(metric, labels, area.kind, True, _counts(counts, windows), agent=agent, bits=bits)


def _counts(counts: Array, windows: int) -> Callable[[], Shown]:
    return lambda: Shown(counts[:windows])


def _unless_lost(world: World, one: Series) -> Series:
    """Return the series without the windows in which the driver does not answer for a GPU."""
    if one.area != "gpu" or one.metric in TOLD_WITHOUT_DRIVER or "reports" not in world.gpu.touched:
        return one

    def make() -> Shown:
        shown = one.make()
        there: npt.NDArray[np.bool_] = world.gpu.knob("reports")[: len(shown.values)] > 0.5
        return Shown(shown.values, shown.swing, there if shown.present is None else there & shown.present)

    return Series(one.metric, one.labels, one.area, one.counter, make, one.at, one.agent, one.bits, one.first)
