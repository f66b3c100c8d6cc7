"""Results leave a GPU slowly: each step waits for copies to the host.

Why it hurts
    A synchronous copy stops the launching thread until the bytes are out and all kernels before it are done. Logged
    tensors, statistics of weights, offloaded states or logits cost a rank milliseconds a step, and in serving they
    delay every token.

How it is seen
    The bytes that a GPU sends over PCIe would fill a tenth of its link's time at full speed, twice what other GPUs of
    the job send: copies in pieces take longer than that. Bytes that go to the adapter directly count too, but alike on
    all ranks. There is no phase for these copies; the rank is late and busy in none of the usual ones. In serving the
    latency between tokens of that host tells the price.

Look-alikes
    `pcie-h2d-starvation`: what fills the link goes out as well, but the rank waits for copies to it, in a phase of its
    own; told there. Checkpoints: all ranks send, for a short time. `pcie-link-degraded`: the same bytes fill a lesser
    link; told there. `srv-egress-backlog`: bytes left the GPU in time and wait in the host. `host-launch-bound`: it
    sends no more.

What to do
    Copy asynchronously to pinned memory on a stream of its own, log every hundredth step, reduce on the GPU before
    copying, send token numbers instead of logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from ._live import roles
from ._live_groups import BEFORE, Array, Group, groups, judged
from ._live_pci import SENT, below_max, capacity
from ._live_shares import PHASES, share_of_step
from ._live_worlds import Fleet
from ._prices import severity

TOKENS = "skewscope_serving_inter_token_latency_seconds"


@dataclass(frozen=True)
class PcieD2hBottleneck:
    """Thresholds: the share of the link's time, against the peers', and what it costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    sent_ratio: float = 0.10  # of the link's time at full speed {conditions A2: D2H share of 10 %, D}
    peers_ratio: float = 2.0  # times what the peers send {D}
    cost_ratio: float = 0.02  # of the step or of a token's time: below it is context {D}
    h2d_ratio: float = 0.05  # of the step, beyond the peers': the rank waits for copies the other way {D}
    held_count: int = 3  # windows of 30 s {conditions A12}; never less, as a checkpoint may take two
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per GPU that sends too much, per host of such GPUs, or for the job."""
        sent = signal(tables, SENT, take="increase").rate()
        if not len(sent):
            return
        told = replace(sent, values=sent.values / capacity(sent, tables))
        if not (told.values >= self.sent_ratio).any():
            return
        usual = self._usual(tables, told)
        mask = (told.values - usual >= self.sent_ratio) & (told.values >= self.peers_ratio * usual)
        if mask.any():
            mask &= ~(below_max(told, tables) | self._waits_for_input(tables, told))
        for group in groups(told, lasting(mask, self.held_count, self.of_count), tables):
            yield self._finding(tables, told, group, sent, usual)

    def _waits_for_input(self, tables: Frames, told: Signal) -> Array:
        """Return [windows, GPUs]: where its rank's copies from the host take longer than its peers'."""
        share = share_of_step(tables, PHASES, phase="h2d")
        beyond = replace(share, values=share.values - peer_median(share.values, roles(share, tables)))
        return np.asarray(told.aligned(beyond) >= self.h2d_ratio)

    def _usual(self, tables: Frames, told: Signal) -> Array:
        """Return [windows, GPUs]: the lesser of what peers send and what it sent before: all may begin at once."""
        peers = peer_median(told.values, roles(told, tables))
        return np.asarray(np.fmin(peers, own_median(told.values, before=BEFORE)[None]))

    def _finding(self, tables: Frames, told: Signal, group: Group, sent: Signal, usual: Array) -> Finding:
        share, baseline, rate = group.mean(told.values), group.mean(usual), group.mean(sent.values)
        found = judged(
            "pcie-d2h-bottleneck", tables, told, group, cost_ratio=self.cost_ratio,
            evidence=(
                Evidence("d2h_link_time", share, baseline, baseline + self.sent_ratio, "ratio"),
                Evidence("d2h_bytes", rate, None, None, "bytes_per_s"),
            ),
            summary=f"{group.name(told)} sends {rate / 1e9:.1f} GB/s to the host, {share:.0%} of its link's time "
            f"where {baseline:.0%} is usual",
            advice="copy to pinned memory without waiting, less often, and what is reduced on the GPU", confidence=0.8,
        )  # fmt: skip
        return found if found.role == "culprit" else self._of_tokens(tables, told, group, found)

    def _of_tokens(self, tables: Frames, told: Signal, group: Group, found: Finding) -> Finding:
        """Return the finding priced by what a token takes longer on that host than before."""
        seconds = signal(tables, f"{TOKENS}_sum", take="increase")
        count = seconds.aligned(signal(tables, f"{TOKENS}_count", take="increase"), ("node",))
        here = np.isin(seconds.node, told.node[list(group.columns)])
        if not here.any():
            return found
        token_s = seconds.values[:, here].sum(axis=1) / count[:, here].sum(axis=1)
        before = token_s[: int(np.flatnonzero(group.mask)[0])]
        if np.isfinite(before).sum() < BEFORE:
            return found
        now_s = float(np.nanmean(token_s[group.mask]))
        lost_s = now_s - float(np.nanmedian(before))
        if not lost_s >= self.cost_ratio * now_s:
            return found
        return replace(
            found, role="culprit", lost_s=lost_s, lost_share=lost_s / now_s, severity=severity(lost_s / now_s),
            summary=f"{found.summary}; each token takes {lost_s * 1e3:.1f} ms longer",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a GPU sends a large part of what its link carries, and more than others of the host."""
        usable = '50e9 * 2 ^ (skewscope_gpu_pcie_link_generation{kind="current"} - 5)'
        rate = f"rate({SENT}[2m])"
        return Rule(
            "SkewscopePcieD2hBottleneck",
            f"{rate} >= on (instance, gpu) {self.sent_ratio:g} * {usable} "
            f"and on (instance, gpu) {rate} >= on (instance) group_left () "
            f"{self.peers_ratio:g} * quantile by (instance) (0.5, {rate})",
            30 * self.held_count, "warning", "GPU {{ $labels.gpu }} of {{ $labels.instance }} copies much to the host",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} sends {{ $value | humanize }}B/s over PCIe",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: bytes sent, checkpoints, the link, and the price of tokens."""
        width, late = "skewscope_gpu_pcie_link_width_lanes", "skewscope_collective_local_last_arrivals_total"
        return (
            Check("sent", "Does the GPU send much over PCIe?", SENT, "rate", ">= 5e9", f"rate({SENT}[5m])",
                  "see `checkpoint` and `link`", "it sends little: it is not this"),
            Check("checkpoint", "Is it a checkpoint?", PHASES, "rate", "> 0.05",
                  f'rate({PHASES}{{phase="checkpoint"}}[5m])', "it ends with the checkpoint",
                  "something in each step copies", {"phase": "checkpoint"}, ("sent",)),
            Check("link", "Is the link whole?", width, "low", ">= 16", f'{width}{{kind="current"}}',
                  "it is the amount, not the link", "see `pcie-link-degraded`", {"kind": "current"}, ("sent",)),
            Check("late", "Does the rank there come last often?", late, "rate", "> 0.1", f"rate({late}[5m])",
                  "its copies hold up all: make them asynchronous", "its copies are hidden", after=("sent",)),
            Check("tokens", "How long does a token take in serving?", f"{TOKENS}_sum", "rate", "> 0.5",
                  f"rate({TOKENS}_sum[5m]) / rate({TOKENS}_count[5m])", "compare it with other replicas",
                  "no tokens wait"),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: little, just below, all send to adapters, a checkpoint, late alone, input copies."""
        yield World("quiet", _sends(1e9).tables())
        yield World("near-miss", _sends(5.8e9).late(1, 0.1).tables())
        direct = Fleet()
        yield World("all-to-adapters", direct.put(SENT, 12e9 * 30, devices=direct.gpus).tables())
        yield World("checkpoint", _sends(20e9, until=12).tables())
        yield World("look-alike-late", _sends(1e9).late(1, 0.1).tables())
        yield World("copies", _sends(10e9).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        other_way = _sends(10e9).put(PHASES, 0.3, labels="phase=h2d", devices=direct.gpus)
        other_way.put(PHASES, 6.0, labels="phase=h2d", nodes=["n0"], devices=["gpu1"], since=10)
        yield World("look-alike-input", other_way.late(1, 0.1).tables())
        serving = _sends(10e9).put(f"{TOKENS}_count", 1000.0).put(f"{TOKENS}_sum", 20.0)
        yield World("tokens", serving.put(f"{TOKENS}_sum", 26.0, since=10).tables(job=False), frozenset({"n0/gpu1"}))


def _sends(bytes_per_s: float, until: int | None = None) -> Fleet:
    """Return a fleet of which one GPU sends so much; the others 1 GB/s."""
    fleet = Fleet()
    fleet.put(SENT, 1e9 * 30, devices=fleet.gpus)
    return fleet.put(SENT, bytes_per_s * 30, nodes=["n0"], devices=["gpu1"], since=10, until=until)
