"""Copies of one rank go through pageable memory, as it could not get pinned memory.

Why it hurts
    From pinned memory the GPU fetches by itself at the speed of the link. From pageable memory the driver first copies
    each piece into a small pinned buffer, on the CPU and in turns with the transfer: half the speed or less, and the
    copy cannot overlap with computing.

How it is seen
    A rank has pinned or locked far less memory than the others of its job, and its copies to the GPU take much more of
    its step for as many bytes, over a link that is whole. The kind of each copy stands only in traces; the memory that
    the CUDA driver pins itself is not counted by every kernel, so without a difference there nothing is said.

Look-alikes
    `pcie-h2d-starvation`: long copies with as much pinned memory as the others. `pcie-link-degraded`: the link has
    fewer lanes or a lower generation. `data-loader-stall`: the batch comes late, its copy is short.

What to do
    Raise the memlock limit (`ulimit -l`, `LimitMEMLOCK`, the container's), allocate the pool at start before memory is
    in pieces, and use a loader that pins (`pin_memory=True`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from ._live import roles
from ._live_groups import groups, judged
from ._live_pci import RECEIVED, below_max
from ._live_shares import LEAST_PINNED_BYTES, LOCKED, PHASES, PINNED, SHORT_RATIO, pinned, share_of_step
from ._live_worlds import Fleet


@dataclass(frozen=True)
class HostPinnedMemoryShortage:
    """Thresholds: how much less is pinned, how much longer copies take, and what that costs."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    pinned_ratio: float = SHORT_RATIO
    least_pinned_bytes: float = LEAST_PINNED_BYTES
    excess_ratio: float = 0.05  # of the step, beyond the peers' copies {conditions A1: 5 % of the bytes pageable, D}
    more_bytes_ratio: float = 1.2  # a rank that copies more than this many times its peers has more to copy {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank, or per host, whose copies are slow for want of pinned memory."""
        told = pinned(tables)
        peers = peer_median(told.values, roles(told, tables))
        short = (told.values <= self.pinned_ratio * peers) & (peers >= self.least_pinned_bytes)
        if not short.any():
            return
        copies = share_of_step(tables, PHASES, phase="h2d")
        usual = peer_median(copies.values, roles(copies, tables))
        excess = told.aligned(replace(copies, values=copies.values - usual))
        mask = short & (excess >= self.excess_ratio) & ~self._other_reasons(tables, told)
        strong = excess >= STRONG_RATIO * self.excess_ratio
        for group in groups(told, lasting(mask, self.held_count, self.of_count, strong), tables):
            own, others, longer = group.mean(told.values), group.mean(peers), group.mean(excess)
            yield judged(
                "host-pinned-memory-shortage", tables, told, group, cost_ratio=self.cost_ratio,
                evidence=(
                    Evidence("pinned_memory", own, others, self.pinned_ratio * others, "bytes"),
                    Evidence("h2d_excess", longer, 0.0, self.excess_ratio, "ratio"),
                ),
                summary=f"{group.name(told)} has pinned {own / 2**20:.0f} MiB where its peers pin "
                f"{others / 2**20:.0f} MiB, and its copies to the GPU take {longer:.0%} of the step longer",
                advice="raise the memlock limit of the job and pin the loader's buffers at start", confidence=0.8,
            )  # fmt: skip

    def _other_reasons(self, tables: Frames, told: Signal) -> np.ndarray:
        """Return [windows, series]: where the link is below what it can be, or there is more to copy."""
        received = signal(tables, RECEIVED, take="increase")
        usual = peer_median(received.values, roles(received, tables))
        more = received.values > self.more_bytes_ratio * usual
        larger = told.aligned(replace(received, values=more.astype(float))) > 0
        return np.asarray(below_max(told, tables) | larger)

    def alert(self) -> Rule:
        """Return the alert: little pinned memory against the job's median, and long copies."""
        share = f'rate({PHASES}{{phase="h2d"}}[5m]) / on (job_id, rank) rate(skewscope_step_seconds_total[5m])'
        return Rule(
            "SkewscopeHostPinnedMemoryShortage",
            f"({PINNED} + {LOCKED}) < on (job_id) group_left () {self.pinned_ratio:g} * quantile by (job_id) (0.5, "
            f"{PINNED} + {LOCKED}) and on (job_id, rank) {share} >= {self.excess_ratio:g}",
            30 * self.held_count, "warning", "rank {{ $labels.rank }} lacks pinned memory",
            "rank {{ $labels.rank }} on {{ $labels.instance }} has pinned {{ $value | humanize1024 }}B, less than the "
            "others of its job, and its copies take long",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: memory pinned, time of copies, the link, and memory of the host."""
        width, memory = "skewscope_gpu_pcie_link_width_lanes", "skewscope_host_memory_bytes"
        return (
            Check("pinned", "Has the rank pinned a pool of buffers?", PINNED, "mean", f"< {self.least_pinned_bytes:g}",
                  PINNED, "next to nothing is pinned: see `copies`", "it has its buffers"),
            Check("copies", "Do copies to the GPU take much of its time?", PHASES, "rate", f">= {self.excess_ratio:g}",
                  f'rate({PHASES}{{phase="h2d"}}[5m])', "long copies: see `link`", "copies are short: it costs nothing",
                  {"phase": "h2d"}, ("pinned",)),
            Check("link", "Is the link whole?", width, "low", ">= 16", f'{width}{{kind="current"}}',
                  "pageable copies are the likely cause: check `ulimit -l` of the process",
                  "see `pcie-link-degraded`", {"kind": "current"}, ("copies",)),
            Check("memory", "Does the host run out of memory?", memory, "low", "< 1.7e10",
                  f'{memory}{{kind="available"}}', "pinning fails as memory is short",
                  "there is memory: it is a limit of the job", {"kind": "available"}, ("copies",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal memory, slow copies alone, a narrow link, a little short, and short of pinned memory."""
        yield World("quiet", _fleet(2**30, 0.02).tables())
        yield World("near-miss", _fleet(0.55 * 2**30, 0.14).late(1, 0.06).tables())
        yield World("look-alike-copies", _fleet(2**30, 0.14).late(1, 0.06).tables())
        yield World("look-alike-memory", _fleet(2**24, 0.05).tables())
        narrow = _fleet(2**24, 0.14).put("skewscope_gpu_pcie_link_width_lanes", 4.0, labels="kind=current",
                                         nodes=["n0"], devices=["gpu1"])  # fmt: skip
        yield World("look-alike-link", narrow.late(1, 0.06).tables())
        yield World("short", _fleet(2**24, 0.14).late(1, 0.06).tables(), frozenset({"n0/gpu1"}))


def _fleet(pinned_bytes: float, copy_ratio: float) -> Fleet:
    """Return a fleet in which one rank pins so much and copies for so long; its peers pin 1 GiB and copy for 2 %."""
    fleet = Fleet()
    for metric, usual, own in ((PINNED, 2.0**30, pinned_bytes), (PHASES, 0.02 * 30, copy_ratio * 30)):
        labels = "phase=h2d" if metric == PHASES else ""
        fleet.put(metric, usual, labels=labels, devices=fleet.gpus)
        fleet.put(metric, own, labels=labels, nodes=["n0"], devices=["gpu1"], since=10)
    return fleet
