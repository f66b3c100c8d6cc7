"""What is said of an incident: an alert for Alertmanager, a document for webhooks, a few lines for chat."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

SCHEMA = "skewscope.notification/1"
SEVERITY = {"S1": "critical", "S2": "critical", "S3": "warning", "S4": "info"}  # page, page, ticket, context
EVENTS = ("opened", "changed", "closed", "reopened")
MARKS = {"opened": ":red_circle:", "reopened": ":red_circle:", "changed": ":large_orange_circle:",
         "closed": ":white_check_mark:"}  # fmt: skip
Incident = Mapping[str, Any]  # skewscope.incident/1
Document = dict[str, Any]


def event(before: Incident | None, now: Incident) -> str:
    """Return what happened to an incident since it was told last: one of EVENTS, "" for nothing worth telling.

    >>> told = {"state": "open", "severity": "S3", "condition": "a", "subject": {"id": "n1"}}
    >>> event(None, told), event(told, told | {"state": "closed"}), event(told, told | {"severity": "S2"})
    ('opened', 'closed', 'changed')
    """
    closed = now["state"] == "closed"
    if before is None:
        return "" if closed else "opened"
    if closed:
        return "" if before["state"] == "closed" else "closed"
    if before["state"] == "closed":
        return "reopened"
    worse = now["severity"] < before["severity"]
    place = (now["condition"], now["subject"]["id"]) != (before["condition"], before["subject"]["id"])
    return "changed" if worse or place else ""


def remembered(incident: Incident) -> Document:
    """Return what `event` must know of an incident that was told."""
    return {
        "state": incident["state"], "severity": incident["severity"], "condition": incident["condition"],
        "subject": {"id": incident["subject"]["id"]},
    }  # fmt: skip


def notification(what: str, incident: Incident, link: str) -> Document:
    """Return the document `skewscope.notification/1` that generic webhooks get."""
    return {
        "schema": SCHEMA, "event": what, "time_ns": incident["changed_ns"], "link": link, "incident": dict(incident),
    }  # fmt: skip


def chat(what: str, incident: Incident, link: str) -> Document:
    """Return a message as Slack and its look-alikes take it; names from jobs are shown as they are, never as markup."""
    cost = incident["cost"]
    gpus = f", {cost['lost_gpus']:.1f} GPUs' worth" if cost["lost_gpus"] else ""
    lines = [
        f"{MARKS[what]} *{incident['condition']}* {what}: {_plain(incident['subject']['id'])}",
        _plain(incident["summary"]),
        f"severity {incident['severity']}, confidence {incident['confidence']:.0%}, "
        f"costs {cost['share']:.0%} of the step{gpus}, {cost['gpu_hours']:.2f} GPU-hours so far",
    ]
    lines += [f"Next: {_plain(incident['advice'])}"] if incident["advice"] and what != "closed" else []
    lines += [f"<{link}|details>"] if link else []
    return {"text": "\n".join(lines)}


def _plain(text: str) -> str:
    """Return a text without what chat programs take as markup.

    >>> _plain("<!channel> a&b")
    '&lt;!channel&gt; a&amp;b'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def labels(incident: Incident) -> dict[str, str]:
    """Return the labels of an incident's alert: what identifies it and what routes go by."""
    found = {
        "alertname": alert_name(incident["condition"]), "incident": incident["id"],
        "condition": incident["condition"], "severity": SEVERITY[incident["severity"]],
        "job_id": incident["job"] or "", "node": incident["subject"]["node"] or "",
        "subject": incident["subject"]["id"],
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def alert_name(condition: str) -> str:
    """Return the name of a condition's alert.

    >>> alert_name("gpu-hw-slowdown")
    'SkewscopeGpuHwSlowdown'
    """
    return "Skewscope" + "".join(part.capitalize() for part in condition.split("-"))


def alert(told: Mapping[str, str], incident: Incident, ends_ns: int, link: str) -> Document:
    """Return an alert of Alertmanager's API v2 with these labels, which ends at a time unless it is sent again."""
    cost = incident["cost"]
    share, hours = f"{cost['share']:.0%} of each step", f"{cost['gpu_hours']:.2f} GPU-hours so far"
    return {
        "labels": dict(told),
        "annotations": {
            "summary": f"{incident['condition']}: {incident['subject']['id']}",
            "description": f"{incident['summary']} ({share}, {hours}; confidence {incident['confidence']:.0%})",
            "advice": incident["advice"], "runbook": incident["runbook"],
        },
        "startsAt": moment(incident["opened_ns"]), "endsAt": moment(ends_ns), "generatorURL": link,
    }  # fmt: skip


def moment(t_ns: int) -> str:
    """Return a time (ns since the epoch) as RFC 3339 writes it.

    >>> moment(1_500_000_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat(timespec="microseconds")
