"""What the analysis says of jobs and of itself, and the recorded series that alerts compare with."""

from __future__ import annotations

from ._metric import Metric

_JOB = ("job_id",)
_FINDING = ("condition", "severity", "subject_kind", "subject", "node", "rank", "role", "job_id")
_STATES = {"state": ("open", "growing", "mitigated", "closed")}
_RESULTS = {"result": ("sent", "retried", "failed")}
_CYCLES = {"result": ("done", "failed")}

METRICS = (
    Metric("skewscope_finding_active", "gauge", "bool", "1 while a finding is active", _FINDING),
    Metric("skewscope_finding_cost_seconds_per_step", "gauge", "seconds",
           "what repairing only this would save per step", _FINDING),
    Metric("skewscope_finding_lost_share_ratio", "gauge", "ratio", "the same as a share of the step", _FINDING),
    Metric("skewscope_finding_lost_gpus", "gauge", "",
           "the same over the whole job, in GPUs: GPU-hours lost per hour", _FINDING),
    Metric("skewscope_finding_score_ratio", "gauge", "ratio", "a finding's score against its threshold", _FINDING),
    Metric("skewscope_job_gpus", "gauge", "", "GPUs that a job holds", _JOB),
    Metric("skewscope_job_lost_gpus", "gauge", "",
           "GPUs' worth of a job that its findings lose together: GPU-hours lost per hour", _JOB),
    Metric("skewscope_job_lost_gpu_seconds_total", "counter", "seconds",
           "GPU-seconds of a job that its findings lost together, since it was first watched", _JOB),
    Metric("skewscope_job_slowdown_ratio", "gauge", "ratio",
           "step time of a job over what it would be without its findings", _JOB),
    Metric("skewscope_job_step_seconds", "gauge", "seconds", "median step time of a job in the last window", _JOB),
    Metric("skewscope_watch_cycle_seconds", "gauge", "seconds",
           "how long the last cycle took, from asking for the window to its answer; must stay below 30 s"),
    Metric("skewscope_watch_cycles_total", "counter", "", "cycles by how they ended", ("result",), _CYCLES),
    Metric("skewscope_watch_last_cycle_timestamp_seconds", "gauge", "seconds",
           "Unix time at which the last cycle ended that gave an answer"),
    Metric("skewscope_watch_window_timestamp_seconds", "gauge", "seconds",
           "Unix time of the end of the last window that was analysed"),
    Metric("skewscope_watch_targets", "gauge", "", "agents that should answer"),
    Metric("skewscope_watch_targets_stale", "gauge", "", "agents that did not answer in the last window"),
    Metric("skewscope_watch_node_stale", "gauge", "bool",
           "1 for a node that did not answer in the last window; absent for the others", ("node",)),
    Metric("skewscope_watch_incidents", "gauge", "", "incidents by state", ("state",), _STATES),
    Metric("skewscope_watch_incidents_opened_total", "counter", "", "incidents that were opened", ("condition",)),
    Metric("skewscope_watch_notifications_total", "counter", "",
           "notifications by receiver: sent, tried again later, or failed for good (in the dead-letter file)",
           ("receiver", "result"), _RESULTS),
    Metric("skewscope_watch_notifications_waiting", "gauge", "", "notifications that wait to be sent", ("receiver",)),
    Metric("skewscope_watch_feed_errors_total", "counter", "", "errors while reading live metrics"),
    Metric("skewscope_watch_samples_total", "counter", "", "samples that were read"),
    Metric("skewscope_watch_store_bytes", "gauge", "bytes", "size of the embedded store; absent without one"),
    Metric("skewscope_input_ready_ratio", "gauge", "ratio", "share of time that the next batch was ready",
           ("job", "rank")),
    Metric("skewscope:step_seconds:mean_2m", "recorded", "seconds", "mean step time of the last 2 min", _JOB),
    Metric("skewscope:step_seconds:p50_10m", "recorded", "seconds", "median step time of the last 10 min", _JOB),
    Metric("skewscope:step_seconds:p50_1h", "recorded", "seconds", "median step time of the last hour", _JOB),
    Metric("skewscope:step_seconds:max_10m", "recorded", "seconds", "longest step of the last 10 min", _JOB),
)  # fmt: skip
