"""A GPU's memory had an error that it could not correct.

Why it hurts
    The program that used the data is ended, or must be: numbers may be wrong. A contained error ends one program; an
    uncontained one needs a reset, and until then every job that starts on the GPU can die as well.

How it is seen
    XID 48, 95, 140, 171, 172 (double-bit, uncontained, unrecovered, in DRAM or SRAM), XID 94 (contained), growth of the
    driver's count of uncorrectable errors, or an event of it. One is enough. What the driver asks for then
    (`skewscope_gpu_recovery_action`) decides between a restart, a reset and a reboot.

Look-alikes
    Corrected errors are normal (`gpu-ecc-sbe-storm` where they are not). `gpu-row-remap`: the repair that follows.
    `gpu-app-fault`: illegal accesses of a program, without any count of memory errors.

What to do
    Contained: restart the program, reset the GPU when it is idle. Else drain, reset, run diagnostics. A second one
    after a reset, or errors of SRAM beyond the driver's threshold: have the GPU replaced.
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

ERRORS, EVENTS = "skewscope_gpu_ecc_errors_total", "skewscope_gpu_events_total"
SRAM, PENDING = "skewscope_gpu_sram_ecc_threshold_exceeded", "skewscope_gpu_row_remap_pending"
DEADLY = ("double_bit_ecc", "fatal_poison")
NAME = "gpu-ecc-uncorrectable"


@dataclass(frozen=True)
class GpuEccUncorrectable:
    """Thresholds: how many errors, and how long an event speaks for the time after it."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    errors_count: float = 1.0  # conditions A3: any; cyclecloud-healthagent and gcm: above 0
    held_count: int = 2  # A12, for a state that is read once a minute
    recent_s: float = 600.0  # OWN: the alert stays that long, and the finding's window goes on that long

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU with uncorrectable errors."""
        troubles = _hard_events.of_xids(tables, NAME)
        # Where both lifetimes are told they count the same errors.
        for lifetime in ("aggregate", "volatile"):
            grown = signal(tables, ERRORS, take="increase", severity="uncorrected", lifetime=lifetime)
            troubles += _hard_events.of_states(
                tables, grown, grown.values >= self.errors_count, "drain_reset",
                "{value} memory errors that could not be corrected", ERRORS, threshold=self.errors_count,
            )  # fmt: skip
        events = _xids.appeared(tables, EVENTS, event=DEADLY)
        troubles += _hard_events.of_states(
            tables, events, events.values >= 1, "drain_reset", "the driver reports a double-bit error or fatal poison",
            EVENTS,
        )  # fmt: skip
        worn = signal(tables, SRAM, take="low")
        troubles += _hard_events.of_states(
            tables, worn, lasting(worn.values >= 1, self.held_count, self.held_count), "replace",
            "uncorrectable errors of SRAM passed the driver's threshold for replacing the GPU", SRAM,
        )  # fmt: skip
        yield from _hard_events.findings(NAME, tables, troubles, lasts_s=self.recent_s, alone=True)

    def alert(self) -> Rule:
        """Return the alert: the count grew, or a code came."""
        grew = f'increase({ERRORS}{{severity="uncorrected",lifetime="volatile"}}[{self.recent_s:g}s])'
        return Rule(
            "SkewscopeGpuEccUncorrectable",
            f"{grew} >= {self.errors_count:g} or {_hard_events.alert(NAME, self.recent_s)}",
            0, "critical", "uncorrectable memory error on GPU {{ $labels.gpu }}",
            "GPU {{ $labels.gpu }} had a memory error that could not be corrected; see what the driver asks for",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, corrected ones, a remapped row, an illegal access; counted, as XIDs, in a log, worn."""
        yield World("quiet", Fleet().put(ERRORS, 0.0, labels=_labels("uncorrected"), devices=["gpu1"]).tables())
        fleet = Fleet()
        fleet.put(ERRORS, 4.0, labels=_labels("corrected"), devices=fleet.gpus)
        yield World("near-miss", fleet.tables())
        yield World("remapped", Fleet().event("xid", device="gpu1", code=63).tables())
        yield World("illegal-access", _xid(31).tables())
        one = Fleet().put(
            ERRORS, 1.0, labels=_labels("uncorrected"), nodes=["n1"], devices=["gpu3"], since=10, until=11
        )
        yield World("counted", one.tables(), frozenset({"n1/gpu3"}))
        yield World("uncontained", _xid(95).tables(), frozenset({"n0/gpu1"}))
        yield World("contained", _xid(94).tables(), frozenset({"n0/gpu1"}))
        text = "NVRM: Xid (PCI:0000:1b:00): 48, pid=77, An uncorrectable double bit error (DBE) has been detected"
        yield World("log", Fleet().event("kernel", message=text).tables(), frozenset({"n0"}))
        yield World("worn", Fleet().put(SRAM, 1.0, nodes=["n1"], devices=["gpu0"], since=5).tables(),
                    frozenset({"n1/gpu0"}))  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: did it happen, what does the driver want, is it worn out."""
        action = _hard_events.ASKED
        return (
            Check("errors", "Did the count of uncorrectable errors grow?", ERRORS, "increase",
                  f">= {self.errors_count:g}", f'increase({ERRORS}{{severity="uncorrected"}}[1h])',
                  "recovery", "look at XIDs of the GPU instead: `recovery`", {"severity": "uncorrected"}),
            Check("recovery", "Does the driver ask for nothing?", action, "last", ">= 1", f'{action}{{action="none"}}',
                  "contained: restart the program; go on with `pending`", "do what it asks for, with the node drained: "
                  "go on with `worn`", {"action": "none"}, ("errors",)),
            Check("pending", "Does a row wait to be remapped?", PENDING, "last", ">= 1", PENDING,
                  "reset the GPU when it is idle", "nothing more to do; watch it", {}, ("recovery",)),
            Check("worn", "Did errors of SRAM pass the driver's threshold?", SRAM, "last", ">= 1", SRAM,
                  "have the GPU replaced", "reset it and run diagnostics; replace it at the second time", {},
                  ("recovery",)),
        )  # fmt: skip


def _labels(severity: str) -> str:
    return f"severity={severity},lifetime=volatile,location=dram"


def _xid(code: int) -> Fleet:
    return Fleet().put(
        _xids.COUNTS, 1.0, labels=f"xid={code},source=nvml", nodes=["n0"], devices=["gpu1"], since=10, until=11
    )
