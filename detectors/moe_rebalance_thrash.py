"""Experts are moved between GPUs again and again, and the moves cost more than the better balance gives.

Why it hurts
    While weights travel, a synchronous engine stands still for a second or more, and the next tokens come late. If the
    load hardly changed, balance after the move is what it was before.

How it is seen
    The engine tells of each move and how long it took. Moves take more than 1 % of the time between them, and the
    imbalance (maximum over mean, less one) falls by less than 5 % from before to after, where both are reported. Live,
    the seconds of moves that an engine counts add up to more than 1 % of the time.

Look-alikes
    `step-spike`: long steps at no fixed distance, and no move beside them. One move that pays is no thrash: the
    imbalance falls. A move after the workload changed (`moe-rank-imbalance`) is what rebalancing is for.

What to do
    Hold rebalancing: lengthen the interval, set a threshold below which none is made, move asynchronously, or move at
    most the copies that pay back (`skewscope plan moe`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.contracts import Window as Span
from skewscope.frames import concat, frame
from skewscope.signals.view import signal

from . import _moe_worlds, _prices
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]
EVENT = "moe-rebalance"
SECONDS = "skewscope_serving_moe_rebalance_seconds_sum"
ADVICE = (
    "hold rebalancing: a longer interval, a threshold on balance, asynchronous or fewer copies (`skewscope plan moe` "
    "says which pay back)"
)
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)\b")


@dataclass(frozen=True)
class Moves:
    """All moves of experts that were told: when each ended (Unix epoch) and how long it took, in time order."""

    end_ns: Array
    length_s: Array

    @property
    def interval_s(self) -> float:
        """The usual time from one to the next."""
        return float(np.median(np.diff(self.end_ns))) / 1e9

    @property
    def share(self) -> float:
        """What the moves take of the time between them."""
        return float(np.mean(self.length_s)) / self.interval_s if self.interval_s > 0 else 0.0


@dataclass(frozen=True)
class MoeRebalanceThrash:
    """Thresholds: what moves may take of the time, what they must gain, and how many make a habit."""

    category: ClassVar[str] = "moe"
    needs: ClassVar[tuple[str, ...]] = ("events", "balance_reports", "step_times", "ranks", "windows")

    cost_ratio: float = 0.01  # D: of the interval, conditions A8
    gain_ratio: float = 0.05  # D: of the imbalance, conditions A8
    moves_count: int = 3

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding of a recording, or one of each host whose engines move experts too often."""
        recorded = list(self._recorded(tables))
        yield from recorded or self._live(tables)

    def _recorded(self, tables: Frames) -> Iterable[Finding]:
        moves = told(tables["events"])
        if len(moves.end_ns) < self.moves_count or moves.share <= self.cost_ratio:
            return
        gain, pairs = gained(tables["balance_reports"], moves)
        if pairs and gain >= self.gain_ratio:
            return  # what it gains in balance nobody can weigh against what it costs without the loads
        step_s = _prices.step_s(tables)
        lost_s = moves.share * step_s if step_s > 0 else 0.0
        known = f"the imbalance falls by {gain:.1%}" if pairs else "balance before and after is not told"
        yield Finding(
            condition="moe-rebalance-thrash", subject=subjects.job(_job(tables)), role="culprit",
            severity=_prices.severity(moves.share), confidence=0.9 if pairs else 0.6,
            window=Span(int(moves.end_ns[0] - moves.length_s[0] * 1e9), int(moves.end_ns[-1])), lost_s=lost_s,
            lost_share=min(1.0, moves.share), lost_once_s=0.0 if lost_s else float(moves.length_s.sum()),
            evidence=(
                Evidence("moves_over_interval", moves.share, 0.0, self.cost_ratio, "ratio"),
                Evidence("imbalance_gained", gain if pairs else float("nan"), None, self.gain_ratio, "ratio"),
                Evidence("move", float(np.mean(moves.length_s)), None, None, "s"),
                Evidence("interval", moves.interval_s, None, None, "s"),
            ),
            summary=f"{len(moves.end_ns)} moves of experts, one each {moves.interval_s:.0f} s, take "
            f"{np.mean(moves.length_s):.1f} s each ({moves.share:.1%} of the time), and {known}",
            advice=ADVICE,
        )  # fmt: skip

    def _live(self, tables: Frames) -> Iterable[Finding]:
        spent = signal(tables, SECONDS, take="increase")
        for column in range(len(spent)):
            grown = np.nan_to_num(spent.values[:, column])
            some = np.flatnonzero(grown > 0)
            if len(some) < self.moves_count:
                continue
            moves = Moves(spent.t_ns[some], grown[some])
            if moves.share <= self.cost_ratio:
                continue
            node = str(spent.node[column])
            yield Finding(
                "moe-rebalance-thrash", subjects.node(node), "culprit", _prices.severity(moves.share), 0.6,
                Span(int(moves.end_ns[0] - spent.window_s * 1e9), int(moves.end_ns[-1])), 0.0, min(1.0, moves.share),
                (Evidence("moves_over_interval", moves.share, 0.0, self.cost_ratio, "ratio"),),
                f"engines on {node} move experts for {np.mean(grown[some]):.1f} s each {moves.interval_s:.0f} s "
                f"({moves.share:.1%} of the time), and balance before and after is not told",
                ADVICE, lost_once_s=float(grown[some].sum()),
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: moves of experts take more than their share of the time."""
        return Rule(
            "SkewscopeMoeRebalanceThrash", f"rate({SECONDS}[10m]) > {self.cost_ratio:g}", 600, "info",
            "experts of {{ $labels.model }} move too often",
            "The engine {{ $labels.replica }} on {{ $labels.node }} moves experts {{ $value | humanizePercentage }} of "
            "the time",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: no moves, short ones, long ones that gain, that do not, that say nothing, only two."""
        job = frozenset({"llm"})
        yield World("live-quiet", _live(0.05))
        yield World("quiet", _moved(count=0))
        yield World("near-miss", _moved(length_s=0.9))
        yield World("pays", _moved(length_s=4.0, before=0.5, after=0.8))
        yield World("two", _moved(count=2, length_s=4.0))
        yield World("thrash", _moved(length_s=4.0, before=0.70, after=0.705), job)
        yield World("unknown-gain", _moved(length_s=4.0), job)
        yield World("live", _live(4.0), frozenset({"n0", "n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how long moves take, do tokens come late, does the engine queue, are steps uneven."""
        tokens = "skewscope_serving_inter_token_latency_seconds_sum"
        waiting, steps = "skewscope_serving_requests_waiting", "skewscope_step_seconds_total"
        return (
            Check("moves", "Moves of experts take more than their share of the time.", SECONDS, "rate",
                  f"> {self.cost_ratio:g}", f"rate({SECONDS}[10m])", "hold rebalancing, or move fewer copies",
                  "moves are short, or the engine does not count them: look at its log"),
            Check("tokens", "Tokens come late now and then.", tokens, "rate", "> 0", f"rate({tokens}[1m])",
                  "do the peaks have the period of the moves in the engine's log? Then hold rebalancing",
                  "nothing is served: look at `steps`"),
            Check("waiting", "Requests queue at each move.", waiting, "high", "> 0", waiting,
                  "move asynchronously or less often", "the moves are hidden"),
            Check("steps", "Steps are long now and then.", steps, "rate", "> 0", f"rate({steps}[1m])",
                  "compare their distance with the rebalance interval", "the job does not train"),
        )  # fmt: skip


def told(events: pd.DataFrame) -> Moves:
    """Return the moves that the table `events` tells of; those without a length in their message are left out."""
    rows = events[((events["event"] == EVENT) & (events["t_ns"] >= 0)).to_numpy()].sort_values("t_ns")
    lengths = np.array([length_s(str(text)) for text in rows["message"]], dtype=float)
    known = np.isfinite(lengths)
    return Moves(rows["t_ns"].to_numpy()[known], lengths[known])


def length_s(message: str) -> float:
    """Return the seconds that a message tells, NaN for none; the last number with a unit counts.

    >>> length_s("experts moved in 4.20 s"), length_s("rearranged in 350 ms")
    (4.2, 0.35)
    """
    found = DURATION.findall(message)
    return float(found[-1][0]) / (1000.0 if found[-1][1] == "ms" else 1.0) if found else float("nan")


def gained(reports: pd.DataFrame, moves: Moves) -> tuple[float, int]:
    """Return the median share of the imbalance that a move takes away, and of how many moves both sides are told.

    Reports of one definition for all layers are compared: the last before a move and the first after it.
    """
    rows = reports[((reports["layer"] < 0) & (reports["t_ns"] >= 0) & (reports["balance_ratio"] > 0)).to_numpy()]
    if not len(rows):
        return float("nan"), 0
    counts = rows.groupby(["job", "definition", "phase"], observed=True)["t_ns"].transform("size").to_numpy()
    first = rows.iloc[int(counts.argmax())]
    same = (
        (rows["job"] == first["job"]) & (rows["definition"] == first["definition"]) & (rows["phase"] == first["phase"])
    )
    rows = rows[same.to_numpy()].sort_values("t_ns")
    when, imbalance = rows["t_ns"].to_numpy(), 1.0 / rows["balance_ratio"].to_numpy() - 1.0
    starts = moves.end_ns - (moves.length_s * 1e9).astype(np.int64)
    before, after = np.searchsorted(when, starts) - 1, np.searchsorted(when, moves.end_ns, side="right")
    both = (before >= 0) & (after < len(when))
    then, now = imbalance[before[both]], imbalance[after[both]]
    share = (then - now) / np.where(then > 0, then, 1.0)
    return (float(np.median(share)) if both.any() else float("nan")), int(both.sum())


def _job(tables: Frames) -> str:
    """Return the one job that is told, "job" where there are several or none."""
    for name in ("balance_reports", "ranks"):
        jobs = {str(job) for job in tables[name]["job"].unique()}
        if len(jobs) == 1:
            return jobs.pop()
    return "job"


def _moved(
    count: int = 6, length_s: float = 4.0, before: float = 0.0, after: float = 0.0, every_s: float = 120.0
) -> dict[str, pd.DataFrame]:
    """Return tables with moves of experts, and balance reports beside each where `before` is given."""
    tables = _moe_worlds.tables(_moe_worlds.loads(), ep=4)
    ends = 1_700_000_000_000_000_000 + (np.arange(count) * every_s * 1e9).astype(np.int64)
    tables["events"] = frame("events", {
        "t_ns": ends, "node": "n0", "event": EVENT, "message": [f"experts moved in {length_s:.2f} s"] * count,
    })  # fmt: skip
    if before:
        parts = [(ends - int((length_s + 5) * 1e9), before), (ends + 5_000_000_000, after)]
        tables["balance_reports"] = concat("balance_reports", [frame("balance_reports", {
            "job": "llm", "step": -1, "layer": -1, "definition": "vllm", "balance_ratio": np.full(count, ratio),
            "t_ns": times,
        }) for times, ratio in parts])  # fmt: skip
    return tables


def _live(length_s: float) -> dict[str, pd.DataFrame]:
    """Return windows of two hosts whose engines move experts for so long in every fourth of 30 s."""
    fleet = Fleet()
    grown = np.where(np.arange(fleet.windows_count) % 4 == 3, length_s, 0.0)
    return fleet.put(SECONDS, grown, labels="engine=vllm,model=r1,replica=a").tables(job=False)
