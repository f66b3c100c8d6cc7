"""What in a policy is dangerous, though it can be meant: told when it is checked."""

from __future__ import annotations

from collections.abc import Iterator

from ..acts import FENCES
from .settings import Policy


def dangers(policy: Policy) -> list[str]:
    """Return a sentence for each danger, "KEY: why"; none for the defaults.

    >>> dangers(Policy())
    []
    """
    return [*_modes(policy), *_limits(policy), *_patience(policy), *_people(policy)]


def _modes(policy: Policy) -> Iterator[str]:
    if policy.default_mode == "act":
        yield "mode: every scheduler and node is acted upon without being named; set it per scheduler, or per group"
    for name, own in policy.schedulers.items():
        groups = own.get("groups", {}).values()
        acts = policy.mode(name) == "act" or any(group["mode"] == "act" for group in groups)
        if acts and own.get("dry_run") is False:
            yield f"schedulers.{name}: acts for real, at once; leave dry_run out to begin with days of dry runs"
    acting = {policy.default_mode, *(policy.mode(name) for name in policy.schedulers)} - {"observe"}
    if acting and not policy.calendar.stop_file:
        yield "calendar.stop_file: there is no kill switch"


def _limits(policy: Policy) -> Iterator[str]:
    budget, breaker = policy.budget, policy.breaker
    if not budget.count_foreign:
        yield "budget.count_foreign: what others drain comes on top of the limits"
    for key in ("share_at_once", "share_per_day"):
        if getattr(budget, key) > 0.1:
            yield f"budget.{key}: more than a tenth of the cluster may be out"
    if budget.nodes_per_job > 2:
        yield "budget.nodes_per_job: a job may lose many nodes at once"
    if breaker.acts > 10 or breaker.out_share > 0.25:
        yield "breaker: opens only after great harm (acts above 10, or out_share above 0.25)"
    if policy.storm.nodes > 5:
        yield "storm.nodes: a shared cause, such as a switch, is taken for so many bad nodes"
    if policy.capacity.spare_nodes < 1:
        yield "capacity.spare_nodes: a job may wait for a node that is not there"
    if policy.economics.margin < 1:
        yield "economics.margin: below 1 acting may cost more than it saves"


def _patience(policy: Policy) -> Iterator[str]:
    evidence, hysteresis, cool_down = policy.evidence, policy.hysteresis, policy.cool_down
    if evidence.windows < 3 or evidence.steps < 20 or evidence.confidence < 0.7:
        yield "evidence: a passing noise is enough (windows below 3, steps below 20, or confidence below 0.7)"
    if hysteresis.enter_ratio < 1.05 or hysteresis.enter_ratio - hysteresis.leave_ratio < 0.02:
        yield "hysteresis: nodes will be fenced and returned in turns"
    if cool_down.node_s < 3600 or cool_down.job_s < 900 or cool_down.offender_fences > 5:
        yield "cool_down: the same node or job is disturbed again and again"
    if policy.quality.stale_s > 900 or policy.quality.fleet_stale_s > 600:
        yield "quality: acts may rest on old data"
    if not policy.alarms.block:
        yield "alarms.block: acts go on through outages of the whole cluster"
    if policy.rate.per_s > 50:
        yield "rate.per_s: a scheduler may choke on it"


def _people(policy: Policy) -> Iterator[str]:
    if not policy.retest.required:
        yield "retest.required: slow nodes return untested"
    if policy.ladder.start in FENCES or any(verb in FENCES for verb in policy.ladder.starts.values()):
        yield "ladder: a fence may come without anything gentler before"
    if policy.ladder.step_s < 120:
        yield "ladder.step_s: a gentle act has no time to help"
    if policy.work.requeue:
        yield "work.requeue: jobs are started anew, and lose what they did since their checkpoint"
    if policy.work.evict:
        yield "work.evict: pods are moved away from drained nodes"
    for verb in set(policy.approval.free_verbs) & set(FENCES):
        yield f"approval.free_verbs: {verb} needs nobody's yes"
    if policy.approval.expires_s > 86_400:
        yield "approval.expires_s: a yes of yesterday still holds"
