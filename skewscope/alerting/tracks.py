"""The worlds of a room as series over time: quiet at first, then as the world shows it, then quiet again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ..catalogue import rooms
from ..metrics import METRICS
from ..signals.windows import WINDOW_S, is_counter

Array = np.ndarray[Any, Any]
Key = tuple[str, str, str, str, str, int]
KEY = ("metric", "labels", "node", "device", "job", "rank")
XIDS, XID_STAMP = "skewscope_gpu_xid_errors_total", "skewscope_gpu_xid_last_timestamp_seconds"
PORT = 9709
TOGETHER = {"skewscope_rank_locked_memory_bytes": "skewscope_rank_pinned_memory_bytes"}  # 0 beside what is told
EVENT_ONSET = 10  # the window in which the worlds let things happen
_LABELS = {metric.name: metric.labels for metric in METRICS}


@dataclass(frozen=True)
class Track:
    """One series: `quiet`, what it shows (a counter: grows by in 30 s) without the fault, NaN where it is absent.

    A metric that tells a time is given as its age in seconds. `course` [windows] is what it shows from the onset on;
    after its end it goes on as the last window or, where `again`, from its beginning. `stamps` are instead times of
    events in seconds after the onset: the series is there from the first on, and counts them or shows when the latest
    was.
    """

    metric: str
    labels: Mapping[str, str]
    quiet: float
    course: Array
    again: bool
    stamps: Array | None = None

    @property
    def series(self) -> str:
        """Return the series as PromQL writes it."""
        told = ",".join(f'{name}="{text}"' for name, text in self.labels.items())
        return f"{self.metric}{{{told}}}"

    def values(self, times_s: Array, onset_s: float, end_s: float, share: float = 1.0) -> Array:
        """Return the samples [times] where the fault lasts from `onset_s` to `end_s`, both multiples of 30 s.

        `share` 0..1 makes the fault smaller: the way from quiet to what the world shows, gone so far.
        """
        if self.stamps is not None:
            return self._stamped(times_s, onset_s, end_s)
        edges = np.arange(0.0, float(times_s[-1]) + 2 * WINDOW_S, WINDOW_S)
        shown = self._windows(edges, onset_s, end_s, share)
        if is_counter(self.metric):
            grown = np.concatenate(([0.0], np.cumsum(np.nan_to_num(shown))))[: len(edges)]
            return np.interp(times_s, edges, grown)
        values: Array = shown[(times_s // WINDOW_S).astype(int)]
        return times_s - values if self.metric.endswith("_timestamp_seconds") else values

    def _windows(self, edges: Array, onset_s: float, end_s: float, share: float) -> Array:
        """Return what each window shows [edges], that of the last edge included."""
        number = ((edges - onset_s) // WINDOW_S).astype(int)
        size = len(self.course)
        course = self.course[number % size if self.again else np.clip(number, 0, size - 1)]
        before = 0.0 if np.isnan(self.quiet) else self.quiet
        faulty = np.where(np.isnan(course), course, before + share * (course - before))
        return np.where((edges >= onset_s) & (edges < end_s), faulty, self.quiet)

    def _stamped(self, times_s: Array, onset_s: float, end_s: float) -> Array:
        assert self.stamps is not None  # noqa: S101 - asked before
        cycle_s = len(self.course) * WINDOW_S
        turns = np.arange(max(1, int((end_s - onset_s) // cycle_s)) if self.again else 1)
        all_s = np.sort((onset_s + turns[:, None] * cycle_s + self.stamps[None, :]).ravel())
        count = np.searchsorted(all_s, times_s, side="right")
        known: Array = count if self.metric == XIDS else all_s[np.maximum(count - 1, 0)]
        return np.where(count > 0, known, np.nan)


def tracks(
    tables: Mapping[str, pd.DataFrame],
    calm: Mapping[str, pd.DataFrame],
    metrics: Collection[str],
    *,
    again: bool,
    host: str = "instance",
) -> list[Track]:
    """Return the series of a world's `windows` and XID `events`, of some metrics, sorted.

    The fault begins where the first of all series changes; what went before is the quiet state. A world that never
    changes takes its quiet state from `calm`. Series that change more than once begin `again` where that is asked.
    """
    shown, usual = _courses(tables["windows"], metrics), _courses(calm["windows"], metrics)
    size = max((len(course) for course in shown.values()), default=20)
    onset = min((_changes(course)[0] for course in shown.values() if len(_changes(course))), default=-1)
    first = _earliest(tables["windows"])
    found = []
    for key in sorted(set(shown) | (set(usual) if onset < 0 else set())):
        absent = 0.0 if is_counter(key[0]) else np.nan
        course = shown.get(key, np.full(size, absent))
        quiet = course[0] if onset >= 0 else usual.get(key, np.array([absent]))[0]
        often = again and len(_changes(course)) > 1
        found.append(Track(key[0], labels_of(key, host), float(quiet), course[max(onset, 0):], often))  # fmt: skip
    onset = max(onset, 0) if shown else EVENT_ONSET
    return found + list(_events(tables["events"], metrics, host, first, size - onset, onset, again))


def labels_of(key: Key, host: str) -> dict[str, str]:
    """Return the labels with which an agent exports a series and Prometheus keeps it; `host` may be the node's."""
    metric, text, node, device, job, rank = key
    told = dict(part.split("=", 1) for part in text.split(",") if part)
    declared = _LABELS.get(metric, ())
    if "gpu" in declared and device.startswith("gpu"):
        told["gpu"] = device.removeprefix("gpu")
        if "uuid" in declared:
            told["uuid"] = f"GPU-{node}-{told['gpu']}"
    elif "device" in declared and device:
        name, _, port = device.partition("/")
        told |= {"device": name, **({"port": port or "1"} if "port" in declared else {})}
    if job and "job_id" in declared:
        told["job_id"] = job
    if rank >= 0 and "rank" in declared:
        told["rank"] = str(rank)
    ordered = {name: told.pop(name) for name in declared if name in told} | told
    scraped = {"instance": f"{node}:{PORT}", "job": f"skewscope-{_groups().get(metric, 'fast')}"}
    return ordered | scraped | ({"node": node} if host == "node" else {})


@cache
def _groups() -> dict[str, str]:
    """Return the group, fast or slow, of each metric: sites may scrape the two as jobs of their own."""
    return {name: room.kind().group for room in rooms("agents.collectors") for name in room.kind().exports}


def _courses(windows: pd.DataFrame, metrics: Collection[str]) -> dict[Key, Array]:
    """Return what each series of some metrics shows in each window, NaN where it is absent."""
    mine = windows[windows["metric"].isin(metrics).to_numpy()]
    if not len(mine):
        return {}
    owner = _owners(windows)
    times = np.unique(windows["t_ns"].to_numpy())
    value = np.where(np.isnan(mine["increase_value"]), mine["last_value"], mine["increase_value"])
    place = np.searchsorted(times, mine["t_ns"].to_numpy())
    found: dict[Key, Array] = {}
    for row, told in enumerate(zip(*(mine[name].astype(object) for name in KEY), strict=True)):
        key: Key = (*told[:4], *owner.get(told[2:4], told[4:]))
        absent = 0.0 if is_counter(key[0]) else np.nan
        found.setdefault(key, np.full(len(times), absent))[place[row]] = value[row]
    for other, name in TOGETHER.items():
        if other in metrics and not any(key[0] == other for key in found):
            found |= {(other, *key[1:]): np.zeros(len(times)) for key in list(found) if key[0] == name}
    return found


def _owners(windows: pd.DataFrame) -> dict[tuple[str, str], tuple[str, int]]:
    """Return (job, rank) of each (node, device) that has a rank: worlds need not repeat them on every row."""
    ranks = windows[(windows["rank"] >= 0).to_numpy()][list(KEY[2:])].drop_duplicates()
    return {(str(node), str(device)): (str(job), int(rank)) for node, device, job, rank in ranks.to_numpy().tolist()}


def _changes(course: Array) -> Array:
    """Return the windows in which a series shows another value than before."""
    same = (course[1:] == course[:-1]) | (np.isnan(course[1:]) & np.isnan(course[:-1]))
    return np.flatnonzero(~same) + 1


def _earliest(windows: pd.DataFrame) -> int:
    return int(windows["t_ns"].min() - windows["window_ns"].iloc[0]) if len(windows) else -1


def _events(
    events: pd.DataFrame, metrics: Collection[str], host: str, first_ns: int, size: int, onset: int, again: bool
) -> Iterable[Track]:
    """Yield the series that tell XIDs: how many there were, and when the latest was."""
    xids = events[(events["event"] == "xid").to_numpy()]
    for (node, device, code), rows in xids.groupby(["node", "device", "code"], observed=True, sort=True):
        stamps = np.sort((rows["t_ns"].to_numpy() - first_ns) / 1e9 - onset * WINDOW_S)
        for metric in (XIDS, XID_STAMP):
            if metric in metrics:
                text = f"xid={code}" + (",source=nvml" if metric == XIDS else "")
                key: Key = (metric, text, str(node), str(device), "", -1)
                yield Track(metric, labels_of(key, host), np.nan, np.zeros(size), again, np.maximum(stamps, 1.0))
