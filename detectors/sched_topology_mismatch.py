"""Ranks lie badly on their hosts: groups that would fit one host lie across two, so that what is near goes far.

Why it hurts
    Tensor-parallel ranks exchange activations in every layer, which only links inside of a host carry without delay.
    Between hosts the same bytes take several times as long, in every step; and all other groups wait for the slowest.

How it is seen
    The coordinates of the ranks say who belongs together (`tp` within `cp` within `ep`) and what they need: as many
    GPUs as a host has, or fewer. Such a group that lies on two hosts or more is misplaced. It is the culprit where its
    calls take longer than those of the groups that lie well, by a share of the step that counts, from the job's first
    steps on. Where all groups lie badly, they are compared with what links inside of a host would need for the bytes.

Look-alikes
    A link that becomes slow (`nvlink-error-rate`, `rdma-retransmit`, `fabric-congestion`): the placement was the same
    before, when the calls were fast; then it is told as context only. `tp-straggler`: a member comes late, so its mates
    wait; those wait in groups that lie well, too. Groups larger than a host must lie across several. How
    data-parallel ranks follow each other says nothing: communication libraries order their rings by themselves.

What to do
    Where as many groups fit the same hosts, number the ranks anew (host by host: `--distribution=block`, a rank file).
    Else ask for whole hosts (`--exclusive`, gang scheduling by host) and place the job anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.signals.impact import costs
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from ._placement_worlds import placed
from ._prices import severity
from ._xids import gpus

Array = np.ndarray[Any, Any]
SECONDS, BYTES, STEPS, SHORTEST = (
    "skewscope_collective_seconds_total", "skewscope_collective_bytes_total", "skewscope_steps_total",
    "skewscope_collective_min_seconds",
)  # fmt: skip
NESTED = ("tp", "cp", "ep")  # from what lies nearest on
BEGAN_COUNT = 6  # windows of a job's first steps
HALF = 0.5


@dataclass(frozen=True)
class Placed:
    """One kind of groups of a job: `across` are the ranks of those on several hosts, `mates` those of the others."""

    kind: str
    size: int
    across: tuple[int, ...]
    mates: tuple[int, ...]
    best: int  # groups that the same hosts could hold whole

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return (len(self.across) + len(self.mates)) // self.size

    @property
    def bad(self) -> int:
        """How many of them are misplaced."""
        return len(self.across) // self.size


@dataclass(frozen=True)
class SchedTopologyMismatch:
    """Thresholds: the share of the step that misplaced groups cost, for how long, and what near links carry."""

    category: ClassVar[str] = "scheduler"
    needs: ClassVar[tuple[str, ...]] = ("windows", "ranks")

    excess_ratio: float = 0.05  # of the step, beyond groups that lie well {D; S3 begins at 5 %}
    inside_bytes_per_s: float = 2e11  # per GPU {D: half of what an H100's NVLinks carry one way}
    times_ratio: float = 2.0  # of the best groups' shortest call, for the alert {D}
    held_count: int = 2  # windows: a placement does not come and go
    of_count: int = 3

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job with misplaced groups."""
        ranks = tables["ranks"]
        known = ranks[((ranks["tp"] >= 0) & (ranks["node"] != "")).to_numpy()]
        seen = max(gpus(tables).values(), default=0)
        for job, rows in known.groupby("job", observed=True, sort=True):
            placed = [one for one in _kinds(rows, max(seen, int(rows["gpu"].max()) + 1)) if one.across]
            told = [self._judged(tables, str(job), one) for one in placed]
            yield from sorted(told, key=lambda one: -one.lost_s)[:1]

    def _judged(self, tables: Frames, job: str, placed: Placed) -> Finding:
        seconds = _per_step(tables, SECONDS, job, placed.kind)
        cost = costs(tables).jobs.get(job)
        if cost is None or not len(seconds):
            return self._finding(job, placed, Window(), 0.0, 0.0, 0.0, culprit=False)
        took_s, usual_s = _middle(seconds, placed.across), _middle(seconds, placed.mates)
        if not placed.mates:
            moved = _middle(_per_step(tables, BYTES, job, placed.kind), placed.across)
            usual_s = 2.0 * (placed.size - 1) / placed.size * moved / self.inside_bytes_per_s
        lost_s = took_s - usual_s
        share = np.nan_to_num(lost_s / cost.step_s)
        mask = lasting(share[:, None] >= self.excess_ratio, self.held_count, self.of_count)[:, 0]
        if not mask.any():
            return self._finding(job, placed, Window(), 0.0, 0.0, 0.0, culprit=False)
        began = mask[np.isfinite(cost.step_s)][:BEGAN_COUNT]
        ratio = float(np.median(took_s[mask]) / max(np.median(usual_s[mask]), 1e-9))
        return self._finding(
            job, placed, seconds.window(mask), float(lost_s[mask].mean()), float(share[mask].mean()), ratio,
            culprit=bool(began.mean() >= HALF),
        )  # fmt: skip

    def _finding(
        self, job: str, placed: Placed, window: Window, lost_s: float, share: float, ratio: float, *, culprit: bool
    ) -> Finding:
        evidence = [Evidence("groups_across_hosts", float(placed.bad), 0.0, 1.0, "count")]
        price = ""
        if share > 0:
            evidence += [Evidence("excess_of_step", share, 0.0, self.excess_ratio, "ratio"),
                         Evidence("times_inside", ratio, 1.0, None, "ratio")]  # fmt: skip
            price = f", and take {ratio:.1f} times as long: {lost_s * 1e3:.0f} ms ({share:.0%}) of each step"
        again = placed.best >= placed.groups
        return Finding(
            "sched-topology-mismatch", subjects.job(job), "culprit" if culprit else "context",
            severity(share) if culprit else "S4", 0.95 if culprit else 0.6, window, lost_s if culprit else 0.0,
            share if culprit else 0.0, tuple(evidence),
            f"{placed.bad} of {placed.groups} {placed.kind} groups of {placed.size} lie across hosts{price}",
            "number the ranks anew, host by host: all groups fit these hosts" if again else
            f"place the job on whole hosts: these hold {placed.best} of {placed.groups} groups whole",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a rank's shortest near calls take several times those of the best quarter of its job."""
        usual = f'{self.times_ratio:g} * quantile by (job_id, op, group) (0.25, {SHORTEST}{{group="tp"}})'
        return Rule(
            "SkewscopeSchedTopologyMismatch",
            f'{SHORTEST}{{group="tp"}} >= on (job_id, op, group) group_left () ({usual})',
            120, "warning", "the tensor-parallel group of rank {{ $labels.rank }} is slow: does it lie across hosts?",
            "the shortest {{ $labels.op }} of rank {{ $labels.rank }} on {{ $labels.instance }} takes "
            "{{ $value | humanizeDuration }}, far longer than in other groups of {{ $labels.job_id }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the bandwidth of near groups, their share of the step, links, and how it began."""
        rate = "skewscope_collective_bus_bandwidth_bytes_per_second"
        share = f'rate({SECONDS}{{group="tp"}}[5m]) / on (job_id, rank) rate(skewscope_step_seconds_total[5m])'
        errors = "skewscope_gpu_nvlink_errors_total"
        return (
            Check("bandwidth", "Are near groups as fast as NVLink?", rate, "low", f">= {self.inside_bytes_per_s:g}",
                  f'{rate}{{group="tp"}}', "see `share`: it may be waiting", "see `links`", {"group": "tp"}),
            Check("share", "Do they take much of the step?", SECONDS, "rate", f">= {self.excess_ratio:g}", share,
                  "see `links`", "it costs little", {"group": "tp"}, ("bandwidth",)),
            Check("links", "Are the links inside of hosts whole?", errors, "rate", "< 1", f"rate({errors}[5m])",
                  "look where the ranks of a group are: `skewscope analyze` names those across hosts",
                  "see `nvlink-error-rate`", after=("share",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: whole groups, begun at another host, too large for one, cheap, slow later, across, all."""
        yield World("quiet", placed(0, 0.05))
        yield World("near-miss", placed(4, 0.3))
        yield World("too-large-for-a-host", placed(1, 0.3, tp=8))
        yield World("cheap", placed(1, 0.02), frozenset({"llm"}))
        yield World("look-alike-slow-later", placed(1, 0.1, since=12), frozenset({"llm"}))
        yield World("across", placed(1, 0.1), frozenset({"llm"}))
        yield World("all-across", placed(1, 0.1, tp=4), frozenset({"llm"}))


def _kinds(rows: pd.DataFrame, per_host: int) -> Iterator[Placed]:
    """Yield each kind of groups that would fit one host, where the coordinates say who belongs to which."""
    need = 1
    dp = rows["dp"].to_numpy()
    sizes = {kind: int(rows[kind].max()) + 1 for kind in NESTED}
    for kind in NESTED:
        need *= max(sizes[kind], 1)
        if sizes[kind] < 2 or need > per_host:
            continue
        other = {"pp": rows["pp"].to_numpy(), "tp": rows["tp"].to_numpy(), "cp": rows["cp"].to_numpy(), "dp": dp}
        other["dp"] = dp // sizes[kind] if kind == "ep" else dp
        keys = pd.DataFrame({name: values for name, values in other.items() if name != kind})
        code = keys.groupby(list(keys)).ngroup().to_numpy()
        if (np.bincount(code) != sizes[kind]).any():
            continue  # some coordinate is not told
        hosts = pd.Series(rows["node"].astype(str).to_numpy()).groupby(code).transform("nunique").to_numpy()
        rank = rows["rank"].to_numpy()
        best = int((rows["node"].value_counts() // need).sum()) * need // sizes[kind]
        yield Placed(kind, sizes[kind], tuple(rank[hosts > 1].tolist()), tuple(rank[hosts == 1].tolist()), best)


def _per_step(tables: Frames, metric: str, job: str, group: str) -> Signal:
    """Return what each rank of a job has of a counter of one kind of groups, per step."""
    told = signal(tables, metric, take="increase", group=group)
    steps = told.aligned(signal(tables, STEPS, take="increase"), by=("job", "rank"))
    mine = np.flatnonzero(told.job == job)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(steps > 0, told.values / steps, np.nan)[:, mine]
    who = {name: getattr(told, name)[mine] for name in ("node", "device", "job", "rank")}
    return replace(told, values=values, **who)


def _middle(told: Signal, ranks: tuple[int, ...]) -> Array:
    """Return [windows]: the median of some ranks, NaN where none tells."""
    values = told.values[:, np.isin(told.rank, ranks)]
    found = np.full(len(told.values), np.nan)
    known = np.isfinite(values).any(axis=1)
    found[known] = np.nanmedian(values[known], axis=1)
    return found
