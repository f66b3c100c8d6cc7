"""Every member entered a collective and it never ends: the transport below it is broken or stuck.

Why it hurts
    The job stands still on all GPUs until a watchdog kills it. No rank did anything wrong, so stacks show nothing but
    waiting, and restarting on the same hosts often hangs again.

How it is seen
    In the dumps of all members the same call is enqueued and complete on none, for longer than 60 s and ten times what
    this operation usually takes, or a watchdog has given it up. Not to be confused with `coll-missing-rank`, where a
    member never enqueued the call, with `coll-desync`, where they enqueued different ones, nor with a call queued
    behind another group that hangs: groups with a member that waits for a missing rank are left out. One member whose
    dump was merely taken before it noticed the end is nothing.

What to do
    Stop the job, validate the links and NICs of the group's hosts (all-reduce between pairs), look for link flaps and
    XIDs at that time, and restart without the host that fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames, Rule, Window, World

from . import _worlds
from ._fronts import Front, Standstill, standstill


@dataclass(frozen=True)
class CollHang:
    """Thresholds: shortest age of a hang, the same in multiples of what the operation usually takes."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("collectives", "groups", "ranks", "events")

    age_s: float = 60.0
    age_ratio: float = 10.0
    usual_quantile_ratio: float = 0.99
    watchdog_age_s: float = 5.0

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per group that hangs by itself."""
        still = standstill(tables)
        explained = {rank for front in still.fronts if front.late or front.absent for rank in front.waits}
        for front in still.fronts:
            entered = set(front.waits) == set(front.enqueued) and len(front.waits) > 1
            alone = not (front.late or front.absent or front.mixed or explained & set(front.waits))
            if entered and alone and not front.completed and self._long(still, front):
                yield self._finding(still, front)

    def _long(self, still: Standstill, front: Front) -> bool:
        """Return whether the wait is a hang: by a watchdog, or because the rest of the job went on for so long."""
        if still.timed_out or still.age_s(front.first) >= self.watchdog_age_s:
            return True
        return _outlived_s(still, front) > max(self.age_s, self.age_ratio * self._usual_s(still, front))

    def _usual_s(self, still: Standstill, front: Front) -> float:
        same = still.calls[(still.calls["op"] == front.op).to_numpy()]
        end, ready, told = (same[name].to_numpy() for name in ("end_ns", "ready_ns", "duration_ns"))
        spent = np.where(told >= 0, told, np.where((end >= 0) & (ready >= 0), end - ready, -1))
        return float(np.quantile(spent[spent >= 0], self.usual_quantile_ratio)) / 1e9 if (spent >= 0).any() else 0.0

    def _finding(self, still: Standstill, front: Front) -> Finding:
        wait, seen = front.first, still.age_s(front.first)
        age_s = _outlived_s(still, front) if isnan(seen) else seen
        lasted = f"for {age_s:.1f} s" if age_s > 0 else "until the watchdog gave up"
        at = still.stack(wait.row)
        return Finding(
            "coll-hang", subjects.group("job", front.group), "culprit", "S1", 0.9,
            Window(wait.ready_ns, wait.ready_ns + int(age_s * 1e9)), 0.0, 0.0,
            (
                Evidence("age", age_s, self._usual_s(still, front), self.age_s, "s"),
                Evidence("members_entered", len(front.waits), len(front.enqueued), None, "ranks"),
                Evidence("members_completed", 0.0, len(front.enqueued), None, "ranks"),
            ),
            f"all {len(front.waits)} members of {front.name} entered {front.op} number {front.seq} and none "
            f"left it {lasted}{at and f'; called at {at}'}",
            "validate the links and NICs of the group's hosts and restart without the one that fails",
            lost_once_s=max(age_s, 0.0),
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding holds as long as the shortest age of a hang."""
        return Rule(
            "SkewscopeCollectiveHang",
            f'min_over_time(skewscope_finding_active{{condition="coll-hang"}}[{self.age_s:g}s]) == 1',
            0, "critical", "{{ $labels.subject }} hangs in a collective",
            "all members of {{ $labels.subject }} entered a collective and none leaves it",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: complete, one dump early, nobody looked, a watchdog fired, given up, a rank missing."""
        stuck = _worlds.lockstep(4, 20, completed=19)
        hangs = frozenset({"job/group:0"})
        yield World("quiet", _worlds.dumps(_worlds.lockstep(4, 20)))
        yield World("early-dump", _worlds.dumps({"0": {**_worlds.lockstep(4, 20)["0"], 2: (20, 19)}}, watchdog_s=90.0))
        yield World("near-miss", _worlds.dumps(stuck))
        yield World("watchdog", _worlds.dumps(stuck, watchdog_s=90.0), hangs)
        yield World("given-up", _worlds.dumps(stuck, pending="timed-out"), hangs)
        yield World("others-go-on", _worlds.dumps({**stuck, "1": {rank: (900, 900) for rank in range(4)}}), hangs)
        yield World("missing-rank", _worlds.dumps({"0": {**stuck["0"], 1: (19, 19)}}, watchdog_s=90.0))
        yield World("mixed", _worlds.changed(_worlds.dumps(stuck, watchdog_s=90.0), 1, 20, op="broadcast"))
        yield World("no-dump", _worlds.dumps({"0": {0: (20, 19), 2: (20, 19)}}, watchdog_s=90.0))


def _outlived_s(still: Standstill, front: Front) -> float:
    """Return how long after the group's last arrival somebody still called something, s."""
    last = max(wait.ready_ns for wait in front.waits.values())
    return max(0.0, (int(still.calls["ready_ns"].max()) - last) / 1e9)
