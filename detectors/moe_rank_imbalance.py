"""Some GPUs get more tokens than others because of where experts lie, and all others wait for them in every layer.

Why it hurts
    Dispatch and combine of a layer meet all GPUs; the one with most tokens sets the time. With a balance of 0.5 half of
    the expert compute of all GPUs is waiting.

How it is seen
    The balance of GPUs (mean over maximum, per layer, by the engine's map of experts or blocks of experts) is below 0.8
    and below 0.9 of what chance leaves on so many tokens, and another placement on the same slots is better by 0.05 on
    windows that it was not made from. Live, all ranks that hold the same experts need longer than the others, on
    different hosts, while no expert is hot. What an engine says of its own balance is told as context.

Look-alikes
    `moe-hot-expert`: an expert too large for one GPU needs a replica, not another place. A slow GPU
    (`gpu-slow-silent`) is slow alone; here all ranks with the same experts are. Unequal batches of attention come
    before the experts (`srv-dp-attention-imbalance`): remove that first. Few tokens are uneven by chance: that is the
    noise ceiling, and no placement helps.

What to do
    Place experts anew (`skewscope plan moe`), with the copies that pay back. The advice says which limit binds next:
    groups kept on nodes, bursts, drift, or chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.moe import advice
from skewscope.moe.diagnosis import Diagnosis
from skewscope.moe.ladder import Ladder
from skewscope.signals.persistence import lasting
from skewscope.signals.view import signal

from . import _moe, _moe_worlds, _prices
from ._live_worlds import TABLES, Fleet

Array = np.ndarray[Any, Any]
BALANCE = "skewscope_serving_moe_balance_ratio"
RULES = ("data", "change", "stale", "workloads", "groups", "placement", "bursts", "steady", "drift")


@dataclass(frozen=True)
class MoeRankImbalance:
    """Thresholds: balance, how much of the ceiling, what another placement must gain, and how slow ranks are live."""

    category: ClassVar[str] = "moe"
    needs: ClassVar[tuple[str, ...]] = _moe.TABLES

    balance_ratio: float = 0.8  # SGLang's example threshold, conditions A8
    controlled_ratio: float = 0.9  # of the noise ceiling
    gain_ratio: float = 0.05  # D: of balance, on windows that were not planned on
    slow_ratio: float = 1.05  # D: live, own work of the ranks that hold the same experts
    hot_ratio: float = 2.0  # live: from here on an expert itself is hot
    windows_count: int = 4
    of_windows_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job, from its recorded loads or else from live metrics."""
        told: set[str] = set()
        for job, phases in _moe.by_job(tables).items():
            known = [(one, one.ladder) for one in phases if one.ladder is not None]
            uneven = [(one, rungs) for one, rungs in known if self.uneven(rungs)]
            if uneven:
                told.add(job)
                yield self._recorded(tables, *min(uneven, key=lambda pair: float(pair[1].now.mean())), phases)
        yield from self._live(tables, told)
        if not told:
            yield from self._engines(tables)

    def uneven(self, rungs: Ladder) -> bool:
        """Return whether GPUs are uneven beyond chance and another placement would help."""
        now, ceiling = float(rungs.now.mean()), float(rungs.ceiling.mean())
        line = min(self.balance_ratio, self.controlled_ratio * ceiling)
        return now < line and _reached(rungs) - now >= self.gain_ratio

    def _recorded(self, tables: Frames, found: Diagnosis, rungs: Ladder, phases: list[Diagnosis]) -> Finding:
        worst = int(rungs.now.argmin())
        lost_s, share, priced = _moe.cost(found, tables)
        text = (
            f"balance of {rungs.gpus} GPUs{_moe.said_phase(found)} is {rungs.now.mean():.3f} where chance leaves "
            f"{rungs.ceiling.mean():.3f} (layer {found.loads.layers[worst]}: {rungs.now[worst]:.3f}); another "
            f"placement reaches {_reached(rungs):.3f} on later windows, and {rungs.limit} binds; {priced}"
        )
        return Finding(
            condition="moe-rank-imbalance", subject=subjects.job(found.loads.job), role="culprit",
            severity=min(_prices.severity(share), "S3"),
            confidence=(0.9 if found.layout.recorded else 0.75) - (0.3 if advice.faults(found) else 0.0),
            window=_moe.window(found, tables), lost_s=lost_s, lost_share=share,
            evidence=_moe.rungs(found, self.balance_ratio), summary=text,
            advice=_moe.advice(found, phases, RULES) or f"run `skewscope plan moe`; {found.layout.basis}",
        )  # fmt: skip

    def _live(self, tables: Frames, told: set[str]) -> Iterable[Finding]:
        ratio = signal(tables, _moe.RATIO)
        for held in _moe.holders(tables):
            mine = ratio.job == held.cost.job
            if held.cost.job in told or not len(ratio) or not mine.any():
                continue  # without experts the coordinate means nothing
            busiest = np.nanmax(np.where(np.isfinite(ratio.values[:, mine]), ratio.values[:, mine], 0.0), axis=1)
            slow = held.hot(self.slow_ratio) & (busiest < self.hot_ratio)[:, None]
            mask = lasting(slow, self.windows_count, self.of_windows_count)
            if mask.any():
                yield self._of_ranks(held, mask, ratio.window(np.asarray(mask.any(axis=1))))

    def _of_ranks(self, held: _moe.Holders, mask: Array, window: Any) -> Finding:  # noqa: ANN401
        ranks = held.ranks(np.unique(held.of)[np.flatnonzero(mask.any(axis=0))])
        lost_s, share = held.cost.lost(ranks, np.asarray(mask.any(axis=1)))
        slow = float(np.nanmean(held.ratio[mask]))
        shown = ", ".join(map(str, ranks[:4])) + (", ..." if len(ranks) > 4 else "")
        return Finding(
            condition="moe-rank-imbalance", subject=subjects.job(held.cost.job), role="culprit",
            severity=_prices.severity(share), confidence=0.8, window=window, lost_s=lost_s, lost_share=share,
            evidence=(Evidence("work_of_ranks_with_the_same_experts", slow, 1.0, self.slow_ratio, "ratio"),),
            summary=f"all {len(ranks)} ranks that hold the same experts ({shown}) need {slow:.2f} times the others' "
            f"time, {_prices.duration(lost_s)} per step, and no single expert is hot",
            advice="record the loads of experts (the hook's counts, or the engine's recorder) and place them anew: "
            "`skewscope plan moe`",
        )  # fmt: skip

    def _engines(self, tables: Frames) -> Iterable[Finding]:
        """Return what engines tell of their balance; as context, for nobody knows what chance leaves of it."""
        total = signal(tables, f"{BALANCE}_sum", take="increase")
        passes = total.aligned(signal(tables, f"{BALANCE}_count", take="increase"))
        with np.errstate(divide="ignore", invalid="ignore"):
            balance = np.where(passes > 0, total.values / passes, np.nan)
        low = lasting(balance < self.balance_ratio, self.windows_count, self.of_windows_count)
        for column in np.flatnonzero(low.any(axis=0)).tolist():
            mask = low[:, column]
            mean, node = float(balance[mask, column].mean()), str(total.node[column])
            yield Finding(
                "moe-rank-imbalance", subjects.node(node), "context", "S4", 0.5, total.window(mask), 0.0, 0.0,
                (Evidence("balance_told_by_the_engine", mean, 1.0, self.balance_ratio, "ratio"),),
                f"engines on {node} tell a balance of {mean:.2f} of the ranks that hold experts, by their own "
                "definition; chance on few tokens shows the same",
                "record the loads with the engine's recorder: `skewscope analyze` tells chance from placement",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active, as one node does not see the experts of all ranks."""
        return _prices.lost_share_alert(
            "moe-rank-imbalance", self.gain_ratio, 900, "info", "ranks of {{ $labels.subject }} get unequal tokens"
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: even, a little uneven, warm experts side by side, unknown GPUs, an even router, live ones."""
        job = frozenset({"llm"})
        yield World("quiet", _moe_worlds.tables(_moe_worlds.loads(), ep=4))
        yield World("near-miss", _moe_worlds.tables(_moe_worlds.loads(warm=1.25), ep=4))
        yield World("side-by-side", _moe_worlds.tables(_moe_worlds.loads(warm=1.9), ep=4), job)
        yield World("gpus-unknown", _moe_worlds.tables(_moe_worlds.loads(warm=1.9)))
        yield World("by-map", _moe_worlds.tables(_moe_worlds.loads(warm=1.9), ep=4, apart=True))
        yield World("few-tokens", _moe_worlds.tables(_moe_worlds.loads(tokens=40), ep=4))
        yield World("live-quiet", _moe_worlds.live(ratio=1.2))
        yield World("live-one-replica", _moe_worlds.live(ratio=1.2, late_s=0.1, ranks=(0,)))
        yield World("live", _moe_worlds.live(ratio=1.3, late_s=0.1), job)
        yield World("engine-even", _engine(0.85))
        yield World("engine", _engine(0.6), frozenset({"n0", "n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is an expert hot, who waits least, is it hardware."""
        waits = "skewscope_collective_seconds_total"
        last = "skewscope_collective_local_last_arrivals_total"
        clock = "skewscope_gpu_clock_hertz"
        return (
            Check("hot", "A single expert is hot.", _moe.RATIO, "mean", f">= {self.hot_ratio:g}",
                  f"max by (job_id) ({_moe.RATIO})", "see `moe-hot-expert`", "go on with `waits`"),
            Check("waits", "Ranks spend much of their time in the all-to-all.", waits, "rate", "> 0.05",
                  f'rate({waits}{{op="all_to_all"}}[5m])', "those that wait least get most tokens",
                  "the all-to-all is cheap: nothing to gain here", {"op": "all_to_all"}, after=("hot",)),
            Check("last", "The same ranks always come last.", last, "rate", "> 1", f"rate({last}[10m])",
                  "do ranks on other hosts with the same experts too? Then place experts anew",
                  "the ranks take turns: bursts of tokens"),
            Check("clock", "Their clocks are low.", clock, "mean", "< 1.2e9", f'{clock}{{domain="sm"}}',
                  "see `gpu-hw-slowdown`: it is the device", "it is the work they are given", {"domain": "sm"}),
        )  # fmt: skip


def _reached(rungs: Ladder) -> float:
    """Return the balance of a new placement on windows that it was not made from, on its own where there is one."""
    held = float(rungs.held_out.mean())
    return held if np.isfinite(held) else float(rungs.plan.mean())


def _engine(balance: float) -> TABLES:
    """Return windows of two hosts whose engines tell this balance in each of 100 forward passes a window."""
    fleet, labels = Fleet(), "engine=sglang,model=r1,replica=a"
    fleet.put(f"{BALANCE}_sum", 100 * balance, labels=labels)
    return fleet.put(f"{BALANCE}_count", 100.0, labels=labels).tables(job=False)
