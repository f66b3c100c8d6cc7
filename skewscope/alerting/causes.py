"""The alerts of causes: one for each room that has an alert. They make tickets or give context; none pages.

Paging is for the symptom, a job that loses GPU-hours (`findings.py`): a room's "critical" becomes a ticket.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..catalogue import Room, rooms
from ..contracts import Rule
from . import host_label
from .alert import Alert, of_watch, runbook

KEEP_S, KEEP_STRAGGLER_S, STRAGGLER_FOR_S = 600, 900, 240
SEVERITIES = {"critical": "warning"}
SCOPES = (("gpu", "$labels.gpu "), ("nic", "$labels.device "), ("rank", "$labels.rank "))


def alerts(
    only: Collection[str] = (), *, host: str = host_label.INSTANCE, runbook_url: str = "{id}", for_scale: float = 1.0
) -> Iterator[tuple[str, Alert]]:
    """Yield (category, alert) of each room, or of those named, in the order of the catalogue.

    `host` is the label that tells hosts apart, `runbook_url` the address of a page, with `{id}` for the condition's id;
    `for_scale` stretches the time before an alert fires.
    """
    for room in rooms("detectors"):
        if only and room.id not in only:
            continue
        detector = room.load()
        rule = detector.alert()
        if rule is not None:
            yield detector.category, _alert(room, rule, host, runbook_url, for_scale)


def _alert(room: Room, rule: Rule, host: str, runbook_url: str, for_scale: float) -> Alert:
    told = of_watch(rule.expr)
    label = host_label.NODE if told else host
    scope = "{{ $labels.subject_kind }}" if told else scope_of(rule)
    labels = {"node": host_label.host(label)} if label != host_label.NODE and scope != "job" else {}
    return Alert(
        rule.alert, rule.expr if told else host_label.expression(rule.expr, label), round(rule.for_s * for_scale),
        KEEP_STRAGGLER_S if rule.for_s >= STRAGGLER_FOR_S else KEEP_S, SEVERITIES.get(rule.severity, rule.severity),
        scope, room.id, room.page().strip().splitlines()[0].rstrip("."),
        host_label.text(_described(rule, scope), label),
        runbook(runbook_url, room.id), labels,
    )  # fmt: skip


def scope_of(rule: Rule) -> str:
    """Return what an alert is about, from the labels that its texts name: gpu, nic, rank, node or a whole job.

    >>> scope_of(Rule("A", "x > 1", 0, "info", "GPU {{ $labels.gpu }} of {{ $labels.node }}", "slow"))
    'gpu'
    """
    told = f"{rule.summary} {rule.description}"
    for scope, sign in SCOPES:
        if sign in told:
            return scope
    return "node" if "$labels.node " in told or "$labels.instance " in told else "job"


def _described(rule: Rule, scope: str) -> str:
    """Return a rule's two texts as one that always names the host where there is one."""
    text = f"{_large(rule.summary)}: {rule.description}.".replace("{{ $value }}", "{{ $value | humanize }}")
    silent = scope in ("gpu", "nic", "rank") and not any(
        sign in text for sign in ("$labels.node ", "$labels.instance ")
    )
    return f"{text} On {{{{ $labels.node }}}}." if silent else text


def _large(text: str) -> str:
    return text if text.startswith("{{") else text[:1].upper() + text[1:]
