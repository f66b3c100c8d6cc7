"""Finds the rings of a spool folder, keeps those of living ranks open and lets go of the others.

Everybody may write there. A job is of the user whose ring was there first: while one of those is followed, rings of
others that name the job are rejected, and tried again later, since a name is free when its last ring has ended or been
silent for long. Nobody keeps more than half of the places from others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from skewscope.contracts import Place
from skewscope.errors import Unreadable

from ._archive import Archive
from ._ring import Ring
from ._spool_folder import make_spool

MOST_RINGS = 64
MOST_NAMES = 8192  # in the folder
LOOKS_FOR_A_HEADER = 3  # a ring shows its header last
LOOKS_FOR_A_NAME = 5  # of a ring whose job is another user's, from one try to the next
KEPT_LOOKS = 2
LONGEST_KEPT_LOOKS = 60  # of a ring that is over and still written to
SILENT_LOOKS = 300  # after which a ring gives up its place and name to others: its process may be dead, where none sees
DEFAULT_ARCHIVE_MIB = 256


class RingWatch:
    """The rings of one node."""

    def __init__(self, place: Place) -> None:
        self.rings: dict[str, Ring] = {}
        self.archive: Archive | None = None
        if place.archive is not None:  # else this is a look that leaves no trace
            make_spool(Path(place.spool))
            self.archive = Archive(place.archive, _cap_bytes(place))
        self.lost: Counter[str] = Counter()
        self._place = place
        self._began_ns = int(place.clock_s() * 1e9)
        self._refused: dict[str, tuple[int, int]] = {}  # name -> inode, looks
        self._foreign: dict[str, tuple[int, int]] = {}  # name -> inode, look at which it is tried again
        self._owners: dict[tuple[str, int], Ring] = {}
        self._over: dict[str, tuple[int, int]] = {}  # name -> inode and time of a ring that was read to its end
        self._looks = 0

    def look(self, now_s: float) -> Iterable[Ring]:
        """Open new rings and return all that are followed; raises OSError where the folder cannot be read."""
        there = self._names()
        self._looks += 1
        for known in (self._refused, self._foreign, self._over):
            for name in [name for name in known if name not in there]:
                del known[name]
        self._open_new({name for name, inode in there.items() if self._is_due(name, inode)})
        for ring in self.rings.values():
            ring.look(now_s)
            if there.get(ring.path.name) != ring.reader.inode:
                ring.ended_looks = max(ring.ended_looks, 0)  # removed or replaced: what it held is read below
        self._owners = {}
        for ring in sorted(self.rings.values(), key=lambda ring: ring.header.started_ns):
            self._owners[ring.header.job, ring.header.rank] = ring
        return self.rings.values()

    def _names(self) -> dict[str, int]:
        with os.scandir(self._place.spool) as entries:
            some = islice(entries, MOST_NAMES)
            return {entry.name: entry.inode() for entry in some if entry.name.endswith(".ring")}

    def _is_due(self, name: str, inode: int) -> bool:
        """Return whether a file should be looked into now, as far as its name and inode tell."""
        refused, looks = self._refused.get(name, (inode, 0))
        foreign, again = self._foreign.get(name, (inode, 0))
        is_refused = refused == inode and looks >= LOOKS_FOR_A_HEADER
        return name not in self.rings and not is_refused and not (foreign == inode and self._looks < again)

    def _open_new(self, names: Iterable[str]) -> None:
        found = [(name, status) for name in names if (status := self._status(name)) is not None]
        crowded: set[int] = set()
        # Who was there first is told by when a file changed, which nobody can set; a ring in memory never changes.
        for name, status in sorted(found, key=lambda item: (item[1].st_ctime_ns, item[0])):
            if self._over.get(name) in (_mark(status), (status.st_ino, 0)) or status.st_uid in crowded:
                continue
            if self._has_room(status.st_uid):
                self._open(name, status.st_ino)
            else:
                crowded.add(status.st_uid)

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(f"{self._place.spool}/{name}", follow_symlinks=False)
        except OSError:
            return None

    def _has_room(self, uid: int) -> bool:
        """Return whether a ring of a user may be followed; if not, one that must make room is gone at the next look."""
        if len(self.rings) < MOST_RINGS:
            return True
        rings = [ring for ring in self.rings.values() if ring.ended_looks < 0]
        users = Counter(ring.reader.uid for ring in rings)
        crowding = {user for user, count in users.items() if user != uid and count > MOST_RINGS // 2}
        for ring in reversed(rings):  # who came last goes first
            if ring.reader.uid in crowding or ring.silent_looks > SILENT_LOOKS:
                ring.ended_looks = LONGEST_KEPT_LOOKS
                break
        return False

    def _open(self, name: str, inode: int) -> None:
        try:
            ring = Ring(Path(self._place.spool, name), self._place, self._began_ns)
        except (Unreadable, OSError):
            refused, looks = self._refused.get(name, (inode, 0))
            looks = looks + 1 if refused == inode else 1
            self._refused[name] = inode, looks
            self.lost["rejected"] += looks == LOOKS_FOR_A_HEADER
            return
        self._refused.pop(name, None)
        if self._is_taken(ring.header.job, ring.reader.uid):
            ring.reader.close()
            self.lost["rejected"] += self._foreign.get(name, (-1, 0))[0] != inode
            self._foreign[name] = inode, self._looks + LOOKS_FOR_A_NAME
            return
        self._foreign.pop(name, None)
        ring.follow(self.archive)
        self.rings[name] = ring

    def _is_taken(self, job: str, uid: int) -> bool:
        """Return whether a job is another user's; one whose rings are all silent is not, once they are gone."""
        holders = [ring for ring in self.rings.values() if ring.header.job == job and ring.reader.uid != uid]
        if all(ring.silent_looks > SILENT_LOOKS for ring in holders):
            for ring in holders:
                ring.ended_looks = LONGEST_KEPT_LOOKS
        return bool(holders)

    def owner(self, ring: Ring) -> bool:
        """Return whether a ring is the newest of its job and rank: two cannot have the same labels."""
        return self._owners.get((ring.header.job, ring.header.rank)) is ring

    def forget(self, now_s: float) -> list[Ring]:
        """Let go of rings that ended some looks ago, and return them."""
        ended = [
            ring
            for ring in self.rings.values()
            if ring.ended_looks >= (KEPT_LOOKS if ring.is_dry else LONGEST_KEPT_LOOKS)
        ]
        for ring in ended:
            del self.rings[ring.path.name]
            status = self._status(ring.path.name)
            if status is not None and status.st_ino == ring.reader.inode:  # else another ring has taken its name
                given_up = ring.ended_looks >= LONGEST_KEPT_LOOKS  # whatever it still writes
                self._over[ring.path.name] = (status.st_ino, 0) if given_up else _mark(status)
            if self.archive is not None and ring.tape is not None:
                self.archive.close(ring.tape, now_s)
            ring.reader.close()
        return ended


def _mark(status: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from another of its name: numbers of inodes are used again."""
    return status.st_ino, status.st_mtime_ns


def _cap_bytes(place: Place) -> int:
    try:
        mib = float(place.options.get("archive.mib", DEFAULT_ARCHIVE_MIB))
    except ValueError:
        mib = DEFAULT_ARCHIVE_MIB
    return int(min(max(1.0, mib), 1 << 20) * (1 << 20))
