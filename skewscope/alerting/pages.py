"""The runbooks as Markdown pages: those of the conditions, and of the alerts that belong to no condition."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..catalogue import rooms
from .alert import Alert
from .findings import watched

TODO = {  # page -> what to do
    "job-gpu-hours-lost": "Open the incidents of the job (`/api/v1/incidents?state=open` of the watch, or its "
    "dashboard): the one with the highest cost names the culprit and what to do about it.",
    "job-stopped": "Look at the subject: a rank that never came is the culprit, the others wait for it. Collect stacks "
    "and flight recorder dumps before the watchdog ends the job, then restart without that node.",
    "straggler-node": "See which findings name the node and follow their runbooks; a drained node gives its job's time "
    "back at the next restart.",
    "collective-skew": "The findings of the job name the late ranks. Without a culprit the work itself is uneven: see "
    "`data-sequence-skew` and `pp-stage-imbalance`.",
    "switch-suspect": "Many hosts behind one switch suffer alike: ask the network's people for the counters of that "
    "switch and of its uplinks before any host is drained.",
    "expert-imbalance": "Replan the placement of experts (`skewscope plan moe`), or raise the weight of the balancing "
    "loss.",
    "telemetry-stale": "Agents that do not answer are listed by `skewscope_watch_node_stale`. Many at once: network or "
    "Prometheus; one: its node. Findings about these nodes are missing until they answer.",
    "node-silent": "See whether the node is up (`ping`, the scheduler), then `systemctl status skewscope-agent` there.",
    "collector-fails": "Run `skewscope agent --list` on the node: it says why a part cannot be read.",
    "watch-down": "See whether `skewscope watch` runs and whether Prometheus scrapes it.",
    "watch-stalled": "Read the log of the watch: its feed does not answer, or a cycle hangs. It may be restarted at "
    "any time without losing incidents.",
    "watch-slow": "Give the watch more CPU, or divide the fleet between two.",
    "watch-feed-errors": "The log of the watch tells the errors: Prometheus overloaded, a wrong password, a limit on "
    "series (`--query-series`).",
    "act-silent": "See whether the watch runs and which one holds the lease (`holder` of `/api/v1/acts`). Fences stand "
    "meanwhile; `skewscope undo` takes one back by hand.",
    "act-fails": "Read `/readyz` of the watch. A damaged audit: `skewscope audit verify FILE` names the line; keep the "
    "file, find out who changed it, then begin a new one.",
    "breaker-open": "Read what was done (`skewscope audit list`), look for a shared cause, take back what was wrong "
    "(`skewscope undo`), then close it with `skewscope policy reset-breaker` and the reason.",
    "act-budget-spent": "See which nodes are out and why: those drained by others count. Mend them, or give the policy "
    "a larger budget.",
    "scheduler-away": "See whether the scheduler runs and whether the identity of the watch may still use it.",
    "node-fenced-long": "See why it does not return: `skewscope audit show ACT` tells its tests. Repair it, or take "
    "the act back.",
    "notifications-fail": "Mend the receiver, then send again what is in the dead-letter file.",
}  # fmt: skip


def pages(alerts: Collection[Alert]) -> dict[str, str]:
    """Return the Markdown text of each page that alerts lead to, by its id."""
    named, own = {alert.condition for alert in alerts}, {alert.name for alert in alerts}
    found = {room.id: condition(room.id, room.page()) for room in rooms("detectors") if room.id in named}
    for one in watched():
        page = one.alert.runbook_url
        if page in TODO and one.alert.name in own:
            found[page] = f"# {one.alert.name}\n\n{one.alert.summary}.\n\n## What to do\n\n{TODO[page]}\n"
    return found


def condition(name: str, page: str) -> str:
    r"""Return a condition's page as Markdown.

    >>> condition("x-y", "A bad thing.\n\nWhat to do\n    Mend it.\n")
    '# x-y\n\nA bad thing.\n\n## What to do\n\nMend it.\n'
    """
    lines = [re.sub(r"^(\S.*)$", r"## \1\n", line) if number else line
             for number, line in enumerate(page.strip().splitlines())]  # fmt: skip
    headed = [line.removeprefix("    ") for line in lines]
    return f"# {name}\n\n" + "\n".join(headed) + "\n"
