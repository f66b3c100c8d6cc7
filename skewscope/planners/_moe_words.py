"""What a plan of experts says: whether to act, why, what to do in order, and what to know before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..moe.affinity import local_shares
from ..moe.ladder import NEAR_RATIO, Ladder
from ._moe_made import START, Made

LEAST_GAIN = 0.005  # of balance on later loads: less is within what windows differ by
MOST_OF_GAIN, FEW_COPIES = 0.75, 0.25  # of the gain with such a share of the copies: then few are enough
NAMED_COPIES = 12  # that are listed one by one
ROBUST_ADVICE = "give several workloads with --workloads, or replan more often"
EXPORT = "Write the map for your engine: --export sglang:FILE (or vllm, tensorrt-llm, vllm-ascend, eplb)."
LIMITS = {
    "placement": "the running placement", "drift": "drift of the loads from window to window",
    "noise": "chance: so few tokens cannot be spread more evenly", "packing": "packing of whole experts into slots",
    "groups": "router groups that must stay on their nodes", "replication": "hot experts with too few replicas",
}  # fmt: skip


def limit(made: Made, planned: bool = False) -> str:
    """Return the name of the limit that binds now, or what keeps the plan from 1."""
    unknown = np.full(len(made.now), np.nan)
    group = unknown if made.group_bound is None else made.group_bound
    held = unknown if made.held is None else made.held.layers
    now = (held if made.held is not None else made.planned) if planned else made.now
    found = Ladder(
        now=now, now_step=unknown, ceiling=made.ceiling, ceiling_step=unknown, bound=made.bound, group_bound=group,
        plan=made.planned, held_out=held, held_out_step=unknown, kept=unknown, replanned=unknown,
        slots=made.wanted.slots, gpus=made.wanted.gpus, nodes=made.wanted.nodes, windows=1, steps_per_window=1.0,
    )  # fmt: skip
    return found.limit


def against(made: Made) -> str:
    """Return why nothing should be changed, "" where the plan is worth it."""
    gain = float(made.planned.mean() - made.now.mean())
    if made.now.mean() >= NEAR_RATIO * made.ceiling.mean():
        return (
            f"noise ceiling reached: balance {made.now.mean():.3f} is what so few tokens leave of a perfect placement "
            f"({made.ceiling.mean():.3f})"
        )
    if gain < LEAST_GAIN:
        return f"the plan gains {max(gain, 0.0):.4f} of balance even on the loads it was made from"
    if made.held is not None and float(made.held.gains.mean()) < LEAST_GAIN:
        return (
            f"on later loads the plan gains {made.held.gains.mean():+.3f} of balance, not {gain:+.3f} as on its own: "
            f"{ROBUST_ADVICE}"
        )
    return _unpaid(made)


def _unpaid(made: Made) -> str:
    back = made.pay_back
    if back is None:
        return ""
    if back.gain_s <= LEAST_GAIN * back.step_s:
        longer = f"take {-back.gain_s * 1e3:.3g} ms more" if back.gain_s < 0 else "take as long as now"
        return (
            f"experts would {longer} per step ({back.measured}): they are bound by memory, so the number of experts "
            "that a GPU runs counts, not tokens"
        )
    if back.steps > made.kept_steps:
        return (
            f"copying pays back after {back.steps:,.0f} steps, and the plan is kept for {made.kept_steps:,.0f}: try "
            "--max-moves"
        )
    return ""


def verdict(made: Made) -> str:
    """Return the plan in a sentence or two."""
    why = against(made)
    if why:
        return f"Leave the placement as it is: {why}."
    later = f" and to {made.held.mean:.3f} on loads it was not made from" if made.held else ""
    said = (
        f"Balance of GPUs rises from {made.now.mean():.3f} to {made.planned.mean():.4f} of at most "
        f"{made.best.mean():.4f}{later}."
    )
    bound = f" What limits it then is {LIMITS[limit(made, planned=True)]}." if made.held else ""
    return said + bound + _paid(made) + _kept_near(made)


def _kept_near(made: Made) -> str:
    pairs = made.given.pairs
    if pairs is None:
        return ""
    now, planned = (local_shares(pairs, one)[0] for one in (made.given.current, made.proposed))
    return f" Pairs of neighbouring layers on one GPU: {now:.3f} now, {planned:.3f} planned."


def _paid(made: Made) -> str:
    back = made.pay_back
    if back is None or not math.isfinite(back.steps):
        return ""
    return f" Its {int(made.moved.copies.sum()):,} copies pay back after {back.steps:,.0f} steps."


def steps(made: Made, written: Sequence[str] = ()) -> list[str]:
    """Return what to do, in order; `written` says how engines are given the files that were written."""
    if against(made):
        return ["Do nothing now.", *_hints(made), _again(made)]
    extra = made.wanted.slots - made.proposed.experts
    said = []
    if made.wanted.slots != made.given.current.slots.shape[1]:
        said.append(f"Start the engine with {made.wanted.slots} slots ({extra} redundant experts{_memory(made)}).")
    said += _copying(made)
    said += list(written) or [EXPORT]
    return [*said, *_hints(made), _again(made)]


def _memory(made: Made) -> str:
    found = next((one for one in made.redundancy if one.slots == made.wanted.slots), None)
    return f", {found.gib:.2f} GiB per GPU" if found is not None and math.isfinite(found.gib) and found.gib > 0 else ""


def _copying(made: Made) -> list[str]:
    each = made.moved.copies
    if not each.any():
        return []
    named = _changes(made)
    if len(named) <= NAMED_COPIES:
        return named
    layers = made.layers
    order = np.argsort(-each, kind="stable")[:3]
    most = ", ".join(f"layer {layers[at]}: {each[at]}" for at in order)
    cost = ""
    if made.pay_back is not None:
        cost = f"; at most {made.pay_back.gib:.2f} GiB to one GPU, {made.pay_back.copy_s:.3g} s at the links' peak"
    said = "" if made.given.known != START else ", unless the engine starts anew with the map"
    return [f"Copy {int(each.sum()):,} experts to GPUs that do not hold them{said} ({most}{cost})."]


def _changes(made: Made) -> list[str]:
    """Return the copies one by one; for placements of other sizes none."""
    if made.given.current.slots.shape != made.proposed.slots.shape:
        return [""] * (NAMED_COPIES + 1)
    where = np.argwhere(made.given.current.slots != made.proposed.slots)
    if len(where) > NAMED_COPIES:
        return [""] * len(where)
    size = made.proposed.slots_per_gpu
    return [
        f"Layer {made.layers[layer]}: copy expert {made.proposed.slots[layer, slot]} into slot {slot} of GPU "
        f"{slot // size}, over expert {made.given.current.slots[layer, slot]}."
        for layer, slot in where.tolist()
    ]


def _hints(made: Made) -> list[str]:
    return [*_fewer(made), *(one.advice for one in made.whatifs if one.advice)]


def _fewer(made: Made) -> list[str]:
    """Return that few copies are enough, where they are."""
    if made.wanted.max_moves >= 0 or len(made.budgets) < 2:
        return []
    none, full = made.budgets[0], made.budgets[-1]
    wanted = none.later + MOST_OF_GAIN * (full.later - none.later)
    some = next((one for one in made.budgets if one.later >= wanted), full)
    if some.copies > FEW_COPIES * full.copies or full.later - none.later < LEAST_GAIN:
        return []
    return [
        f"Or copy less: --max-moves {math.ceil(some.copies)} reaches {some.later:.3f} on later loads, all "
        f"{full.copies:.0f} copies per layer {full.later:.3f}."
    ]


def _again(made: Made) -> str:
    if made.held is None:
        return "Record more than one window and plan again: how long the plan holds is not known."
    low, _ = made.held.interval
    return f"Plan again when balance on a window falls below {low:.2f}, or when drift passes 0.05 bits."


def warnings(made: Made) -> list[str]:
    """Return what to know before acting."""
    said = list(dict.fromkeys(text for one in made.given.workloads for text in one.warnings))
    if made.held is None:
        said.append("held-out score unknown: one window only, and a plan looks best on the loads it was made from")
    elif not made.held.ordered:
        said.append("the held-out score is of every other step: the steps have no order, so drift is not in it")
    if made.given.clock is None:
        said.append("the model is not known (--model): seconds, memory and pay-back are not worked out")
    return said
