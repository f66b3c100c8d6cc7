"""What rooms ask of ranks: seconds as shares of their steps, and the memory that they have pinned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from skewscope.contracts import Frames
from skewscope.signals.view import Signal, signal

Array = np.ndarray[Any, Any]
PINNED, LOCKED = "skewscope_rank_pinned_memory_bytes", "skewscope_rank_locked_memory_bytes"
SHORT_RATIO = 0.5  # of the peers' median: then a rank lacks pinned memory {D}
LEAST_PINNED_BYTES = 64.0 * 2**20  # that peers pin: less is no pool of buffers {D}
STEP, PHASES, COLLECTIVES = (
    "skewscope_step_seconds_total", "skewscope_phase_seconds_total", "skewscope_collective_seconds_total",
)  # fmt: skip


def share_of_step(tables: Frames, metric: str, phase: str = "") -> Signal:
    """Return a rank's seconds of `metric` (in a phase) over its seconds in steps, NaN where it makes no step."""
    increase = partial(signal, tables, metric, take="increase")
    told = increase(phase=phase) if phase else increase()
    if not len(told):
        return told
    step_s = told.aligned(signal(tables, STEP, take="increase"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return replace(told, values=np.where(step_s > 0, told.values / step_s, np.nan))


def known_or(values: Array, other: float) -> Array:
    """Return `values` with `other` for what is unknown.

    >>> known_or(np.array([1.0, np.nan]), 0.0).tolist()
    [1.0, 0.0]
    """
    return np.where(np.isfinite(values), values, other)


def pinned(tables: Frames) -> Signal:
    """Return the bytes that ranks have pinned and locked, NaN where neither is told."""
    told, locked = signal(tables, PINNED), signal(tables, LOCKED)
    if not len(told):
        return locked
    also = told.aligned(locked)
    both = np.where(np.isfinite(told.values), known_or(told.values, 0.0) + known_or(also, 0.0), also)
    return replace(told, values=both)
