"""A GPU corrects far more memory errors than before and than its peers.

Why it hurts
    Corrected errors are corrected: nothing is lost. But a storm keeps the driver busy, slows calls into it (readings of
    the GPU are lost), and often comes before the first error that cannot be corrected.

How it is seen
    The rate of corrected errors is one a second or more, ten times that of the GPU itself before and of its peers, in
    most of the last windows; or XID 92; or the driver's event of a storm.

Look-alikes
    A trickle of a few errors an hour is normal. Many GPUs alike after an update of the driver: a change of counting.
    `gpu-ecc-uncorrectable`: errors that were not corrected.

What to do
    Nothing at once. Watch the GPU, and run diagnostics when its job ends. Where its rank is late as well, move it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from . import _hard_events, _live, _xids
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]
ERRORS, EVENTS = "skewscope_gpu_ecc_errors_total", "skewscope_gpu_events_total"
NAME = "gpu-ecc-sbe-storm"


@dataclass(frozen=True)
class GpuEccSbeStorm:
    """Thresholds: rate, against its past and its peers, how long it lasts, and when it is more than a note."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    storm_per_s: float = 1.0  # OWN: healthy GPUs correct a few an hour
    times_ratio: float = 10.0  # conditions A3: ten times its own median of a week
    cost_ratio: float = 0.05  # of the step: then it is no note any more
    held_count: int = 4  # A12: two minutes
    of_count: int = 5
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU in a storm of corrected errors."""
        told = signal(
            tables, ERRORS, take="increase", absent=0.0, severity="corrected", lifetime="volatile"
        ).rate()  # fmt: skip
        mask = self._storm(told)
        seen = set()
        for column in _live.columns(mask):
            seen.add((str(told.node[column]), str(told.device[column])))
            yield self._finding(tables, told, column, mask[:, column])
        events = _xids.appeared(tables, EVENTS, event="sbe_storm")
        troubles = _hard_events.of_xids(tables, NAME)
        troubles += _hard_events.of_states(tables, events, events.values >= 1, "annotate",
                                           "the driver reports a storm of corrected errors", EVENTS)  # fmt: skip
        fresh = [one for one in troubles if (one.node, one.device) not in seen]
        yield from _hard_events.findings(NAME, tables, fresh, lasts_s=self.recent_s, alone=True)

    def _storm(self, told: Signal) -> Array:
        """Return [windows, GPUs]: where the rate is high, for the GPU itself and among its peers, for long enough."""
        high = told.values >= self.storm_per_s
        if not high.any():
            return high
        peers = np.nan_to_num(peer_median(told.values, np.zeros(len(told))))
        high &= told.values >= self.times_ratio * peers
        calm = np.where(np.isfinite(told.values) & ~high, told.values, np.nan)
        before = np.nan_to_num(_median(calm))
        return lasting(high & (told.values >= self.times_ratio * before), self.held_count, self.of_count)

    def _finding(self, tables: Frames, told: Signal, column: int, mask: Array) -> Finding:
        rate = _live.mean_in(told.values[:, column], mask)
        before = _live.mean_in(told.values[:, column], ~mask)
        found = _live.finding(
            NAME, tables, told, column, mask, role="culprit", confidence=0.8,
            evidence=(Evidence("corrected_errors", rate, None if before != before else before, self.storm_per_s,
                               "per_s"),),
            summary=f"{told.subject(column).id} corrects {rate:.1f} memory errors a second",
            advice="watch it and run diagnostics when its job ends; nothing needs to stop for it",
        )  # fmt: skip
        costly = found.lost_share >= self.cost_ratio
        return found if costly else replace(found, role="context", severity="S4")

    def alert(self) -> Rule:
        """Return the alert: the rate against the last week's."""
        rate = f'sum by (node, gpu) (rate({ERRORS}{{severity="corrected",lifetime="volatile"}}'
        return Rule(
            "SkewscopeGpuEccSbeStorm",
            f"{rate}[5m])) >= {self.storm_per_s:g} and {rate}[5m])) >= {self.times_ratio:g} * {rate}[7d] offset 5m))",
            self.held_count * 30, "info", "GPU {{ $labels.gpu }} corrects many memory errors",
            "GPU {{ $labels.gpu }} corrects {{ $value }} memory errors a second",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, a trickle, below the line, one burst, all alike, uncorrected; a storm, XID 92, event."""
        yield World("quiet", Fleet().tables())
        yield World("trickle", _storm(0.001).tables())
        yield World("near-miss", _storm(0.9).tables())
        yield World("burst", _storm(50.0, until=12).tables())
        everybody = _storm(5.0)
        everybody.put(ERRORS, 150.0, labels=_labels("corrected"), devices=everybody.gpus)
        yield World("all-alike", everybody.tables())
        yield World("uncorrected", _storm(5.0, severity="uncorrected").tables())
        yield World("storm", _storm(5.0).tables(), frozenset({"n1/gpu2"}))
        yield World("xid-92", Fleet().event("xid", node="n1", device="gpu0", code=92).tables(), frozenset({"n1/gpu0"}))
        told = Fleet().put(EVENTS, 1.0, labels="event=sbe_storm", nodes=["n0"], devices=["gpu3"], since=10, until=11)
        yield World("event", told.tables(), frozenset({"n0/gpu3"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the rate, what was not corrected, rows to be remapped."""
        return (
            Check("rate", "Does it correct more than one error a second?", ERRORS, "rate", f">= {self.storm_per_s:g}",
                  f'sum by (node, gpu) (rate({ERRORS}{{severity="corrected"}}[5m]))', "uncorrected",
                  "a trickle: nothing to do", {"severity": "corrected"}),
            Check("uncorrected", "Were there errors that could not be corrected?", ERRORS, "increase", ">= 1",
                  f'increase({ERRORS}{{severity="uncorrected"}}[1d])', "see `gpu-ecc-uncorrectable`", "pending",
                  {"severity": "uncorrected"}, ("rate",)),
            Check("pending", "Does a row wait to be remapped?", "skewscope_gpu_row_remap_pending", "last", ">= 1",
                  "skewscope_gpu_row_remap_pending", "reset the GPU when it is idle: that repairs the row",
                  "watch it, and run diagnostics when its job ends", {}, ("uncorrected",)),
        )  # fmt: skip


def _median(values: Array) -> Array:
    known = np.isfinite(values).any(axis=0)
    found = np.full(values.shape[1], np.nan)
    found[known] = np.nanmedian(values[:, known], axis=0)
    return found


def _labels(severity: str) -> str:
    return f"severity={severity},lifetime=volatile,location=dram"


def _storm(per_s: float, *, until: int = 20, severity: str = "corrected") -> Fleet:
    fleet = Fleet()
    fleet.put(ERRORS, 0.0, labels=_labels("corrected"), devices=fleet.gpus)
    return fleet.put(
        ERRORS, 30 * per_s, labels=_labels(severity), nodes=["n1"], devices=["gpu2"], since=10, until=until
    )
