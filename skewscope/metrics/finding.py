"""What the analysis says of a job, and the recorded series that alerts compare with."""

from __future__ import annotations

from ._metric import Metric

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
)  # fmt: skip
