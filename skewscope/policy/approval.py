"""Guard 17: whose yes is needed, how long it holds, and what a no means."""

from __future__ import annotations

from ..acts import LADDER
from .ledger import EXPIRED, PROPOSED, REJECTED, Act
from .turn import SECOND_NS, Texts, Turn, Wanted


def approval(turn: Turn, wanted: Wanted) -> Texts:
    """Say that a person said no to this or to something gentler, or did not answer of late."""
    again_s = turn.policy.approval.again_s
    for act in turn.ledger.of_incident(wanted.case.incident):
        if act.scheduler != turn.scheduler or act.target != wanted.target:
            continue
        for_good = act.expires_ns < 0 or turn.now_ns < act.expires_ns
        if act.state == REJECTED and for_good and _rung(act.verb) <= _rung(wanted.verb):
            yield f"a person said no to {act.verb} of {act.target} for this incident"
        ended_ns = _expired_ns(turn, act)
        if act.verb == wanted.verb and ended_ns >= 0 and turn.age_s(ended_ns) < again_s:
            yield f"nobody answered the last proposal; the next in {(again_s - turn.age_s(ended_ns)) / 60:.0f} min"


def is_approved(turn: Turn, wanted: Wanted) -> bool:
    """Return whether enough persons said yes to an act, of late."""
    act = turn.ledger.acts.get(wanted.id)
    if act is None or act.state != PROPOSED:
        return False
    since_ns = turn.now_ns - turn.policy.approval.expires_s * SECOND_NS
    yes = sum(since_ns < time_ns for time_ns in act.approvals.values())
    return yes >= persons(turn, wanted)


def persons(turn: Turn, wanted: Wanted) -> int:
    """Return how many persons must say yes: two where many nodes would be out."""
    if not wanted.is_fence:
        return 1
    out = turn.ours() | turn.foreign | {wanted.target}
    return 2 if len(out) > turn.policy.approval.two_persons_above else 1


def _rung(verb: str) -> int:
    return LADDER.index(verb) if verb in LADDER else -1


def _expired_ns(turn: Turn, act: Act) -> int:
    if act.state == EXPIRED:
        return act.changed_ns
    return act.expires_ns if act.state == PROPOSED and 0 <= act.expires_ns <= turn.now_ns else -1
