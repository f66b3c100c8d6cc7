"""Collectives from the logs of NCCL Inspector, NCCL's own profiler plug-in: no change to the training code.

`NCCL_INSPECTOR_DUMP_DIR` must be the folder `inspector` of the spool or a folder in it, which then names the job
(`inspector.job` does so for all). A log holds durations and sizes but no arrivals, so there is no lateness here: the
late rank is the one with the smallest sum. Jobs that write rings are left out: their hook has seen the same calls. A
job is of the user whose log was there first; those of others that name it count as lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._job_totals import BANDWIDTH_FLOOR_BYTES, JobTotals
from ._rank_totals import RankTotals
from ._tail import Tail

if TYPE_CHECKING:
    from ._inspector_line import Call

FOLDER = "inspector"
ENDINGS = (".log", ".jsonl")
MOST_FILES = 64
MOST_NAMES = 1024  # in a folder
MOST_LINES, LEAST_LINES = 32_768, 256  # at a look: of all logs, but of each; the others come at the next
MOST_GROUPS = 32
QUIET_S = 300.0  # a log that says nothing for so long is of a job that ended
ROLES = ("dp", "tp", "pp", "ep", "cp", "world")


class Log:
    """One process's log and what it told."""

    def __init__(self, tail: Tail, job_id: str, now_s: float) -> None:
        self.tail = tail
        self.job_id = job_id
        self.heard_s = now_s
        self.rank = self.ranks = -1
        self.pid = -1
        self.totals: RankTotals | None = None
        self._groups: dict[str, str] = {}

    def group(self, call: Call) -> str:
        """Return the role of a communicator where its name tells one, else `group` and its number in this log."""
        known = self._groups.get(call.communicator)
        if known is None:
            words = call.name.lower().replace("-", "_").split("_")
            role = next((role for role in ROLES if role in words), "")
            known = role if role and role not in self._groups.values() else f"group{len(self._groups)}"
            if len(self._groups) < MOST_GROUPS:
                self._groups[call.communicator] = known
        return known


class NcclInspector:
    """Follows all logs of the folder."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    comes_and_goes: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_collective_duration_seconds", "skewscope_collectives_total", "skewscope_collective_seconds_total",
        "skewscope_collective_min_seconds", "skewscope_collective_bytes_total",
        "skewscope_collective_bus_bandwidth_bytes_per_second", "skewscope_spool_events_total",
        "skewscope_spool_lost_events_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = f"{place.spool}/{FOLDER}"
        self._logs: dict[str, Log] = {}
        self._jobs: dict[str, JobTotals] = {}
        self._first_look = True
        self._told: list[str] = []  # jobs
        self._foreign: dict[str, int] = {}  # path -> inode of logs that are not of their job's user
        self._events = self._lost = 0

    def collect(self) -> Iterable[Sample]:
        """Return what the logs told; raises NoData where there is none."""
        self._told = []
        try:
            return self._look()
        finally:
            self._place.board["inspected"] = self._told  # until the next look its rings are kept off the page

    def _look(self) -> list[Sample]:
        now_s = self._place.clock_s()
        there = self._files()
        self._follow(there, now_s)
        if not self._logs and not self._events:
            raise NoData(f"no log of NCCL Inspector in {self._folder}")
        for path, log in self._logs.items():
            if there.get(path) == log.tail.inode:
                self._read(log, now_s)
        return self._samples(now_s)

    def _files(self) -> dict[str, int]:
        """Return path -> inode of the logs in the folder and in those directly in it."""
        found: dict[str, int] = {}
        folders = [self._folder]
        for folder in folders[:1]:
            folders += [path for path, _ in _entries(folder, folders=True)][:MOST_FILES]
        for folder in folders:
            found.update((path, inode) for path, inode in _entries(folder, folders=False) if path.endswith(ENDINGS))
        return dict(sorted(found.items(), key=lambda item: (item[0] not in self._logs, item[0]))[:MOST_FILES])

    def _follow(self, there: dict[str, int], now_s: float) -> None:
        for path, log in list(self._logs.items()):
            if there.get(path) != log.tail.inode:  # rotated or removed: what it still holds is read first
                self._read(log, now_s)
                log.tail.close()
                del self._logs[path]
                if path in there:
                    self._open(path, now_s, log)
        for path in there:
            if path not in self._logs:
                self._open(path, now_s, None)
        self._foreign = {path: inode for path, inode in self._foreign.items() if path in there}
        self._first_look = False

    def _open(self, path: str, now_s: float, former: Log | None) -> None:
        try:
            tail = Tail(path, from_end=self._first_look)
        except OSError:
            return
        folder = os.path.basename(os.path.dirname(path))
        job_id = self._place.options.get("inspector.job") or folder.removeprefix("nccl-inspector-")
        if self._is_taken(job_id, tail.uid, now_s):
            tail.close()
            self._lost += self._foreign.get(path) != tail.inode
            self._foreign[path] = tail.inode
            return
        log = former or Log(tail, job_id, now_s)
        log.tail = tail
        self._logs[path] = log

    def _is_taken(self, job_id: str, uid: int, now_s: float) -> bool:
        """Return whether a job is another user's; one whose logs are all quiet is forgotten instead."""
        holders = {path: log for path, log in self._logs.items() if log.job_id == job_id and log.tail.uid != uid}
        if any(now_s - log.heard_s <= QUIET_S for log in holders.values()):
            return True
        for path, log in holders.items():
            log.tail.close()
            del self._logs[path]
            self._jobs.pop(job_id, None)
        return False

    def _read(self, log: Log, now_s: float) -> None:
        from . import _inspector_line

        before = log.tail.skipped
        try:
            lines = log.tail.lines(max(MOST_LINES // (len(self._logs) + 1), LEAST_LINES))
        except OSError:
            return
        self._lost += log.tail.skipped - before
        calls: dict[tuple[str, str, int], list[Call]] = {}
        for line in lines:
            if not line.strip():
                continue
            try:
                call = _inspector_line.parse(line)
            except (ValueError, TypeError, OverflowError):
                self._lost += 1
                continue
            if call is not None:
                self._note(log, call, now_s)
                calls.setdefault((call.op, log.group(call), call.ranks), []).append(call)
        for (op, group, _), some in calls.items():
            self._add(log, op, group, some, now_s)

    def _note(self, log: Log, call: Call, now_s: float) -> None:
        """Learn who writes: the rank of a process is the one in its largest communicator."""
        self._events += 1
        log.heard_s = now_s
        if call.ranks > log.ranks and call.rank >= 0:
            if call.rank != log.rank:
                log.totals = None
            log.rank, log.ranks, log.pid = call.rank, call.ranks, call.pid

    def _totals(self, log: Log) -> RankTotals:
        if log.totals is None:
            job = self._jobs.setdefault(log.job_id, JobTotals(log.job_id))
            log.totals = RankTotals(log.job_id, str(log.rank) if log.rank >= 0 else "", self._gpu(log.pid), job)
        return log.totals

    def _gpu(self, pid: int) -> str:
        slots = {gpu.get("uuid"): str(gpu.get("slot", "")) for gpu in self._place.board.get("gpus") or ()}
        for uuid, processes in (self._place.board.get("gpu-processes") or {}).items():
            if any(process and process[0] == pid for process in processes):
                return slots.get(uuid, "")
        return ""

    def _add(self, log: Log, op: str, group: str, calls: list[Call], now_s: float) -> None:
        totals = self._totals(log)
        # The plug-in says itself what crossed the bus; 0 members keep the totals from working it out again.
        spent = [call.spent_ns for call in calls]
        ordered = totals.add_calls(op, group, 0, spent, [call.size_bytes for call in calls], now_s)
        longest = calls[spent.index(ordered[-1])]
        totals.exemplify(op, group, longest.seq, longest.spent_ns, now_s, self._place.now_s())
        rates = [call.bus_bytes_per_s for call in calls if call.size_bytes >= BANDWIDTH_FLOOR_BYTES]
        totals.job.rates(op, group, [rate for rate in rates if rate > 0], now_s)

    def _samples(self, now_s: float) -> list[Sample]:
        ringed = self._place.board.get("ringed") or ()
        found: list[Sample] = [
            ("skewscope_spool_events_total", ("inspector",), self._events),
            ("skewscope_spool_lost_events_total", ("inspector",), self._lost),
        ]
        seen: set[tuple[str, ...]] = set()
        for log in self._logs.values():
            if log.totals is None or log.job_id in ringed or now_s - log.heard_s > QUIET_S:
                continue
            if log.totals.labels not in seen:  # two logs of one rank would be two series of one name
                seen.add(log.totals.labels)
                found += log.totals.samples(now_s)
        logged = {log.job_id for log in self._logs.values()}
        self._jobs = {job_id: job for job_id, job in self._jobs.items() if job_id in logged}
        self._told = sorted({labels[0] for labels in seen})
        for job_id in self._told:
            found += self._jobs[job_id].samples(now_s)
        return found


def _entries(folder: str, *, folders: bool) -> list[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            return [
                (entry.path, entry.inode())
                for entry in islice(entries, MOST_NAMES)
                if (entry.is_dir if folders else entry.is_file)(follow_symlinks=False)
            ]
    except OSError:
        return []
