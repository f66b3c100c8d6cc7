"""All schemes under one roof: candidates of one family as arrays, their loads, delays and runs.

A family's two whole parameters are `burst` (B, of approximate coding its copies d) and `window` (W), shared by a batch
of candidates, and `value` (s or lambda), one per candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import approximate, fractional, gc, heterogeneous, m_sgc, sr_sgc, uncoded
from .rounds import Rounds, Rules, Runs

Array = np.ndarray[Any, Any]
FAMILIES = ("uncoded", "gc", "fractional", "heterogeneous", "sr-sgc", "m-sgc", "approximate")
SEQUENTIAL = ("sr-sgc", "m-sgc")
Scheme = (uncoded.Uncoded | gc.Gc | fractional.Fractional | heterogeneous.Heterogeneous | sr_sgc.SrSgc | m_sgc.MSgc
          | approximate.Approximate)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Candidates of one family that share `burst` and `window`; `values` and `mus` are [candidates]."""

    family: str
    burst: int
    window: int
    values: Array
    mus: Array

    def __len__(self) -> int:
        return len(self.values)


def runs(rounds: Rounds, batch: Batch, jobs: int, rules: Rules) -> Runs:
    """Return the runs of `jobs` jobs for a batch. With the best rules gradient coding has no deadline (eager)."""
    family, values = batch.family, batch.values
    if family == "uncoded":
        return uncoded.simulate(rounds, jobs)
    if family == "gc":
        return gc.simulate(rounds, values, batch.mus, jobs, gc.EAGER if rules.accept == "feasible" else rules)
    if family == "fractional":
        return fractional.simulate(rounds, values, jobs)
    if family == "approximate":
        return approximate.simulate(rounds, np.full(len(batch), batch.burst), values, jobs)
    if family == "heterogeneous":
        return _heterogeneous(rounds, values, jobs)
    if family == "sr-sgc":
        windows = np.full(len(batch), batch.window)
        return sr_sgc.simulate(rounds, batch.burst, windows, values, batch.mus, jobs, rules)
    return m_sgc.simulate(rounds, batch.burst, batch.window, values, batch.mus, jobs, rules)


def loads(workers: int, batch: Batch) -> Array:
    """Return the normalised loads of a batch [candidates]; of heterogeneous coding the mean, which is that of GC.

    >>> loads(256, Batch("m-sgc", 1, 2, np.array([27]), np.ones(1))).round(9).tolist()
    [0.007543103]
    """
    family, values = batch.family, batch.values
    if family == "m-sgc":
        return m_sgc.loads(workers, batch.burst, batch.window, values)
    if family == "sr-sgc":
        return gc.loads(workers, sr_sgc.losses(batch.burst, batch.window, values))
    if family == "fractional":
        return np.asarray(1 / (workers // (values + 1)))
    if family == "approximate":
        return np.full(len(batch), 1 / (workers // batch.burst))
    return gc.loads(workers, np.zeros_like(values) if family == "uncoded" else values)


def _heterogeneous(rounds: Rounds, losses: Array, jobs: int) -> Runs:
    made = [
        heterogeneous.simulate(rounds.seconds, rounds.response, rounds.load, _balanced(rounds, int(one)), jobs)
        for one in losses
    ]
    parts: Sequence[tuple[Array, ...]] = [(run.seconds, run.late, run.beyond, run.lost_jobs) for run in made]
    return Runs(*(np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True)))


def _balanced(rounds: Rounds, losses: int) -> heterogeneous.Heterogeneous:
    return heterogeneous.balanced(rounds.seconds, rounds.response, rounds.load, rounds.workers, losses)


def scheme(rounds: Rounds, family: str, burst: int, window: int, value: int) -> Scheme:
    """Return one candidate as its scheme, which knows load, delay and promise; raises UsageError for bad parameters."""
    workers = rounds.workers
    if family == "uncoded":
        return uncoded.Uncoded(workers)
    if family == "gc":
        return gc.Gc(workers, value)
    if family == "fractional":
        return fractional.Fractional(workers, value)
    if family == "approximate":
        return approximate.Approximate(workers, burst, value)
    if family == "heterogeneous":
        return _balanced(rounds, value)
    kind = sr_sgc.SrSgc if family == "sr-sgc" else m_sgc.MSgc
    return kind(workers, burst, window, value)


def parameters(family: str, burst: int, window: int, value: int) -> dict[str, int]:
    """Return the parameters of a candidate by the names of the literature.

    >>> parameters("m-sgc", 1, 2, 27)
    {'B': 1, 'W': 2, 'lambda': 27}
    """
    if family in SEQUENTIAL:
        return {"B": burst, "W": window, "lambda": value}
    if family == "approximate":
        return {"d": burst, "s": value}
    return {} if family == "uncoded" else {"s": value}


def closing(family: str, rules: Rules) -> str:
    """Return in words when a round of the family ends."""
    if family == "uncoded":
        return "when everybody has returned"
    if family == "fractional":
        return "when every group has returned one result"
    if family in ("heterogeneous", "approximate") or (family == "gc" and rules.accept == "feasible"):
        return "with the (n - s)-th result"
    kept = "the open jobs stay completable" if rules.accept == "feasible" else "the losses fit the model"
    held = "the fewest late workers that this needs are" if rules.wait_out == "min" else "everybody is"
    return f"at (1 + mu) times the fastest worker if {kept}, else {held} waited for"
