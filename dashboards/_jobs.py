"""One line a job: step time, slowdown, what is lost and to whom; from recordings and from live windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skewscope.signals.view import signal

from ._culprits import culprits
from ._rank_devices import gpus
from ._rank_maps import of_job
from ._view import View

Array = np.ndarray[Any, Any]
STEPS, SECONDS = "skewscope_steps_total", "skewscope_step_seconds_total"
HOUR_S = 3600.0


@dataclass(frozen=True)
class JobLine:
    """A job: `step_s` NaN where unknown; `lost_gpus` are GPU-hours lost per hour, `lost_gpu_hours` in all."""

    name: str
    ranks: int
    hosts: int
    step_s: float
    slowdown: float
    lost_gpus: float
    lost_gpu_hours: float
    worst: Mapping[str, Any] | None


def job_lines(view: View) -> list[JobLine]:
    """Return all jobs, the one that loses most first."""
    names = view.jobs() or (("",) if view.report["summary"]["step_time_s"]["mean"] else ())
    lines = [_line(view, name, len(names) == 1) for name in names]
    return sorted(lines, key=lambda one: (-np.nan_to_num(one.lost_gpus), one.name))


def _line(view: View, name: str, alone: bool) -> JobLine:
    found = [one for one in culprits(view) if alone or job_of(view, one) == name]
    lost = min(0.99, sum(one["cost"]["share"] for one in found))
    ranks, hosts = _size(view, name)
    summary = view.report["summary"]
    step_s = _step_s(view, name)
    slowdown, hours = 1.0 / (1.0 - lost), sum(one["cost"]["gpu_hours"] for one in found)
    if alone:
        step_s = step_s if np.isfinite(step_s) else float(summary["step_time_s"]["mean"] or np.nan)
        slowdown = float(summary["slowdown"] or slowdown)
        hours = float(summary["wasted_gpu_hours"] or hours)
    known = bool(found) or np.isfinite(step_s)
    return JobLine(
        name or "job", ranks, hosts, step_s, slowdown if known else np.nan,
        ranks * (1.0 - 1.0 / slowdown) if known else np.nan, hours, found[0] if found else None,
    )  # fmt: skip


def job_of(view: View, one: Mapping[str, Any]) -> str:
    """Return the job of a finding: as its subject says, else the one that runs on its host; "" where none is known."""
    subject = one["subject"]
    for name in view.jobs():
        if subject["id"] == name or subject["id"].startswith(f"{name}/"):
            return name
    ranks = view.tables["ranks"]
    there = ranks[(ranks["node"].astype(str) == (subject["node"] or "?")).to_numpy()]
    if subject["rank"] is not None:
        there = there[(there["rank"] == subject["rank"]).to_numpy()]
    return str(there["job"].iloc[0]) if len(there) else ""


def _size(view: View, name: str) -> tuple[int, int]:
    for table in ("ranks", "rank_steps", "windows"):
        rows = gpus(view) if table == "windows" else view.rows(table, ("job", "rank", "node"))
        if len(rows):
            rows = of_job(rows, name)
            if len(rows):
                hosts = [str(host) for host in rows["node"].unique()]
                return int(rows["rank"].nunique()), len(hosts) - hosts.count("")
    return int(view.report["job"]["ranks"] or 0), 0


def _step_s(view: View, name: str) -> float:
    """Return the median step of a job in s: of the last windows where it is watched, else of all its steps."""
    trend = live_steps(view, name)
    if view.live and len(trend):
        return float(np.median(trend["step_s"].to_numpy()[-4:]))
    times = view.tables.get("step_times")
    if times is not None and len(times):
        rows = of_job(times, name)
        if len(rows):
            return float(rows["duration_ns"].median()) / 1e9
    return float(np.median(trend["step_s"])) if len(trend) else float("nan")


def live_steps(view: View, name: str) -> pd.DataFrame:
    """Return t_ns and step_s (mean step of all ranks of the job) of each window in which steps ended."""
    windows = view.tables.get("windows")
    none = pd.DataFrame({"t_ns": [], "step_s": []})
    if windows is None or not len(windows):
        return none
    seconds, steps = (signal(view.tables, metric, take="increase") for metric in (SECONDS, STEPS))
    if not len(seconds) or not len(steps):
        return none
    sums = []
    for one in (seconds, steps):
        some = (one.job.astype(str) == name) if name else np.ones(len(one), dtype=bool)
        sums.append(np.nansum(one.values[:, some], axis=1))
    good = sums[1] > 0
    return pd.DataFrame({"t_ns": seconds.t_ns[good], "step_s": sums[0][good] / sums[1][good]})
