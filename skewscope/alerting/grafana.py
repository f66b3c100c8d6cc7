"""A dashboard for Grafana, made of declared metrics: what jobs lose, to whom, the hosts, and the watch itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH = 24
FINDING = "skewscope_finding_lost_gpus"
CULPRIT, BLAMED, CORRECTED = ', role="culprit"', ', role=~"culprit|context"', ', severity="corrected"'


@dataclass(frozen=True)
class Panel:
    """One panel: title, kind, (expression, legend) pairs, unit as Grafana names it, width of 24 and height."""

    title: str
    kind: str
    asked: tuple[tuple[str, str], ...]
    unit: str
    about: str
    width: int = 8
    height: int = 8


def _job(name: str, more: str = "") -> str:
    return f'{name}{{job_id=~"$job"{more}}}'


def _node(name: str, more: str = "") -> str:
    return f'{name}{{instance=~"$instance"{more}}}'


def rows() -> dict[str, tuple[Panel, ...]]:
    """Return the panels by row, in the order of the questions that they answer."""
    gpu, rate = "GPU {{gpu}} {{instance}}", "[$__rate_interval]"
    return {
        "Am I losing time?": (
            Panel("GPU-hours lost per hour", "stat", ((f"sum({_job('skewscope_job_lost_gpus')})", "lost"),), "none",
                  "GPUs' worth of all jobs that findings lose", 4, 6),
            Panel("Share of all GPUs lost", "stat",
                  ((f"sum({_job('skewscope_job_lost_gpus')}) / sum({_job('skewscope_job_gpus')})", "share"),),
                  "percentunit", "Lost GPUs over those that jobs hold", 4, 6),
            Panel("Open incidents", "stat", (('sum(skewscope_watch_incidents{state!="closed"})', "open"),), "none",
                  "Incidents that are not closed", 4, 6),
            Panel("GPU-hours lost per hour, by job", "timeseries",
                  ((_job("skewscope_job_lost_gpus"), "{{job_id}}"),), "none", "What mending all findings gives", 12, 6),
            Panel("Step time", "timeseries", ((_job("skewscope_job_step_seconds"), "{{job_id}}"),), "s",
                  "Median of each window", 12),
            Panel("Slowdown", "timeseries", ((_job("skewscope_job_slowdown_ratio"), "{{job_id}}"),), "none",
                  "Step time over that without findings; 1 is ideal", 12),
        ),
        "Who is it, and why?": (
            Panel("Findings, by GPU-hours lost per hour", "table",
                  ((f"sort_desc(sum by (condition, subject, node, severity, job_id) "
                    f"({_job(FINDING, BLAMED)}))", ""),), "none",
                  "Each active finding with its price", 24, 9),
            Panel("Lost GPU-hours per hour, by condition", "timeseries",
                  ((f"sum by (condition) ({_job(FINDING, CULPRIT)})", "{{condition}}"),), "none",
                  "What to mend first", 12),
            Panel("Lost GPU-hours per hour, by node", "timeseries",
                  ((f"topk(10, sum by (node) ({_job(FINDING, CULPRIT)}))", "{{node}}"),), "none",
                  "The ten nodes that cost most", 12),
        ),
        "Ranks": (
            Panel("Share of time in collectives", "timeseries",
                  ((f"sum by (job_id, rank) (rate({_job('skewscope_collective_seconds_total')}{rate}))",
                    "rank {{rank}}"),), "percentunit", "The late rank has the smallest share", 12),
            Panel("Own work per step", "timeseries",
                  ((f"(sum by (job_id, rank) (rate({_job('skewscope_step_seconds_total')}{rate})) "
                    f"- sum by (job_id, rank) (rate({_job('skewscope_collective_seconds_total')}{rate}))) "
                    "/ sum by (job_id, rank) "
                    f"(rate({_job('skewscope_steps_total')}{rate}) > 0)", "rank {{rank}}"),), "s",
                  "Step without collectives; a slow GPU stands above its peers", 12),
        ),
        "GPUs": (
            Panel("SM clock", "timeseries", ((_node("skewscope_gpu_clock_hertz", ', domain="sm"'), gpu),), "hertz",
                  "Clocks of neighbours should agree"),
            Panel("Time slowed, by reason", "timeseries",
                  ((f"sum by (instance, gpu, reason) (rate({_node('skewscope_gpu_clock_event_seconds_total')}{rate}))",
                    gpu + " {{reason}}"),), "percentunit", "Share of time in which something holds the clock"),
            Panel("Temperature", "timeseries",
                  ((_node("skewscope_gpu_temperature_celsius", ', sensor="gpu"'), gpu),), "celsius", "At the GPU"),
            Panel("Power", "timeseries", ((_node("skewscope_gpu_power_watts", ', kind="average"'), gpu),), "watt",
                  "Average of a second"),
            Panel("Memory errors corrected", "timeseries",
                  ((f"sum by (instance, gpu) (rate({_node('skewscope_gpu_ecc_errors_total', CORRECTED)}"
                    f"{rate}))", gpu),), "ops", "Errors a second"),
            Panel("NVLink errors", "timeseries",
                  ((f"sum by (instance, gpu, error) (rate({_node('skewscope_gpu_nvlink_errors_total')}{rate}))",
                    gpu + " {{error}}"),), "ops", "Errors a second"),
        ),
        "Network": (
            Panel("Sent", "timeseries",
                  ((f"rate({_node('skewscope_rdma_transmit_bytes_total')}{rate})", "{{device}} {{instance}}"),), "Bps",
                  "Rails of a host should carry alike"),
            Panel("Sent again", "timeseries",
                  ((f"sum by (instance, device) (rate({_node('skewscope_rdma_retransmissions_total')}{rate}))",
                    "{{device}} {{instance}}"),), "ops", "Retransmissions a second"),
            Panel("Waiting for credits", "timeseries",
                  ((f"rate({_node('skewscope_rdma_transmit_wait_ticks_total')}{rate})", "{{device}} {{instance}}"),),
                  "none", "Ticks a second; compare ports"),
        ),
        "The watch itself": (
            Panel("Cycle", "timeseries", (("skewscope_watch_cycle_seconds", "cycle"),), "s", "Must stay below 30 s", 6),
            Panel("Agents that do not answer", "timeseries",
                  (("skewscope_watch_targets_stale", "stale"), ("skewscope_watch_targets", "all")), "none",
                  "Findings about stale nodes are missing", 6),
            Panel("Age of the last answer", "timeseries",
                  (("time() - skewscope_watch_last_cycle_timestamp_seconds", "age"),), "s", "Rises when it stalls", 6),
            Panel("Notifications", "timeseries",
                  ((f"sum by (receiver, result) (rate(skewscope_watch_notifications_total{rate}))",
                    "{{receiver}} {{result}}"),), "ops", "Notifications a second, by how they ended", 6),
        ),
        "Acting": (
            Panel("Nodes out", "timeseries", (("skewscope_act_nodes_out", "{{scheduler}} {{by}}"),), "none",
                  "By us, and by others"),
            Panel("Budget used", "timeseries",
                  (("skewscope_act_budget_used_ratio", "{{scheduler}} {{budget}}"),), "percentunit",
                  "At 100 % no further node is fenced"),
            Panel("Acts", "timeseries",
                  (('sum by (verb, phase) (increase(skewscope_act_records_total'
                    f'{{phase=~"done|failed|undone|proposed"}}{rate}))', "{{verb}} {{phase}}"),), "none",
                  "What was done, failed, taken back, proposed"),
        ),
    }  # fmt: skip


def dashboard() -> Document:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "skewscope", "title": "skewscope", "tags": ["skewscope", "gpu"], "schemaVersion": 39, "version": 1,
        "editable": True, "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-3h", "to": "now"},
        "timezone": "", "annotations": {"list": [_alerts()]}, "templating": {"list": list(_variables())},
        "panels": list(_placed(rows())),
    }  # fmt: skip


def _variables() -> Iterator[Document]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
    for name, label, query in (
        ("job", "Job", "label_values(skewscope_job_gpus, job_id)"),
        ("instance", "Node", "label_values(skewscope_gpu_utilization_ratio, instance)"),
    ):
        yield {
            "name": name, "label": label, "type": "query", "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query, "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*", "sort": 7,
            "current": {"text": "All", "value": "$__all"}, "hide": 0,
        }  # fmt: skip


def _alerts() -> Document:
    return {
        "name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": "red", "titleFormat": "{{alertname}}",
        "expr": 'ALERTS{alertname=~"Skewscope.*", alertstate="firing", severity=~"critical|warning"}',
        "textFormat": "{{node}} {{job_id}}", "step": "60s",
    }  # fmt: skip


def _placed(rows: dict[str, tuple[Panel, ...]]) -> Iterator[Document]:
    number, top = 1, 0
    for title, panels in rows.items():
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}  # fmt: skip
        number, top, left, high = number + 1, top + 1, 0, 0
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top, high = 0, top + high, 0
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            number, left, high = number + 1, left + panel.width, max(high, panel.height)
        top += high


def _panel(panel: Panel, number: int, place: dict[str, int]) -> Document:
    instant = panel.kind != "timeseries"
    found: Document = {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.about, "datasource": SOURCE,
        "gridPos": place, "targets": _targets(panel.asked, instant, panel.kind == "table"),
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []}, "options": {},
    }  # fmt: skip
    if panel.kind == "table":
        found["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
    return found


def _targets(asked: Sequence[tuple[str, str]], instant: bool, table: bool) -> list[Document]:
    return [{
        "refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expr, "legendFormat": legend,
        "instant": instant, "range": not instant, "format": "table" if table else "time_series",
    } for place, (expr, legend) in enumerate(asked)]  # fmt: skip


def expressions() -> list[str]:
    """Return every expression of the dashboard, its variables put in, so that they can be checked."""
    told = [expr for panels in rows().values() for panel in panels for expr, _ in panel.asked]
    return [expr.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", ".*") for expr in told]
