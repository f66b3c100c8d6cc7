"""Canonical tables of a simulation: `windows` from the ground state, or single `samples`, and the job's own."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..contracts import Coded
from ..frames import frame
from .fleet import Fleet, Indices
from .noise import Array
from .series import Places, Series, Shown
from .training import Run
from .world import WINDOW_S, World

if TYPE_CHECKING:
    import pandas as pd

WINDOW_NS = int(WINDOW_S * 1e9)
EXACT = ("seconds_total", "joules_total", "_sum")
WHOLE = ("bytes_total", "ticks_total")
NUMBERS = ("mean_value", "low_value", "high_value", "last_value", "increase_value")


class Shower:
    """Turns series into what scrapes of 15 s would have told, cut into windows of 30 s."""

    def __init__(self, world: World, place: Mapping[str, Places], windows: int) -> None:
        self.world, self.place, self.windows = world, place, windows
        self.replies = world.replies[:windows]

    def who(self, one: Series) -> tuple[Indices, Indices]:
        """Return the rows of the area's places that a series is about, and their nodes."""
        place = self.place[one.area]
        at = np.arange(len(place.node)) if one.at is None else np.asarray(one.at)
        return at, place.node[at]

    def seen(self, shown: Shown, nodes: Indices) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return the share of scrapes that came [windows, devices], and where there was any with this series."""
        replies = self.replies[:, nodes]
        there = replies > 0
        return replies, there if shown.present is None else there & shown.present

    def counter(self, one: Series, shown: Shown, nodes: Indices) -> tuple[Array, Array, Array, npt.NDArray[np.bool_]]:
        """Return growth, raw values at the end, raw values at the first sample of each window, and where seen."""
        replies, there = self.seen(shown, nodes)
        growth = shown.values if shown.present is None else np.where(shown.present, shown.values, 0.0)
        if one.metric.endswith(WHOLE):
            growth = np.round(growth)
        total = np.cumsum(growth, axis=0)
        half = growth * 0.5 if one.metric.endswith(EXACT) else np.floor(growth * 0.5)
        middle = total - growth + half
        end = np.where(replies >= 1.0, total, middle)
        observed = np.maximum.accumulate(np.where(there, end, -np.inf), axis=0)
        first = np.argmax(there, axis=0)
        columns = np.arange(growth.shape[1])
        before = np.vstack([middle[first, columns][None, :], observed[:-1]])
        before = np.maximum(before, middle[first, columns])  # nothing is known of what was before the first sample
        increase = np.where(there, np.maximum(observed - before, 0.0), 0.0)
        return increase, self._raw(one, end, total, nodes), self._raw(one, middle, total, nodes), there

    def _raw(self, one: Series, read: Array, total: Array, nodes: Indices) -> Array:
        raw = read + one.first
        if one.agent:
            for window, node in self.world.restarts:
                mine = nodes == node
                if window < self.windows and mine.any():
                    raw = raw.copy()
                    raw[window:, mine] -= total[window - 1, mine] + one.first
        return raw if one.bits >= 64 else np.mod(raw, 2.0**one.bits)

    def gauge(self, one: Series, shown: Shown, nodes: Indices) -> tuple[Array, Array, Array, npt.NDArray[np.bool_]]:
        """Return the first and the last sample of each window, the share of scrapes, and where seen."""
        replies, there = self.seen(shown, nodes)
        key = zlib.crc32(one.metric.encode())
        odd = (np.arange(self.windows)[:, None] * 7 + np.arange(len(nodes)) * 13 + key) // 3 % 2
        swing = np.where(odd == 1, shown.swing, -np.asarray(shown.swing))
        first, last = shown.values - swing, shown.values + swing
        if one.metric.endswith("_bytes"):
            first, last = np.round(first), np.round(last)
        if one.metric.endswith("_ratio") and not one.metric.endswith("_mean_ratio"):  # a share, not one over another
            first, last = np.clip(first, 0.0, 1.0), np.clip(last, 0.0, 1.0)
        return first, np.where(replies >= 1.0, last, first), replies, there


def windows(world: World, place: Mapping[str, Places], found: Sequence[Series], count: int) -> pd.DataFrame:
    """Return the table `windows` of these series, which are sorted by metric and labels."""
    shower = Shower(world, place, count)
    rows = _Rows(sum(count * len(shower.who(one)[0]) for one in found), place, world.fleet)
    for one in found:
        at, nodes = shower.who(one)
        shown = one.make()
        if one.counter:
            grown = np.flatnonzero(shown.values.any(axis=0))
            if not len(grown):
                continue
            cut = _columns(shown, grown)
            increase, last, _, there = shower.counter(one, cut, nodes[grown])
            rows.add(one, at[grown], there, {"last_value": last, "increase_value": increase},
                     shower.replies[:, nodes[grown]])  # fmt: skip
        else:
            first, last, replies, there = shower.gauge(one, shown, nodes)
            numbers = {"mean_value": (first + last) / 2, "low_value": np.minimum(first, last),
                       "high_value": np.maximum(first, last), "last_value": last}  # fmt: skip
            rows.add(one, at, there, numbers, replies)
    return rows.table(world.scenario.start_ns)


def samples(world: World, place: Mapping[str, Places], found: Sequence[Series], count: int) -> pd.DataFrame:
    """Return the table `samples`: two scrapes a window, but for those that were missed; for small fleets."""
    shower = Shower(world, place, count)
    parts: list[dict[str, Any]] = []
    for one in found:
        at, nodes = shower.who(one)
        shown = one.make()
        if one.counter:
            _, last, first, there = shower.counter(one, shown, nodes)
            replies = shower.replies[:, nodes]
        else:
            first, last, replies, there = shower.gauge(one, shown, nodes)
        for offset, values, seen in ((0.5, first, there), (1.0, last, there & (replies >= 1.0))):
            device, window = np.nonzero(seen.T)
            parts.append({
                "t_ns": world.scenario.start_ns + ((window + offset) * WINDOW_NS).astype(np.int64),
                "at": at[device], "value": values.T[seen.T], "series": one,
            })  # fmt: skip
    return _samples(world.fleet, place, parts)


def _samples(fleet: Fleet, place: Mapping[str, Places], parts: list[dict[str, Any]]) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in ("node", "device", "job", "rank", "metric", "labels")}
    for part in parts:
        one, at = part["series"], part["at"]
        where = place[one.area]
        columns["node"] += [fleet.nodes[node] for node in where.node[at]]
        columns["device"] += [where.device[row] for row in at]
        columns["job"] += [where.job[row] for row in at]
        columns["rank"] += where.rank[at].tolist()
        columns["metric"] += [one.metric] * len(at)
        columns["labels"] += [one.labels] * len(at)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in ("t_ns", "value")}
    table = frame("samples", {**whole, **columns})
    return table.sort_values(["t_ns", "node", "device", "metric"], kind="stable").reset_index(drop=True)


def _columns(shown: Shown, kept: Indices) -> Shown:
    return Shown(shown.values[:, kept], 0.0, None if shown.present is None else shown.present[:, kept])


class _Rows:
    """The columns of `windows`, filled series by series."""

    def __init__(self, most: int, place: Mapping[str, Places], fleet: Fleet) -> None:
        self.place, self.fleet, self.count = place, fleet, 0
        self.last = ("", "", 0)  # metric, labels and first row of the newest series
        self.devices = {name: code for code, name in enumerate(sorted({d for p in place.values() for d in p.device}))}
        self.jobs = {name: code for code, name in enumerate(sorted({j for p in place.values() for j in p.job}))}
        self.codes = {
            area: (np.array([self.devices[name] for name in one.device], dtype=np.int32),
                   np.array([self.jobs[name] for name in one.job], dtype=np.int32))
            for area, one in place.items()
        }  # fmt: skip
        self.metrics: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.numbers = {name: np.full(most, np.nan) for name in NUMBERS}
        whole = ("t_ns", "samples_count")
        self.whole = {name: np.zeros(most, dtype=np.int64) for name in whole}
        small = ("node", "device", "metric", "labels", "job", "rank")
        self.small = {name: np.zeros(most, dtype=np.int32) for name in small}

    def add(
        self, one: Series, at: Indices, there: npt.NDArray[np.bool_], numbers: Mapping[str, Array], replies: Array
    ) -> None:
        """Add the rows of one series: device by device, in the order of time."""
        device, window = np.nonzero(there.T)
        rows = slice(self.count, self.count + len(device))
        self.count = rows.stop
        for name, values in numbers.items():
            self.numbers[name][rows] = np.asarray(values).T[there.T]
        place, (device_codes, job_codes) = self.place[one.area], self.codes[one.area]
        self.whole["t_ns"][rows] = (window + 1) * WINDOW_NS
        self.whole["samples_count"][rows] = np.round(2.0 * replies).astype(np.int64).T[there.T]
        self.small["node"][rows] = place.node[at][device]
        self.small["device"][rows] = device_codes[at][device]
        self.small["job"][rows] = job_codes[at][device]
        self.small["rank"][rows] = place.rank[at][device]
        self.small["metric"][rows] = self.metrics.setdefault(one.metric, len(self.metrics))
        self.small["labels"][rows] = self.labels.setdefault(one.labels, len(self.labels))
        if (one.metric, one.labels) == self.last[:2]:
            self._sort(self.last[2], rows.stop)
        else:
            self.last = (one.metric, one.labels, rows.start)

    def _sort(self, start: int, stop: int) -> None:
        """Bring the rows of series that share metric and labels into one order."""
        rows = slice(start, stop)
        keys = (self.whole["t_ns"], self.small["rank"], self.small["job"], self.small["device"], self.small["node"])
        order = np.lexsort(tuple(key[rows] for key in keys))
        for column in (*self.numbers.values(), *self.whole.values(), *self.small.values()):
            column[rows] = column[rows][order]

    def table(self, start_ns: int) -> pd.DataFrame:
        """Return the table; the columns move into it."""
        names = {"node": list(self.fleet.nodes), "device": list(self.devices), "metric": list(self.metrics),
                 "labels": list(self.labels), "job": list(self.jobs)}  # fmt: skip
        columns: dict[str, Any] = {name: self.numbers.pop(name)[: self.count] for name in NUMBERS}
        columns["t_ns"] = self.whole.pop("t_ns")[: self.count]
        columns["t_ns"] += start_ns
        columns["samples_count"] = self.whole.pop("samples_count")[: self.count]
        columns["rank"] = self.small.pop("rank")[: self.count]
        columns["window_ns"] = WINDOW_NS
        for name, values in names.items():
            columns[name] = Coded(self.small.pop(name)[: self.count], values)
        return frame("windows", columns)


def ranks(fleet: Fleet, start_ns: int, ends_s: Mapping[int, float]) -> pd.DataFrame:
    """Return the table `ranks` of all jobs."""
    parts: dict[str, list[Any]] = {name: [] for name in (
        "job", "rank", "node", "gpu", "gpu_uuid", "dp", "tp", "pp", "cp", "ep", "start_ns", "end_ns")}  # fmt: skip
    for at, job in enumerate(fleet.jobs):
        plan, count = job.plan, job.plan.ranks
        place = np.arange(count)
        gpus = place + job.first_gpu
        parts["job"] += [plan.name] * count
        parts["rank"] += place.tolist()
        parts["node"] += [fleet.nodes[gpu // fleet.gpus_per_node] for gpu in gpus]
        parts["gpu"] += (gpus % fleet.gpus_per_node).tolist()
        parts["gpu_uuid"] += [fleet.uuid(int(gpu)) for gpu in gpus]
        inner = plan.tp * plan.cp
        parts["tp"] += (place % plan.tp).tolist()
        parts["cp"] += (place // plan.tp % plan.cp).tolist()
        parts["dp"] += (place // inner % plan.dp).tolist()
        parts["ep"] += (place // inner % plan.dp % plan.ep).tolist()
        parts["pp"] += (place // (inner * plan.dp)).tolist()
        parts["start_ns"] += [start_ns + int(plan.start_s * 1e9)] * count
        parts["end_ns"] += [start_ns + int(ends_s[at] * 1e9)] * count
    return frame("ranks", parts)


def events(world: World, count: int) -> pd.DataFrame:
    """Return the table `events`, in the order of time."""
    found = sorted((one for one in world.events if one.t_s < count * WINDOW_S), key=lambda one: one.t_s)
    start_ns = world.scenario.start_ns
    return frame("events", {
        "t_ns": np.array([start_ns + int(one.t_s * 1e9) for one in found], dtype=np.int64),
        "node": [world.fleet.nodes[one.node] for one in found], "device": [one.device for one in found],
        "event": [one.event for one in found], "code": np.array([one.code for one in found], dtype=np.int32),
        "message": [one.message for one in found],
    })  # fmt: skip


def step_times(job: str, run: Run, start_ns: int) -> pd.DataFrame:
    """Return the table `step_times` of one run."""
    return frame("step_times", {
        "job": job, "step": np.arange(run.steps), "start_ns": start_ns + (run.start_s * 1e9).astype(np.int64),
        "duration_ns": run.seconds * 1e9,
        "planned": run.planned | (np.arange(run.steps) < run.layout.plan.warmup_steps),
        "ranks_count": run.layout.plan.ranks, "source": "simulation",
    })  # fmt: skip
