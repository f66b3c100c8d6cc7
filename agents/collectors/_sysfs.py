"""Small files of sysfs, read again and again through descriptors that stay open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from skewscope.contracts import Sample
from skewscope.errors import UsageError

from ._counters import carried

RESCAN_S = 15.0
NUMBER_BYTES, MOST_BYTES = 64, 1024  # a larger buffer makes a read of a number dearer by a fifth
MOST_MISSES = 4  # a file that keeps failing is tried at every second, fourth, at last at every sixteenth call


class Source(NamedTuple):
    """A file and the sample that its content becomes: a counter, or what `parse` makes of it (None is unknown)."""

    path: str
    metric: str
    labels: tuple[str, ...]
    scale: float = 1
    wraps: bool = False  # a counter of 32 bits
    parse: Callable[[bytes], float | None] | None = None
    most_bytes: int = NUMBER_BYTES


class _Kept:
    __slots__ = ("base", "fd", "last", "misses", "most_bytes", "raw", "sample", "source", "wait")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.most_bytes = source.most_bytes
        self.fd = -1
        self.raw: bytes | None = None
        self.sample: Sample | None = None
        self.last = self.base = self.misses = self.wait = 0

    def read(self) -> None:
        if self.fd < 0:
            self.fd = os.open(self.source.path, os.O_RDONLY | os.O_CLOEXEC)
        self.take(os.pread(self.fd, self.most_bytes, 0))

    def take(self, raw: bytes) -> None:
        """Make the sample of this content; raises ValueError where it is no number."""
        source = self.source
        value = self._counted(int(raw)) if source.parse is None else source.parse(raw)
        self.sample = None if value is None else (source.metric, source.labels, value)
        self.raw = raw

    def _counted(self, now: int) -> float:
        if now < 0:
            raise ValueError(f"{self.source.path} holds {now}, which no counter can be")
        if now < self.last:
            self.base = carried(self.base, self.last, now) if self.source.wraps else 0
        self.last = now
        return (now + self.base) * self.source.scale

    def put_aside(self) -> None:
        self.close()
        self.raw = self.sample = None
        self.wait = 1 << self.misses
        self.misses = min(self.misses + 1, MOST_MISSES)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Files:
    """Reads its files at every call. One that fails is left out and tried again ever more seldom.

    A descriptor of sysfs gives fresh values at offset 0, and ENODEV once its device is gone. Content that did not
    change is not parsed again: most error counters stand still.
    """

    def __init__(self) -> None:
        self._kept: dict[Source, _Kept] = {}
        self._good: list[_Kept] = []
        self._bad: list[_Kept] = []
        self.error: Exception | None = None  # the last one
        self.lost = False  # whether the last call lost a file that had answered

    def follow(self, sources: Iterable[Source]) -> None:
        """Read these from now on; files that stay keep their descriptors and counts."""
        old, self._kept = self._kept, {}
        for source in dict.fromkeys(sources):
            self._kept[source] = old.pop(source) if source in old else _Kept(source)
        for kept in old.values():
            kept.close()
        alive = set(map(id, self._good))
        self._good = [kept for kept in self._kept.values() if id(kept) in alive]
        self._bad = [kept for kept in self._kept.values() if id(kept) not in alive]

    def samples(self) -> list[Sample]:
        """Return the samples of all files that answer."""
        samples: list[Sample] = []
        failed: list[_Kept] = []
        add, pread = samples.append, os.pread
        for kept in self._good:
            try:
                raw = pread(kept.fd, kept.most_bytes, 0)
                if raw != kept.raw:
                    kept.take(raw)
            except (OSError, ValueError) as error:
                self.error = error.with_traceback(None)  # its frames would keep this object alive
                failed.append(kept)
                continue
            if kept.sample is not None:
                add(kept.sample)
        if self._bad:
            self._try_again(samples)
        self.lost = bool(failed)
        if failed:
            self._lose(failed)
        return samples

    def retry(self) -> None:
        """Try all failing files again at the next call."""
        for kept in self._bad:
            kept.wait = 0

    def _try_again(self, samples: list[Sample]) -> None:
        mended = []
        for kept in self._bad:
            kept.wait -= 1
            if kept.wait > 0:
                continue
            try:
                kept.read()
            except (OSError, ValueError) as error:
                self.error = error.with_traceback(None)
                kept.put_aside()
                continue
            kept.misses = 0
            mended.append(kept)
            if kept.sample is not None:
                samples.append(kept.sample)
        if mended:
            self._good += mended
            self._bad = [kept for kept in self._bad if kept.fd < 0]

    def _lose(self, failed: list[_Kept]) -> None:
        for kept in failed:
            kept.put_aside()
        self._good = [kept for kept in self._good if kept.fd >= 0]
        self._bad += failed

    def close(self) -> None:
        """Close all files."""
        self.follow(())

    def __del__(self) -> None:
        self.close()


class Watch:
    """Says when a folder wants a new scan: names came or went, or the last scan is `every_s` old."""

    def __init__(self, folder: str, clock_s: Callable[[], float], every_s: float = RESCAN_S) -> None:
        self.folder = folder
        self.found: list[str] = []
        self._clock_s = clock_s
        self._every_s = every_s
        self._next_s = float("-inf")

    def due(self) -> bool:
        """Look at the names, keep them as `found` and return whether to scan now."""
        found, now_s = names(self.folder), self._clock_s()
        if found == self.found and now_s < self._next_s:
            return False
        self.found, self._next_s = found, now_s + self._every_s
        return True


def names(folder: str) -> list[str]:
    """Return the names in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def text(path: str) -> str:
    """Return the stripped content of a small file, empty where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return (file.read(MOST_BYTES) or b"").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def expected(options: Mapping[str, str], name: str) -> int | None:
    """Return the count that an option such as `gpus.expected` sets; raises UsageError where it is no count.

    >>> expected({"gpus.expected": "8"}, "gpus.expected"), expected({}, "gpus.expected")
    (8, None)
    """
    given = options.get(name, "").strip()
    if not given:
        return None
    if not given.isdecimal():
        raise UsageError(f"{name} wants a whole number, got {given!r}")
    return int(given)
