"""The alerts on what `watch` exports: the page on lost GPU-hours, what it blames, and the watch over the watch itself.

One alert pages for GPU-hours lost, one for a job that stands still; the others make tickets or give context. Each comes
with numbers just above and just below its line, from which its test is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .alert import Alert, runbook
from .scenes import FINDING, Scene, track
from .tracks import Track

WATCH = {"instance": "watch:9710", "job": "skewscope-watch"}
JOB = {"job_id": "llm", **WATCH}
STOPPED = "coll-hang|coll-missing-rank|coll-desync"
ACTIVE, SHARE = "skewscope_finding_active", "skewscope_finding_lost_share_ratio"
Series = tuple[str, Mapping[str, str], float, float, float]  # metric, labels, quiet, just below the line, just above


@dataclass(frozen=True)
class Lines:
    """Where the alerts draw their lines."""

    page_gpus: float = 8.0  # GPU-hours lost per hour: a host of eight stands still for the job's sake
    page_share: float = 0.05  # of the job: a large job always loses a few GPUs
    node_share: float = 0.05
    skew_share: float = 0.10
    expert_ratio: float = 2.0
    nodes_count: int = 3  # rotating: so many hosts took turns within half an hour
    stale_share: float = 0.10
    silent_s: int = 120
    cycle_s: int = 30
    errors_count: int = 5
    act_silent_s: int = 300
    fenced_s: int = 86_400


@dataclass(frozen=True)
class Watched:
    """An alert with the series of its test; `shown` is its description as it must read, `labels` whom it names."""

    alert: Alert
    series: tuple[Series, ...]
    shown: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def scenes(self) -> Iterator[Scene]:
        """Yield the scenes: above the line, and with each series that has a line just below it."""
        above = tuple(_track(one, one[4]) for one in self.series)
        yield Scene("fires, survives a scrape gap, resolves", above, 1.0, (self.labels.get("node", ""),), True)
        for place, one in enumerate(self.series):
            if one[3] != one[4]:
                below = (*above[:place], _track(one, one[3]), *above[place + 1 :])
                yield Scene(f"silent just below: {one[0]} is {one[3]:g}", below)


def _track(one: Series, value: float) -> Track:
    return track(one[0], one[1], one[2], value)


def watched(lines: Lines | None = None, *, runbook_url: str = "{id}", for_scale: float = 1.0) -> Iterator[Watched]:
    """Yield the alerts in order of weight: what jobs lose, whom it is laid to, then the watch itself."""
    lines = lines or Lines()
    for one in (*_jobs(lines), *_subjects(lines), *_telemetry(lines), *_watch(lines), *_acting(lines)):
        alert = replace(one.alert, for_s=round(one.alert.for_s * for_scale))
        yield replace(one, alert=replace(alert, runbook_url=runbook(runbook_url, alert.condition or alert.runbook_url)))


def _jobs(lines: Lines) -> Iterator[Watched]:
    lost, gpus = "skewscope_job_lost_gpus", "skewscope_job_gpus"
    yield Watched(
        Alert("SkewscopeJobGpuHoursLost",
              f"{lost} >= {lines.page_gpus:g} and on (job_id) {lost} / on (job_id) {gpus} >= {lines.page_share:g}",
              300, 900, "critical", "job", "", "A job loses GPU-hours to faults that can be mended",
              "Job {{ $labels.job_id }} loses {{ $value | humanize }} GPU-hours an hour.", "job-gpu-hours-lost"),
        ((lost, JOB, 0.0, lines.page_gpus * 0.98, lines.page_gpus * 1.25),
         (gpus, JOB, 64.0, lines.page_gpus * 1.25 / lines.page_share * 1.02, 64.0)),
        f"Job llm loses {lines.page_gpus * 1.25:g} GPU-hours an hour.", JOB,
    )  # fmt: skip
    stopped = f'{ACTIVE}{{condition=~"{STOPPED}",role!="victim"}}'
    yield Watched(
        Alert("SkewscopeJobStopped", f"max by (job_id, node, subject, condition) ({stopped}) == 1", 60, 600, "critical",
              "job", "", "A job stands still in a collective",
              "Job {{ $labels.job_id }} stands still: {{ $labels.condition }} at {{ $labels.subject }}.",
              "job-stopped"),
        ((ACTIVE, FINDING | {"condition": "coll-missing-rank"}, np.nan, 0.0, 1.0),),
        "Job llm stands still: coll-missing-rank at llm/rank3.",
        {"job_id": "llm", "node": "n1", "subject": "llm/rank3", "condition": "coll-missing-rank"},
    )  # fmt: skip


def _subjects(lines: Lines) -> Iterator[Watched]:
    culprit, late = 'role="culprit"', "coll-late-rank"
    yield Watched(
        Alert("SkewscopeStragglerNode",
              f'max by (job_id, node) ({SHARE}{{{culprit},node!=""}}) >= {lines.node_share:g}', 240, 900, "warning",
              "node", "", "One node slows a whole job",
              "Node {{ $labels.node }} costs job {{ $labels.job_id }} {{ $value | humanizePercentage }} of every step.",
              "straggler-node"),
        ((SHARE, FINDING | {"condition": "gpu-hw-slowdown"}, np.nan, *_around(lines.node_share)),),
        f"Node n1 costs job llm {lines.node_share * 104:.3g}% of every step.",
        {"job_id": "llm", "node": "n1"},
    )  # fmt: skip
    turns = f'{ACTIVE}{{condition="{late}",{culprit},node!=""}}'
    late_on = [FINDING | {"condition": late, "node": f"n{number}", "subject": f"llm/rank{number}"}
               for number in range(1, lines.nodes_count + 1)]  # fmt: skip
    yield Watched(
        Alert("SkewscopeStragglerRotates",
              f"count by (job_id) (count by (job_id, node) (max_over_time({turns}[30m]))) >= {lines.nodes_count}",
              0, 900, "info", "job", "data-sequence-skew", "The late rank changes: not the fault of one node",
              "In job {{ $labels.job_id }} {{ $value }} nodes took turns at being late within 30 min; look at the work "
              "that ranks are given before draining any."),
        tuple((ACTIVE, labels, np.nan, np.nan if place == len(late_on) - 1 else 1.0, 1.0)
              for place, labels in enumerate(late_on)),
        f"In job llm {lines.nodes_count} nodes took turns at being late within 30 min; look at the work that ranks are "
        "given before draining any.", {"job_id": "llm"},
    )  # fmt: skip
    skew = f'max by (job_id) ({SHARE}{{condition=~"coll-.*|tp-straggler"}}) >= {lines.skew_share:g}'
    yield Watched(
        Alert("SkewscopeCollectiveSkewHigh", skew, 300, 900, "info", "job", "",
              "Ranks wait for one another at collectives",
              "Ranks of job {{ $labels.job_id }} wait for one another for {{ $value | humanizePercentage }} of every "
              "step.", "collective-skew"),
        ((SHARE, FINDING | {"condition": "tp-straggler"}, np.nan, *_around(lines.skew_share)),),
        f"Ranks of job llm wait for one another for {lines.skew_share * 104:.3g}% of every step.", {"job_id": "llm"},
    )  # fmt: skip
    rack = {"subject_kind": "rack", "subject": "r07", "node": "", "rank": "", "condition": "coll-slow-endpoint"}
    yield Watched(
        Alert("SkewscopeSwitchSuspect",
              f'max by (job_id, subject, condition) ({ACTIVE}{{subject_kind="rack",{culprit}}}) == 1', 120, 600,
              "warning", "rack", "", "What hosts share is at fault: a switch or a rack",
              "{{ $labels.condition }} at {{ $labels.subject }}, on all its hosts alike.", "switch-suspect"),
        ((ACTIVE, FINDING | rack, np.nan, 0.0, 1.0),), "coll-slow-endpoint at r07, on all its hosts alike.",
        {"job_id": "llm", "subject": "r07", "condition": "coll-slow-endpoint"},
    )  # fmt: skip
    experts = "skewscope_moe_expert_max_mean_ratio"
    rank = {"job_id": "llm", "rank": "0", "gpu": "0", "instance": "n0:9709", "job": "skewscope-fast"}
    yield Watched(
        Alert("SkewscopeExpertImbalance", f"max by (job_id) ({experts}) >= {lines.expert_ratio:g}", 600, 900, "info",
              "job", "", "The busiest expert has far more work than the mean",
              "In job {{ $labels.job_id }} the busiest expert takes {{ $value | humanize }} times the mean of its "
              "layer.", "expert-imbalance"),
        ((experts, rank, 1.2, *_around(lines.expert_ratio)),),
        f"In job llm the busiest expert takes {lines.expert_ratio * 1.04:g} times the mean of its layer.",
        {"job_id": "llm"},
    )  # fmt: skip


def _telemetry(lines: Lines) -> Iterator[Watched]:
    stale, targets = "skewscope_watch_targets_stale", "skewscope_watch_targets"
    yield Watched(
        Alert("SkewscopeTelemetryStale", f"{stale} / ({targets} > 0) >= {lines.stale_share:g}", 120, 600, "warning",
              "watch", "", "Many agents do not answer, so findings may be missing",
              "{{ $value | humanizePercentage }} of the agents did not answer in the last window.", "telemetry-stale"),
        ((stale, WATCH, 0.0, lines.stale_share * 98, lines.stale_share * 104), (targets, WATCH, 100.0, 100.0, 100.0)),
        f"{lines.stale_share * 104:.3g}% of the agents did not answer in the last window.", WATCH,
    )  # fmt: skip
    silent = {"node": "n7", **WATCH}
    yield Watched(
        Alert("SkewscopeNodeSilent", "skewscope_watch_node_stale == 1", 300, 600, "info", "node", "",
              "The agent of a node does not answer", "The agent of {{ $labels.node }} does not answer.", "node-silent"),
        (("skewscope_watch_node_stale", silent, np.nan, np.nan, 1.0),), "The agent of n7 does not answer.", silent,
    )  # fmt: skip
    collector = {"collector": "nvml-device", "instance": "n1:9709", "job": "skewscope-fast"}
    yield Watched(
        Alert("SkewscopeCollectorFails", "skewscope_collector_success == 0", 600, 600, "info", "node", "",
              "A part of a node cannot be read",
              "The collector {{ $labels.collector }} of {{ $labels.instance }} fails.", "collector-fails"),
        (("skewscope_collector_success", collector, 1.0, 1.0, 0.0),),
        "The collector nvml-device of n1:9709 fails.", collector,
    )  # fmt: skip


def _watch(lines: Lines) -> Iterator[Watched]:
    last, cycle = "skewscope_watch_last_cycle_timestamp_seconds", "skewscope_watch_cycle_seconds"
    yield Watched(
        Alert("SkewscopeWatchDown", f"absent({last})", 300, 0, "warning", "watch", "",
              "Nobody looks for faults: the watch is not there",
              "Nothing is heard of `skewscope watch`; alerts on findings cannot fire.", "watch-down"),
        ((last, WATCH, 15.0, 15.0, np.nan),),
        "Nothing is heard of `skewscope watch`; alerts on findings cannot fire.",
    )  # fmt: skip
    yield Watched(
        Alert("SkewscopeWatchStalled", f"time() - {last} > {lines.silent_s:g}", 60, 600, "warning", "watch", "",
              "Nobody looks for faults: the watch gives no answers",
              "The last cycle of the watch ended {{ $value | humanizeDuration }} ago.", "watch-stalled"),
        ((last, WATCH, 15.0, lines.silent_s - 15.0, lines.silent_s + 5.0),), "", WATCH,
    )  # fmt: skip
    yield Watched(
        Alert("SkewscopeWatchSlow", f"{cycle} > {lines.cycle_s:g}", 300, 600, "warning", "watch", "",
              "The watch takes longer than a window lasts",
              "A cycle of the watch takes {{ $value | humanizeDuration }}, a window lasts 30 s.", "watch-slow"),
        ((cycle, WATCH, 5.0, lines.cycle_s * 0.97, lines.cycle_s * 1.1),),
        f"A cycle of the watch takes {lines.cycle_s * 1.1:.4g}s, a window lasts 30 s.", WATCH,
    )  # fmt: skip
    errors = "skewscope_watch_feed_errors_total"
    few, many = (lines.errors_count + change for change in (-0.5, 0.5))
    yield Watched(
        Alert("SkewscopeWatchFeedErrors", f"increase({errors}[10m]) >= {lines.errors_count}", 0, 600, "info", "watch",
              "", "Live metrics cannot be read", "{{ $value | humanize }} errors in 10 min while reading metrics.",
              "watch-feed-errors"),
        ((errors, WATCH, 0.0, few / 600, many / 600),), "", WATCH,
    )  # fmt: skip
    failed = "skewscope_watch_notifications_total"
    labels = {"receiver": "pager", "result": "failed", **WATCH}
    yield Watched(
        Alert("SkewscopeNotificationsFail", f'increase({failed}{{result="failed"}}[15m]) >= 1', 0, 600, "warning",
              "watch", "", "A receiver of notifications cannot be reached",
              "Notifications for {{ $labels.receiver }} failed for good; they are in the dead-letter file.",
              "notifications-fail"),
        ((failed, labels, 0.0, 0.9 / 900, 1.1 / 900),),
        "Notifications for pager failed for good; they are in the dead-letter file.", labels,
    )  # fmt: skip


def _acting(lines: Lines) -> Iterator[Watched]:
    """Yield the alerts on acting itself: who mends must be watched, too."""
    turn, open_ = "skewscope_act_last_turn_timestamp_seconds", "skewscope_act_breaker_open"
    yield Watched(
        Alert("SkewscopeActSilent", f"time() - {turn} > {lines.act_silent_s:g}", 60, 600, "warning", "watch", "",
              "Nobody acts, and nobody takes acts back",
              "The last turn of the acting engine ended {{ $value | humanizeDuration }} ago.", "act-silent"),
        ((turn, WATCH, 15.0, lines.act_silent_s - 15.0, lines.act_silent_s + 5.0),), "", WATCH,
    )  # fmt: skip
    works = "skewscope_act_working"
    yield Watched(
        Alert("SkewscopeActFails", f"{works} == 0", 120, 600, "warning", "watch", "", "The acting engine fails",
              "Nothing is done on schedulers; /readyz of the watch says why.", "act-fails"),
        ((works, WATCH, 1.0, 1.0, 0.0),), "Nothing is done on schedulers; /readyz of the watch says why.", WATCH,
    )  # fmt: skip
    yield Watched(
        Alert("SkewscopeBreakerOpen", f"{open_} == 1", 60, 600, "warning", "watch", "",
              "Too much was done at once: acting has stopped", "Nodes still return to service; new acts wait for a "
              "person: skewscope policy reset-breaker.", "breaker-open"),
        ((open_, WATCH, 0.0, 0.0, 1.0),),
        "Nodes still return to service; new acts wait for a person: skewscope policy reset-breaker.", WATCH,
    )  # fmt: skip
    used = {"scheduler": "slurm", "budget": "at_once", **WATCH}
    yield Watched(
        Alert("SkewscopeActBudgetSpent", "skewscope_act_budget_used_ratio >= 1", 3600, 600, "info", "watch", "",
              "The budget of nodes is spent: no further node is fenced",
              "{{ $labels.scheduler }}: {{ $value | humanizePercentage }} of the budget {{ $labels.budget }} is used.",
              "act-budget-spent"),
        (("skewscope_act_budget_used_ratio", used, 0.0, 0.98, 1.04),), "slurm: 104% of the budget at_once is used.",
        used,
    )  # fmt: skip
    away = {"scheduler": "slurm", **WATCH}
    yield Watched(
        Alert("SkewscopeSchedulerAway", "skewscope_act_scheduler_up == 0", 300, 600, "warning", "watch", "",
              "A scheduler does not answer the acting engine",
              "{{ $labels.scheduler }} does not answer; nothing is done or taken back there.", "scheduler-away"),
        (("skewscope_act_scheduler_up", away, 1.0, 1.0, 0.0),),
        "slurm does not answer; nothing is done or taken back there.", away,
    )  # fmt: skip
    fence = {"scheduler": "slurm", "node": "n7", "verb": "drain", **WATCH}
    yield Watched(
        Alert("SkewscopeNodeFencedLong", f"skewscope_act_fenced_seconds > {lines.fenced_s:g}", 300, 600, "info", "node",
              "", "A node has been out for long because of us",
              "{{ $labels.scheduler }} {{ $labels.verb }} of {{ $labels.node }} stands since "
              "{{ $value | humanizeDuration }}.", "node-fenced-long"),
        (("skewscope_act_fenced_seconds", fence, np.nan, lines.fenced_s - 60.0, lines.fenced_s + 60.0),),
        "slurm drain of n7 stands since 1d 0h 1m 0s.", fence,
    )  # fmt: skip


def _around(line: float) -> tuple[float, float]:
    """Return numbers just below and just above a line.

    >>> [round(number, 3) for number in _around(0.05)]
    [0.049, 0.052]
    """
    return line * 0.98, line * 1.04
