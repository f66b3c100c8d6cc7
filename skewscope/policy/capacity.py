"""Guard 21: a job whose node is taken must find another."""

from __future__ import annotations

from ..acts import NodeState
from .turn import Texts, Turn, Wanted


def capacity(turn: Turn, wanted: Wanted) -> Texts:
    """Say that there are too few free nodes; a node without work needs no other in its place."""
    need = turn.policy.capacity.spare_nodes
    node = turn.node(wanted.target)
    job = turn.fleet.jobs.get(wanted.case.job)
    busy = node is not None and bool(node.jobs or (job and job.state != "over" and node.name in job.nodes))
    if node is None or not (wanted.is_fence and need and busy):
        return
    free, taken = free_nodes(turn, node), sum(one.is_fence and one.target != node.name for one in turn.granted)
    if len(free) < need * (1 + taken):
        yield f"{len(free)} free nodes, wants {need * (1 + taken)} (capacity.spare_nodes): advise only"
    elif job and job.wants_nodes:
        left = set(job.nodes) - turn.ours() - turn.foreign - {node.name}
        if len(left | set(free)) < job.wants_nodes:
            yield f"job {job.id} wants {job.wants_nodes} nodes, {len(left | set(free))} would be left: advise only"


def free_nodes(turn: Turn, near: NodeState) -> list[str]:
    """Return the nodes that could stand in for one: idle, of nobody, of its partition or pool."""
    taken, same = turn.ours(), turn.policy.capacity.same_group
    return [
        name for name, node in turn.fleet.nodes.items()
        if node.schedulable and node.idle and not node.jobs and not node.owner and not node.reservation
        and name != near.name and name not in taken
        and (not same or not near.groups or set(near.groups) & set(node.groups))
    ]  # fmt: skip
