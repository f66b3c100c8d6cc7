"""Whether a placement may be given to an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from ..errors import UsageError
from .placement import Placement, duplicates, lint


def sound(placement: Placement, layers: Sequence[int] | NDArray[Any]) -> Placement:
    """Return the placement; raises UsageError where an engine could not run it, as when an expert has no slot.

    Two replicas of an expert on one GPU are a waste, not a fault.
    """
    if len(layers) != placement.layers:
        raise UsageError(f"{len(layers)} layers are named for a placement of {placement.layers}")
    wrong = lint(placement)
    if not placement.slots.shape[1] % placement.gpus and duplicates(placement).any():
        wrong = wrong[:-1]
    if wrong:
        raise UsageError(f"this placement cannot be run: {'; '.join(wrong)}")
    return placement
