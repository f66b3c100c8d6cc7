"""What a timed process keeps: its ring, its groups, the calls under way, the step, and a count of its own faults.

Everything here runs inside somebody's training. It never raises into it, never waits, and after three faults of its
own it lets everything through for good.
"""

# ruff: noqa: ANN401 - the types of torch are not imported here

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any, Literal

from ..spool import BLOCKING as BLOCKING
from ..spool import FAILED as FAILED
from ..spool import KINDS, OPS, PHASES, UNITS, RingWriter
from . import _groups, _place
from ._heart import Heart

COLLECTIVE, PHASE, STEP, WORK, MARK = (KINDS.index(name) for name in ("collective", "phase", "step", "work", "mark"))
SENDS = (OPS.index("send"), OPS.index("recv"))
PHASE_OF = {name: index for index, name in enumerate(PHASES)}
UNIT_OF = {name: index for index, name in enumerate(UNITS)}
COMM_WAIT = PHASE_OF["comm_wait"]
FAULTS = 3
PENDING = 4096  # calls under way at once; a job that never waits must not fill the memory
SHORT_WAIT_NS = 20_000  # waits below are not worth a record of their own

clock = time.monotonic_ns
_log = logging.getLogger("skewscope")

# A call under way: op, group's index, step, seq, start_ns, size, extra, event at its start (None without CUDA).
Call = tuple[int, int, int, int, int, int, int, Any]


class Opened(threading.local):
    """How deep this thread is in each phase, and which optimizer of it steps since when."""

    def __init__(self) -> None:
        self.depth = [0] * len(PHASES)
        self.optimizer = 0
        self.optimizer_ns = 0
        self.collection_ns = 0  # when a garbage collection began


class Recorder:
    """Takes the times of this process and writes them into its ring, which it makes once the rank is known."""

    def __init__(self, job: str | None, spool: str | os.PathLike[str] | None) -> None:
        self.job = job or _place.job_name()
        self._asked = spool
        self._lock = threading.RLock()
        # A weak reference to a work (or to a functional collective's tensor) -> what it stands for.
        self.pending: dict[weakref.ref[Any], Call | list[Call]] = {}
        self.groups: dict[int, _groups.Group | Literal[False]] = {}
        self.opened = Opened()
        self.inside = 0  # the thread inside a user's own communication hook, which is timed as a whole
        self.work_class: Any = ()
        self.work_is_completed: Any = None  # torch's own Work.is_completed
        self.ddp_without_hook: Any = weakref.WeakSet()
        self.ddp_hooks: Any = weakref.WeakKeyDictionary()  # DistributedDataParallel -> _ddp.Slot
        self.timer: Any = None  # of _cuda, where CUDA is in use
        self._reset()

    def _reset(self) -> None:
        self.pid = os.getpid()
        self.on = True
        self.ring: RingWriter | None = None
        self.write: Any = None
        self.step = 0
        self.step_start_ns = 0
        self.steps_by_hand = False
        self.leader: Any = None  # weak reference to the optimizer whose steps are counted
        self._heart: Heart | None = None
        self._faults = 0
        self._is_making = False
        self._known: dict[int, _groups.Group] = {}
        self._references: dict[int, Any] = {}

    def ready(self) -> bool:
        """Return whether there is a ring, making it if the rank is known by now."""
        if self.ring is not None or not self.on:
            return self.on
        try:
            who = _place.rank_and_world()
        except Exception as error:
            self.fault(error)
            return False
        if who is None:
            return False
        with self._lock:
            # What ends in between on this very thread (a finalizer's phase) must not make a second ring of this name.
            if self.ring is None and self.on and not self._is_making:
                self._is_making = True
                self._make(*who)
                self._is_making = False
        return self.on and self.ring is not None

    def _make(self, rank: int, world_size: int) -> None:
        try:
            index, uuid = _place.device()
            folder = _place.spool(self._asked)
            ring = RingWriter(
                folder, job=self.job, rank=rank, local_rank=_place.local_rank(), world_size=world_size, device=index,
                gpu_uuid=uuid,
            )  # fmt: skip
            self.write, self.ring = ring.write, ring
            self.step_start_ns = clock()
            self._heart = Heart(self, ring, folder, rank)
            self._heart.start()
        except Exception as error:  # no disk, no right, no memory, no thread: the training goes on without us
            self.off(f"skewscope records nothing: {error}")

    def meet(self, pg: Any) -> _groups.Group | Literal[False] | None:
        """Return the group of a c10d process group seen for the first time; nothing where it cannot be timed."""
        if not self.on:
            return None
        try:
            found = _groups.facts(pg) if self.ready() else None
            if found is None or self.ring is None:
                return None
            with self._lock:
                index = self.ring.group(found.id, found.ranks, found.rank, found.role, found.name)
                if index < 0:  # the ring's table is full
                    self._remember(pg, False)
                    return False
                group = self._known.setdefault(
                    found.id,
                    _groups.Group(index, 0, ranks=found.ranks, size=len(found.ranks), begin=self.ring.beginner(index)),
                )
                self._remember(pg, group)
                return group
        except Exception as error:
            self.fault(error)
            return None

    def _remember(self, pg: Any, group: _groups.Group | Literal[False]) -> None:
        """Find the group by its address from now on; the entry must go before the address can be used again."""
        key = id(pg)

        def forget(_: Any) -> None:
            self.groups.pop(key, None)
            self._references.pop(key, None)

        self._references[key] = weakref.ref(pg, forget)
        self.groups[key] = group

    def end(self, call: Call, end_ns: int, flags: int, device_ns: int = -1) -> None:
        """Write the record of one call."""
        op, index, step, seq, start_ns, size, extra, _ = call
        self.write(COLLECTIVE, op, index, flags, step, seq, start_ns, end_ns, device_ns, size, extra)

    def shed(self) -> None:
        """Forget the oldest of too many calls that nobody waits for."""
        while len(self.pending) > PENDING:
            self.pending.pop(next(iter(self.pending)), None)

    def close_call(self, calls: Call | list[Call], flags: int) -> None:
        """Write what one finished work stood for; never raises."""
        end_ns = clock()
        if not self.on:
            return
        try:
            for call in calls if isinstance(calls, list) else (calls,):
                if call[-1] is None or not self.timer.ended(call, end_ns, flags):
                    self.end(call, end_ns, flags)
        except Exception as error:
            self.fault(error)

    def end_step(self, now_ns: int, work: Mapping[str, int] | None = None) -> None:
        """Write the step that ends now, and the work that it did."""
        self.write(STEP, 0, 0, 0, self.step, 0, self.step_start_ns, now_ns)
        if work:
            self.write_work(now_ns, work, self.step)
        self.step += 1
        self.step_start_ns = now_ns

    def write_work(self, now_ns: int, work: Mapping[str, int] | None, step: int) -> None:
        """Write units of work of a step; units that the ring does not know count as "other"."""
        for unit, amount in (work or {}).items():
            self.write(WORK, UNIT_OF.get(unit, 0), 0, 0, step, 0, now_ns, now_ns, -1, max(int(amount), 0))

    def is_over(self, work: Any) -> bool:
        """Return whether a work that nobody has waited for is complete; asked from the heart only."""
        if self.timer is not None and not self.timer.may_ask():
            return False
        return isinstance(work, self.work_class) and bool(self.work_is_completed(work))

    def fault(self, error: Exception) -> None:
        """Count an error of our own; the third ends the recording."""
        self._faults += 1
        if self.ring is not None:
            self.ring.internal_errors = self._faults
        if self._faults == FAULTS:
            self.off(f"skewscope stops recording after {FAULTS} errors of its own, the last: {error!r}")

    def off(self, reason: str = "") -> None:
        """Record nothing any more, say why, and mark the ring as ended."""
        with self._lock:
            if not self.on:
                return
            self.on = False
            self.groups.clear()
            self.pending.clear()
            heart, ring = self._heart, self.ring
        if reason:
            _log.warning("%s", reason)
        if heart is not None:
            heart.stop()
        if ring is not None:
            ring.close()

    def forked(self) -> None:
        """Let go of the parent's ring without a mark on it: this process is another one."""
        self._lock = threading.RLock()  # the parent's may be held by a thread that does not exist here
        self.on = False
        self.ring = None
        self._heart = None
        self.inside = 0
        self.opened.depth, self.opened.optimizer = [0] * len(PHASES), 0  # the child was made inside a phase, perhaps
        if self.timer is not None:
            self.timer.forget()
        self.groups.clear()
        self.pending.clear()

    def revive(self) -> None:
        """Start over, with a ring of its own, after `forked` or `off`."""
        self.groups.clear()
        self.pending.clear()
        self._reset()
