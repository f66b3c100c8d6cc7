"""A GPU's firmware or a microcontroller on it has stopped answering.

Why it hurts
    The driver waits for the GPU, the rank on it stands still and everybody waits for it. Tools that ask the driver hang
    as well, and jobs that start on the GPU fail.

How it is seen
    XID 119 or 120 (GSP), 62 (power management), 46, 61, 110, 143, 158; XID 109 (context switch) twice within a day; the
    agent's calls to this GPU do not return for two windows. Calls into the driver that take five seconds without any
    of these are told as a note. Most GPUs of a host at once: its driver.

Look-alikes
    One XID 109 can be the program's. `gpu-off-bus`: the GPU is gone, which makes calls hang too. `gpu-ecc-sbe-storm`:
    a storm of corrected errors makes calls slow.

What to do
    Drain the node and reset the GPU; reboot where the reset hangs. If it comes again on several nodes, update driver
    and firmware.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting
from skewscope.signals.view import signal

from . import _hard_events, _xids
from ._live_worlds import Fleet

STATE, CALLS, HUNG = "skewscope_gpu_access_state", "skewscope_nvml_call_max_seconds", "skewscope_nvml_hung"
NAME = "gpu-gsp-timeout"


@dataclass(frozen=True)
class GpuGspTimeout:
    """Thresholds: how long a call may take, in how many of the last windows, and how long a hang lasts."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "events")

    call_s: float = 5.0  # conditions A3
    slow_count: int = 4  # the longest call of a minute is told: one slow call shows in up to three windows
    of_count: int = 5
    held_count: int = 2  # A12
    recent_s: float = 600.0  # OWN: as in gpu-ecc-uncorrectable

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per stuck GPU, and a note per host whose driver answers slowly."""
        hung = signal(tables, STATE, state="hung")
        mask = lasting(hung.values >= 0.5, self.held_count, self.held_count)
        troubles = _hard_events.of_xids(tables, NAME, once=False)
        troubles += _hard_events.of_states(
            tables, hung, mask, "drain_reset", "calls to the GPU do not return", STATE
        )  # fmt: skip
        slow = signal(tables, CALLS, take="high")
        mask = lasting(slow.values >= self.call_s, self.slow_count, self.of_count)
        mask = mask & ~np.isin(slow.node.astype(str), sorted({one.node for one in troubles}))
        troubles += _hard_events.of_states(
            tables, slow, mask, "annotate", "calls into the driver take up to {value} s", CALLS, threshold=self.call_s
        )
        yield from _hard_events.findings(NAME, tables, troubles, lasts_s=self.recent_s)

    def alert(self) -> Rule:
        """Return the alert: hung, slow, or a code of it."""
        return Rule(
            "SkewscopeGpuGspTimeout",
            f'{STATE}{{state="hung"}} == 1 or min_over_time({CALLS}[2m]) >= {self.call_s:g} '
            f"or {_hard_events.alert(NAME, self.recent_s)}",
            self.held_count * 30, "critical", "a GPU of {{ $labels.node }} does not answer",
            "firmware of a GPU of {{ $labels.node }} does not answer: drain the node and reset the GPU",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quick calls, just below, one slow call, one 109, off the bus; XIDs, twice 109, hung, slow."""
        yield World("quiet", _calls(0.01).tables())
        yield World("near-miss", _calls(4.9).tables())
        yield World("one-slow-call", _calls(20.0, until=13).tables())
        yield World("one-109", _xid(109).tables())
        yield World("off-bus", Fleet().event("xid", device="gpu1", code=79).tables())
        yield World("gsp", _xid(119).tables(), frozenset({"n1/gpu2"}))
        twice = _xid(109).put(_xids.COUNTS, 1.0, labels="xid=109,source=nvml", nodes=["n1"], devices=["gpu2"],
                              since=16, until=17)  # fmt: skip
        yield World("twice-109", twice.tables(), frozenset({"n1/gpu2"}))
        hung = Fleet().put(STATE, 1.0, labels="state=hung", nodes=["n1"], devices=["gpu2"], since=10)
        yield World("hung", hung.tables(), frozenset({"n1/gpu2"}))
        yield World("slow-calls", _calls(6.0).tables(), frozenset({"n1"}))
        driver = Fleet().put(_xids.COUNTS, 1.0, labels="xid=119,source=nvml", nodes=["n1"],
                             devices=["gpu0", "gpu1", "gpu2", "gpu3"], since=10, until=11)  # fmt: skip
        yield World("driver", driver.tables(), frozenset({"n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: hung, slow for another reason, what the driver wants."""
        corrected, action = "skewscope_gpu_ecc_errors_total", _hard_events.ASKED
        return (
            Check("hung", "Do calls to this GPU hang?", STATE, "last", ">= 1", f'{STATE}{{state="hung"}}', "recovery",
                  "slow", {"state": "hung"}),
            Check("slow", "Do calls into the driver take five seconds or more?", CALLS, "high", f">= {self.call_s:g}",
                  f"max by (node) ({CALLS})", "storm", "the driver answers: look at XIDs; go on with `recovery`", {},
                  ("hung",)),
            Check("storm", "Does a storm of corrected errors keep the driver busy?", corrected, "rate", ">= 1",
                  f'rate({corrected}{{severity="corrected"}}[5m])', "see `gpu-ecc-sbe-storm`", "recovery",
                  {"severity": "corrected"}, ("slow",)),
            Check("recovery", "Does the driver ask for nothing?", action, "last", ">= 1", f'{action}{{action="none"}}',
                  "restart the program and watch; no drain", "do what it asks for, with the node drained",
                  {"action": "none"}, ("hung", "slow")),
        )  # fmt: skip


def _calls(seconds: float, *, until: int = 20) -> Fleet:
    return Fleet().put(CALLS, seconds, labels="call=device", nodes=["n1"], since=10, until=until)


def _xid(code: int) -> Fleet:
    labels = f"xid={code},source=nvml"
    return Fleet().put(_xids.COUNTS, 1.0, labels=labels, nodes=["n1"], devices=["gpu2"], since=10, until=11)
