"""The all-to-all of one rank takes longer than that of its peers, so that dispatch or combine ends late for all.

Why it hurts
    Every layer sends tokens to the GPUs of their experts and back. Where more arrives at one rank at once than at the
    others, or its path is busy, its part ends last, and the layer with it, twice in each layer.

How it is seen
    Recorded, the transfers of one rank in all-to-all calls (from the last arrival on, so without waiting for anybody)
    are twice the median of its peers or more, in three calls of four; dispatch (first of two calls) and combine
    (second) are told apart. Live, its shortest all-to-all is 1.5 times that of its peers, while its other collectives
    are as fast as theirs.

Look-alikes
    A rank that comes late makes the others wait and is no slow receiver: `coll-late-rank`, or `moe-rank-imbalance`
    where its experts are the reason. If its other collectives are slow too it is the adapter or its link
    (`coll-slow-endpoint`, `pcie-nic-backpressure`). If all ranks are slow alike, `coll-slow-group`.

What to do
    Dispatch only: its experts draw the tokens of all others at once; see the loads (`moe-hot-expert`) and the buffers
    of the receiver. Both: compare its adapter, queue pairs and PCIe path with a peer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting
from skewscope.stats.robust import leave_one_out_median

from . import _live, _moe, _moe_calls, _moe_worlds, _prices
from ._group_calls import SHORTEST, Calls, calls

Array = np.ndarray[Any, Any]
OP = "all_to_all"  # as the agent's metrics call it
LEGS = ("dispatch", "combine")


@dataclass(frozen=True)
class MoeA2aSkew:
    """Thresholds: how much longer a rank's transfers are, what they cost at least, and how long live."""

    category: ClassVar[str] = "moe"
    needs: ClassVar[tuple[str, ...]] = ("arrivals", *_moe.TABLES)

    transfer_ratio: float = 2.0  # D: of the others' median (leave-one-out), DeepXTrace asks three times the mean
    lost_share_ratio: float = 0.02  # D: of the step
    hit_share_ratio: float = 0.75  # D: of the calls: small ones of healthy ranks differ, now one way and now the other
    least_calls_count: int = 8
    least_peers_count: int = 3
    live_ratio: float = 1.5  # D: of the peers' shortest calls
    least_s: float = 0.0005  # D: shorter differences are noise of small calls
    others_ratio: float = 1.2  # D: of its other collectives: above, the end itself is slow
    tokens_ratio: float = 1.2  # D: of the mean rank: then its experts explain it
    bytes_ratio: float = 1.1
    windows_count: int = 4
    of_windows_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank, from recorded calls or else from live metrics."""
        found = list(self._recorded(tables))
        yield from found or self._live(tables)

    def _recorded(self, tables: Frames) -> Iterator[Finding]:
        step_s = _prices.step_s(tables)
        for (job, group), part in _moe_calls.all_to_alls(tables["arrivals"], self.least_peers_count):
            legs = [self._leg(part[(part["leg"] == leg).to_numpy()]) for leg in (0, 1)]
            ranks = {rank for leg in legs for rank in leg}
            steps = max(int(part["step"].nunique()), 1)
            for rank in sorted(ranks):
                which = [name for name, leg in zip(LEGS, legs, strict=True) if rank in leg]
                lost_s = sum(leg[rank][1] for leg in legs if rank in leg) / steps
                share = min(1.0, lost_s / step_s) if step_s > 0 else 0.0
                if step_s > 0 and share < self.lost_share_ratio:
                    continue
                yield self._receiver(tables, job, group, rank, which, max(leg[rank][0] for leg in legs if rank in leg),
                                     lost_s, share)  # fmt: skip

    def _leg(self, part: pd.DataFrame) -> dict[int, tuple[float, float]]:
        """Return (times the others' median, seconds beyond it in all calls) of each rank that is slow in one leg."""
        matrix = part.pivot_table(index="call", columns="rank", values="transfer_ns", observed=True)
        if matrix.shape[0] < self.least_calls_count or matrix.shape[1] <= self.least_peers_count:
            return {}
        values = matrix.to_numpy()
        mean = np.nanmedian(values, axis=0)
        others = leave_one_out_median(mean[None])[0]
        excess = np.nansum(np.maximum(values - others, 0.0), axis=0) / 1e9
        longer = values >= self.transfer_ratio * leave_one_out_median(values)
        hits = longer.sum(axis=0) / np.maximum(np.isfinite(values).sum(axis=0), 1)
        slow = (mean >= self.transfer_ratio * others) & (others > 0) & (hits >= self.hit_share_ratio)
        ranks = matrix.columns.to_numpy().astype(np.int64)
        return {
            int(ranks[at]): (float(mean[at] / others[at]), float(excess[at])) for at in np.flatnonzero(slow).tolist()
        }

    def _receiver(self, tables: Frames, job: str, group: str, rank: int, which: list[str], times: float, lost_s: float,
                  share: float) -> Finding:  # fmt: skip
        tokens = _moe_calls.tokens(tables, job, rank)
        why = self._why(which, tokens)
        who = f"{' and '.join(which)} of group {group} take{'s' * (len(which) == 1)}"
        return Finding(
            condition="moe-a2a-skew", subject=subjects.rank(job, rank), role="culprit",
            severity=_prices.severity(share), confidence=0.85, window=_prices.steps_of(tables), lost_s=lost_s,
            lost_share=share,
            evidence=(
                Evidence("transfer_over_peers", times, 1.0, self.transfer_ratio, "ratio"),
                Evidence("tokens_over_mean_rank", tokens, 1.0, self.tokens_ratio, "ratio"),
            ),
            summary=f"{who} {times:.1f} times as long on rank {rank} as on its peers, "
            f"{_prices.duration(lost_s)} per step; {why}",
            advice=self._advice(rank, which, tokens),
        )  # fmt: skip

    def _why(self, which: list[str], tokens: float) -> str:
        if tokens >= self.tokens_ratio:
            return f"its experts get {tokens:.2f} times the tokens of the mean rank"
        known = f"its experts get {tokens:.2f} times the mean, so it is not their load" if np.isfinite(tokens) else (
            "the loads of experts are not recorded"
        )  # fmt: skip
        return known + ("; both ways are slow, as with its adapter or path" if len(which) > 1 else "")

    def _advice(self, rank: int, which: list[str], tokens: float) -> str:
        if tokens >= self.tokens_ratio:
            return "spread its experts: `skewscope plan moe`"
        if len(which) > 1:
            return f"compare the adapter, queue pairs and PCIe path of rank {rank} with those of a peer"
        return f"look at what arrives at rank {rank} at once: hot experts, buffer sizes, the chunks of the dispatch"

    def _live(self, tables: Frames) -> Iterator[Finding]:
        if not len(tables["windows"]):
            return
        every = list(calls(tables, self.bytes_ratio))
        kinds = _moe_calls.kinds(tables)
        for one, kind in zip(every, kinds, strict=True):
            if kind != OP:
                continue
            ratio = one.told.values / one.usual[:, None]
            slow = (ratio >= self.live_ratio) & (one.told.values - one.usual[:, None] >= self.least_s)
            mask = lasting(slow, self.windows_count, self.of_windows_count)
            others = [other for other, name in zip(every, kinds, strict=True) if name != OP]
            for column in np.flatnonzero(_alone(np.asarray(mask.any(axis=0)), _moe_calls.groups(tables, one.told))):
                if not self._slow_elsewhere(one, others, int(column), mask[:, column]):
                    yield self._of_rank(tables, one, int(column), mask[:, column], ratio)

    def _slow_elsewhere(self, one: Calls, others: list[Calls], column: int, mask: Array) -> bool:
        """Return whether the other collectives of a rank are slow at the same time."""
        for other in others:
            mine = np.flatnonzero((other.told.rank == one.told.rank[column]) & (other.told.job == one.told.job[column]))
            if len(mine):
                ratio = other.told.values[:, mine[0]] / other.usual
                known = ratio[mask & np.isfinite(ratio)]
                if len(known) and np.median(known) >= self.others_ratio:
                    return True
        return False

    def _of_rank(self, tables: Frames, one: Calls, column: int, mask: Array, ratio: Array) -> Finding:
        job, rank = str(one.told.job[column]), int(one.told.rank[column])
        times, tokens = _live.mean_in(ratio[:, column], mask), _moe_calls.tokens(tables, job, rank)
        return _live.finding(
            "moe-a2a-skew", tables, one.told, column, mask, role="culprit", confidence=0.75, ranks=(),
            subject=subjects.rank(job, rank, node=str(one.told.node[column])),
            evidence=(
                Evidence("shortest_all_to_all_over_peers", times, 1.0, self.live_ratio, "ratio"),
                Evidence("tokens_over_mean_rank", tokens, 1.0, self.tokens_ratio, "ratio"),
            ),
            summary=f"the all-to-all of rank {rank} takes at best {times:.1f} times as long as its peers', its other "
            f"collectives do not; {self._why(['dispatch'], tokens)}",
            advice=self._advice(rank, ["dispatch"], tokens),
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the shortest all-to-all of a rank is long beside that of the job's others."""
        shortest = f'{SHORTEST}{{op="{OP}"}}'
        return Rule(
            "SkewscopeMoeA2aSkew",
            f"{shortest} / on (job_id) group_left () quantile by (job_id) (0.5, {shortest}) > {self.live_ratio:g}",
            300, "info", "the all-to-all of a rank of {{ $labels.job_id }} is slow",
            "Rank {{ $labels.rank }} of {{ $labels.job_id }} on {{ $labels.node }} needs {{ $value | humanize }} "
            "times as long as the median rank for its all-to-all",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal, a little slower, slow now and then, one slow receiver, one late sender, live ones."""
        one = frozenset({"llm/rank2"})
        yield World("live-quiet", _moe_worlds.live_calls())
        yield World("quiet", _moe_worlds.all_to_alls({}))
        yield World("near-miss", _moe_worlds.all_to_alls({(2, 0): 1.7, (2, 1): 1.7}))
        yield World("now-and-then", _moe_worlds.all_to_alls({(2, 0): 4.0}, often=6))
        yield World("mostly", _moe_worlds.all_to_alls({(2, 0): 4.0}, often=8), one)
        yield World("dispatch", _moe_worlds.all_to_alls({(2, 0): 4.0}), one)
        yield World("both", _moe_worlds.all_to_alls({(2, 0): 4.0, (2, 1): 4.0}), one)
        yield World("cheap", _moe_worlds.all_to_alls({(2, 0): 4.0}, transfer_s=1e-5))
        yield World("late-only", _moe_worlds.all_to_alls({}, late_s=0.02))
        yield World("live-near-miss", _moe_worlds.live_calls(slow=1.35))
        yield World("live", _moe_worlds.live_calls(slow=2.2), one)
        two = frozenset({"llm/rank2", "llm/rank6"})
        yield World("live-on-two-hosts", _moe_worlds.live_calls(slow=2.2, ranks=(2, 6)), two)
        yield World("live-slow-end", _moe_worlds.live_calls(slow=2.2, elsewhere=2.2))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it slow by itself, elsewhere too, are experts hot."""
        other = f'{SHORTEST}{{op!="{OP}"}}'
        return (
            Check("slow", "The shortest all-to-all of the rank is long.", SHORTEST, "mean", "> 0.001",
                  f'{SHORTEST}{{op="{OP}"}}', "compare with its peers, then go on with `elsewhere`",
                  "it only waits for others: see `coll-late-rank`", {"op": OP}),
            Check("elsewhere", "Its all-reduces are long too.", SHORTEST, "mean", "> 0.001", other,
                  "its adapter or link is slow, see `coll-slow-endpoint`", "only the all-to-all is: go on with `hot`",
                  {"op": "all_reduce"}, after=("slow",)),
            Check("hot", "Experts are hot.", _moe.RATIO, "mean", ">= 2", f"max by (job_id) ({_moe.RATIO})",
                  "they draw the tokens of all ranks to it: see `moe-hot-expert`",
                  "look at buffers and chunk sizes of the dispatch", after=("elsewhere",)),
        )  # fmt: skip


def _alone(slow: Array, groups: Array) -> Array:
    """Return [ranks]: the slow ones that are few in their group; where nearly all are, they wait for another one."""
    found = np.zeros(len(slow), dtype=bool)
    for group in np.unique(groups):
        mine = groups == group
        if mine.sum() > 2 and 3 * slow[mine].sum() <= mine.sum():
            found |= slow & mine
    return found
