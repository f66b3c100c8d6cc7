"""Guard 5: the breaker. It opens by itself and is closed by a person; returns to service never ask it."""

from __future__ import annotations

from collections.abc import Sequence

from ..acts import Fleet
from .ledger import Ledger
from .settings import Policy
from .turn import SECOND_NS, Texts, Turn, Wanted

RESET = "a person resets it: skewscope policy reset-breaker"


def breaker(turn: Turn, wanted: Wanted) -> Texts:
    """Say that it is open, or that it opens now."""
    if turn.ledger.breaker:
        yield f"open: {turn.ledger.breaker}; {RESET}"
        return
    why = trips(turn.policy, turn.fleet, turn.ledger, turn.now_ns)
    if why:
        yield f"opens: {why}"


def trips(policy: Policy, fleet: Fleet, ledger: Ledger, now_ns: int, granted: Sequence[Wanted] = ()) -> str:
    """Return why the breaker must open now, "" where it need not: the engine writes it down as `breaker` `open`.

    With `granted`: why it would open once these acts were done, too.
    """
    limits = policy.breaker
    since_ns = now_ns - limits.window_s * SECOND_NS
    acts = sum(one.is_counted for one in granted) + sum(time_ns > since_ns for time_ns in ledger.counted_ns)
    if acts >= limits.acts:
        return f"{acts} fences and restarts within {limits.window_s / 60:g} min (breaker.acts = {limits.acts})"
    failures = sum(time_ns > since_ns for time_ns in ledger.failures_ns)
    if failures >= limits.failures:
        return f"{failures} failed acts within {limits.window_s / 60:g} min (breaker.failures = {limits.failures})"
    fenced = {act.target for act in ledger.fences(fleet.scheduler)} | {one.target for one in granted if one.is_fence}
    out = len(fenced | {name for name, node in fleet.nodes.items() if not node.schedulable})
    if out > max(limits.out_nodes, limits.out_share * len(fleet.nodes)):
        return f"{out} of {len(fleet.nodes)} nodes are out (breaker.out_share = {limits.out_share:g}, out_nodes)"
    return ""
