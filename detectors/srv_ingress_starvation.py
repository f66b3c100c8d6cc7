"""Replicas idle while requests wait before them: what feeds the engines is too slow.

Why it hurts
    The gateway, its tokenizer or the network hands requests on more slowly than the engines could take them. Clients
    wait in a queue that no engine shows, GPUs idle, and scaling out engines changes nothing.

How it is seen
    For two windows of 30 s requests of a model wait at its gateway while its engines have no queue, and at least 20 %
    fewer requests run in them than while nobody waited there; or so many of the replicas run none at all. The price is
    the time that a request takes longer, its time at the gateway included, as a share of its time.

Look-alikes
    No demand: nobody waits at the gateway either, and idle engines are healthy. `srv-admission-backlog`: the gateway
    holds requests back as the engines are full. `srv-flow-skew`: one replica queues while others idle.
    `srv-ingress-loss`: bytes of requests are resent on the way. Where no gateway is scraped this cannot be seen.

What to do
    Give the gateway and tokenizers more processes, or tokenize off the path; check its limits of connections and of
    requests per replica; look at the load balancer's health checks and at the network before the engines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    FINISHED,
    GATE_S,
    GATE_WAITING,
    HELD_COUNT,
    OF_COUNT,
    RUNNING,
    WAITING,
    Array,
    Engines,
    Struck,
    engines,
    finding,
    gate_s,
    gate_waiting,
)
from ._serving_worlds import Pool


@dataclass(frozen=True)
class SrvIngressStarvation:
    """Thresholds: how many wait at the gateway, and how idle the engines are meanwhile."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    waiting_count: float = 1.0  # requests at the gateway {D, conditions A9: queue > 0}
    idle_ratio: float = 0.20  # fewer requests run than usual, or such a share of replicas runs none {conditions A9}
    engine_ratio: float = 0.25  # of those at the gateway: more in the engines' own queues is a backlog {D}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A9, A12}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per model whose replicas idle while its gateway holds requests."""
        told = engines(tables)
        for model, pool in told.pools():
            waiting = gate_waiting(told, model)
            held = waiting >= self.waiting_count
            if not held.any():
                continue
            running = told.gauge(RUNNING)[:, pool]
            together = np.nansum(running, axis=1)
            calm = together[~held & np.isfinite(running).any(axis=1)]
            usual = float(np.median(calm)) if len(calm) else 0.0
            idle = together <= (1.0 - self.idle_ratio) * usual
            idle |= (running < 1.0).sum(axis=1) >= self.idle_ratio * np.isfinite(running).sum(axis=1)
            mask = held & idle & (np.nansum(told.gauge(WAITING)[:, pool], axis=1) <= self.engine_ratio * waiting)
            mask = lasting(mask[:, None], self.held_count, self.of_count)[:, 0]
            if mask.any():
                yield self._finding(told, Struck(pool, mask, subjects.job(model)), together, usual)

    def _finding(self, told: Engines, who: Struck, running: Array, usual: float) -> Finding:
        model = who.subject.id
        waiting, runs = float(gate_waiting(told, model)[who.mask].mean()), float(running[who.mask].mean())
        evidence = [
            Evidence("gateway_requests_waiting", waiting, 0.0, self.waiting_count, "count"),
            Evidence("requests_running", runs, usual, (1.0 - self.idle_ratio) * usual, "count"),
            Evidence("gateway_queue_s", float(gate_s(told, model)[who.mask].mean()), None, None, "s"),
        ]
        usually = f"where {usual:.0f} is usual" if usual > 0 else "some of which run none"
        return finding(
            "srv-ingress-starvation", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"{waiting:.0f} requests of {model} wait at its gateway while {runs:.0f} run in its "
            f"{len(who.columns)} replicas, {usually}",
            advice="give gateway and tokenizers more processes, and check what limits requests per replica there",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: fewer requests run in the engines of a host than before while some wait at the gateway."""
        running = f"sum by (instance, model) ({RUNNING})"
        before = f"sum by (instance, model) (quantile_over_time(0.9, {RUNNING}[1h]))"
        return Rule(
            "SkewscopeSrvIngressStarvation",
            f"({running} <= {1.0 - self.idle_ratio:g} * {before}) "
            f"and on (model) (sum by (model) ({GATE_WAITING}) >= {self.waiting_count:g}) "
            f"unless on (model) (sum by (model) ({WAITING}) > {self.waiting_count:g})",
            30 * self.held_count, "warning", "engines of {{ $labels.model }} idle while requests wait before them",
            "{{ $value | humanize }} requests run in the engines of {{ $labels.model }} on {{ $labels.instance }}, "
            "fewer than in the last hour, and some wait at the gateway",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who waits where, are engines empty, is it the gateway's host."""
        load = "skewscope_host_pressure_seconds_total"
        return (
            Check("gateway", "Do requests wait at the gateway?", GATE_WAITING, "mean", f">= {self.waiting_count:g}",
                  f"sum by (model) ({GATE_WAITING})", "see `engines`", "no demand is held back"),
            Check("engines", "Do they wait in the engines too?", WAITING, "mean", ">= 1",
                  f"sum by (model) ({WAITING})", "see `srv-admission-backlog`", "see `long`", after=("gateway",)),
            Check("long", "Do they wait for long at the gateway?", f"{GATE_S}_sum", "rate", "> 1",
                  f"rate({GATE_S}_sum[5m]) / rate({GATE_S}_count[5m])", "see `host`", "the queue is short",
                  after=("engines",)),
            Check("host", "Is the gateway's host short of processors?", load, "rate", "> 0.1",
                  f'rate({load}{{resource="cpu",kind="some"}}[5m])', "more cores or processes, tokenize off the path",
                  "its own limits, the load balancer or the network", {"resource": "cpu", "kind": "some"},
                  after=("long",)),
            Check("work", "Do engines still finish requests?", FINISHED, "rate", "> 0",
                  f"sum by (model) (rate({FINISHED}[5m]))", "they starve in part", "nothing reaches them: routing"),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, no demand, somewhat fewer, engines full, a moment, starved, empty replicas."""
        yield World("quiet", Pool().serve("gateway_requests_waiting", 0.0, engine="gateway", nodes=["n0"]).told())
        yield World("look-alike-no-demand", _starved(0.0, 10.0).told())
        yield World("few-at-the-gateway", _starved(0.9, 10.0).told())
        yield World("near-miss", _starved(60.0, 33.0).told())
        yield World("look-alike-backlog", _starved(60.0, 30.0).serve("requests_waiting", 20.0).told())
        yield World("one-window", _starved(60.0, 20.0, until=11).told())
        yield World("no-gateway", Pool().serve("requests_running", 20.0).slower(0.3).told())
        yield World("starved", _starved(60.0, 30.0).told(), frozenset({"chat"}))
        empty = Pool().serve("gateway_requests_waiting", 60.0, engine="gateway", nodes=["n0"], since=0)
        empty.serve("requests_running", 0.0, nodes=["n3"], since=0)
        yield World("one-runs-none", empty.slower(0.3).told(), frozenset({"chat"}))


def _starved(waiting: float, running: float, until: int | None = None) -> Pool:
    """Return a pool of which each replica runs so many while so many wait at the gateway."""
    pool = Pool().serve("gateway_requests_waiting", 0.0, engine="gateway", nodes=["n0"], since=0)
    pool.serve("gateway_requests_waiting", waiting, engine="gateway", nodes=["n0"], until=until)
    pool.serve("gateway_queue_seconds_count", 480.0, engine="gateway", nodes=["n0"], since=0)
    pool.serve("gateway_queue_seconds_sum", 30.0 * waiting, engine="gateway", nodes=["n0"], until=until)
    return pool.serve("requests_running", running, until=until)
