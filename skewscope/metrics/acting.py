"""What `watch --act` tells of acting on schedulers, for the alerts on the remedy itself."""

from __future__ import annotations

from ._metric import Metric

_BUDGETS = {"budget": ("at_once", "per_day")}
_BY = {"by": ("ours", "foreign")}

METRICS = (
    Metric("skewscope_act_leader", "gauge", "bool", "1 while this watch holds the lease and may act"),
    Metric("skewscope_act_last_turn_timestamp_seconds", "gauge", "seconds",
           "Unix time of the last turn of the acting engine; absent where another watch holds the lease"),
    Metric("skewscope_act_turn_seconds", "gauge", "seconds", "how long the last turn of the acting engine took"),
    Metric("skewscope_act_working", "gauge", "bool",
           "1 while the engine works; 0 where it failed, as when the audit is damaged or cannot be written"),
    Metric("skewscope_act_records_total", "counter", "",
           "records of the audit: intended, done, failed, refused, held, undone and other phases",
           ("scheduler", "verb", "phase")),
    Metric("skewscope_act_proposals_waiting", "gauge", "", "proposals that wait for the answer of a person"),
    Metric("skewscope_act_breaker_open", "gauge", "bool",
           "1 while the circuit breaker is open: nothing new is done until a person closes it"),
    Metric("skewscope_act_scheduler_up", "gauge", "bool", "1 while a scheduler answers the engine", ("scheduler",)),
    Metric("skewscope_act_nodes_out", "gauge", "",
           "nodes that take no work: by our fences, or drained or down by others", ("scheduler", "by"), _BY),
    Metric("skewscope_act_budget_used_ratio", "gauge", "ratio",
           "nodes out over the budget for them, at once and within 24 hours; at 1 nothing more may be fenced",
           ("scheduler", "budget"), _BUDGETS),
    Metric("skewscope_act_fenced_seconds", "gauge", "seconds", "for how long a node has been fenced by us",
           ("scheduler", "node", "verb")),
    Metric("skewscope_act_trust_ratio", "gauge", "ratio",
           "share of the promised gain that acts brought so far, by condition; absent before the first proof",
           ("condition",)),
)  # fmt: skip
