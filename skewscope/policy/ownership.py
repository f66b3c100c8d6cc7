"""Guards 11 and 18: nodes of others, protected and paused ones are left alone; actuators look again before writing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..acts import NodeState
from .ledger import NOTHING, TAKING
from .settings import is_named
from .turn import Texts, Turn, Wanted


def ownership(turn: Turn, wanted: Wanted) -> Texts:
    """Say to whom a node belongs, or why nobody may touch it."""
    if not wanted.case.node or wanted.verb == "advise":
        return  # a hint touches no node
    yield from _protected(turn, wanted)
    node = turn.node(wanted.target)
    if node is None:
        yield f"{turn.scheduler} lists no node {wanted.target}"
        return
    known = any(act.state in (*TAKING, NOTHING) for act in turn.ledger.on(wanted.target))
    if node.owner and not node.ours:
        yield f"{wanted.target} belongs to {node.owner}: {node.reason or 'no reason given'}"
    elif not node.schedulable and not node.ours:
        yield f"{wanted.target} takes no work already, by nobody we know: {node.reason or 'no reason given'}"
    elif node.ours and not known:
        yield f"{wanted.target} bears our mark for an act that this audit does not know: {node.reason}"
    label = turn.policy.ownership.pause_label
    if label and bears(node.native, label):
        yield f"{wanted.target} is paused by {label} (ownership.pause_label)"


def is_paused(turn: Turn, node: NodeState | None) -> bool:
    """Return whether a node bears the label that says to leave it alone."""
    label = turn.policy.ownership.pause_label
    return bool(label) and node is not None and bears(node.native, label)


def bears(told: Any, label: str) -> bool:  # noqa: ANN401 - a scheduler's own fields, plain JSON
    """Return whether a label stands anywhere in a scheduler's own fields, and is not "false".

    >>> bears({"labels": {"hold": "true"}}, "hold"), bears({"labels": {"hold": "false"}}, "hold")
    (True, False)
    """
    if isinstance(told, Mapping):
        set_so = told.get(label, "false")
        return str(set_so).lower() != "false" or any(bears(one, label) for key, one in told.items() if key != label)
    if isinstance(told, list | tuple):
        return any(bears(one, label) for one in told)
    return isinstance(told, str) and label in told.replace(",", " ").split()


def _protected(turn: Turn, wanted: Wanted) -> Texts:
    own = turn.policy.ownership
    if is_named(wanted.target, own.protected):
        yield f"{wanted.target} is protected (ownership.protected)"
    for job in turn.jobs(wanted):
        state = turn.fleet.jobs.get(job)
        names = (job, *((state.name, state.user) if state else ()))
        if any(name and is_named(name, own.protected_jobs) for name in names):
            yield f"job {job} is protected (ownership.protected_jobs)"
