"""One alerting rule as it is written to files, and the metrics and ranges that its expression reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

PREFIX = "skewscope_finding_", "skewscope_job_", "skewscope_watch_", "skewscope_act_"
NAME = re.compile(r"\bskewscope(?:_[a-z0-9_]+|:[a-z0-9_]+:[a-z0-9_]+)")
RANGE = re.compile(r"\[(\d+)([smhd])(?::[^\]]*)?\]|\boffset (\d+)([smhd])")
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Alert:
    """A rule: `for_s` seconds before it fires, `keep_s` for which it goes on after its reason is gone."""

    name: str
    expr: str
    for_s: int
    keep_s: int
    severity: str  # critical pages, warning makes a ticket, info is context
    scope: str  # what it is about: job, node, rank, gpu, nic, rack, watch, or a template where the finding tells
    condition: str  # id of its room; "" where no single room stands behind it
    summary: str
    description: str
    runbook_url: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def rule(self, *, keeps: bool = True) -> dict[str, Any]:
        """Return the rule as rule files hold it; `keeps=False` leaves out what old versions of vmalert refuse."""
        rule: dict[str, Any] = {"alert": self.name, "expr": wrapped(self.expr)}
        if self.for_s:
            rule["for"] = duration(self.for_s)
        if keeps and self.keep_s:
            rule["keep_firing_for"] = duration(self.keep_s)
        told = {"severity": self.severity, "scope": self.scope, "condition": self.condition, **self.labels}
        rule["labels"] = {name: text for name, text in told.items() if text}
        notes = {"summary": self.summary, "description": self.description, "runbook_url": self.runbook_url}
        rule["annotations"] = {name: text for name, text in notes.items() if text}
        return rule


def reads(expr: str) -> frozenset[str]:
    """Return the names of the metrics that an expression reads.

    >>> sorted(reads("skewscope_gpu_power_watts > 1 and on (node) skewscope:step_seconds:p50_1h > 2"))
    ['skewscope:step_seconds:p50_1h', 'skewscope_gpu_power_watts']
    """
    return frozenset(NAME.findall(expr))


def of_watch(expr: str) -> bool:
    """Return whether an expression reads only what `watch` exports, whose series name the host themselves.

    >>> of_watch('skewscope_finding_active{condition="coll-hang"} == 1'), of_watch("skewscope_rdma_port_up < 1")
    (True, False)
    """
    return all(name.startswith(PREFIX) for name in reads(expr))


def lookback_s(expr: str, most_s: int = 86400) -> int:
    """Return the longest range or offset of an expression in seconds, of those up to `most_s`; 0 for none.

    >>> lookback_s("rate(x_total[2m]) > 1 and max_over_time(y[1h:1m]) > 2"), lookback_s("rate(x_total[7d])")
    (3600, 0)
    """
    told = [(int(hit[0] or hit[2]) * UNIT_S[hit[1] or hit[3]]) for hit in RANGE.findall(expr)]
    return max((seconds for seconds in told if seconds <= most_s), default=0)


def duration(seconds: int) -> str:
    """Return seconds as Prometheus writes them.

    >>> duration(90), duration(600), duration(7200), duration(0)
    ('90s', '10m', '2h', '0s')
    """
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def runbook(address: str, page: str) -> str:
    """Return the address of a page: `{id}` in `address` stands for it, else it is added at the end.

    >>> runbook("https://wiki/gpu", "coll-hang"), runbook("runbooks/{id}.md", "coll-hang")
    ('https://wiki/gpu/coll-hang', 'runbooks/coll-hang.md')
    """
    return address.replace("{id}", page) if "{id}" in address else f"{address.rstrip('/')}/{page}"


def wrapped(expr: str) -> str:
    r"""Return an expression with a line for each part that `and`, `or` or `unless` join at its top.

    >>> wrapped("a > 1 and on (node) (b or c) or d")
    'a > 1\nand on (node) (b or c)\nor d'
    """
    depth, parts, begin = 0, [], 0
    for place, sign in enumerate(expr):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == " " and not depth and re.match(r" (?:and|or|unless)\b", expr[place:]):
            parts.append(expr[begin:place])
            begin = place + 1
    return "\n".join([*parts, expr[begin:]])
