"""Guards 9 and 10: nodes and jobs are left alone for a while after an act; who comes back too often gets a ticket."""

from __future__ import annotations

from collections.abc import Iterable

from .ledger import FAILED, INTENDED, PROPOSED, REFUSED, STANDING, STRONG, TAKING, UNDOING, UNDONE, WAITING, Act
from .turn import DAY_NS, Texts, Turn, Wanted

UNDER_WAY = (INTENDED, WAITING, UNDOING)


def cool_down(turn: Turn, wanted: Wanted) -> Texts:
    """Say for how long the node and its jobs are still left alone; a ticket disturbs nobody."""
    if wanted.verb == "ticket":
        return
    node, limits = turn.ledger.on(wanted.target), turn.policy.cool_down
    yield from _under_way(turn, wanted, node)
    wait_s = _left_s(turn, _others(wanted, node), node_s(turn, wanted.target))
    if wait_s > 0:
        yield f"{wanted.target} rests for {wait_s / 60:.0f} more min after another act (cool_down.node_s)"
    for job in turn.jobs(wanted):
        wait_s = _left_s(turn, _others(wanted, turn.ledger.of_job(job)), limits.job_s)
        if wait_s > 0:
            yield f"job {job} rests for {wait_s / 60:.0f} more min after another act (cool_down.job_s)"
    hints = [act for act in node if act.verb == wanted.verb == "advise" and act.state == UNDONE]
    wait_s = _left_s(turn, hints, limits.job_s)
    if wait_s > 0:
        yield f"a hint to {wanted.target} was taken back; the next in {wait_s / 60:.0f} min (cool_down.job_s)"
    failed = [act for act in node if act.state in (FAILED, REFUSED) and act.incident == wanted.case.incident]
    wait_s = max((limits.retry_s - turn.age_s(act.changed_ns) for act in failed), default=0.0)
    if wait_s > 0:
        yield f"the last try failed; the next in {wait_s / 60:.0f} min (cool_down.retry_s)"


def node_s(turn: Turn, node: str) -> float:
    """Return the cool-down of a node, which grows with each further incident that it was fenced for."""
    limits = turn.policy.cool_down
    repeats = len(fenced_for(turn, node))
    stretched = limits.node_s * limits.factor ** min(max(repeats - 1, 0), 60)
    return max(limits.node_s, min(stretched, limits.most_s))


def fenced_for(turn: Turn, node: str) -> set[str]:
    """Return the incidents for which a node was fenced of late."""
    since_ns = turn.now_ns - turn.policy.cool_down.days_back * DAY_NS
    return {act.incident for act in turn.ledger.on(node) if act.is_fence and act.was_done and act.began_ns > since_ns}


def is_offender(turn: Turn, node: str, incident: str) -> bool:
    """Return whether a node was fenced so often, for other incidents, that only a person should go on."""
    return len(fenced_for(turn, node) - {incident}) >= turn.policy.cool_down.offender_fences


def _others(wanted: Wanted, acts: Iterable[Act]) -> list[Act]:
    """Return the acts that begin a cool-down: all that moved work, but those that stand for this very incident."""
    return [
        act for act in acts
        if act.verb in STRONG and act.was_done and act.id != wanted.id
        and not (act.incident == wanted.case.incident and act.state in TAKING)
    ]  # fmt: skip


def _left_s(turn: Turn, acts: Iterable[Act], cool_s: float) -> float:
    return max((cool_s - turn.age_s(act.touched_ns) for act in acts), default=0.0)


def _under_way(turn: Turn, wanted: Wanted, acts: Iterable[Act]) -> Texts:
    """Say that something else is under way on the node, asked for, or that another incident fenced it."""
    asked = turn.ledger.proposals(turn.scheduler, turn.now_ns)
    for act in acts:
        if act.id == wanted.id:
            continue
        if act.state in UNDER_WAY or (act.state == PROPOSED and act in asked):
            yield f"{act.verb} of {wanted.target} is under way for incident {act.incident}"
        elif act.state == STANDING and act.is_fence and act.incident != wanted.case.incident:
            yield f"{wanted.target} is fenced already, for incident {act.incident}"
    if any(one.target == wanted.target for one in turn.granted):
        yield f"{wanted.target} was acted upon in this very turn"
    if any(one.case.job and one.case.job == wanted.case.job for one in turn.granted if one.verb in STRONG):
        yield f"a node of job {wanted.case.job} was acted upon in this very turn"
