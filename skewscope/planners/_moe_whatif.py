"""What a plan of experts would be without some of its limits: even split of tokens, groups on nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..moe.placement import balancedness
from . import _moe_placing as placing
from ._moe_made import Counts, Made, WhatIf

SPLIT_STEPS, SPLIT_LAYERS = 2, 16  # for which the linear program is solved
WORTH = 0.02  # of balance: less is not worth a change of the engine


def whatifs(made: Made, before: Sequence[Counts], after: Sequence[Counts]) -> list[WhatIf]:
    """Return the changes that can be worked out for this plan."""
    return [*_split(made, after), *_ungrouped(made, before, after)]


def _split(made: Made, after: Sequence[Counts]) -> list[WhatIf]:
    """Return the plan with tokens split by a linear program for each step, instead of evenly over replicas."""
    if made.proposed.slots.shape[1] == made.proposed.experts:
        return []
    plan = made.held.last if made.held is not None else made.proposed
    layers = np.unique(np.linspace(0, len(made.layers) - 1, SPLIT_LAYERS).astype(int))
    steps = after[0][:SPLIT_STEPS]
    even = float(balancedness(plan.gpu_loads(steps))[:, layers].mean())
    free = float(np.mean([placing.split(one, plan, layers.tolist()) for one in steps]))
    text = (
        f"Splitting the tokens of each step over replicas by a linear program (LPLB, SGLang's `lp` dispatch), not "
        f"evenly, lifts balance on single steps from {even:.3f} to {free:.3f}."
    )
    advice = f"Where the engine can, split tokens by a linear program: single steps rise from {even:.3f} to {free:.3f}."
    return [WhatIf("split of tokens", even, free, text, advice if free - even >= WORTH else "")]


def _ungrouped(made: Made, before: Sequence[Counts], after: Sequence[Counts]) -> list[WhatIf]:
    """Return the plan without groups bound to nodes."""
    if made.group_bound is None or made.held is None:
        return []
    free = placing.afresh(before, made.wanted.slots, made.wanted, groups=0)
    tied = float(np.mean([balancedness(made.held.last.gpu_loads(one.sum(0))).mean() for one in after]))
    loose = float(np.mean([balancedness(free.gpu_loads(one.sum(0))).mean() for one in after]))
    text = f"Without router groups bound to nodes a plan keeps {loose:.3f} instead of {tied:.3f} on later loads."
    advice = f"Try a placement without groups (leave out --groups): {loose:.3f} instead of {tied:.3f} on later loads."
    return [WhatIf("no groups on nodes", tied, loose, text, advice if loose - tied >= WORTH else "")]
