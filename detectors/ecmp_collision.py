"""Large flows share one link of the fabric: transfers of a group are slow, and no counter says why.

Why it hurts
    Switches choose a path for a flow by a hash. Two flows of a ring on one link get half of it each, for as long as
    the job runs; the ring runs at their pace. C4 saw 30 % on 512 GPUs.

How it is seen
    The shortest collectives of some ranks, on one GPU slot of several hosts, take 1.4 times as long as those of the
    other ranks in the same kind of group, steadily, with as many bytes. No rank is late, no PCIe link is narrow, and
    no other room finds anything at the ports of these hosts. If all ranks of a job are slower than they were, and
    nothing else is seen, it is told as context: there is nobody to compare with.

Look-alikes
    Errors, pauses, notifications, credits or uneven rails have their own rooms, and a late rank makes others wait
    while it waits itself the least. Pipeline stages of other sizes have other bytes.

What to do
    Spread the flows: more queue pairs, adaptive routing, other source ports; or start the job again, which hashes anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal
from skewscope.stats.robust import mad

from . import _live, _ports
from ._group_calls import LINKS, MOVED, SHORTEST, Calls, calls, late_share, middle, narrow, step_seconds
from ._live_worlds import Fleet
from ._port_worlds import fleet, port
from ._ports import RETRANSMITTED, Array
from ._prices import severity
from .fabric_congestion import FabricCongestion
from .ib_credit_starvation import IbCreditStarvation
from .nic_link_down import NicLinkDown
from .nic_phy_degraded import NicPhyDegraded
from .pfc_storm import PfcStorm
from .rail_imbalance import RailImbalance
from .rdma_retransmit import RdmaRetransmit

LABELS = "op=all_reduce,group=dp"  # of the worlds
OTHERS = (NicLinkDown, NicPhyDegraded, FabricCongestion, PfcStorm, IbCreditStarvation, RailImbalance, RdmaRetransmit)


@dataclass(frozen=True)
class EcmpCollision:
    """Thresholds: how slow, how steadily, and what speaks against it."""

    category: ClassVar[str] = "fabric"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    bandwidth_ratio: float = 0.7  # C4, D: of the best
    least_s: float = 0.0005  # D: shorter differences are noise of small calls
    steady_ratio: float = 0.15  # D: spread over time; hashes do not change, load does
    slow_share_ratio: float = 0.5  # D: at most so many ranks, of the job and of a host
    late_ratio: float = 0.03  # D: of the step by which a late rank waits less than the median
    bytes_ratio: float = 1.1  # D: more bytes take longer, rightly
    windows_count: int = 8  # D: constant for the whole job
    of_windows_count: int = 10
    strong_windows_count: int = 4  # D: others, who may explain it, need two or three
    of_strong_windows_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job with a slow group and no other cause."""
        dearest: dict[str, tuple[float, Calls, Array]] = {}
        for one in calls(tables, self.bytes_ratio):
            told, usual = one.told, one.usual[:, None]
            slow = (told.values * self.bandwidth_ratio >= usual) & (told.values - usual >= self.least_s)
            much = slow & (told.values >= (1 + STRONG_RATIO * (1 / self.bandwidth_ratio - 1)) * usual)
            slow = lasting(slow, self.windows_count, self.of_windows_count)
            slow |= lasting(much, self.strong_windows_count, self.of_strong_windows_count)
            excess_s = float(np.where(slow, told.values - usual, 0.0).max(initial=0.0))
            if excess_s > dearest.get(str(told.job[0]), (0.0,))[0]:
                dearest[str(told.job[0])] = excess_s, one, slow
        for _, one, slow in dearest.values():
            ranks, mask = np.flatnonzero(slow.any(axis=0)), np.asarray(slow.any(axis=1))
            some = len(ranks) <= self.slow_share_ratio * len(one.told)
            if self._like_a_collision(one.told, ranks, mask, some) and not self._explained(
                tables, one.told, ranks, mask
            ):
                yield self._collides(tables, one, mask, ranks, some)

    def _like_a_collision(self, told: Signal, ranks: Array, mask: Array, some: bool) -> bool:
        """Return whether it is steady, and where some ranks are slow, that they are one rail."""
        places = np.flatnonzero(
            mask
        )  # also the windows between: the best of a few calls is slow now and then by chance
        over_time = middle(told.values[places[0] : places[-1] + 1][:, ranks].T)
        steady = float(mad(over_time)) <= self.steady_ratio * np.nanmedian(over_time)
        return bool(steady) and (not some or self._one_rail(told, ranks))

    def _explained(self, tables: Frames, told: Signal, ranks: Array, mask: Array) -> bool:
        """Return whether a late rank, a narrow PCIe link or another room at these hosts' ports tells more."""
        if late_share(tables, told, mask) > self.late_ratio or narrow(tables, told, ranks, mask):
            return True
        hosts, when = set(told.node[ranks].tolist()), told.window(mask)
        return any(
            one.window.end_ns >= when.start_ns and one.window.start_ns <= when.end_ns
            for room in OTHERS
            for one in room().detect(tables)
            if not one.subject.node or one.subject.node in hosts
        )

    def _one_rail(self, told: Signal, ranks: Array) -> bool:
        """Return whether they sit on several hosts, on few GPUs of each."""
        nodes, counts = np.unique(told.node[ranks].astype(str), return_counts=True)
        of_host = np.array([int((told.node == node).sum()) for node in nodes])
        return len(nodes) > 1 and bool((counts <= np.maximum(1, self.slow_share_ratio * of_host)).all())

    def _collides(self, tables: Frames, one: Calls, mask: Array, ranks: Array, some: bool) -> Finding:
        told, column = one.told, int(ranks[0])
        slots = sorted(set(told.device[ranks].tolist()))
        job = str(told.job[column]) or "job"
        subject = subjects.job(job) if not some or len(slots) > 1 else subjects.rack(f"rail/{slots[0]}")
        now_s, usual_s = (_live.mean_in(values, mask) for values in (told.values[:, column], one.usual))
        found = _live.finding(
            "ecmp-collision", tables, told, column, mask, role="culprit" if some else "context",
            least="S3" if some else "S4", confidence=0.7 if some else 0.4, subject=subject, ranks=(),
            evidence=(
                Evidence("shortest_collective", now_s, usual_s, usual_s / self.bandwidth_ratio, "s"),
                Evidence("ranks", float(len(ranks)), 0.0, None, ""),
            ),
            summary=f"collectives of {len(ranks)} ranks on {', '.join(slots[:4])} take {now_s * 1e3:.2f} ms at best "
            f"where {usual_s * 1e3:.2f} ms are usual, with as many bytes and no errors at any port",
            advice="spread the flows (queue pairs, adaptive routing), or start again to hash anew",
        )  # fmt: skip
        lost_s = (now_s - usual_s) * float(one.per_step[column])
        if found.lost_s > 0 or not lost_s > 0 or not some:
            return found
        share = min(lost_s / step_seconds(tables, told, mask), 1.0)  # slow from the start: by calls, for want of a past
        return replace(found, lost_s=lost_s, lost_share=share, severity=min(severity(share), "S3"))

    def alert(self) -> Rule:
        """Return the alert: the finding is active and its score, the share of the usual bandwidth, is low."""
        median = f"quantile by (job_id, op, group) (0.5, {SHORTEST})"
        return Rule(
            "SkewscopeEcmpCollision",
            f"{SHORTEST} * {self.bandwidth_ratio:g} >= on (job_id, op, group) group_left () {median} "
            f"and {SHORTEST} - on (job_id, op, group) group_left () {median} >= {self.least_s:g}",
            240, "info", "transfers of rank {{ $labels.rank }} are slow and may share a link",
            "the shortest {{ $labels.op }} of rank {{ $labels.rank }} takes far longer than its peers'",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal, below the line, a slow rail, with losses, a late rank, more bytes, all slower."""
        yield World("quiet", _calling({}).tables())
        yield World("near-miss", _calling({"gpu1": 1.35}).tables())
        yield World("collides", _calling({"gpu1": 1.6}).tables(), frozenset({"rail/gpu1"}))
        lossy = port(_calling({"gpu1": 1.6}), RETRANSMITTED, 900.0, "cause=ack_timeout", since=2)
        yield World("losses", lossy.tables())
        yield World("late-rank", _calling({"gpu1": 1.6}).late(2, 0.1, since=0).tables())
        larger = _calling({"gpu1": 1.6}).put(MOVED, 1.6e12, labels=LABELS, devices=["gpu1"])
        yield World("more-bytes", larger.tables())
        stage = _calling({})
        stage.put(SHORTEST, 0.016, labels=LABELS, nodes=["n0", "n1"], devices=stage.gpus)
        yield World("stage", stage.tables())
        narrow = _calling({"gpu1": 1.6})
        narrow.put(LINKS[0], 8.0, labels="kind=current", nodes=["n2"], devices=["gpu1"])
        yield World("narrow-pcie", narrow.tables())
        slower = _calling({})
        slower.put(SHORTEST, 0.017, labels=LABELS, devices=slower.gpus, since=6)
        yield World("all-slower", slower.slow_transfer(0.03, since=6).tables(), frozenset({"job"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: bandwidth, errors, congestion, uneven rails."""
        return (
            Check("bandwidth", "Calls of some ranks take longer at best.", SHORTEST, "low", f">= {self.least_s:g}",
                  f"topk(8, {SHORTEST} / on (job_id, op, group) group_left () "
                  f"quantile by (job_id, op, group) (0.5, {SHORTEST}))",
                  "go on with `losses`", "collectives are too short to tell"),
            Check("losses", "Packets are lost.", RETRANSMITTED, "rate", "> 1",
                  f"sum by (node, device) (rate({RETRANSMITTED}[2m]))", "see rdma-retransmit", "go on with `marks`",
                  {"cause": "ack_timeout"}),
            Check("marks", "Packets are marked on few ports only.", _ports.CONGESTED, "rate", ">= 100",
                  f'topk(8, rate({_ports.CONGESTED}{{event="ecn_marked"}}[2m]))',
                  "flows meet on the way to these ports: spread them", "go on with `bytes`", {"event": "ecn_marked"}),
            Check("bytes", "All rails carry as much.", _ports.SENT, "rate", ">= 1e8",
                  f"rate({_ports.SENT}[5m])", "start the job again: a new hash tells", "see rail-imbalance"),
        )  # fmt: skip


def _calling(factors: dict[str, float]) -> Fleet:
    """Return four GPUs on each host whose ranks of one slot form a group; calls take 10 ms times a slot's factor."""
    made = fleet()
    for device in made.gpus:
        made.put(SHORTEST, 0.01 * factors.get(device, 1.0), labels=LABELS, devices=[device])
    return made.put(MOVED, 1e12, labels=LABELS, devices=made.gpus)
