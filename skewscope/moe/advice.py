"""What to do about the balance of experts: the rules that lead from the numbers of a diagnosis to one sentence each.

In the order in which they count: faults of the record, then what binds. Every sentence has its numbers, so that it can
be doubted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import checks, drift, metrics, planner, times
from .diagnosis import Diagnosis
from .ladder import NEAR_RATIO, Ladder
from .placement import balancedness

CONTROLLED_RATIO = 0.9  # of the noise ceiling: above, nothing is worth doing
WORTH = 0.05  # of balance: less is not worth a move
CHANCE_RATIO = 2.0  # times the excess of an even router: less is chance
NAMED = 3
GIB = 2.0**30


@dataclass(frozen=True)
class Advice:
    """One rule that holds, by name, and what to do."""

    rule: str
    text: str


def faults(found: Diagnosis) -> list[str]:
    """Return what is wrong with the record itself, so that no number of it may be believed blindly."""
    return checks.check(found.loads.counts, found.loads.layers, found.loads.top_k)


def advise(found: Diagnosis, phases_bits: float = 0.0) -> list[Advice]:
    """Return the rules that hold for a diagnosis; `phases_bits` says how far the loads of its phases are apart."""
    said = [Advice("data", f"mend the record first: {text}") for text in faults(found)[:1]]
    said += [*_changes(found), *_stale(found)]
    if phases_bits >= drift.ALARM_BITS:
        said.append(Advice("workloads", f"prefill and decode differ by {phases_bits:.2f} bits: plan each with a map of "
                           "its own, or one robust plan for both"))  # fmt: skip
    if found.ladder is None:
        return [*said, *_unplaced(found)]
    if found.ladder.limit == "noise":
        return [*said, _noise(found, found.ladder)]
    said += [*_redundancy(found, found.ladder), *_groups(found.ladder), *_placement(found.ladder)]
    return [*said, *_later(found, found.ladder), *_decode(found)]


def standing(found: list[Diagnosis]) -> str:
    """Return one sentence for loads in which nothing was found to be at fault, "" where there are none.

    Every record of experts says something: that they are as even as chance allows, or how far from it they are.
    """
    for one in found:
        for rule in advise(one):
            if rule.rule in ("noise", "data"):
                return f"No expert or GPU stands out; {rule.text}."
    if not found:
        return ""
    rungs = found[0].ladder
    if rungs is None:
        return f"No expert stands out: the busiest has {float(np.median(found[0].hottest)):.2f} times the mean."
    return (f"No expert or GPU stands out: balance is {rungs.now.mean():.3f}, the noise ceiling "
            f"{rungs.ceiling.mean():.3f}.")  # fmt: skip


def hot_experts(found: Diagnosis, most: int = NAMED) -> list[tuple[int, int, float]]:
    """Return the hottest (layer, expert, load over the mean of its layer), worst first; one per layer."""
    total = found.judged.sum(0)
    ratio = metrics.overload(total)
    order = np.argsort(-ratio, kind="stable")[:most]
    return [(int(found.loads.layers[at]), int(total[at].argmax()), float(ratio[at])) for at in order]


def needed_text(found: Diagnosis) -> str:
    """Return with how many slots no expert is more than a GPU's share any more, and what they cost."""
    slots, placement = found.slots_needed, found.layout.placement
    if placement is None or slots <= placement.slots.shape[1]:
        return ""
    more = slots - placement.slots.shape[1]
    model = found.model
    cost = ""
    if model is not None:
        size = more / found.gpus * model.layers * model.expert_bytes(model.weight_bytes) / GIB
        cost = f", {size:.1f} GiB a GPU"
    return f"{more} redundant experts ({slots} slots{cost})"


def _changes(found: Diagnosis) -> list[Advice]:
    said = []
    for one in found.changes:
        step = int(found.loads.steps[one.place])
        said.append(
            Advice("change", f"the workload became another one at step {step} ({one.bits:.3f} bits, {drift.ALARM_BITS} "
                   f"is another workload){_at(found, one.place)}: plan anew from loads since then")
        )  # fmt: skip
    return said


def _stale(found: Diagnosis) -> list[Advice]:
    if found.kept is None or found.kept >= CONTROLLED_RATIO:
        return []
    return [Advice("stale", f"the running map has kept {found.kept:.0%} of the balance that it had at step "
                   f"{max(found.layout.since, int(found.loads.steps[0]))}: plan anew")]  # fmt: skip


def _at(found: Diagnosis, place: int) -> str:
    """Return how a plan of the loads before a change does after it."""
    placement = found.layout.placement
    if placement is None:
        return ""
    before, after = found.loads.window(0, place), found.loads.window(place, len(found.loads.steps))
    steps, slots = found.loads.counts[:place], int(placement.slots.shape[1])
    plan = planner.plan(steps, slots=slots, gpus=placement.gpus, budget_s=0.0).placement
    first, then = (float(balancedness(plan.gpu_loads(one)).mean()) for one in (before, after))
    return f"; a plan made before it falls from {first:.3f} to {then:.3f}"


def _unplaced(found: Diagnosis) -> list[Advice]:
    hottest, even = float(np.median(found.hottest)), float(np.median(found.even_hottest))
    if hottest - 1 <= CHANCE_RATIO * (even - 1):
        return [Advice("noise", f"noise ceiling reached: the busiest expert has {hottest:.2f} times the mean where an "
                       f"even router shows {even:.2f}; do nothing")]  # fmt: skip
    ranks = int(np.ceil(found.loads.counts.shape[-1] / hottest))
    return [Advice("unplaced", f"from about {ranks} expert-parallel ranks on, the busiest expert of the median layer "
                   f"({hottest:.1f} times the mean) is more than a rank's share, and only a replica helps; with fewer, "
                   "placing experts anew is enough")]  # fmt: skip


def _noise(found: Diagnosis, rungs: Ladder) -> Advice:
    return Advice("noise", f"noise ceiling reached: balance {rungs.now.mean():.3f} on windows and "
                  f"{rungs.now_step.mean():.3f} on steps is what {found.picks_per_step:,.0f} picks a step leave of a "
                  f"perfect placement ({rungs.ceiling.mean():.3f} and {rungs.ceiling_step.mean():.3f}); do nothing, or "
                  "use larger batches or fewer expert-parallel ranks")  # fmt: skip


def _redundancy(found: Diagnosis, rungs: Ladder) -> list[Advice]:
    plan, bound = float(rungs.plan.mean()), float(rungs.bound.mean())
    text = needed_text(found)
    if plan >= CONTROLLED_RATIO * float(rungs.ceiling.mean()) or not text:
        return []
    named = ", ".join(f"layer {layer} expert {expert}" for layer, expert, _ in hot_experts(found))
    return [Advice("redundancy", f"replicate hot experts ({named}): on {rungs.slots} slots a plan reaches {plan:.3f} "
                   f"and none passes {bound:.3f}; {text} lift that bound to 0.98 or more")]  # fmt: skip


def _groups(rungs: Ladder) -> list[Advice]:
    group, bound = float(rungs.group_bound.mean()), float(rungs.bound.mean())
    if not group < NEAR_RATIO * bound:
        return []
    return [Advice("groups", f"drop the rule that keeps router groups on a node: with it balance cannot pass "
                   f"{group:.3f}, without it {bound:.3f}; tokens then go to more nodes")]  # fmt: skip


def _placement(rungs: Ladder) -> list[Advice]:
    now, plan = float(rungs.now.mean()), float(rungs.plan.mean())
    held = float(np.nanmean(rungs.held_out)) if np.isfinite(rungs.held_out).any() else plan
    if held - now < WORTH:
        return []
    untried = "" if np.isfinite(rungs.held_out).any() else ", not tried on later loads"
    return [Advice("placement", f"place the experts anew on the same {rungs.slots} slots: balance {now:.3f} becomes "
                   f"{held:.3f} on windows not planned on{untried} (`skewscope plan moe`)")]  # fmt: skip


def _later(found: Diagnosis, rungs: Ladder) -> list[Advice]:
    plan, held = float(rungs.plan.mean()), float(rungs.held_out.mean())
    if not plan - held >= WORTH or float(rungs.losses()["drift"].mean()) < WORTH and not found.bursts:
        return []
    kept, often = float(rungs.kept.mean()), float(rungs.replanned.mean())
    pays = often - kept >= WORTH
    compared = f"replanning each window gives {often:.3f} where one plan keeps {kept:.3f}" if often == often else ""
    if found.bursts:
        spans = ", ".join(f"{found.loads.steps[a]}-{found.loads.steps[b]}" for a, b in found.bursts[:NAMED])
        return [Advice("bursts", f"bursts (steps {spans}) undo any plan: {plan:.3f} on its own window, {held:.3f} on "
                       f"the next; do not rebalance more often ({compared or 'too few windows to compare'}), split "
                       "tokens by a linear program or use a robust plan")]  # fmt: skip
    if compared and not pays:
        return [Advice("steady", f"one plan is enough: {compared}; do not rebalance again before the load changes")]
    return [Advice("drift", f"loads drift: a plan falls from {plan:.3f} to {held:.3f} on the next window"
                   + (f"; {compared}: rebalance each window" if compared else ""))]  # fmt: skip


def _decode(found: Diagnosis) -> list[Advice]:
    if found.clock is None or found.loads.phase == "train" or not found.clock.is_memory_bound(found.judged):
        return []
    even = times.break_even_tokens(found.clock.board, found.clock.weight_bytes)
    return [Advice("decode", f"most experts get fewer than {even:.0f} tokens a step and are bound by memory: balance "
                   "the number of experts that a GPU runs, not tokens; redundancy may slow this phase")]  # fmt: skip
