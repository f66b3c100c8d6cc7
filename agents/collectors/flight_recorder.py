"""Flight recorder dumps of hung jobs: which rank did not begin the call that the others wait in.

A rank whose oldest call has been open for `hang.seconds` (120) makes the agent ask for dumps, once per hang: it touches
`.dump-request` in the spool, which the hooks of all ranks watch, and writes to the `*.pipe` files there, which torch's
NCCL backend reads. Dumps come into the folder `flight` of the spool, as JSON or as pickles; pickles are read by an
interpreter that knows plain data only. Dumps older than an hour are of another time and left out.

Everybody may write there, so a dump is believed only where its owner is the job's: the user whose rings the agent
follows under the job's name, and until an hour after the last of them. A job without rings, as one whose containers
know nothing of skewscope, belongs to whose dump came first, for as long as there is one. Containers write as the user
that they have on the host, rings and dumps alike. Dumps of others count as unreadable.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from time import thread_time
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData, Unreadable
from skewscope.spool import ring_name

from . import _flight_dump

FOLDER, REQUEST = "flight", ".dump-request"
HANG_S = 120.0
KEPT_S = 3600.0
SAME_HANG_S = 600.0
CLOCKS_DIFFER_S = 60.0  # a dump from later than that is of a time that nobody knows
MOST_FILES = 64  # as many as there are rings
MOST_NAMES = 8192  # in the folder
MOST_GROUPS = 64  # of a job
MOST_JOBS = 1024  # whose owners are remembered
READING_S = 1.0  # of a look; a dump of 2,000 calls takes up to a tenth

Groups = dict[str, _flight_dump.Place]  # group -> how far


@dataclass(frozen=True)
class Dump:
    """A file that is called a dump; `changed_ns` is what nobody can set, `written_ns` what its name sorts by."""

    name: str
    job: str
    rank: int
    uid: int
    written_ns: int
    changed_ns: int
    mark: tuple[int, int, int]  # another one is another file, or has changed


class FlightRecorder:
    """Reads new dumps and asks for some when a job hangs."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    comes_and_goes: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_flight_last_sequence", "skewscope_flight_completed_sequence", "skewscope_flight_behind_calls",
        "skewscope_flight_absent_ranks", "skewscope_flight_mismatched_calls", "skewscope_flight_dump_timestamp_seconds",
        "skewscope_flight_unreadable_dumps", "skewscope_flight_requests_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._spool = str(place.spool)
        self._read: dict[str, tuple[tuple[int, int, int], Groups | None]] = {}
        self._owners: dict[str, tuple[int, float]] = {}  # job -> user, and when there was last a ring or dump of it
        self._jobs: dict[tuple[int, int, int], str] = {}  # of dumps that are there: their rings may be gone
        self._hanging: set[str] = set()
        self._requests: dict[str, int] = {}

    def collect(self) -> Iterable[Sample]:
        """Return what the dumps say; raises NoData where there is none and nothing hangs."""
        self._ask_where_needed()
        dumps, unreadable = self._believed(self._files())
        told, damaged = self._told(dumps)
        if not told and not unreadable and not damaged and not self._requests:
            raise NoData(f"no flight recorder dump in {self._spool}/{FOLDER}")
        found: list[Sample] = [("skewscope_flight_unreadable_dumps", (), unreadable + damaged)]
        found += [("skewscope_flight_requests_total", (job,), count) for job, count in self._requests.items()]
        for job, ranks in told.items():
            newest_ns = max(dump.written_ns for dump in dumps if dump.job == job and dump.rank in ranks)
            found.append(("skewscope_flight_dump_timestamp_seconds", (job,), newest_ns / 1e9))
            found += _job(job, ranks)
        return found

    def _files(self) -> list[Dump]:
        """Return the dumps of the last hour, the oldest first."""
        now_s, found = self._place.now_s(), []
        by_name, by_user = self._watched_jobs()
        try:
            with os.scandir(f"{self._spool}/{FOLDER}") as entries:
                for entry in islice(entries, MOST_NAMES):
                    who = _flight_dump.named(entry.name)
                    status = _status(entry) if who else None
                    if not who or not status or not -CLOCKS_DIFFER_S < now_s - status.st_mtime < KEPT_S:
                        continue
                    mark = status.st_ino, status.st_mtime_ns, status.st_size
                    job = by_name.get(who[0]) if who[0] else by_user.get(status.st_uid)
                    job = job or self._jobs.get(mark) or who[0]
                    dump = Dump(entry.name, job, who[1], status.st_uid, status.st_mtime_ns, status.st_ctime_ns, mark)
                    found.append(dump)
        except OSError:
            return []
        self._jobs = {dump.mark: dump.job for dump in found}
        return sorted(found, key=lambda dump: (dump.written_ns, dump.name))

    def _watched_jobs(self) -> tuple[dict[str, str], dict[int, str]]:
        """Return jobs by their name in files, and by user for dumps that name none: those of users with one job."""
        jobs = {rank["job_id"]: int(rank["uid"]) for rank in self._place.board.get("ranks") or ()}
        by_name = {ring_name(job, 0, 0).rsplit("-r", 1)[0]: job for job in jobs}
        users = list(jobs.values())
        return by_name, {uid: job for job, uid in jobs.items() if users.count(uid) == 1}

    def _believed(self, dumps: list[Dump]) -> tuple[list[Dump], int]:
        """Return the newest dumps of the jobs' owners, of jobs with rings before others, and how many are foreign."""
        now_s = self._place.clock_s()
        watched = {rank["job_id"]: int(rank["uid"]) for rank in self._place.board.get("ranks") or ()}
        kept = [item for item in self._owners.items() if now_s - item[1][1] < KEPT_S]
        owners = dict(sorted(kept, key=lambda item: item[1][1])[-MOST_JOBS:])
        owners |= {job: (uid, now_s) for job, uid in watched.items()}
        for dump in sorted(dumps, key=lambda dump: dump.changed_ns):
            if owners.setdefault(dump.job, (dump.uid, now_s))[0] == dump.uid:
                owners[dump.job] = dump.uid, now_s
        self._owners = owners
        mine = [dump for dump in dumps if owners[dump.job][0] == dump.uid]
        newest = sorted(mine, key=lambda dump: dump.job in watched)[-MOST_FILES:]
        return sorted(newest, key=lambda dump: dump.job not in watched), len(dumps) - len(mine)

    def _told(self, dumps: list[Dump]) -> tuple[dict[str, dict[int, Groups]], int]:
        """Return job -> rank -> groups of the newest dumps, and how many files are none."""
        newest_ns = {dump.job: dump.written_ns for dump in dumps}  # those of a job stand in order
        told: dict[str, dict[int, Groups]] = {}
        damaged, until_s = 0, thread_time() + READING_S
        for dump in dumps:
            if newest_ns[dump.job] - dump.written_ns > SAME_HANG_S * 1e9:
                continue
            known = self._read.get(dump.name)
            if known is None or known[0] != dump.mark:
                if thread_time() > until_s:
                    continue  # the next look goes on
                known = self._read[dump.name] = dump.mark, self._groups(dump)
            if known[1] is None:
                damaged += 1
            else:
                told.setdefault(dump.job, {})[dump.rank] = known[1]
        self._read = {dump.name: self._read[dump.name] for dump in dumps if dump.name in self._read}
        return told, damaged

    def _groups(self, dump: Dump) -> Groups | None:
        try:
            return _flight_dump.read(f"{self._spool}/{FOLDER}/{dump.name}", dump.uid)
        except (Unreadable, OSError):
            return None

    def _ask_where_needed(self) -> None:
        """Ask for dumps of each job that has begun to hang since the last look."""
        try:
            limit_s = float(self._place.options.get("hang.seconds", HANG_S))
        except ValueError:
            limit_s = HANG_S
        now_s = self._place.clock_s()
        waiting = self._place.board.get("in-flight") or ()
        hanging = {str(call["job_id"]) for call in waiting if now_s - call["start_s"] > limit_s}
        for job in sorted(hanging - self._hanging):
            self._requests[job] = self._requests.pop(job, 0) + 1
        for job in list(self._requests)[:-MOST_FILES]:
            del self._requests[job]
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
                pipes = [entry.path for entry in islice(entries, MOST_NAMES) if entry.name.endswith(".pipe")]
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


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None  # it went away just now


def _job(job: str, ranks: dict[int, Groups]) -> Iterator[Sample]:
    labels: set[str] = set()
    for name in sorted({name for groups in ranks.values() for name in groups})[:MOST_GROUPS]:
        told = {rank: groups[name] for rank, groups in ranks.items() if name in groups}
        label = next(iter(told.values())).label
        # Two groups of one role are two series: the name that torch gave tells them apart, and it is there once.
        label = f"{label}:{name}" if label in labels else label
        labels.add(label)
        yield from _group(job, label, told)


def _group(job: str, label: str, told: dict[int, _flight_dump.Place]) -> Iterator[Sample]:
    newest = max(place.last_seq for place in told.values())
    for rank, place in told.items():
        named = (job, str(rank), label)
        yield "skewscope_flight_last_sequence", named, place.last_seq
        yield "skewscope_flight_completed_sequence", named, place.completed_seq
        yield "skewscope_flight_behind_calls", named, newest - place.last_seq
    members = {member for place in told.values() for member in place.members}
    if members:
        yield "skewscope_flight_absent_ranks", (job, label), len(members - told.keys())
    yield "skewscope_flight_mismatched_calls", (job, label), _flight_dump.mismatched(iter(told.values()))
