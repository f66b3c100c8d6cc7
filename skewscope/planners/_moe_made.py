"""What the planner of experts worked out, before it becomes words, pictures and a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..moe.affinity import Point
from ..moe.heldout import Heldout
from ..moe.loads import Loads
from ..moe.migration import Migration
from ..moe.placement import Floats, Placement, balancedness
from ..moe.times import Clock

Counts = NDArray[np.int64]
START = "start layout assumed: slot i holds expert i mod experts"


@dataclass(frozen=True)
class Wanted:
    """What was asked for; `groups` 0 is flat, `max_moves` -1 is without a limit, else copies per layer.

    `horizon` counts windows for which the plan is kept, 0 where nobody says.
    """

    gpus: int
    nodes: int
    slots: int
    groups: int = 0
    max_moves: int = -1
    horizon: int = 0
    budget_s: float = 10.0
    load_limit: float = 0.0  # hottest GPU over mean that locality may cost; 0: balance comes first


@dataclass(frozen=True)
class Given:
    """What the plan is made from: loads of one or more workloads, the running placement, and how long things take.

    `known` says how the running placement is known; `clock` is None where the model is not known; `pairs`
    [L - 1, E, E] are tokens by expert of a layer and of the next, `trace` [tokens, L, k] the picks of tokens.
    """

    workloads: tuple[Loads, ...]
    current: Placement
    known: str
    clock: Clock | None = None
    pairs: Floats | None = None
    trace: Counts | None = None

    @property
    def loads(self) -> Loads:
        """The first workload: it has the names of layers."""
        return self.workloads[0]

    @property
    def series(self) -> list[Counts]:
        """Steps [T, L, E] of each workload."""
        return [one.counts for one in self.workloads]

    @property
    def ordered(self) -> bool:
        """Whether the steps of all workloads have an order in time."""
        return all(one.ordered for one in self.workloads)

    @property
    def totals(self) -> Counts:
        """Tokens of each workload [K, L, E]."""
        return np.stack([one.total() for one in self.workloads])

    @property
    def top_k(self) -> int:
        """Experts that a token picks, 0 unknown."""
        return self.loads.top_k or (self.clock.model.top_k if self.clock else 0)


@dataclass(frozen=True)
class Budget:
    """A plan with at most so many copies per layer: what it needs and its balance on its own and on later windows."""

    copies: float
    same: float
    later: float


@dataclass(frozen=True)
class Redundancy:
    """A number of slots: memory of its extra experts per GPU (NaN unknown), bound, balance on own and later windows."""

    slots: int
    gib: float
    bound: float
    same: float
    later: float


@dataclass(frozen=True)
class PayBack:
    """Seconds of copying against seconds that a step becomes shorter; `measured` says on what the gain was seen.

    `step_s` are seconds of experts in a step now, `gib` what the GPU that receives most receives.
    """

    copy_s: float
    gain_s: float
    step_s: float
    gib: float
    measured: str

    @property
    def steps(self) -> float:
        """Return after how many steps copying has paid for itself; infinite where nothing is gained.

        >>> PayBack(2.0, 0.001, 0.01, 1.0, "later steps").steps
        2000.0
        """
        return self.copy_s / self.gain_s if self.gain_s > 0 else float("inf")


@dataclass(frozen=True)
class WhatIf:
    """One change that the plan does not contain: balance without and with it, a sentence, and a step if worth one."""

    name: str
    without: float
    having: float
    text: str
    advice: str = ""


@dataclass(frozen=True)
class System:
    """What another system would make of it: a quantity in `unit` with the plan and then, and where that is from."""

    name: str
    unit: str
    planned: float
    then: float
    text: str
    source: str
    assumes: str


@dataclass(frozen=True)
class Served:
    """One of several workloads: its balance now, with the plan for all, and with a plan for it alone."""

    name: str
    now: float
    planned: float
    alone: float


@dataclass(frozen=True, eq=False)
class Made:
    """Everything about one plan; arrays are per layer [L], balance is mean over busiest GPU, mean over workloads."""

    given: Given
    wanted: Wanted
    proposed: Placement
    bound: Floats
    ceiling: Floats
    moved: Migration
    solve_s: float
    group_bound: Floats | None = None
    binding: tuple[str, ...] = ()  # the limit of each layer that no placement can pass
    proven: NDArray[np.bool_] | None = None  # layers for which nothing better exists
    held: Heldout | None = None
    pay_back: PayBack | None = None
    budgets: Sequence[Budget] = ()
    redundancy: Sequence[Redundancy] = ()
    whatifs: Sequence[WhatIf] = ()
    frontier: Sequence[Point] = ()  # locality against load
    served: Sequence[Served] = ()  # by workload, where there are several
    systems: Sequence[System] = ()

    def balance(self, placement: Placement) -> Floats:
        """Return the balance [L] of a placement on the loads that the plan is made for, mean over workloads."""
        mean: Floats = balancedness(placement.gpu_loads(self.given.totals)).mean(0)
        return mean

    @property
    def now(self) -> Floats:
        """Balance of the running placement."""
        return self.balance(self.given.current)

    @property
    def planned(self) -> Floats:
        """Balance of the plan on the loads it was made for."""
        return self.balance(self.proposed)

    @property
    def best(self) -> Floats:
        """The bound that holds: with groups kept on nodes where that was asked for."""
        return self.bound if self.group_bound is None else self.group_bound

    @property
    def layers(self) -> list[int]:
        """Numbers of the model's layers."""
        numbers: list[int] = self.given.loads.layers.tolist()
        return numbers

    @property
    def kept_steps(self) -> float:
        """For how many steps the plan is kept; infinite where nobody says."""
        if not self.wanted.horizon or self.held is None:
            return float("inf")
        return self.wanted.horizon * len(self.given.loads.steps) / (len(self.held.later) + 1)

    def rungs(self) -> list[tuple[str, Floats]]:
        """Return the gap ladder: name and balance per layer of each rung that is known."""
        found = [("now", self.now), ("noise ceiling", self.ceiling), ("bound of slots", self.bound)]
        if self.group_bound is not None:
            found.append(("group bound", self.group_bound))
        found.append(("plan", self.planned))
        if self.held is not None:
            found.append(("plan, held out", self.held.layers))
        return found
