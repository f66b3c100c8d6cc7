"""From a scenario and a seed to tables and truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..frames import concat
from . import accounting, activity, confounders, routing, step_tables, tables, telemetry, training
from .fleet import build
from .injection import Injection, injection, load
from .scenario import Scenario, scenario
from .series import Places, Series, places
from .serving import Serving
from .training import Run
from .truth import truth
from .world import AFTER_S, WINDOW_S, World, windows_of

if TYPE_CHECKING:
    import pandas as pd

DETAILED = 100_000  # steps times ranks below which every step is kept


@dataclass
class Simulation:
    """One simulated stretch of a fleet. `tables` and `truth` are computed when first asked for."""

    world: World
    faults: list[Injection]
    runs: dict[int, Run]
    serving: dict[int, Serving]
    windows: int
    place: dict[str, Places]

    @cached_property
    def series(self) -> list[Series]:
        """All series, sorted by metric and labels."""
        busy = activity.empty(self.world, self.windows)
        for at, run in self.runs.items():
            activity.add_run(busy, self.world, self.world.fleet.jobs[at], run)
        for one in self.serving.values():
            one.add(busy)
        return telemetry.series(self.world, busy, self.runs, self.serving, self.place)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Return `windows`, `ranks`, `events` and `step_times`; for small jobs also `rank_steps` and `steps`.

        A scenario with a history has `attempts`. Jobs with expert parallelism also have `expert_loads`, and
        `balance_reports` where they move experts.
        """
        world, start_ns = self.world, self.world.scenario.start_ns
        ends = {at: self.runs[at].end_s if at in self.runs else self.windows * WINDOW_S
                for at in range(len(world.fleet.jobs))}  # fmt: skip
        found = {
            "windows": tables.windows(world, self.place, self.series, self.windows),
            "ranks": tables.ranks(world.fleet, start_ns, ends), "events": tables.events(world, self.windows),
        }  # fmt: skip
        if world.scenario.fleet.history_days:
            found["attempts"] = accounting.attempts(world)
        names = ("step_times", "rank_steps", "steps", "expert_loads", "balance_reports")
        parts: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
        for at, run in self.runs.items():
            job = world.fleet.jobs[at]
            parts["step_times"].append(tables.step_times(job.plan.name, run, start_ns))
            if at in world.routers:
                parts["expert_loads"].append(routing.expert_loads(world, at, run))
                parts["balance_reports"].append(routing.balance_reports(world, at, run))
            if run.detail:
                parts["rank_steps"].append(step_tables.rank_steps(world.fleet, job, run, start_ns))
                parts["steps"].append(step_tables.steps(job, run, start_ns))
        return found | {name: concat(name, many) for name, many in parts.items() if many}

    def samples(self) -> pd.DataFrame:
        """Return the table `samples`: single scrapes instead of windows; for small fleets."""
        return tables.samples(self.world, self.place, self.series, self.windows)

    @cached_property
    def truth(self) -> dict[str, Any]:
        """The document `skewscope.truth/1`; each fault's price comes from a replay of the job without it."""
        replays, served = {}, {}
        for at, fault in enumerate(self.faults):
            if fault.job in self.runs:
                world, _ = ground(self.world.scenario, self.world.seed, skip=at)
                replays[at] = training.run(world, fault.job)
            elif fault.job in self.serving:
                world, _ = ground(self.world.scenario, self.world.seed, skip=at)
                job = world.fleet.jobs[fault.job]
                served[at] = Serving(world, job, fault.job, self.windows, self.place["node"])
        return truth(self.world, self.faults, self.runs, replays, self.serving, served)


def simulate(given: Scenario | str, seed: int = 0, *, detail: bool | None = None) -> Simulation:
    """Return the simulation of a scenario, or of a shipped one by name or TOML file.

    `detail` keeps every step of every rank; None does so for small jobs. Same scenario and seed, same result. Raises
    UsageError for a scenario that cannot be meant.
    """
    plan = scenario(given) if isinstance(given, str) else given
    world, faults = ground(plan, seed)
    runs = {}
    for at, job in enumerate(world.fleet.jobs):
        if job.plan.kind != "serving":
            keep = job.plan.ranks * job.plan.steps <= DETAILED if detail is None else detail
            runs[at] = training.run(world, at, detail=keep)
    windows = _length(world, runs)
    place = places(world.fleet)
    serving = {at: Serving(world, job, at, windows, place["node"]) for at, job in enumerate(world.fleet.jobs)
               if job.plan.kind == "serving"}  # fmt: skip
    return Simulation(world, faults, runs, serving, windows, place)


def ground(plan: Scenario, seed: int, skip: int = -1) -> tuple[World, list[Injection]]:
    """Return the ground state of a scenario and its faults, without fault number `skip`."""
    world = World(plan, build(plan), seed, windows_of(plan))
    confounders.disturb(world)
    faults = [injection(world, one, at) for at, one in enumerate(plan.faults)]
    for at, fault in enumerate(faults):
        if at != skip:
            load(fault.condition).inject(world, fault)
    return world, faults


def _length(world: World, runs: dict[int, Run]) -> int:
    """Return how many windows are told: until a little after the last job ended."""
    ends = [run.end_s for run in runs.values()]
    for job in world.fleet.jobs:
        if job.plan.kind == "serving":
            ends.append(job.plan.start_s + job.plan.steps * job.plan.step_s)
    return min(int((max(ends) + AFTER_S) // WINDOW_S) + 1, world.windows)
