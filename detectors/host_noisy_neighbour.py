"""Another tenant of the machine slows the ranks of a host: it takes their CPU time, caches or memory bandwidth.

Why it hurts
    The threads that launch kernels and feed the GPU run slower, or their virtual CPUs stand still, while everything
    inside the job looks as always. The host's ranks come late together and everybody waits.

How it is seen
    Signs of foreign work on the host, beyond what is usual on the other hosts: CPU time that the hypervisor gave to
    others (steal), CPU time of processes that are no ranks, pressure on CPUs and memory. A linear model (weights and
    errors in `_noisy_model.py`, fitted to simulated and recorded windows) says which share of a step they cost. It is
    this condition where that is at least half of the share by which the host's ranks are late, in most windows.

Look-alikes
    `host-cpu-contention`: the job's own threads are ready and wait for a CPU of this system, which the kernel counts;
    a hypervisor's theft it does not. `gpu-hw-slowdown` and others of one GPU: late without foreign work. Load that is
    alike on all hosts is no news, and one that costs nothing is told as context.

What to do
    Find who shares the machine (pods of other tenants, virtual machines); ask for dedicated hosts, static CPU sets, and
    cache and bandwidth partitions (resctrl); let the scheduler keep the two apart (anti-affinity).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import costs
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from ._live_groups import Array, groups, judged, usual
from ._live_shares import known_or
from ._live_worlds import WINDOW_S, Fleet
from ._noisy_model import ERROR_SIMULATED, WEIGHTS

CPU, PRESSURE = "skewscope_host_cpu_seconds_total", "skewscope_host_pressure_seconds_total"
OWN, DELAY = "skewscope_rank_cpu_seconds_total", "skewscope_rank_run_delay_seconds_total"
BUSY = ("user", "nice", "system", "irq", "softirq")


@dataclass(frozen=True)
class Hosts:
    """Signs of foreign work, `values` [windows, hosts] by name, beyond what is usual; `told` names the hosts."""

    told: Signal
    values: dict[str, Array]


@dataclass(frozen=True)
class HostNoisyNeighbour:
    """Thresholds: the loss that the model must say, its part of the lateness, own waiting, for how long, the price."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    loss_ratio: float = 0.05  # of the step, said by the model: well above its error on simulated hosts {D}
    explained_ratio: float = 0.5  # of the lateness of the host's ranks {conditions A13}
    delay_ratio: float = 0.05  # of the time that own threads wait for a CPU: then it is contention {conditions A1}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per host that foreign work slows, or one for a job of such hosts."""
        hosts = signals(tables)
        said = predicted(hosts)
        if not (said >= self.loss_ratio).any():
            return
        late = lateness(tables, hosts)
        mask = (said >= self.loss_ratio) & ~(said < self.explained_ratio * late) & ~self._starving(tables, hosts)
        strong = mask & (said >= STRONG_RATIO * self.loss_ratio)
        for group in groups(hosts.told, lasting(mask, self.held_count, self.of_count, strong), tables):
            loss = group.mean(said)
            evidence = [Evidence("predicted_loss", loss, 0.0, self.loss_ratio, "ratio")]
            evidence += [Evidence(name, group.mean(values), 0.0, None, "ratio")
                         for name, values in hosts.values.items() if group.mean(values) > 0]  # fmt: skip
            yield judged(
                "host-noisy-neighbour", tables, hosts.told, group, cost_ratio=self.cost_ratio, evidence=evidence,
                confidence=0.75,
                summary=f"work of others on {group.name(hosts.told)} explains {loss:.0%} (+-{ERROR_SIMULATED:.0%}) of "
                "the step",
                advice="find who shares this machine, and keep them apart: dedicated hosts, CPU sets, anti-affinity",
            )  # fmt: skip

    def _starving(self, tables: Frames, hosts: Hosts) -> Array:
        """Return [windows, hosts]: where own threads wait for a CPU beyond what is usual."""
        delay = signal(tables, DELAY, take="increase").rate()
        if not len(delay):
            return np.zeros(hosts.told.values.shape, dtype=bool)
        beyond = delay.values - usual(delay, tables)
        most = _per_host(beyond, delay.node, hosts.told, np.fmax)
        return np.asarray(most >= self.delay_ratio)

    def alert(self) -> Rule:
        """Return the alert: the service that watches says so; an expression would have to repeat the model."""
        return Rule(
            "SkewscopeHostNoisyNeighbour",
            'skewscope_finding_active{condition="host-noisy-neighbour",role="culprit"} == 1', 60, "warning",
            "another tenant slows {{ $labels.subject }}",
            "work of others on {{ $labels.subject }} makes its ranks late",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: theft, foreign CPU time, pressure, and own waiting."""
        return (
            Check("steal", "Does the hypervisor give CPU time to others?", CPU, "rate", ">= 0.1",
                  f'rate({CPU}{{mode="steal"}}[5m])', "it is a virtual machine with a neighbour: ask its operator",
                  "see `foreign`", {"mode": "steal"}),
            Check("foreign", "How much CPU time does the host use? Compare it with that of its ranks.", CPU, "rate",
                  "> 0", f'sum by (instance) (rate({CPU}{{mode=~"user|system"}}[5m])) - sum by (instance) '
                  f"(rate({OWN}[5m]))", "what is beyond other hosts' is foreign; see `memory`",
                  "it is idle: look at the GPU", {"mode": "user"}, ("steal",)),
            Check("memory", "Is memory under pressure?", PRESSURE, "rate", ">= 0.02",
                  f'rate({PRESSURE}{{resource="memory",kind="some"}}[5m])', "somebody thrashes memory and caches",
                  "see `own`", {"resource": "memory", "kind": "some"}, ("foreign",)),
            Check("own", "Do the job's own threads wait for a CPU?", DELAY, "rate", f">= {self.delay_ratio:g}",
                  f"rate({DELAY}[5m])", "see `host-cpu-contention`", "others share the machine: keep them apart",
                  after=("foreign",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, a little, alike, own waiting, other reasons, one window; theft, pods, a harmless one."""
        yield World("quiet", _shared().tables())
        yield World("near-miss", _shared(steal=0.8 * self.loss_ratio / WEIGHTS["steal"]).late(5, 0.02).tables())
        yield World("all-alike", _shared(steal=0.2, nodes=("n0", "n1", "n2", "n3")).tables())
        own = _shared(steal=0.2)
        own.put(DELAY, 0.1, devices=own.gpus).put(DELAY, 6.0, nodes=["n1"], devices=["gpu1"], since=10)
        yield World("look-alike-contention", own.late(5, 0.1).tables())
        yield World("look-alike-late", _shared(steal=0.06 / WEIGHTS["steal"]).late(5, 0.3).tables())
        yield World("single-window", _shared(steal=0.2, until=11).late(5, 0.1, until=11).tables())
        yield World("theft", _shared(steal=0.15 / WEIGHTS["steal"]).late(5, 0.1).tables(), frozenset({"n1"}))
        pod = _shared(foreign=0.3, memory=0.15 / WEIGHTS["memory_pressure"]).late(5, 0.1)
        yield World("pod", pod.tables(), frozenset({"n1"}))
        crowded = _shared(foreign=0.4, pressure=0.9).late(5, 0.15)
        yield World("crowded", crowded.tables(), frozenset({"n1"}))
        yield World("harmless", _shared(steal=0.15 / WEIGHTS["steal"]).tables(), frozenset({"n1"}))


def signals(tables: Frames) -> Hosts:
    """Return what foreign work shows on each host, beyond what is usual on those that do the same."""
    total = signal(tables, CPU, take="increase")
    share = {}
    for name, modes in (("steal", ("steal",)), ("foreign_cpu", BUSY)):
        used = known_or(total.aligned(signal(tables, CPU, take="increase", mode=modes)), 0.0)
        if name == "foreign_cpu":
            used = used - _of_ranks(tables, total)
        with np.errstate(divide="ignore", invalid="ignore"):
            share[name] = used / total.values
    for resource in ("cpu", "memory"):
        pressed = signal(tables, PRESSURE, take="increase", resource=resource, kind="some").rate()
        share[f"{resource}_pressure"] = known_or(total.aligned(pressed), 0.0)
    beyond = {name: np.maximum(values - usual(replace(total, values=values), tables), 0.0)
              for name, values in share.items()}  # fmt: skip
    beyond["crowded"] = beyond["foreign_cpu"] * beyond["cpu_pressure"]  # it costs more where CPUs are full
    return Hosts(total, beyond)


def _of_ranks(tables: Frames, hosts: Signal) -> Array:
    """Return [windows, hosts]: CPU seconds of the ranks there."""
    own = signal(tables, OWN, take="increase")
    return known_or(_per_host(known_or(own.values, 0.0), own.node, hosts, np.add), 0.0)


def predicted(hosts: Hosts) -> Array:
    """Return [windows, hosts]: the share of a step that foreign work costs by the model."""
    said = sum(WEIGHTS[name] * known_or(values, 0.0) for name, values in hosts.values.items())
    return np.asarray(np.clip(np.asarray(said), 0.0, 0.95))


def lateness(tables: Frames, hosts: Hosts) -> Array:
    """Return [windows, hosts]: by which share of the step the latest rank of a host comes after those of others."""
    found = np.full(hosts.told.values.shape, np.nan)
    for cost in costs(tables).jobs.values():
        if len(cost.t_ns) == len(found):
            least_s = _per_host(cost.waiting_s, cost.node, hosts.told, np.fmin)
            here = np.isin(hosts.told.node.astype(str), cost.node.astype(str))
            late_s = peer_median(least_s[:, here], np.zeros(int(here.sum()))) - least_s[:, here]
            found[:, here] = late_s / cost.step_s[:, None]
    return found


def _per_host(values: Array, nodes: Array, hosts: Signal, of: np.ufunc) -> Array:
    """Return [windows, hosts]: `values` [windows, ranks] of each host put together by `of`, NaN where it has none."""
    found = np.full((len(hosts), len(hosts.t_ns)), np.nan)
    place = {str(node): column for column, node in enumerate(hosts.node)}
    at = np.array([place.get(str(node), -1) for node in nodes], dtype=np.int64)
    if len(values) == len(hosts.t_ns) and (at >= 0).any():
        found[np.unique(at[at >= 0])] = 0.0 if of is np.add else np.nan
        of.at(found, at[at >= 0], values.T[at >= 0])
    return np.asarray(found.T)


def _shared(
    *, steal: float = 0.0, foreign: float = 0.0, memory: float = 0.0, pressure: float = 0.0,
    nodes: tuple[str, ...] = ("n1",), until: int | None = None,
) -> Fleet:  # fmt: skip
    """Return hosts with 64 CPUs of which some lose such shares of CPU time to others, and are under such pressure."""
    fleet, seconds = Fleet(nodes=4), 64 * WINDOW_S
    fleet.put(OWN, 1.2 * WINDOW_S, devices=fleet.gpus)
    for mode, usually, added in (("steal", 0.0, steal), ("user", 0.15, foreign), ("idle", 0.85, -steal - foreign)):
        fleet.put(CPU, usually * seconds, labels=f"mode={mode}")
        fleet.put(CPU, (usually + added) * seconds, labels=f"mode={mode}", nodes=nodes, since=10, until=until)
    for resource, share in (("memory", memory), ("cpu", pressure)):
        fleet.put(PRESSURE, 0.0, labels=f"resource={resource},kind=some")
        fleet.put(PRESSURE, share * WINDOW_S, labels=f"resource={resource},kind=some", nodes=nodes, since=10,
                  until=until)  # fmt: skip
    return fleet
