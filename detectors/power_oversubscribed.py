"""The GPUs of a rack draw nearly all the power that the rack may draw, or its power brake already holds them.

Why it hurts
    More GPUs are connected than the feed can carry at full load at once. When the sum comes near the budget, the brake
    halves the clocks of all GPUs of the rack together, or a breaker takes them away; every job with a rank there waits.

How it is seen
    The powers of all GPUs of a power domain (a rack or row, as the site names it) add up to 89 % of its budget or more
    in most of the last windows: time to act. From 80 % on it is told as context. Where the brake was seen on half of
    its hosts meanwhile, the price is by how much the ranks of the domain are late. Unknown without the site's budget
    (`power.budget_watts` of the agent's options).

Look-alikes
    `gpu-hw-slowdown`: the brake of one host is its own power supply, and a hot GPU is its own trouble.
    `gpu-power-cap`: one GPU has a lower limit than the others. A full rack far below its budget is well used.

What to do
    Lower the clocks or power limits of the least important work in the domain first, spread large jobs over domains,
    then ask for more power; a cap of a few percent costs less than a brake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import costs
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, parsed, signal

from . import _live
from ._live_groups import Array
from ._live_worlds import Fleet

POWER, BUDGET = "skewscope_gpu_power_watts", "skewscope_power_budget_watts"
HELD = "skewscope_gpu_clock_event_seconds_total"
BRAKE = "hw_power_brake"
HALF = 0.5  # of the hosts of a domain that report, or that brake
ADVICE = "lower the clocks of the least important work in this domain first, and spread large jobs over domains"


@dataclass(frozen=True)
class PowerOversubscribed:
    """Thresholds: how near to the budget is told and is acted on, what counts as braking, and for how long."""

    category: ClassVar[str] = "power"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    notice_ratio: float = 0.80  # of the budget {conditions A13, POLCA}
    act_ratio: float = 0.89  # of the budget {conditions A13, POLCA}
    brake_ratio: float = 0.02  # of the time, in a GPU: less also happens at a change of the performance state {D}
    held_count: int = 2  # of `of_count` windows: the sum over a rack is steady {conditions A12}
    of_count: int = 3

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per power domain that is near its budget."""
        power = signal(tables, POWER, kind="average")
        brake = power.aligned(signal(tables, HELD, take="increase", reason=BRAKE)) / power.window_s
        for domain in _domains(tables) if len(power) else ():
            yield from self._of_domain(tables, power, brake, domain)

    def _of_domain(self, tables: Frames, power: Signal, brake: Array, domain: str) -> Iterator[Finding]:
        granted = signal(tables, BUDGET, domain=domain)
        here = np.flatnonzero(np.isin(power.node, granted.node))
        if not len(here):
            return
        load = _sum(power.values[:, here]) / _median(granted.values)
        near = lasting((load >= self.notice_ratio)[:, None], self.held_count, self.of_count)[:, 0]
        if not near.any():
            return
        act = lasting((load >= self.act_ratio)[:, None], self.held_count, self.of_count)[:, 0]
        braking = near & (_hosts(brake[:, here] >= self.brake_ratio, power.node[here]) >= HALF)
        mask = braking if braking.any() else act if act.any() else near
        yield self._finding(tables, power, here, domain, mask, float(load[mask].mean()), _mean(brake[mask][:, here]),
                            bool(act.any() or braking.any()))  # fmt: skip

    def _finding(
        self, tables: Frames, power: Signal, here: Array, domain: str, mask: Array, load: float, braked: float,
        urgent: bool,
    ) -> Finding:  # fmt: skip
        brakes = braked >= self.brake_ratio
        held = f"; its brake holds them {braked:.0%} of the time" if brakes else ""
        job, ranks = _ranks(tables, set(power.node[here].tolist()))
        column = int(here[np.argmax(_live.roles(power, tables)[here] == job)])
        found = _live.finding(
            "power-oversubscribed", tables, power, column, mask, role="culprit" if urgent else "context",
            subject=subjects.rack(domain), ranks=ranks, confidence=0.95 if brakes else 0.8,
            least="S2" if brakes else "S3" if urgent else "S4",
            evidence=(
                Evidence("power_of_budget", load, None, self.act_ratio, "ratio"),
                Evidence("power_brake", braked, 0.0, self.brake_ratio, "ratio"),
            ),
            summary=f"the {len(here)} GPUs of {domain} draw {load:.0%} of its power budget{held}", advice=ADVICE,
        )  # fmt: skip
        return found if brakes and ranks else replace(found, lost_s=0.0, lost_share=0.0)

    def alert(self) -> Rule:
        """Return the alert: the GPUs of a domain draw the threshold of its budget."""
        drawn = f'avg_over_time({POWER}{{kind="average"}}[2m])'
        return Rule(
            "SkewscopePowerOversubscribed",
            f"sum by (domain) ({drawn} * on (instance) group_left (domain) ({BUDGET} > bool 0)) "
            f"/ on (domain) group_right () {BUDGET} >= {self.act_ratio:g}",
            30 * self.held_count, "warning", "{{ $labels.domain }} is near its power budget",
            "the GPUs of {{ $labels.domain }}, to which {{ $labels.instance }} belongs, draw "
            "{{ $value | humanizePercentage }} of its power budget",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the budget, the sum, the brake, and what the limits are."""
        limit = "skewscope_gpu_power_limit_watts"
        return (
            Check("budget", "Is the budget of the domain known and right?", BUDGET, "low", "> 0", BUDGET, "see `brake`",
                  "set power.domain and power.budget_watts for the agents of this rack"),
            Check("brake", "Does the brake hold the GPUs?", HELD, "rate", f">= {self.brake_ratio:g}",
                  f'rate({HELD}{{reason="{BRAKE}"}}[5m])', "it already costs speed: lower limits now",
                  "there is still time: lower the limits of the least important work", {"reason": BRAKE}, ("budget",)),
            Check("limits", "Which limits are enforced? Their sum is what the rack may ask for.", limit, "high", "> 0",
                  f'sum by (instance) ({limit}{{kind="enforced"}})',
                  "lower them until their sum is below the budget", "no limits are told", {"kind": "enforced"},
                  ("budget",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: far, just below, one window, a host's brake, no budget; noticed, near, braking, two jobs."""
        yield World("quiet", _racks(0.70).tables())
        yield World("near-miss", _racks(0.79).tables())
        yield World("single-window", _racks(0.95, until=11).tables())
        one = _racks(0.70).put(HELD, 9.0, labels=f"reason={BRAKE}", nodes=["n0"], devices=["gpu0", "gpu1"], since=10)
        yield World("look-alike-host", one.late([0, 1], 0.1).tables())
        yield World("no-budget", _racks(0.95, budget=False).tables())
        yield World("noticed", _racks(0.84).tables(), frozenset({"r0"}))
        yield World("near", _racks(0.92, nodes=4).tables(), frozenset({"r0"}))
        yield World("braking", _braking(0.85, ("n0", "n1")).tables(), frozenset({"r0"}))
        yield World("brake-of-one-host-of-four", _braking(0.85, ("n0",)).tables(), frozenset({"r0"}))


def _domains(tables: Frames) -> list[str]:
    """Return the names of the power domains whose budget is told."""
    table = tables["windows"]
    labels = table.loc[(table["metric"] == BUDGET).to_numpy(), "labels"].astype(str).unique().tolist()
    return sorted({parsed(text).get("domain", "") for text in labels} - {""})


def _sum(values: Array) -> Array:
    """Return [windows]: the sum over GPUs, those that miss a window as their mean; NaN where most are missing."""
    known = np.isfinite(values).sum(axis=1)
    mean = np.nansum(values, axis=1) / np.maximum(known, 1)
    return np.where(known >= HALF * values.shape[1], mean * values.shape[1], np.nan)


def _median(values: Array) -> Array:
    found = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    found[known] = np.nanmedian(values[known], axis=1)
    return found


def _mean(values: Array) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _hosts(mask: Array, node: Array) -> Array:
    """Return [windows]: the share of hosts of which any GPU is in `mask` [windows, gpus]."""
    names = np.unique(node.astype(str))
    return np.asarray(np.mean([mask[:, node.astype(str) == name].any(axis=1) for name in names], axis=0))


def _ranks(tables: Frames, nodes: set[str]) -> tuple[str, list[int]]:
    """Return the job with most ranks on these hosts, and these ranks."""
    found = {job: sorted(int(rank) for rank in cost.rank[np.isin(cost.node, sorted(nodes))])
             for job, cost in costs(tables).jobs.items()}  # fmt: skip
    job = max(found, key=lambda name: len(found[name]), default="")
    return job, found.get(job, [])


def _racks(load: float, *, nodes: int = 8, until: int | None = None, budget: bool = True) -> Fleet:
    """Return a fleet in racks of four hosts of which one draws such a share of its budget from window 10 on."""
    fleet = Fleet(nodes=nodes, gpus=2)
    for rack in range(nodes // 4 if budget else 0):
        fleet.put(BUDGET, 8 * 1000.0, labels=f"domain=r{rack}", nodes=fleet.nodes[4 * rack : 4 * rack + 4])
    fleet.put(HELD, 0.0, labels=f"reason={BRAKE}", devices=fleet.gpus)
    return fleet.put(POWER, 1000 * load, labels="kind=average", nodes=fleet.nodes[:4], devices=fleet.gpus, since=10,
                     until=until)  # fmt: skip


def _braking(load: float, nodes: tuple[str, ...]) -> Fleet:
    fleet = _racks(load)
    fleet.put(HELD, 9.0, labels=f"reason={BRAKE}", nodes=nodes, devices=fleet.gpus, since=10)
    return fleet.late(list(range(8)), 0.1)
