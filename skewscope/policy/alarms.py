"""Guard 19: nothing is done while other alarms burn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from .turn import Texts, Turn, Wanted

HOSTS = ("node", "instance", "host", "hostname", "nodename")  # labels that name a host
SHOWN = 3


def alarms(turn: Turn, wanted: Wanted) -> Texts:
    """Say which alarms burn."""
    told = turn.policy.alarms
    burning = [
        labels for labels in turn.around.alarms
        if _is_any(labels, told.block) and not _is_any(labels, told.ignore)
        and (told.same_node_counts or not _is_of(labels, wanted.case.node))
    ]  # fmt: skip
    names = sorted({labels.get("alertname", "an alarm") for labels in burning})
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"alarms burn: {', '.join(names[:SHOWN])}{more} (alarms.block)"


def matches(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether an alarm has all wanted labels; values are patterns.

    >>> matches({"alertname": "PowerLost", "severity": "critical"}, {"severity": "crit*"})
    True
    """
    return bool(wanted) and all(fnmatchcase(labels.get(name, ""), pattern) for name, pattern in wanted.items())


def _is_any(labels: Mapping[str, str], some: Iterable[Mapping[str, str]]) -> bool:
    return any(matches(labels, one) for one in some)


def _is_of(labels: Mapping[str, str], node: str) -> bool:
    return bool(node) and any(labels.get(name, "").partition(":")[0] == node for name in HOSTS)
