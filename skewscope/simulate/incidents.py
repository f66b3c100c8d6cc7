"""A week of a cluster as its people live it: jobs, what goes wrong and why, drains by others, the truth.

Rates are per 1,000 nodes and days. Hard faults: 3.8 (Llama 3: 419 stops of 2,048 nodes in 54 days) to 6.5 (Meta RSC-1).
Passing slowness lasts from minutes to ten hours (FALCON, arXiv 2410.12588). Few jobs are slow because of one bad node;
most by their own work: stages, experts, input (ByteDance's what-if study of stragglers). What these do not say is a
guess of ours, and a field of the plan.

Nothing here knows who runs where: that depends on what is done about it, so it is for whoever plays the week.
"""

from __future__ import annotations

from random import Random

from ..errors import UsageError
from .week import Machine, Week, WeekPlan
from .week_draw import Draw


def week(plan: WeekPlan | None = None, seed: int = 0) -> Week:
    """Return the week of a plan and seed, the same for the same; raises UsageError for a plan that cannot be meant.

    >>> made = week(WeekPlan(nodes=16, days=1), seed=3)
    >>> len(made.machines), made == week(WeekPlan(nodes=16, days=1), seed=3)
    (16, True)
    """
    plan = plan or WeekPlan()
    _check(plan)
    width = max(2, len(str(plan.nodes - 1)))
    machines = tuple(
        Machine(f"n{at:0{width}}", f"r{at // plan.nodes_per_rack:02}") for at in range(plan.nodes)
    )  # fmt: skip
    draw = Draw(plan, Random(f"jobs {seed}"))
    works = tuple(draw.works())
    drawn = Draw(plan, Random(f"troubles {seed}"))
    troubles = [*drawn.of_nodes(machines), *drawn.shared(machines), *drawn.of_jobs(works)]
    outages = tuple(Draw(plan, Random(f"drains {seed}")).outages(machines))
    about = f"{plan.days:g} simulated days of {plan.nodes} nodes, seed {seed}"
    ordered = tuple(sorted(troubles, key=lambda one: (one.onset_ns, one.id)))
    return Week(plan.start_ns, plan.end_ns, machines, works, ordered, outages, about)


def _check(plan: WeekPlan) -> None:
    if plan.nodes < 4 or not 0 < plan.days <= 366 or plan.gpus_per_node < 1 or plan.nodes_per_rack < 1:
        raise UsageError("a simulated week wants 4 nodes or more, 0 to 366 days, and at least 1 GPU and node per rack")
    if not 0 < plan.filled <= 1:
        raise UsageError(f"filled is a share above 0 and up to 1, not {plan.filled}")
