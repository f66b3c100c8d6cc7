"""Processes that are watched by name, to see whether they stand in uninterruptible sleep."""

from __future__ import annotations

import os
from collections.abc import Iterator

from skewscope.contracts import Sample

from ._proc import FLAGS, stat_fields, whole

LOOK_EVERY_S = 4.5
SCAN_EVERY_S = 15.0
NAMES_AT_ONCE = 200
NAMES = 16
PROCESSES = 64
COMM_LETTERS = 15  # the kernel keeps no more of a name


class Watch:
    """The processes of some names below `proc`."""

    def __init__(self, proc: str, names: str) -> None:
        wanted = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
        self._names = {name[:COMM_LETTERS].encode(): (name,) for name in list(wanted)[:NAMES]}
        self._proc = proc
        self._due_s = self._scan_due_s = float("-inf")
        self._known: list[Sample] = []
        self._unknown: list[str] = []
        self._seen: set[str] = set()
        self._once: set[str] = set()  # looked at once: it may have been about to take its name
        self._found: dict[str, tuple[int, bytes]] = {}  # pid -> (descriptor of its stat, name)
        self._asleep: set[str] = set()

    def samples(self, now_s: float) -> list[Sample]:
        """Return how many there are of each name, and how many stood still at the last two looks."""
        if self._names:
            self._scan(now_s)
            if now_s >= self._due_s:
                self._due_s = now_s + LOOK_EVERY_S
                self._known = list(self._look())
        return self._known

    def _look(self) -> Iterator[Sample]:
        counts = dict.fromkeys(self._names, 0)
        still = dict.fromkeys(self._names, 0)
        asleep = set()
        for pid, (descriptor, name) in list(self._found.items()):
            state = _state(descriptor)
            if state in (b"", b"Z", b"X"):
                self._forget(pid)
                continue
            counts[name] += 1
            if state == b"D":
                asleep.add(pid)
                still[name] += pid in self._asleep
        self._asleep = asleep
        for name, label in self._names.items():
            yield "skewscope_watched_processes", label, counts[name]
            yield "skewscope_watched_uninterruptible", label, still[name]

    def __del__(self) -> None:
        for pid in list(self._found):
            self._forget(pid)

    def _scan(self, now_s: float) -> None:
        """Look at the names of new processes, twice at each and not at too many at once."""
        if now_s >= self._scan_due_s and not self._unknown:
            self._scan_due_s = now_s + SCAN_EVERY_S
            try:
                pids = {name for name in os.listdir(self._proc) if name.isdigit()}
            except OSError:
                return
            self._unknown = sorted(pids - self._seen, key=int)
            self._seen &= pids
            self._once &= pids
        batch, self._unknown = self._unknown[:NAMES_AT_ONCE], self._unknown[NAMES_AT_ONCE:]
        for pid in batch:
            name = whole(f"{self._proc}/{pid}/comm", 64).rstrip(b"\n")
            if name in self._names and pid not in self._found and len(self._found) < PROCESSES:
                self._take(pid, name)
            (self._seen if pid in self._once else self._once).add(pid)

    def _take(self, pid: str, name: bytes) -> None:
        try:
            self._found[pid] = (os.open(f"{self._proc}/{pid}/stat", FLAGS), name)
        except OSError:
            pass  # it ended

    def _forget(self, pid: str) -> None:
        os.close(self._found.pop(pid)[0])
        self._seen.discard(pid)
        self._once.discard(pid)


def _state(descriptor: int) -> bytes:
    try:
        fields = stat_fields(os.pread(descriptor, 1024, 0))
    except OSError:
        return b""
    return fields[0] if fields else b""
