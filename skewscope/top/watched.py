"""A live view of a `skewscope watch`: its report, incidents, ranks and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import SkewscopeError
from ..web import ask
from ..web.access import Access
from . import samples
from .frame import NAN, Found, Frame, Job, Row

HOUR_S = 3600.0
FAMILIES = {
    "skewscope_job_gpus", "skewscope_job_lost_gpus", "skewscope_job_slowdown_ratio", "skewscope_job_step_seconds",
    "skewscope_job_lost_gpu_seconds_total", "skewscope_watch_node_stale",
}  # fmt: skip


class Watched:
    """Asks a watching service at `url`."""

    def __init__(self, url: str, access: Access | None = None) -> None:
        """Raise UsageError for what is no address."""
        self.url, self._access = ask.checked(url, "--watch"), access or Access()

    def frame(self) -> Frame:
        """Return what the service says now; raises SkewscopeError where it does not answer or is none."""
        incidents = ask.told(f"{self.url}/api/v1/incidents", self._access)
        listed = incidents.get("incidents")
        if not isinstance(listed, list) or not isinstance(incidents.get("time_ns"), int):
            raise SkewscopeError(f"{self.url} is no `skewscope watch`: its incidents are not understood")
        report = ask.told(f"{self.url}/api/v1/report", self._access)
        told = list(samples.of(ask.page(f"{self.url}/metrics", self._access), FAMILIES))
        stale = sorted(one.labels.get("node", "") for one in told if one.name == "skewscope_watch_node_stale")
        wrong = (f"no answer from {len(stale)} nodes: {', '.join(stale[:5])}",) if stale else ()
        live = [one for one in listed if isinstance(one, dict) and one.get("state") != "closed"]
        return Frame(
            incidents["time_ns"], self.url, verdict_of(report), jobs_of(told),
            found_in(live) or findings_of(report), self._ranks(), wrong,
        )  # fmt: skip

    def _ranks(self) -> tuple[Row, ...]:
        try:
            told = ask.told(f"{self.url}/api/v1/ranks", self._access)
        except ask.Refused as error:
            if error.status == 404:  # an older service: ranks that findings name are shown all the same
                return ()
            raise
        return rows_of(told)


def verdict_of(report: Mapping[str, Any]) -> str:
    """Return the verdict of a report."""
    return str((report.get("summary") or {}).get("verdict") or "")


def jobs_of(told: list[samples.One]) -> tuple[Job, ...]:
    """Return the jobs of a service's own metrics, the one that loses most first."""
    values: dict[str, dict[str, float]] = {}
    for one in told:
        if "job_id" in one.labels:
            values.setdefault(one.labels["job_id"], {})[one.name.removeprefix("skewscope_job_")] = one.value
    jobs = [
        Job(name, int(got.get("gpus", -1)), got.get("step_seconds", NAN), got.get("slowdown_ratio", NAN),
            got.get("lost_gpus", NAN), got.get("lost_gpu_seconds_total", NAN) / HOUR_S)
        for name, got in values.items()
    ]  # fmt: skip
    return tuple(sorted(jobs, key=lambda job: (-job.lost_gpus if math.isfinite(job.lost_gpus) else 0.0, job.name)))


def found_in(incidents: list[dict[str, Any]]) -> tuple[Found, ...]:
    """Return findings of live incidents, dearest first; raises SkewscopeError for documents of another form."""
    try:
        made = [
            Found(
                str(one["severity"]), str(one["condition"]), str(one["subject"]["id"]), "culprit", str(one["state"]),
                str(one.get("job") or ""), _whole(one["subject"]["rank"]), str(one["subject"]["node"] or ""),
                _number(one["cost"]["seconds_per_step"]), _number(one["cost"]["share"]),
                _number(one["cost"].get("lost_gpus")), _whole(one["opened_ns"]), str(one.get("summary") or ""),
            )
            for one in incidents
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise SkewscopeError(f"an incident is not understood: {error!r}") from None
    return tuple(sorted(made, key=lambda one: (one.severity, -_finite(one.cost_s), one.condition, one.subject)))


def rows_of(told: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return the rows of a `skewscope.rank-times/1`; raises SkewscopeError for a document of another form."""
    try:
        return tuple(
            Row(
                _whole(one["rank"]), str(one["node"]), str(one["gpu"]), str(one["job"]), step_s=_number(one["step_s"]),
                work_ratio=_number(one["work_ratio"]), wait_ratio=_number(one["wait_ratio"]),
            )
            for one in told["ranks"]
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise SkewscopeError(f"a rank is not understood: {error!r}") from None


def findings_of(report: Mapping[str, Any]) -> tuple[Found, ...]:
    """Return the findings of a report, in its order; raises SkewscopeError for documents of another form."""
    try:
        return tuple(
            Found(
                str(one["severity"]), str(one["condition"]), str(one["subject"]["id"]), str(one["role"]), "",
                "", _whole(one["subject"]["rank"]), str(one["subject"]["node"] or ""),
                _number(one["cost"]["seconds_per_step"]), _number(one["cost"]["share"]), NAN,
                _whole(one["window"]["start_ns"]), str(one.get("summary") or ""),
            )
            for one in report.get("findings", ())
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise SkewscopeError(f"a finding is not understood: {error!r}") from None


def _whole(value: Any) -> int:  # noqa: ANN401 - any JSON
    return -1 if value is None else int(value)


def _number(value: Any) -> float:  # noqa: ANN401 - any JSON
    return NAN if value is None else float(value)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
