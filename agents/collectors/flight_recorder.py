"""Flight recorder dumps of hung jobs: which rank did not begin the call that the others wait in.

A rank whose oldest call has been open for `hang.seconds` (120) makes the agent ask for dumps, once per hang: it touches
`.dump-request` in the spool, which the hooks of all ranks watch, and writes to the `*.pipe` files there, which torch's
NCCL backend reads. Dumps come into the folder `flight` of the spool, as JSON or as pickles; pickles are read by an
interpreter that knows plain data only. Dumps older than an hour are of another time and left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData, Unreadable

from . import _flight_dump

FOLDER, REQUEST = "flight", ".dump-request"
HANG_S = 120.0
KEPT_S = 3600.0
SAME_HANG_S = 600.0
MOST_FILES = 256
MOST_AT_ONCE = 16  # a dump costs up to a fifth of a second to read

Dumps = dict[tuple[str, int], dict[str, _flight_dump.Place]]  # (job, rank) -> group -> how far


class FlightRecorder:
    """Reads new dumps and asks for some when a job hangs."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    comes_and_goes: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_collective_last_sequence", "skewscope_flight_last_sequence", "skewscope_flight_completed_sequence",
        "skewscope_flight_behind_calls", "skewscope_flight_absent_ranks", "skewscope_flight_mismatched_calls",
        "skewscope_flight_dump_timestamp_seconds", "skewscope_flight_unreadable_dumps",
        "skewscope_flight_requests_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._spool = str(place.spool)
        self._read: dict[str, tuple[tuple[int, int, int], dict[str, _flight_dump.Place] | None]] = {}
        self._hanging: set[str] = set()
        self._requests: dict[str, int] = {}

    def collect(self) -> Iterable[Sample]:
        """Return what the dumps say; raises NoData where there is none and nothing hangs."""
        self._ask_where_needed()
        dumps, times, unreadable = self._dumps()
        if not dumps and not unreadable and not self._requests:
            raise NoData(f"no flight recorder dump in {self._spool}/{FOLDER}")
        found: list[Sample] = [("skewscope_flight_unreadable_dumps", (), unreadable)]
        found += [("skewscope_flight_requests_total", (job,), count) for job, count in self._requests.items()]
        found += [("skewscope_flight_dump_timestamp_seconds", (job,), time_s) for job, time_s in times.items()]
        for job in times:
            found += self._job(job, {rank: places for (one, rank), places in dumps.items() if one == job})
        return found

    def _dumps(self) -> tuple[Dumps, dict[str, float], int]:
        """Return the dumps, the time of each job's newest, and how many files are none."""
        dumps: Dumps = {}
        times: dict[str, float] = {}
        unreadable = fresh = 0
        there = self._files()
        newest_ns = {job: mark[1] for mark, job, _ in there.values()}  # they stand in order of time
        for name, (mark, job, rank) in there.items():
            known = self._read.get(name)
            if newest_ns[job] - mark[1] > SAME_HANG_S * 1e9:
                continue
            if known is None or known[0] != mark:
                fresh += 1
                if fresh > MOST_AT_ONCE:
                    continue
                known = self._read[name] = mark, self._places(name)
            if known[1] is None:
                unreadable += 1
            else:
                dumps[job, rank] = known[1]
                times[job] = max(times.get(job, 0.0), mark[1] / 1e9)
        for name in [name for name in self._read if name not in there]:
            del self._read[name]
        return dumps, times, unreadable

    def _files(self) -> dict[str, tuple[tuple[int, int, int], str, int]]:
        """Return name -> (inode, time and size; job; rank), the oldest first, of dumps of the last hour."""
        ranks = self._place.board.get("ranks") or ()
        jobs = {rank["job_id"] for rank in ranks}
        found = []
        try:
            with os.scandir(f"{self._spool}/{FOLDER}") as entries:
                for entry in entries:
                    who = _flight_dump.named(entry.name)
                    status = entry.stat(follow_symlinks=False) if who else None
                    if who and status and status.st_mtime > self._place.now_s() - KEPT_S:
                        job = who[0] or (next(iter(jobs)) if len(jobs) == 1 else "")
                        mark = status.st_ino, status.st_mtime_ns, status.st_size
                        found.append((status.st_mtime_ns, entry.name, (mark, job, who[1])))
        except OSError:
            return {}
        return {name: rest for _, name, rest in sorted(found)[-MOST_FILES:]}

    def _places(self, name: str) -> dict[str, _flight_dump.Place] | None:
        try:
            return _flight_dump.read(f"{self._spool}/{FOLDER}/{name}")
        except (Unreadable, OSError):
            return None

    def _job(self, job: str, ranks: dict[int, dict[str, _flight_dump.Place]]) -> Iterable[Sample]:
        watched = {rank["rank"] for rank in self._place.board.get("ranks") or () if rank["job_id"] == job}
        labels: dict[str, str] = {}
        for name in sorted({name for places in ranks.values() for name in places}):
            told = {rank: places[name] for rank, places in ranks.items() if name in places}
            label = next(iter(told.values())).label
            # Two groups of one role are two series: the name that torch gave tells them apart.
            label = f"{label}:{name[:16]}" if label in labels.values() else label
            labels[name] = label
            yield from self._group(job, label, told, watched)

    def _group(self, job: str, label: str, told: dict[int, _flight_dump.Place], watched: set[int]) -> Iterable[Sample]:
        newest = max(place.last_seq for place in told.values())
        for rank, place in told.items():
            named = (job, str(rank), label)
            yield "skewscope_flight_last_sequence", named, place.last_seq
            yield "skewscope_flight_completed_sequence", named, place.completed_seq
            yield "skewscope_flight_behind_calls", named, newest - place.last_seq
            if rank not in watched:  # others have a ring, which knows it better
                yield "skewscope_collective_last_sequence", (job, str(rank), "", label), place.last_seq
        members = {member for place in told.values() for member in place.members}
        if members:
            yield "skewscope_flight_absent_ranks", (job, label), len(members - told.keys())
        yield "skewscope_flight_mismatched_calls", (job, label), _flight_dump.mismatched(iter(told.values()))

    def _ask_where_needed(self) -> None:
        """Ask for dumps of each job that has begun to hang since the last look."""
        try:
            limit_s = float(self._place.options.get("hang.seconds", HANG_S))
        except ValueError:
            limit_s = HANG_S
        now_s = self._place.clock_s()
        waiting = self._place.board.get("in-flight") or ()
        hanging = {str(call["job_id"]) for call in waiting if now_s - call["start_s"] > limit_s}
        for job in hanging - self._hanging:
            self._requests[job] = self._requests.get(job, 0) + 1
        if hanging - self._hanging:
            self._request()
        self._hanging = hanging

    def _request(self) -> None:
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(f"{self._spool}/{REQUEST}", flags | os.O_CREAT, 0o644)
            try:
                os.utime(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            pass  # a spool that cannot be written: the pipes may still work
        try:
            with os.scandir(self._spool) as entries:
                pipes = [entry.path for entry in entries if entry.name.endswith(".pipe")]
        except OSError:
            return
        for pipe in pipes:
            try:
                descriptor = os.open(pipe, flags)
            except OSError:
                continue  # nobody reads it
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.write(descriptor, b"1\n")
            except OSError:
                pass  # its reader went away, or does not read
            finally:
                os.close(descriptor)
