"""A GPU waits for its input to be copied from the host, as there is much of it and nothing hides the copy.

Why it hurts
    The forward pass cannot begin before the batch is on the GPU. What the copy takes longer than on other ranks, all
    others wait; where all ranks wait for their copies, every step is longer by them.

How it is seen
    The phase `h2d` takes a share of the rank's step that is well beyond that of the other ranks of its job, in most
    windows; or the median rank spends a tenth of its step in it. The link is whole and the rank has pinned memory.

Look-alikes
    `pcie-link-degraded`: the copy is long as the link is slow; told there. `host-pinned-memory-shortage`: as it is
    pageable. `host-numa-misbinding`: as it crosses the sockets. `data-loader-stall`: the copy is short and begins
    late. `pcie-saturation`: others use the same link.

What to do
    Prefetch to the GPU on a stream of its own (`non_blocking=True`, pinned buffers), copy smaller types and convert on
    the GPU, decode on the GPU, move ranks that share a root port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from ._live import roles
from ._live_groups import BEFORE, Array, Group, groups, judged
from ._live_pci import RECEIVED, below_max, capacity
from ._live_shares import LEAST_PINNED_BYTES, PHASES, PINNED, SHORT_RATIO, pinned, share_of_step
from ._live_worlds import Fleet

LOCAL = "skewscope_rank_numa_local"


@dataclass(frozen=True)
class PcieH2dStarvation:
    """Thresholds: the share of the step in copies, of one rank beyond its peers and of all, and what that costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    excess_ratio: float = 0.05  # of the step, beyond the peers' {D; S3 begins at 5 %}
    everybody_ratio: float = 0.10  # of the step, in the median rank {conditions A2, TraceML: 10 % warns}
    local_ratio: float = 0.05  # share of near CPUs: below, it is the binding {conditions A1}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank that waits for its copies, per host of such ranks, or for the job."""
        told = share_of_step(tables, PHASES, phase="h2d")
        if not (told.values >= self.excess_ratio).any():
            return
        jobs = roles(told, tables)
        usual = peer_median(told.values, jobs)
        beyond = told.values - usual
        mask, strong = beyond >= self.excess_ratio, beyond >= STRONG_RATIO * self.excess_ratio
        if mask.any():
            mask &= ~self._other_reasons(tables, told)
        for group in groups(told, lasting(mask, self.held_count, self.of_count, strong), tables):
            yield self._finding(tables, told, group, group.mean(usual), self.excess_ratio)
        for job in sorted({str(job) for job in jobs} - {""}):
            yield from self._everybody(tables, told, job, np.flatnonzero(jobs == job))

    def _everybody(self, tables: Frames, told: Signal, job: str, columns: Array) -> Iterator[Finding]:
        """Yield the finding about a job whose median rank copies for long; of a copy that hides nothing all is lost."""
        shares = told.values[:, columns]
        known = np.isfinite(shares).any(axis=1)
        median = np.full(len(shares), np.nan)
        median[known] = np.nanmedian(shares[known], axis=1)
        much, more = (median[:, None] >= times * self.everybody_ratio for times in (1.0, STRONG_RATIO))
        mask = lasting(much, self.held_count, self.of_count, strong=more)
        if not mask.any():
            return
        group = Group(tuple(columns.tolist()), mask[:, 0], subjects.job(job), wide=True)
        usual = float(np.nanmean(own_median(shares, before=BEFORE))) if not mask[:BEFORE].any() else 0.0
        found = self._finding(tables, told, group, usual, self.everybody_ratio)
        copied = group.mean(told.values) - usual
        step_s = found.lost_s / found.lost_share if found.lost_share > 0 else 0.0
        yield replace(found, lost_share=min(found.lost_share, copied), lost_s=min(found.lost_s, copied * step_s))

    def _other_reasons(self, tables: Frames, told: Signal) -> Array:
        """Return [windows, ranks]: where the link, the binding or pageable memory says why copies are long."""
        narrow = below_max(told, tables)
        far = told.aligned(signal(tables, LOCAL)) < self.local_ratio
        memory = pinned(tables)
        peers = peer_median(memory.values, roles(memory, tables))
        short = (memory.values <= SHORT_RATIO * peers) & (peers >= LEAST_PINNED_BYTES)
        return np.asarray(narrow | far | (told.aligned(replace(memory, values=short.astype(float))) > 0))

    def _finding(self, tables: Frames, told: Signal, group: Group, usual: float, least: float) -> Finding:
        share = group.mean(told.values)
        load = group.mean(_load(tables, told))
        evidence = [Evidence("h2d_share_of_step", share, usual, least, "ratio")]
        evidence += [Evidence("link_load", load, None, None, "ratio")] if np.isfinite(load) else []
        return judged(
            "pcie-h2d-starvation", tables, told, group, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"copies to the GPU take {share:.0%} of the step at {group.name(told)}, where {usual:.0%} is usual",
            advice="prefetch to the GPU from pinned buffers on a stream of its own, or copy fewer bytes",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: copies take more of a rank's step than of the median rank's, by the threshold."""
        share = f'rate({PHASES}{{phase="h2d"}}[2m]) / ignoring (phase) rate(skewscope_step_seconds_total[2m])'
        return Rule(
            "SkewscopePcieH2dStarvation",
            f"{share} - on (job_id) group_left () quantile by (job_id) (0.5, {share}) >= {self.excess_ratio:g}",
            30 * self.held_count, "warning", "rank {{ $labels.rank }} waits for copies to its GPU",
            "copies take {{ $value | humanizePercentage }} of the step of rank {{ $labels.rank }} on "
            "{{ $labels.instance }} more than of the other ranks",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the copies, the link, memory, the loader, and how much is copied."""
        width = "skewscope_gpu_pcie_link_width_lanes"
        return (
            Check("copies", "Do copies to the GPU take much of its time?", PHASES, "rate", f">= {self.excess_ratio:g}",
                  f'rate({PHASES}{{phase="h2d"}}[5m])', "see `link`", "copies are short", {"phase": "h2d"}),
            Check("link", "Is the link whole?", width, "low", ">= 16", f'{width}{{kind="current"}}', "see `pinned`",
                  "see `pcie-link-degraded`", {"kind": "current"}, ("copies",)),
            Check("pinned", "Has the rank pinned buffers?", PINNED, "mean", f">= {LEAST_PINNED_BYTES:g}", PINNED,
                  "see `bytes`", "see `host-pinned-memory-shortage`", after=("link",)),
            Check("bytes", "Does it receive much?", RECEIVED, "rate", ">= 5e9", f"rate({RECEIVED}[5m])",
                  "there is much to copy: smaller types, decoding on the GPU",
                  "few bytes for long: many small or synchronous copies", after=("pinned",)),
            Check("loader", "Does it wait for the batch before?", PHASES, "rate", ">= 0.05",
                  f'rate({PHASES}{{phase="data"}}[5m])', "see `data-loader-stall`", "the batch is there in time",
                  {"phase": "data"}),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: short copies, just below, a narrow link, a wrong socket, a late loader, long copies, all."""
        yield World("quiet", _copies(0.01).tables())
        yield World("near-miss", _copies(0.058).late(1, 0.03).tables())
        narrow = _copies(0.2).put("skewscope_gpu_pcie_link_width_lanes", 4.0, labels="kind=current", nodes=["n0"],
                                  devices=["gpu1"])  # fmt: skip
        yield World("look-alike-link", narrow.late(1, 0.1).tables())
        far = _copies(0.2).put(LOCAL, 0.0, nodes=["n0"], devices=["gpu1"])
        yield World("look-alike-socket", far.late(1, 0.1).tables())
        loader = _copies(0.01).put(PHASES, 6.0, labels="phase=data", nodes=["n0"], devices=["gpu1"], since=10)
        yield World("look-alike-loader", loader.late(1, 0.1).tables())
        yield World("starving", _copies(0.2).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        short = _copies(0.2).put(PINNED, 2.0**30, devices=[f"gpu{n}" for n in range(4)])
        short.put(PINNED, 2.0**20, nodes=["n0"], devices=["gpu1"])
        yield World("look-alike-memory", short.late(1, 0.1).tables())
        every = _copies(0.16, others=0.16).slow_transfer(0.08)
        yield World("everybody", every.tables(), frozenset({"llm"}))


def _load(tables: Frames, told: Signal) -> Array:
    """Return [windows, ranks]: bytes received over what the link carries at most."""
    received = signal(tables, RECEIVED, take="increase").rate()
    return np.asarray(told.aligned(received) / capacity(told, tables))


def _copies(share: float, others: float = 0.01) -> Fleet:
    """Return a fleet of which one rank copies for such a share of its time, later, and the others so."""
    fleet = Fleet()
    fleet.put(PHASES, 0.3, labels="phase=h2d", devices=fleet.gpus)
    fleet.put(PHASES, others * 30, labels="phase=h2d", devices=fleet.gpus, since=10)
    return fleet.put(PHASES, share * 30, labels="phase=h2d", nodes=["n0"], devices=["gpu1"], since=10)
