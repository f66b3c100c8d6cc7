"""A GPU has memory rows to be taken out of use: the repair waits for a reset, or it failed.

Why it hurts
    A row with a bad cell is replaced by a spare one at the next reset. Until then the bad row stays in use and may give
    more errors. Where no spare row is left the repair fails, and the next error of that bank ends a job.

How it is seen
    The driver says that a remapping is pending, or failed; XID 63 and 64 say the same at the moment they happen. Banks
    without a spare row, or more than ten pages retired on older GPUs, are told before anything fails.

Look-alikes
    XID 63 is no failure, and a remapping that is done needs nothing. `gpu-ecc-uncorrectable`: the error that led to it,
    which may have ended a job.

What to do
    Pending: reset the GPU when it is idle, and place no new job before. Failed: drain the node and have the GPU
    replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from skewscope.contracts import Check, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting
from skewscope.signals.view import signal

from . import _hard_events, _xids
from ._live_worlds import Fleet

PENDING, FAILURE, BANKS = (
    "skewscope_gpu_row_remap_pending", "skewscope_gpu_row_remap_failure", "skewscope_gpu_row_remap_banks",
)  # fmt: skip
EVENTS, REMAPPED = "skewscope_gpu_events_total", "skewscope_gpu_remapped_rows"
NAME = "gpu-row-remap"


@dataclass(frozen=True)
class GpuRowRemap:
    """Thresholds: how many windows a state must hold, banks without spare rows, pages of older GPUs."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    state_count: float = 1.0  # conditions A3: any pending or failed remapping
    held_count: int = 2  # A12: two windows
    banks_count: float = 1.0  # OWN: one bank without a spare row is a failure to come
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU whose remapping waits or failed."""
        failed = signal(tables, FAILURE, take="low")
        waits = signal(tables, PENDING, take="low")
        spent = signal(tables, BANKS, take="low", availability="none")
        events = _xids.appeared(tables, EVENTS, event="dram_retirement_failure")
        troubles = [
            *_hard_events.of_xids(tables, NAME),
            *_hard_events.of_states(tables, failed, self._held(failed.values >= self.state_count), "replace",
                                    "a row could not be remapped: no spare one is left", FAILURE),
            *_hard_events.of_states(tables, events, events.values >= 1, "replace",
                                    "the driver reports that memory could not be retired", EVENTS),
            *_hard_events.of_states(tables, waits, self._held(waits.values >= self.state_count), "reset_when_idle",
                                    "a row waits to be remapped at the next reset", PENDING),
            *_hard_events.of_states(tables, spent, self._held(spent.values >= self.banks_count), "annotate",
                                    "{value} memory banks have no spare row left", BANKS,
                                    threshold=self.banks_count),
        ]  # fmt: skip
        yield from _hard_events.findings(NAME, tables, troubles, lasts_s=self.recent_s, alone=True)

    def _held(self, mask: _xids.Array) -> _xids.Array:
        return lasting(mask, self.held_count, self.held_count)

    def alert(self) -> Rule:
        """Return the alert: pending or failed."""
        return Rule(
            "SkewscopeGpuRowRemap", f"{FAILURE} >= {self.state_count:g} or {PENDING} >= {self.state_count:g}",
            self.held_count * 30, "warning", "memory rows of GPU {{ $labels.gpu }} wait for repair",
            "GPU {{ $labels.gpu }} has a row remapping that is pending (reset it when idle) or failed (replace it)",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, remapped before, one look, an error; pending, failed, XID 63 and 64, no spares."""
        yield World("quiet", _state(PENDING, 0.0).tables())
        yield World("remapped-before", _state(REMAPPED, 3.0, labels="cause=uncorrected").tables())
        yield World("near-miss", _state(PENDING, 1.0, until=11).tables())
        yield World("error-alone", Fleet().event("xid", device="gpu1", code=48).tables())
        yield World("spares-left", _state(BANKS, 4.0, labels="availability=low").tables())
        yield World("pending", _state(PENDING, 1.0).tables(), frozenset({"n1/gpu2"}))
        yield World("failed", _state(FAILURE, 1.0).tables(), frozenset({"n1/gpu2"}))
        yield World("xid-63", Fleet().event("xid", device="gpu1", code=63).tables(), frozenset({"n0/gpu1"}))
        yield World("xid-64", Fleet().event("xid", device="gpu1", code=64).tables(), frozenset({"n0/gpu1"}))
        yield World("no-spares", _state(BANKS, 1.0, labels="availability=none").tables(), frozenset({"n1/gpu2"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: failed, pending, spares."""
        return (
            Check("failed", "Did a remapping fail?", FAILURE, "last", ">= 1", FAILURE,
                  "drain the node and have the GPU replaced", "pending"),
            Check("pending", "Does a remapping wait for a reset?", PENDING, "last", ">= 1", PENDING,
                  "reset the GPU when it is idle; go on with `spares`", "spares", {}, ("failed",)),
            Check("spares", "Is a bank without spare rows?", BANKS, "last", ">= 1", f'{BANKS}{{availability="none"}}',
                  "the next error of that bank cannot be repaired: plan its replacement",
                  "spare rows are left: nothing more to do", {"availability": "none"}, ("failed", "pending")),
        )  # fmt: skip


def _state(metric: str, value: float, *, labels: str = "", until: int = 20) -> Fleet:
    return Fleet().put(metric, value, labels=labels, nodes=["n1"], devices=["gpu2"], since=10, until=until)
