"""Finds the rings of a spool folder, keeps those of living ranks open and lets go of the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from skewscope.contracts import Place
from skewscope.errors import Unreadable

from ._archive import Archive
from ._ring import Ring

MOST_RINGS = 64
LOOKS_FOR_A_HEADER = 3  # a ring shows its header last
KEPT_LOOKS = 2
DEFAULT_ARCHIVE_MIB = 256


class RingWatch:
    """The rings of one node."""

    def __init__(self, place: Place) -> None:
        self.rings: dict[str, Ring] = {}
        self.archive = None if place.archive is None else Archive(place.archive, _cap_bytes(place))
        self.lost: Counter[str] = Counter()
        self._place = place
        self._began_ns = int(place.clock_s() * 1e9)
        self._refused: dict[str, tuple[int, int]] = {}  # name -> inode, looks
        self._owners: dict[tuple[str, int], Ring] = {}
        self._over: dict[str, tuple[int, int]] = {}  # name -> inode and time of a ring that was read to its end

    def look(self, now_s: float) -> Iterable[Ring]:
        """Open new rings and return all that are followed; raises OSError where the folder cannot be read."""
        there = self._names()
        for name, inode in there.items():
            if name not in self.rings and not (name in self._over and self._over[name] == self._mark(name)):
                self._open(name, inode)
        for known in (self._refused, self._over):
            for name in [name for name in known if name not in there]:
                del known[name]
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
            return {entry.name: entry.inode() for entry in entries if entry.name.endswith(".ring")}

    def _mark(self, name: str) -> tuple[int, int]:
        """Return what tells a file from another of its name: numbers of inodes are used again."""
        try:
            status = os.stat(Path(self._place.spool, name), follow_symlinks=False)
        except OSError:
            return 0, 0
        return status.st_ino, status.st_mtime_ns

    def _open(self, name: str, inode: int) -> None:
        refused, looks = self._refused.get(name, (inode, 0))
        looks = looks if refused == inode else 0
        if looks >= LOOKS_FOR_A_HEADER or len(self.rings) >= MOST_RINGS:
            return  # where there is no room now there may be some at the next look
        try:
            ring = Ring(Path(self._place.spool, name), self._place, self._began_ns)
            ring.follow(self.archive)
        except (Unreadable, OSError):
            self._refused[name] = inode, looks + 1
            self.lost["rejected"] += looks + 1 == LOOKS_FOR_A_HEADER
            return
        self._refused.pop(name, None)
        self.rings[name] = ring

    def owner(self, ring: Ring) -> bool:
        """Return whether a ring is the newest of its job and rank: two cannot have the same labels."""
        return self._owners.get((ring.header.job, ring.header.rank)) is ring

    def forget(self, now_s: float) -> list[Ring]:
        """Let go of rings that ended some looks ago, and return them."""
        ended = [ring for ring in self.rings.values() if ring.ended_looks >= KEPT_LOOKS and ring.is_dry]
        for ring in ended:
            del self.rings[ring.path.name]
            mark = self._mark(ring.path.name)
            if mark[0] == ring.reader.inode:  # else another ring has taken its name
                self._over[ring.path.name] = mark
            if self.archive is not None and ring.tape is not None:
                self.archive.close(ring.tape, now_s)
            ring.reader.close()
        return ended


def _cap_bytes(place: Place) -> int:
    try:
        mib = float(place.options.get("archive.mib", DEFAULT_ARCHIVE_MIB))
    except ValueError:
        mib = DEFAULT_ARCHIVE_MIB
    return int(max(mib, 1.0) * (1 << 20))
