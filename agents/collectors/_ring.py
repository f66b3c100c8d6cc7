"""One ring that the agent follows: whose it is, whether its writer lives, what is new in it, how far its groups are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from skewscope.contracts import Place
from skewscope.errors import Unreadable
from skewscope.spool import OPS, Begun, Group, Header, RingReader

from . import _ring_columns
from ._archive import Archive, Tape
from ._lateness import Arrivals
from ._rank_totals import RankTotals

SILENT_S = 60.0
LONGEST_NAME = 200  # bytes; the archive puts numbers behind it
ROLES = ("dp", "tp", "pp", "ep", "cp", "world")
PAIRWISE = (OPS.index("send"), OPS.index("recv"))  # numbered per peer: their numbers join no other rank


@dataclass
class Progress:
    """How far one rank is in one group."""

    label: str
    key: tuple[str, int]  # job and group id: the same on all ranks
    ranks: int
    last_seq: int = 0
    last_pair_ns: int = 0
    arrivals: Arrivals = field(default_factory=Arrivals)

    def is_open(self, begun: Begun) -> bool:
        """Return whether the newest call that was begun has no record yet."""
        if begun.op in PAIRWISE:
            return begun.start_ns > self.last_pair_ns
        return begun.seq > self.last_seq


class Ring:
    """Follows one ring file. Raises Unreadable for one that must not be read, OSError where it cannot be opened."""

    def __init__(self, path: Path, place: Place, began_ns: int) -> None:
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise Unreadable(f"no ring of ours: its name has more than {LONGEST_NAME} bytes")
        self.path = path
        self.reader = RingReader(path)
        self.header: Header = self.reader.header
        self.groups: dict[int, Progress] = {}
        self.totals: RankTotals | None = None
        self.tape: Tape | None = None
        self.ended_looks = -1  # looks since the writer was found gone; -1 while it lives
        self.silent_looks = -1
        self.was_over = False  # it ended before the agent began
        self.is_dry = False  # the last look brought nothing
        self._process = f"{place.proc}/{self.header.pid}"
        self._began_ns = began_ns
        self._catching_up = True
        self.waiting: list[tuple[Progress, int, float]] = []
        try:
            self._was_there = self._check_owner(place)
        except Unreadable:
            self.reader.close()
            raise

    def _check_owner(self, place: Place) -> bool:
        boot_id = _text(f"{place.proc}/sys/kernel/random/boot_id").strip().replace("-", "")
        if boot_id and any(self.header.boot_id) and boot_id != self.header.boot_id.hex():
            raise Unreadable("it is left from before the last boot", "remove it")
        # The directory's own owner is root where a process is not dumpable; the status tells the truth.
        status = _text(f"{self._process}/status")
        uids = [line.split()[1] for line in status.splitlines() if line.startswith("Uid:")]
        # Another owner is another process: the number is of the pid namespace of the job's container.
        return bool(uids) and uids[0] == str(self.reader.uid)

    def follow(self, archive: Archive | None) -> None:
        """Decide where to begin: where the archive ended, else with what is new since the agent began."""
        if archive is not None:
            self.tape = archive.tape(self.path.name.removesuffix(".ring"), self.reader.raw_header)
            self.reader.skip_to(self.tape.next_number)
        elif self.header.heartbeat_ns < self._began_ns:
            self.reader.skip_to(self.header.last_number + 1)

    def look(self, now_s: float) -> None:
        """Read the header again and see whether the writer lives; before the records, so that none is missed."""
        self.header = self.reader.refresh()
        gone = self.header.closed or (self._was_there and not os.access(self._process, os.F_OK))
        self.was_over |= gone and self.ended_looks < 0 and self.header.heartbeat_ns < self._began_ns
        if gone or self.ended_looks >= 0:
            self.ended_looks += 1
        silent = abs(now_s - self.header.heartbeat_ns / 1e9) > SILENT_S  # a sign from the future is none
        self.silent_looks = self.silent_looks + 1 if silent else -1

    def fresh(self, raw: bytearray, now_s: float) -> bytes | bytearray:
        """Return the records that belong into the metrics: what ended before the agent began would be a spike."""
        self.is_dry = not raw
        if self.tape is not None and raw:
            self.tape.add(raw, now_s)
        if not self._catching_up or not raw:
            return raw
        old_bytes = _ring_columns.ended_before(raw, self._began_ns)
        self._catching_up = old_bytes == len(raw)
        return raw[old_bytes:]

    def keep(self, now_s: float) -> None:
        """Write to the archive what is due, or all at the end."""
        if self.tape is not None and (self.tape.due(now_s) or self.ended_looks >= 0):
            self.header = self.reader.refresh()  # with the groups of the newest records
            self.tape.head = self.reader.raw_header
            self.tape.flush(now_s)

    def group(self, index: int) -> Progress | None:
        """Return the progress of a group by its place in the header's table; None where the table has no such row."""
        found = self.groups.get(index)
        if found is None and index < len(self.header.groups):
            if self.header.groups[index] is None:
                self.header = self.reader.refresh()  # it was added since the last look
            group = self.header.groups[index]
            if group is not None:
                found = self.groups[index] = Progress(self._label(index), (self.header.job, group.id), group.size)
        return found

    def look_at_groups(self, now_s: float) -> None:
        """Work out (progress, number of the newest call, seconds since the open one began or 0) of each group."""
        self.waiting = []
        for index, begun in enumerate(self.header.begun):
            progress = self.groups.get(index)
            if progress is None:
                progress = self.group(index) if begun.start_ns > 0 else None
                if progress is None:
                    continue
            age_s = now_s - begun.start_ns / 1e9
            is_open = begun.start_ns > 0 and age_s > 0 and progress.is_open(begun)
            newest = progress.last_seq if begun.op in PAIRWISE else max(begun.seq, progress.last_seq)
            self.waiting.append((progress, newest, age_s if is_open else 0.0))

    def _label(self, index: int) -> str:
        """Return a group's role, with a number where the rank has several of one role; never a hash, never one twice.

        A role is one of a few words, and none of them ends in a number; a table that changes can still repeat itself.
        """
        roles = [self._role(group) for group in self.header.groups[: index + 1]]
        role = roles[-1]
        if not role:
            return f"group{index}"
        taken = {progress.label for progress in self.groups.values()}
        names = (f"{role}{number if number > 1 else ''}" for number in count(roles.count(role)))
        return next(name for name in names if name not in taken)

    def _role(self, group: Group | None) -> str:
        if group is None or group.role in ROLES:
            return group.role if group else ""
        return "world" if 1 < group.size == self.header.world_size else ""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""
