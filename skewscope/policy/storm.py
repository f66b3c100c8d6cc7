"""Guard 6: many nodes bad at once have a shared cause, which fencing nodes does not mend."""

from __future__ import annotations

from collections.abc import Mapping, Set

from .cases import Case
from .turn import SECOND_NS, Turn

Together = Mapping[tuple[int, str], Set[str]]  # (opened, node) -> the nodes that became bad with it
SHOWN = 4


def storm(turn: Turn, case: Case, together: Together) -> str:
    """Return the sentence of a storm that a case is part of, "" where it is not; nodes acted upon just now count."""
    limits = turn.policy.storm
    opened_ns = _opened_ns(turn, case)
    nodes = together.get((opened_ns, case.node), frozenset())
    if turn.age_s(opened_ns) <= limits.window_s:
        nodes = nodes | recent(turn)
    if len(nodes) < limits.nodes:
        return ""
    some = ", ".join(sorted(nodes)[:SHOWN]) + (", ..." if len(nodes) > SHOWN else "")
    return f"{len(nodes)} nodes bad within {limits.window_s / 60:g} min ({some}): look for what they share"


def together(turn: Turn) -> Together:
    """Return for each bad node the largest set of nodes that became bad within one window with it."""
    window_ns = turn.policy.storm.window_s * SECOND_NS
    bad = sorted(
        {(_opened_ns(turn, one), one.node) for one in turn.cases
         if one.node and not one.healthy and one.role == "culprit"}
    )  # fmt: skip
    found: dict[tuple[int, str], Set[str]] = {}
    first = 0
    for last, (time_ns, _) in enumerate(bad):
        while time_ns - bad[first][0] > window_ns:
            first += 1
        span = bad[first : last + 1]
        nodes = {node for _, node in span}
        found.update((one, nodes) for one in span if len(nodes) > len(found.get(one, ())))
    return found


def recent(turn: Turn) -> set[str]:
    """Return the nodes that were fenced within the window that ends now."""
    acts = turn.ledger.fenced(turn.scheduler)
    return {act.target for act in acts if act.began_ns >= 0 and turn.age_s(act.began_ns) <= turn.policy.storm.window_s}


def _opened_ns(turn: Turn, case: Case) -> int:
    return case.opened_ns if case.opened_ns >= 0 else turn.now_ns
