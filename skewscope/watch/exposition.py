"""The metrics of `watch`: findings, jobs, incidents and its own health, as a Prometheus page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..metrics import METRICS
from .incidents import CLOSED, Incident, Seen
from .jobs import Job

DECLARED = {metric.name: metric for metric in METRICS}
STATES = ("open", "growing", "mitigated", "closed")
Row = tuple[tuple[str, ...], float]  # label values in declared order, value


@dataclass
class Totals:
    """What only grows while the service lives, and the job totals, which outlive it."""

    cycles: dict[str, int] = field(default_factory=lambda: {"done": 0, "failed": 0})
    opened: dict[str, int] = field(default_factory=dict)
    feed_errors: int = 0
    samples: int = 0
    job_lost_gpu_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """How the last cycle went; times are seconds since the epoch."""

    cycle_s: float = 0.0
    ended_s: float = 0.0
    window_s: float = 0.0
    targets: int = 0
    stale: tuple[str, ...] = ()
    store_bytes: int = -1  # -1: there is no store
    notified: Mapping[tuple[str, str], int] = field(default_factory=dict)  # receiver, result
    waiting: Mapping[str, int] = field(default_factory=dict)


def page(
    seen: Sequence[Seen], jobs: Sequence[Job], incidents: Sequence[Incident], totals: Totals, health: Health,
    more: Mapping[str, list[Row]] | None = None,
) -> bytes:  # fmt: skip
    """Return the page, with rows of `more` families; names and labels are those of `skewscope.metrics`."""
    rows = {**_findings(seen), **_jobs(jobs, totals), **_incidents(incidents, totals), **_health(totals, health)}
    rows |= more or {}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(rows))
    return bytes(generate_latest(registry))


class _Page:
    """What prometheus_client asks for its families."""

    def __init__(self, rows: Mapping[str, Sequence[Row]]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have rows, as they are declared."""
        for name, rows in self._rows.items():
            if rows:
                yield _family(name, rows)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are checked by the project's own list."""
        return ()


def _family(name: str, rows: Sequence[Row]) -> Metric:
    declared = DECLARED[name]
    kind: Any = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    family: Metric = kind(name, declared.help, labels=declared.labels)
    for values, value in rows:
        family.add_metric(values, value)  # type: ignore[attr-defined]
    return family


def _findings(seen: Sequence[Seen]) -> dict[str, list[Row]]:
    named: dict[tuple[str, ...], Seen] = {}
    for one in seen:
        found, subject = one.finding, one.finding.subject
        rank = str(subject.rank) if subject.rank >= 0 else ""
        values = (found.condition, found.severity, subject.kind, subject.id, subject.node, rank, found.role, one.job)
        named.setdefault(values, one)
    return {
        "skewscope_finding_active": [(values, 1.0) for values in named],
        "skewscope_finding_cost_seconds_per_step": [(values, one.finding.lost_s) for values, one in named.items()],
        "skewscope_finding_lost_share_ratio": [(values, one.finding.lost_share) for values, one in named.items()],
        "skewscope_finding_lost_gpus": [(values, one.lost_gpus) for values, one in named.items() if one.job],
        "skewscope_finding_score_ratio": [
            (values, score) for values, one in named.items() if math.isfinite(score := _score(one))
        ],
    }  # fmt: skip


def _score(one: Seen) -> float:
    """Return the first number of the evidence that has a threshold, over it; NaN where none has."""
    told = [proof.value / proof.threshold for proof in one.finding.evidence if proof.threshold]
    return told[0] if told else float("nan")


def _jobs(jobs: Sequence[Job], totals: Totals) -> dict[str, list[Row]]:
    return {
        "skewscope_job_gpus": [((job.name,), float(job.ranks)) for job in jobs],
        "skewscope_job_lost_gpus": [((job.name,), job.lost_gpus) for job in jobs],
        "skewscope_job_lost_gpu_seconds_total": [((name,), s) for name, s in sorted(totals.job_lost_gpu_s.items())],
        "skewscope_job_slowdown_ratio": [
            ((job.name,), 1.0 / (1.0 - job.lost_share)) for job in jobs if job.lost_share < 1.0 and not job.stopped
        ],
        "skewscope_job_step_seconds": [((job.name,), job.step_s) for job in jobs if math.isfinite(job.step_s)],
    }  # fmt: skip


def _incidents(incidents: Sequence[Incident], totals: Totals) -> dict[str, list[Row]]:
    counts = dict.fromkeys(STATES, 0)
    for one in incidents:
        counts[one.state if one.state in counts else CLOSED] += 1
    return {
        "skewscope_watch_incidents": [((state,), float(count)) for state, count in counts.items()],
        "skewscope_watch_incidents_opened_total": [
            ((condition,), float(count)) for condition, count in sorted(totals.opened.items())
        ],
    }


def _health(totals: Totals, health: Health) -> dict[str, list[Row]]:
    def alone(value: float) -> list[Row]:
        return [((), float(value))]

    return {
        "skewscope_watch_cycle_seconds": alone(health.cycle_s),
        "skewscope_watch_cycles_total": [((result,), float(count)) for result, count in totals.cycles.items()],
        "skewscope_watch_last_cycle_timestamp_seconds": alone(health.ended_s),
        "skewscope_watch_window_timestamp_seconds": alone(health.window_s),
        "skewscope_watch_targets": alone(health.targets),
        "skewscope_watch_targets_stale": alone(len(health.stale)),
        "skewscope_watch_node_stale": [((node,), 1.0) for node in health.stale],
        "skewscope_watch_notifications_total": [(key, float(count)) for key, count in sorted(health.notified.items())],
        "skewscope_watch_notifications_waiting": [((name,), float(n)) for name, n in sorted(health.waiting.items())],
        "skewscope_watch_feed_errors_total": alone(totals.feed_errors),
        "skewscope_watch_samples_total": alone(totals.samples),
        "skewscope_watch_store_bytes": alone(health.store_bytes) if health.store_bytes >= 0 else [],
    }
