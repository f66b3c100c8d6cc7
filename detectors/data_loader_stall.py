"""The next batch is not ready when a rank needs it: reading, decoding or augmenting is slower than the step.

Why it hurts
    A rank that waits for its batch starts the step late, and all others wait for it at the first collective. When all
    ranks wait, every GPU idles for the same time and nobody looks slow.

How it is seen
    The time spent getting the next batch (`enumerate(DataLoader)`, `data_loading`) exceeds that of the other ranks,
    and replaying the steps without that excess shortens them; or the median over ranks is a tenth of the step; or
    telemetry says that a rank's next batch was often not ready. Not to be confused with host-to-device copies
    (`pcie-h2d-starvation`): there the batch is ready and its copy is long.

What to do
    One rank: look at its storage path and its host (another reader, a full cache, a slow mount). All ranks: more
    workers, deeper prefetch, a local cache, cheaper transforms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, Window, World
from skewscope.frames import all_tables, frame
from skewscope.stats.robust import leave_one_out_median
from skewscope.stats.window import affected

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class DataLoaderStall:
    """Thresholds: share of the step lost, how steadily, and readiness of the next batch."""

    category: ClassVar[str] = "data"
    needs: ClassVar[tuple[str, ...]] = ("blame", "rank_steps", "step_times", "steps", "samples")

    lost_share_ratio: float = 0.05
    everybody_share_ratio: float = 0.10
    dominant_ratio: float = 0.6
    hit_share_ratio: float = 0.4
    ready_ratio: float = 0.9
    ready_below_peers_ratio: float = 0.1

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return findings per starved rank, or one for the job if all ranks starve."""
        for row in _prices.prices(tables, "rank", "input"):
            whole = _prices.lost(tables, "rank", "own", row.rank)
            loud = row.lost_share_ratio >= self.lost_share_ratio and row.hit_share_ratio >= self.hit_share_ratio
            if loud and row.lost_s >= self.dominant_ratio * whole:
                yield self._one_rank(tables, row)
        yield from self._everybody(tables)
        yield from self._not_ready(tables)

    def _one_rank(self, tables: Frames, row: _prices.Price) -> Finding:
        mine, others = _input_seconds(tables, row.rank)
        return Finding(
            condition="data-loader-stall", subject=subjects.rank("job", row.rank, stage=row.stage),
            role="culprit", severity=_prices.severity(row.lost_share_ratio), confidence=row.confidence_ratio,
            window=_since(tables, row), lost_s=row.lost_s, lost_share=row.lost_share_ratio,
            evidence=(
                _prices.evidence("input_wait", mine, others, None, "s"),
                _prices.evidence("input_share_of_step", row.lost_share_ratio, 0.0, self.lost_share_ratio, "ratio"),
            ),
            summary=f"rank {row.rank} waits {_prices.duration(mine)} for each batch where its peers wait "
            f"{_prices.duration(others)}; everybody waits for it, {_prices.duration(row.lost_s)} per step",
            advice=f"look at the storage and loader workers of rank {row.rank}; raise workers or prefetch depth",
        )  # fmt: skip

    def _everybody(self, tables: Frames) -> Iterable[Finding]:
        steps = tables["rank_steps"]
        step_s = _prices.step_s(tables)
        if not len(steps) or not step_s > 0:
            return
        wait_s = float(steps.groupby("step")["input_ns"].median().mean()) / 1e9
        if wait_s < self.everybody_share_ratio * step_s:
            return
        yield Finding(
            condition="data-loader-stall", subject=subjects.job("job"), role="culprit",
            severity=_prices.severity(wait_s / step_s), confidence=0.9, window=_prices.steps_of(tables),
            lost_s=wait_s, lost_share=wait_s / step_s,
            evidence=(_prices.evidence("median_input_share_of_step", wait_s / step_s, 0.0, self.everybody_share_ratio,
                                       "ratio"),),
            summary=f"all ranks wait {_prices.duration(wait_s)} per step for their batches "
            f"({wait_s / step_s:.0%} of the step)",
            advice="raise loader workers and prefetch depth, cache locally, or make the transforms cheaper",
        )  # fmt: skip

    def _not_ready(self, tables: Frames) -> Iterable[Finding]:
        samples = tables["samples"]
        ready = samples[((samples["metric"] == "skewscope_input_ready_ratio") & (samples["rank"] >= 0)).to_numpy()]
        mean = ready.groupby("rank")["value"].mean()
        if len(mean) < 3:
            return
        usual = leave_one_out_median(mean.to_numpy())
        when = Window(int(ready["t_ns"].min()), int(ready["t_ns"].max()))
        for rank, own, peers in zip(mean.index, mean.to_numpy(), usual, strict=True):
            if own >= self.ready_ratio or own > peers - self.ready_below_peers_ratio:
                continue
            yield Finding(
                condition="data-loader-stall", subject=subjects.rank("job", int(rank)), role="culprit",
                severity=_prices.severity(1.0 - own), confidence=0.95, window=when, lost_s=0.0,
                lost_share=float(1.0 - own),
                evidence=(_prices.evidence("next_batch_ready", own, float(peers), self.ready_ratio, "ratio"),),
                summary=f"the next batch of rank {rank} was ready {own:.0%} of the time, its peers' {peers:.0%}",
                advice=f"look at the storage and loader workers of rank {rank}",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "data-loader-stall", self.lost_share_ratio, 240, "warning", "{{ $labels.subject }} waits for its input"
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: no wait, mostly compute, below the line, a starved rank, batches that are not ready."""
        yield World("quiet", _priced_worlds.priced())
        yield World("compute", _priced_worlds.priced(rank=2, lost_share=0.3, causes={"input": 0.06}))
        yield World("near-miss", _priced_worlds.priced(rank=2, lost_share=0.04, causes={"input": 0.04}))
        starved = _priced_worlds.priced(rank=2, lost_share=0.3, causes={"input": 0.28})
        yield World("starved", starved, frozenset({"job/rank2"}))
        value = [1.0, 0.99, 0.2, 1.0]
        samples = frame("samples", {"t_ns": [0] * 4, "metric": "skewscope_input_ready_ratio", "value": value,
                                    "rank": [0, 1, 2, 3]})  # fmt: skip
        yield World("not-ready", all_tables({"samples": samples}), frozenset({"job/rank2"}))


def _input_seconds(tables: Frames, rank: int) -> tuple[float, float]:
    """Return (median input wait per step of the rank, of the others) in s."""
    steps = tables["rank_steps"]
    mine = (steps["rank"] == rank).to_numpy()
    wait = steps["input_ns"].to_numpy()
    return tuple(float(np.median(part)) / 1e9 if len(part) else 0.0 for part in (wait[mine], wait[~mine]))  # type: ignore[return-value]


def _since(tables: Frames, row: _prices.Price) -> Window:
    """Return the window of the stall, over all logged steps where phases are logged, else that of the row."""
    steps = tables["steps"]
    phases = steps[((steps["phase"] == "data") & (steps["microbatch"] < 0)).to_numpy()]
    if not len(phases):
        return row.window
    wait = (phases["end_ns"] - phases["start_ns"]).groupby([phases["step"], phases["rank"]]).max().unstack()
    if row.rank not in wait or wait.shape[1] < 2:
        return row.window
    excess = (wait[row.rank] - wait.drop(columns=row.rank).median(axis=1)).to_numpy()
    first, last = affected(excess, row.lost_s * 1e9 / 4)
    if first < 0:
        return row.window
    begin = phases.loc[(phases["step"] == wait.index[first]).to_numpy(), "start_ns"].min()
    end = phases.loc[(phases["step"] == wait.index[last]).to_numpy(), "end_ns"].max()
    return Window(int(begin), int(end), int(wait.index[first]), int(wait.index[last]))
