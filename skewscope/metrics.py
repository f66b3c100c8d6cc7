"""The one list of exported metrics, with kind, unit and meaning: alert texts, boards and the agent take names here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric: `kind` is gauge, counter or recorded (a recording rule); `labels` in the order they are exported."""

    name: str
    kind: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()


_FINDING = ("condition", "severity", "subject_kind", "subject", "node", "rank")

METRICS = (
    Metric("skewscope_finding_active", "gauge", "bool", "1 while a finding is active", _FINDING),
    Metric("skewscope_finding_cost_seconds_per_step", "gauge", "seconds",
           "what repairing only this would save per step", _FINDING),
    Metric("skewscope_finding_lost_share_ratio", "gauge", "ratio", "the same as a share of the step", _FINDING),
    Metric("skewscope_finding_score_ratio", "gauge", "ratio", "a finding's score against its threshold", _FINDING),
    Metric("skewscope_input_ready_ratio", "gauge", "ratio", "share of time that the next batch was ready",
           ("job", "rank")),
    Metric("skewscope:step_seconds:p50_10m", "recorded", "seconds", "median step time of the last 10 min", ("job",)),
    Metric("skewscope:step_seconds:p50_1h", "recorded", "seconds", "median step time of the last hour", ("job",)),
    Metric("skewscope:step_seconds:max_10m", "recorded", "seconds", "longest step of the last 10 min", ("job",)),
    Metric("skewscope_host_clock_offset_seconds", "gauge", "seconds", "offset of the host's clock", ("node",)),
)  # fmt: skip


def metric(name: str) -> Metric:
    """Return one metric by name; raises KeyError for a name that nobody exports.

    >>> metric("skewscope_finding_active").kind
    'gauge'
    """
    for known in METRICS:
        if known.name == name:
            return known
    raise KeyError(f"no metric {name!r}")
