"""The hosts of one job have network adapters of different kinds or speeds, and its groups span them.

Why it hurts
    A ring runs at the rate of its slowest port, and where the kinds share no transport it falls back to a slower one.
    Hosts with faster adapters, which cost more, wait in every collective from the first step to the last.

How it is seen
    All ports of some hosts of a job trained to 0.7 times the rate of its fastest hosts or less, and are other boards;
    or they have another link layer. A kind of group moves 0.7 times or less of what it moves in jobs of one kind, or
    of what the faster ports carry where there is no such job. It is so from the start, so its price is worked out: of
    the shortest calls of these groups, the part that the faster rate would save.

Look-alikes
    `nic-link-down`: one port, or the same board, trained to a lower rate. `pcie-link-degraded`: the slot is narrow.
    `sched-topology-mismatch`: the adapters are alike and far apart. Boards that differ and are as fast cost nothing;
    kinds that differ between jobs neither.

What to do
    Ask the scheduler for hosts of one kind; else let only the pipeline cross kinds and keep each data-parallel or
    expert group within one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import JobCost, costs
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, parsed

from . import _ports
from ._group_calls import CALLS, SHORTEST, middle
from ._live_worlds import Fleet
from ._port_worlds import fleet
from ._ports import INFO, RATE, Array, kinds
from ._prices import severity

BANDWIDTH = "skewscope_collective_bus_bandwidth_bytes_per_second"
HALF = 0.5  # of the ports: the link layer that fewer have is the other one
LABELS = "op=all_reduce,group=dp"  # of the worlds


@dataclass(frozen=True)
class Mixed:
    """A job over several kinds: its `slow` hosts, and the rates of the slower and faster kind in bytes/s."""

    cost: JobCost
    slow: tuple[str, ...]
    slower: float
    faster: float


@dataclass(frozen=True)
class NicMixedKinds:
    """Thresholds: how much slower a kind is and its groups are, and what that costs."""

    category: ClassVar[str] = "nic"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    rate_ratio: float = 0.7  # of the fastest hosts' {D: a step down in speed halves it}
    bandwidth_ratio: float = 0.7  # of groups of one kind {conditions A13}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 2  # windows: kinds do not come and go {D}
    of_count: int = 3

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job that spans kinds and pays for it."""
        told = _ports.known(tables, RATE, "high")
        if not len(told):
            return
        known = costs(tables).jobs
        mixed = {job: self._mixed(tables, told, cost) for job, cost in known.items()}
        for one in mixed.values():
            if one is not None:
                pure = [cost for job, cost in known.items() if mixed[job] is None]
                yield from self._judged(tables, one, pure)

    def _mixed(self, tables: Frames, told: Signal, cost: JobCost) -> Mixed | None:
        """Return how a job is mixed, None where its hosts are of one kind."""
        what, best, boards = kinds(tables), {}, {}
        for node in dict.fromkeys(cost.node.tolist()):
            mine = told.node == node
            if np.isfinite(told.values[:, mine]).any():
                best[node] = float(np.nanmax(told.values[:, mine]))
                boards[node] = {what.get((node, str(device)), ("", "")) for device in told.device[mine].tolist()}
        faster = max(best.values(), default=0.0)
        fast = [node for node, rate in best.items() if rate > self.rate_ratio * faster]
        usual = {kind for node in fast for kind in boards[node]}
        slow = [node for node in best if node not in fast and not boards[node] & usual]
        layers = Counter(layer for node in fast for layer, _ in boards[node])
        rare = {layer for layer, count in layers.items() if count < HALF * layers.total()}
        slow += [node for node in fast if {layer for layer, _ in boards[node]} <= rare]
        if not slow:
            return None
        return Mixed(cost, tuple(sorted(slow)), min(best[node] for node in slow), faster)

    def _judged(self, tables: Frames, mixed: Mixed, pure: list[JobCost]) -> Iterator[Finding]:
        """Yield the finding about a job whose groups are slower than groups of one kind."""
        lost_s, worst, when = 0.0, (1.0, 0.0, 0.0, ""), np.zeros(len(mixed.cost.step_s), dtype=bool)
        for chosen, now, usual in self._groups(tables, mixed, pure):
            ratio = np.where(np.isfinite(mixed.cost.step_s), now / usual, np.nan)
            slow = lasting((ratio <= self.bandwidth_ratio)[:, None], self.held_count, self.of_count)[:, 0]
            if not slow.any():
                continue
            left = mixed.slower / mixed.faster
            left = left if left <= self.rate_ratio else float(np.nanmedian(ratio[slow]))
            lost_s += (1.0 - left) * _spent_s(tables, mixed.cost, chosen, slow)
            seen = float(np.nanmedian(ratio[slow]))
            worst = min(worst, (seen, float(np.nanmedian(now[slow])), usual, chosen["group"]))
            when |= slow
        if when.any():
            yield self._finding(mixed, when, lost_s, worst)

    def _groups(
        self, tables: Frames, mixed: Mixed, pure: list[JobCost]
    ) -> Iterator[tuple[dict[str, Any], Array, float]]:
        """Yield the labels of each kind of group, its bandwidth [windows], and that of groups of one kind."""
        rows = tables["windows"]
        for text in sorted(str(one) for one in rows.loc[(rows["metric"] == BANDWIDTH).to_numpy(), "labels"].unique()):
            chosen: dict[str, Any] = parsed(text)
            told = _ports.known(tables, BANDWIDTH, "mean", **chosen)
            now = middle(_of(told, mixed.cost).T)
            others = [values for cost in pure if np.isfinite(values := _of(told, cost)).any()]
            usual = max((float(np.nanmedian(values)) for values in others), default=0.0)
            if usual or mixed.slower <= self.rate_ratio * mixed.faster:
                yield chosen, now, usual or mixed.faster

    def _finding(self, mixed: Mixed, when: Array, lost_s: float, worst: tuple[float, float, float, str]) -> Finding:
        step_s = float(np.nanmedian(mixed.cost.step_s[when]))
        share = min(lost_s / step_s, 1.0)
        ratio, now, usual, group = worst
        one = subjects.node(mixed.slow[0]) if len(mixed.slow) == 1 else subjects.job(mixed.cost.job)
        window = Signal(mixed.cost.t_ns, _window_s(mixed.cost.t_ns), *[np.zeros(0)] * 5).window(when)
        role = "culprit" if share >= self.cost_ratio else "context"
        return Finding(
            condition="nic-mixed-kinds", subject=one, role=role, severity=severity(share), confidence=0.9,
            window=window, lost_s=lost_s, lost_share=share,
            evidence=(
                Evidence("link_rate", mixed.slower, mixed.faster, self.rate_ratio * mixed.faster, "bytes/s"),
                Evidence("bus_bandwidth", now, usual, self.bandwidth_ratio * usual, "bytes/s"),
            ),
            summary=f"{', '.join(mixed.slow[:4])} of {mixed.cost.job} have adapters of {mixed.slower * 8e-9:.0f} Gb/s "
            f"among others of {mixed.faster * 8e-9:.0f} Gb/s, and its {group} groups move {ratio:.0%} of what one kind "
            f"does; the job loses {lost_s * 1e3:.1f} ms ({share:.0%}) of each step",
            advice="ask for hosts with one kind of adapter, or let only the pipeline cross kinds",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: hosts of a job have slower ports than its fastest, and groups move what these carry."""
        host = f"max by (node, instance) ({RATE})"
        of_job = f"(max by (job_id, node, instance) ({BANDWIDTH}) * 0 + on (node, instance) group_left () {host})"
        fastest = f"on (job_id) group_left () max by (job_id) {of_job}"
        moved = f"min by (job_id) ({BANDWIDTH}) / on (job_id) max by (job_id) {of_job}"
        return Rule(
            "SkewscopeNicMixedKinds",
            f"{of_job} / {fastest} <= {self.rate_ratio:g} and on (job_id) ({moved} <= {self.bandwidth_ratio:g})",
            30 * self.held_count, "warning", "job {{ $labels.job_id }} spans adapters of different speeds",
            "{{ $labels.node }} has {{ $value | humanizePercentage }} of the rate of the job's fastest hosts",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: are rates different, are boards, do groups pay."""
        return (
            Check("rates", "Do the ports of all hosts of the job have one rate?", RATE, "low", ">= 50e9",
                  f"max by (node) ({RATE})", "the kinds are as fast as each other: see `bandwidth`", "see `boards`"),
            Check("boards", "Are the slower ones another board?", INFO, "mean", "> 0",
                  f"count by (node, board, link_layer) ({INFO})", "see `bandwidth`", "see `nic-link-down`",
                  after=("rates",)),
            Check("bandwidth", "Do groups move what the faster ports carry?", BANDWIDTH, "mean", ">= 35e9", BANDWIDTH,
                  "nothing is lost", "keep groups within one kind", after=("boards",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: one kind, a little slower, one port, same board, fast groups, no groups, one host, half."""
        yield World("quiet", _spanning({}).tables())
        yield World("near-miss", _spanning({"n1": 37.5e9}).tables())
        yield World("groups-are-fast", _spanning({"n1": 25e9}, moved=36e9).tables())
        port = _spanning({}).put(RATE, 25e9, nodes=["n1"], devices=["mlx5_0"])
        yield World("look-alike-port", port.tables())
        yield World("look-alike-trained-lower", _spanning({"n1": 25e9}, board="MT_0000000838").tables())
        yield World("no-job", _spanning({"n1": 25e9}).tables(job=False))
        yield World("one-host", _spanning({"n1": 25e9}).tables(), frozenset({"n1"}))
        yield World("two-hosts", _spanning({"n1": 25e9, "n2": 12.5e9}).tables(), frozenset({"llm"}))


def _spanning(rates: dict[str, float], *, moved: float = 20e9, board: str = "MT_0000000223") -> Fleet:
    """Return a fleet of which some hosts have other adapters, of such rates; 24 calls of 2 ms a step cross them."""
    made = fleet()
    usual = "netdev=eth0,link_layer=Ethernet,firmware=28.42.1000,board="
    made.put(BANDWIDTH, moved, labels=LABELS).put(SHORTEST, 0.002, labels=LABELS, devices=made.gpus)
    made.put(CALLS, 24.0 * 60.0, labels=LABELS, devices=made.gpus)
    for node in made.nodes:
        made.put(RATE, rates.get(node, 50e9), nodes=[node], devices=made.nics)
        text = usual + (board if node in rates else "MT_0000000838")
        made.put(INFO, 1.0, labels=text, nodes=[node], devices=made.nics)
    return made


def _of(told: Signal, cost: JobCost) -> Array:
    """Return the values of a job's hosts, [windows, hosts]."""
    mine = np.isin(told.node, cost.node) & np.isin(told.job, ("", cost.job))
    return np.asarray(told.values[:, mine])


def _spent_s(tables: Frames, cost: JobCost, chosen: dict[str, Any], when: Array) -> float:
    """Return the seconds of a step in one kind of call without waiting: of the rank whose calls are shortest."""
    steps = _ports.known(tables, "skewscope_steps_total", "increase")
    shortest = steps.aligned(_ports.known(tables, SHORTEST, "low", **chosen))
    count = _ports.ratio(steps.aligned(_ports.known(tables, CALLS, "increase", **chosen)), steps.values)
    spent = (shortest * count)[np.ix_(when, steps.job == cost.job)]
    over_time = middle(spent)
    return float(np.nanmin(over_time)) if np.isfinite(over_time).any() else 0.0


def _window_s(t_ns: Array) -> float:
    return float(np.diff(t_ns).min()) / 1e9 if len(t_ns) > 1 else 0.0
