"""How the ranks of a step meet: each waits for the last one of its groups, then all of a group move their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .fleet import Fleet, Job
from .noise import Array
from .scenario import JobPlan
from .world import World

# Axes of an array of ranks seen as [step, pp, outer dp, ep, cp, tp]: tp varies fastest, as Megatron places ranks.
AXES: dict[str, tuple[int, ...]] = {
    "tp": (5,),
    "cp": (4,),
    "ep": (3,),
    "pp": (1,),
    "dp": (2, 3),
    "world": (1, 2, 3, 4, 5),
}
OPS = {"tp": "all_reduce", "cp": "all_gather", "ep": "all_to_all", "pp": "recv", "dp": "all_reduce",
       "world": "all_reduce"}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The parallel layout of a job: which groups it has and how often they call per step."""

    plan: JobPlan
    gpus_per_node: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Sizes of pp, outer dp, ep, cp, tp."""
        plan = self.plan
        return plan.pp, plan.dp // plan.ep, plan.ep, plan.cp, plan.tp

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups with more than one member, in the order in which a step meets them."""
        plan = self.plan
        sizes = {"tp": plan.tp, "cp": plan.cp, "ep": plan.ep, "pp": plan.pp, "dp": plan.dp}
        found = [name for name, size in sizes.items() if size > 1]
        inner = plan.tp * plan.cp * plan.pp
        return (*found, "world") if plan.dp > 1 and inner > 1 else tuple(found)

    @property
    def calls(self) -> dict[str, int]:
        """Calls per step of each group."""
        plan = self.plan
        every = {"tp": 128, "cp": 64, "ep": 48, "pp": 2 * plan.microbatches, "dp": 24, "world": 1}
        return {name: every[name] for name in self.groups}

    def members(self, group: str, rank: int) -> list[int]:
        """Return the ranks of a rank's group.

        >>> Layout(JobPlan(ranks=16, tp=4), 8).members("dp", 5)
        [1, 5, 9, 13]
        """
        place = np.arange(self.plan.ranks).reshape(self.shape)
        found = np.argwhere(place == rank)[0]
        picked = tuple(slice(None) if axis + 1 in AXES[group] else at for axis, at in enumerate(found))
        return sorted(int(one) for one in place[picked].ravel())

    def local_members(self, group: str) -> int:
        """Return how many ranks of one node are in the same group of this kind; 1 where nobody can be compared."""
        inner = self.plan.tp * self.plan.cp
        if self.plan.first_slot:
            return 1  # blocks of ranks and hosts do not begin together
        if group == "world":
            return min(self.gpus_per_node, self.plan.ranks)
        if group == "tp":
            return min(self.plan.tp, self.gpus_per_node)
        if group == "dp" and self.gpus_per_node % inner == 0:
            local = self.gpus_per_node // inner
            return local if self.plan.dp % local == 0 and self.plan.ranks % self.gpus_per_node == 0 else 1
        return 1

    def locally(self, group: str, values: Array) -> Array:
        """Return `values` [steps, ranks] as [steps, blocks, members of one node and group, the rest]."""
        local, count = self.local_members(group), values.shape[0]
        inner = 1 if group in ("tp", "world") else self.plan.tp * self.plan.cp
        return values.reshape(count, -1, local, inner)


@dataclass
class Met:
    """One block of steps: waiting and transfer seconds per group, arrivals, and the length of each step."""

    seconds: Array  # [steps]
    wait: dict[str, Array] = field(default_factory=dict)  # [steps, ranks]
    transfer: dict[str, Array] = field(default_factory=dict)
    arrival: dict[str, Array] = field(default_factory=dict)  # seconds since the step began


def transfer_factors(world: World, job: Job, layout: Layout) -> dict[str, Array]:
    """Return by how much each group's transfers are longer than usual [windows, ranks]: its slowest link decides."""
    gpu, nic = world.gpu, world.nic
    # The bytes of a rank go over PCIe to its adapter, so the slower of the two counts.
    wire = np.minimum(nic.knob("rate"), gpu.knob("pcie_rate"))[:, job.gpus]
    inside = gpu.knob("nvlink_rate")[:, job.gpus]
    crosses = {"ep": world.fleet.gpus_per_node < job.plan.ep * job.plan.tp * job.plan.cp}
    found = {}
    for group in layout.groups:
        rate = inside if group in ("tp", "cp") or not crosses.get(group, True) else wire
        many = rate.reshape(rate.shape[0], *layout.shape)
        slow = 1.0 / np.maximum(many.min(axis=AXES[group], keepdims=True), 1e-3)
        found[group] = np.broadcast_to(slow, many.shape).reshape(rate.shape)
    for group in {"tp", "cp"} & set(found):
        found[group] = found[group] * world.rank.knob("inside_transfer")[:, job.gpus]
    if "ep" in found:  # a rank to which more comes than to others receives longer
        found["ep"] = found["ep"] * world.rank.knob("expert_transfer")[:, job.gpus]
    return found


def usual_transfers(plan: JobPlan, layout: Layout) -> dict[str, float]:
    """Return the seconds per step of each group's transfers where no link is slow."""
    shares = {"tp": plan.tp_share, "cp": plan.tp_share / 2, "ep": plan.ep_share, "pp": plan.pp_share,
              "dp": plan.dp_share, "world": 0.0005}  # fmt: skip
    return {group: plan.step_s * shares[group] for group in layout.groups}


def meet(own: Array, transfers: dict[str, Array], layout: Layout) -> Met:
    """Return how ranks with these seconds of own work [steps, ranks] wait for each other.

    `transfers` are seconds [steps, ranks] per group. A pipeline of m microbatches takes the sum of its stages' shares
    of one microbatch plus m - 1 times the largest.
    """
    count, ranks = own.shape
    now = own.reshape(count, *layout.shape)
    met = Met(np.zeros(count))
    for group in layout.groups:
        met.arrival[group] = now.reshape(count, ranks)
        if group == "pp":
            ready = _pipeline(now, layout.plan.microbatches)
        else:
            ready = now.max(axis=AXES[group], keepdims=True)
        met.wait[group] = (ready - now).reshape(count, ranks)
        met.transfer[group] = transfers[group]
        now = ready + transfers[group].reshape(count, *layout.shape)
    met.seconds = now.reshape(count, ranks).max(axis=1)
    return met


def _pipeline(stages: Array, microbatches: int) -> Array:
    share = stages / microbatches
    whole = share.sum(axis=1, keepdims=True) + (microbatches - 1) * share.max(axis=1, keepdims=True)
    return np.asarray(np.broadcast_to(whole, stages.shape))


def layout_of(fleet: Fleet, job: Job) -> Layout:
    """Return the layout of a job on a fleet."""
    return Layout(job.plan, fleet.gpus_per_node)
