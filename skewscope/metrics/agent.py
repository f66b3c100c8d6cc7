"""The agent about itself: whether its other numbers can be trusted, and what it costs."""

from __future__ import annotations

from ._metric import Metric

_COLLECTOR, _CALL = ("collector",), ("call",)
_PROCESSES = {"process": ("agent", "nvml")}
_KINDS = {"kind": ("collective", "phase", "step", "experts", "work", "mark", "inspector")}
_LOST = {"reason": ("overwritten", "malformed", "rejected", "duplicate", "not_archived", "inspector")}
_DROPPED = {"reason": ("cardinality", "stale")}

# fmt: off
METRICS = (
    Metric("skewscope_build_info", "gauge", "info",
           "Always 1; version and source revision of the agent, version of its Python",
           ("version", "revision", "python")),
    Metric("skewscope_agent_resident_bytes", "gauge", "bytes",
           "Resident memory of each process of the agent", ("process",), _PROCESSES),
    Metric("skewscope_agent_cpu_seconds_total", "counter", "seconds",
           "CPU time of each process of the agent, user and system, calls into the driver included",
           ("process",), _PROCESSES),
    Metric("skewscope_collector_success", "gauge", "",
           "1 where the collector's last run gave samples, 0 where it failed or hangs; absent where the node has "
           "nothing of the kind", _COLLECTOR),
    Metric("skewscope_collector_duration_seconds", "gauge", "seconds",
           "Wall time of the collector's last run", _COLLECTOR),
    Metric("skewscope_collector_last_success_timestamp_seconds", "gauge", "seconds",
           "Unix time of the collector's last run that gave samples; runs follow the agent's own clock, not the scrape",
           _COLLECTOR),
    Metric("skewscope_collector_overruns_total", "counter", "",
           "Runs that took longer than the collector's interval", _COLLECTOR),
    Metric("skewscope_nvml_call_seconds", "summary", "seconds",
           "Wall time of calls into NVML by class of call, sum and count", _CALL),
    Metric("skewscope_nvml_call_max_seconds", "gauge", "seconds",
           "Longest call into NVML of the last 60 s by class of call", _CALL),
    Metric("skewscope_nvml_errors_total", "counter", "",
           "Calls into NVML that failed, by class of call and the name that NVML gives the error",
           ("call", "error")),
    Metric("skewscope_nvml_hung", "gauge", "",
           "1 while a call into NVML is past its deadline, 0 while the driver answers; absent where none is asked"),
    Metric("skewscope_nvml_worker_restarts_total", "counter", "",
           "Restarts of the process that asks NVML, after a hang or a crash"),
    Metric("skewscope_spool_events_total", "counter", "",
           "Records read from the ring files of training processes by kind, and from the logs of NCCL Inspector",
           ("kind",), _KINDS),
    Metric("skewscope_spool_lost_events_total", "counter", "",
           "Records lost: overwritten before they were read, malformed, of a second ring of one rank (duplicate), or "
           "damaged in a log of NCCL Inspector; whole rings that were rejected; records that the archive lost",
           ("reason",), _LOST),
    Metric("skewscope_series_dropped_total", "counter", "",
           "Series left out: over a collector's limit of series (cardinality), or not renewed in time (stale)",
           ("reason",), _DROPPED),
    Metric("skewscope_http_requests_total", "counter", "",
           "HTTP replies by status and path; status 401 counts refused logins", ("code", "path")),
)
