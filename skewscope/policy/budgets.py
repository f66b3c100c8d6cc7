"""Guards 3 and 4: how many nodes may be out, in all, per day, rack, group and job; foreign drains count too."""

from __future__ import annotations

from collections.abc import Collection

from .breaker import trips
from .turn import Texts, Turn, Wanted


def budget(turn: Turn, wanted: Wanted) -> Texts:
    """Say which limits a fence would break, and that what was granted in this turn already is enough."""
    if turn.granted:
        why = trips(turn.policy, turn.fleet, turn.ledger, turn.now_ns, turn.granted)
        yield from (f"with what this turn grants already, the breaker opens: {one}" for one in (why,) if one)
    if not wanted.is_fence:
        return
    limits, total = turn.policy.budget, len(turn.fleet.nodes)
    foreign = turn.foreign if limits.count_foreign else frozenset()
    out = turn.ours() | foreign | {wanted.target}
    most = limit(limits.nodes_at_once, limits.share_at_once, total)
    yield from _over(out, most, "at once", foreign, "nodes_at_once, share_at_once")
    day = turn.day() | foreign | {wanted.target}
    most = limit(limits.nodes_per_day, limits.share_per_day, total)
    yield from _over(day, most, "within 24 h", foreign, "nodes_per_day, share_per_day")
    yield from _places(turn, wanted, out, foreign)


def limit(nodes: int, share: float, total: int) -> int:
    """Return the smaller of a number and a share of all nodes; a share above 0 is one node at least.

    >>> limit(2, 0.02, 8), limit(50, 0.02, 1000), limit(2, 0.0, 1000)
    (1, 20, 0)
    """
    return min(nodes, max(int(share * total + 1e-9), 1 if share > 0 else 0))


def _places(turn: Turn, wanted: Wanted, out: Collection[str], foreign: Collection[str]) -> Texts:
    limits, nodes = turn.policy.budget, turn.fleet.nodes
    node = turn.node(wanted.target)
    rack = (node.rack if node else "") or wanted.case.rack
    if rack:
        here = {name for name in out if name == wanted.target or (name in nodes and nodes[name].rack == rack)}
        yield from _over(here, limits.nodes_per_rack, f"in rack {rack}", foreign, "nodes_per_rack")
    for group in node.groups if node else ():
        here = {name for name in out if name in nodes and group in nodes[name].groups}
        yield from _over(here, limits.nodes_per_group, f"in {group}", foreign, "nodes_per_group")
    for job in turn.jobs(wanted):
        here = {name for name in out if name == wanted.target or name in members(turn, job)}
        yield from _over(here, limits.nodes_per_job, f"of job {job}", foreign, "nodes_per_job")


def members(turn: Turn, job: str) -> set[str]:
    """Return the nodes of a job: where it runs, and those that were fenced for it."""
    state = turn.fleet.jobs.get(job)
    fenced = {act.target for act in turn.ledger.of_job(job)} | {
        one.target for one in turn.granted if one.case.job == job
    }
    return fenced | set(state.nodes if state else ())


def _over(out: Collection[str], most: int, where: str, foreign: Collection[str], keys: str) -> Texts:
    if len(out) > most:
        by_others = len(set(out) & set(foreign))
        told = f", {by_others} of them by others" if by_others else ""
        yield f"{len(out)} nodes would be out {where}{told}; the limit is {most} ({keys})"
