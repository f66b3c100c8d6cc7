"""Keeps what readers made of large files, so that a second run need not parse them again.

A reading is filed under the digest of the file's bytes, its name, the kind of reading and the state of the readers
themselves: with new code nothing old is found. So that unchanged files need not even be digested, what a path, size,
time and inode led to is kept beside it. Entries are written under a name of their own and renamed, so that several runs
may share a folder; the least recently used ones go when it grows beyond its limit.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import contracts
from ..contracts import Reading
from ..errors import UsageError
from ._cache_file import Damaged, NotPlain, decoded, encoded

log = logging.getLogger("skewscope")

KEEP_BYTES = 5 * 10**9
LEAST_BYTES = 4_000_000  # of text; less is read sooner than found
UNPACKED_RATIO = 16  # compressed recordings unfold about so far
YOUNG_NS = 2 * 10**9  # a file that changed this recently may change again within the same tick of its clock
BLOCK_BYTES = 1 << 20
MOST_BYTES = 10**9  # of one reading
ENDING, PLACE_ENDING = ".reading", ".place"
# Readings that depend on one file alone, and may be large.
FORMATS = (
    "kineto", "flight-recorder", "nccl-inspector", "nccl-profiler-plugin", "nsys-sqlite", "rocprof", "torch-trace",
    "chakra-et", "whatif-parquet",
)  # fmt: skip


@dataclass(frozen=True)
class Cache:
    """A folder of readings and how many bytes it may hold."""

    folder: Path
    keep_bytes: int = KEEP_BYTES

    def reading(self, path: Path, detail: bool, read: Callable[[], Reading]) -> Reading:
        """Return the reading of a file: what is kept, else what `read` gives, which is kept then where it pays."""
        state = _state(path)
        if state is None:
            return read()
        try:
            place = self._place(path, state, detail)
            kept = self._kept(place, str(path))
        except OSError as error:
            log.debug("cache %s: %s", self.folder, error)
            return read()
        if kept is not None:
            return kept
        reading = read()
        # What changed while it was read is filed under nothing: its digest may be of other bytes than its reading.
        if _same(state, _state(path)):
            self._keep(place, reading)
        return reading

    def _place(self, path: Path, state: os.stat_result, detail: bool) -> Path:
        digest = self._digest(path, state)
        key = blake2b(digest_size=20)
        key.update(f"{digest} {path.name} {detail} {readers_state()}".encode())
        return self.folder / f"{key.hexdigest()}{ENDING}"

    def _digest(self, path: Path, state: os.stat_result) -> str:
        """Return the digest of a file's bytes, from its path and times where they were seen before."""
        told = f"{os.path.realpath(path)} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
        short = (
            self.folder
            / f"{blake2b(told.encode('utf-8', 'surrogateescape'), digest_size=20).hexdigest()}{PLACE_ENDING}"
        )
        settled = time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > YOUNG_NS
        if settled:
            with suppress(OSError):
                known = short.read_text("ascii", "replace")
                if len(known) == 64:
                    os.utime(short)
                    return known
        digest = digest_of(path)
        if settled:
            self._write(short, digest.encode())
        return digest

    def _kept(self, place: Path, path: str) -> Reading | None:
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            return None
        try:
            reading = decoded(content, path)
        except Damaged as error:
            log.debug("cache %s: %s", place, error)
            place.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(place)  # the least recently used go first
        return reading

    def _keep(self, place: Path, reading: Reading) -> None:
        told = " ".join([reading.error, *reading.warnings])
        if reading.status == "unreadable" or reading.format not in FORMATS or reading.path in told:
            return
        if (
            sum(getattr(column, "nbytes", 0) for _, columns in reading.batches for column in columns.values())
            > MOST_BYTES
        ):
            return  # to write it down takes as much memory again
        try:
            self._write(place, encoded(reading))
            self.sweep()
        except NotPlain as error:
            log.debug("cache: %s is not kept: %s", reading.path, error)
        except OSError as error:
            log.warning(
                "cache %s: cannot be written (%s); --no-cache leaves it alone", self.folder, error.strerror or error
            )

    def _write(self, place: Path, content: bytes) -> None:
        handle, hidden = tempfile.mkstemp(dir=self.folder, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(hidden, place)
        except BaseException:
            Path(hidden).unlink(missing_ok=True)
            raise

    def sweep(self) -> None:
        """Remove the least recently used entries beyond the limit, and parts that a run left behind an hour ago."""
        entries = []
        for entry in os.scandir(self.folder):
            with suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                if entry.name.startswith(".part-"):
                    if time.time() - state.st_mtime > 3600:
                        os.unlink(entry.path)
                elif entry.name.endswith((ENDING, PLACE_ENDING)):
                    entries.append((state.st_mtime_ns, state.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.keep_bytes:
                break
            with suppress(OSError):
                os.unlink(path)
                total -= size


def digest_of(path: Path) -> str:
    """Return the digest of a file's bytes, 64 letters."""
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@cache
def readers_state() -> str:
    """Return what changes with the readers: the version, and size and time of their files and of the tables."""
    try:
        told = version("skewscope")
    except PackageNotFoundError:
        told = ""
    digest = blake2b(told.encode(), digest_size=16)
    core = Path(contracts.__file__).parent
    for folder in (core / "sources", core / "tables", core):
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if entry.name.endswith(".py"):
                state = entry.stat()
                digest.update(f"{entry.name} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()


def _state(path: Path) -> os.stat_result | None:
    """Return the state of a file that is worth keeping, None for others."""
    try:
        state = path.stat()
    except OSError:
        return None
    text = state.st_size * (UNPACKED_RATIO if path.suffix in (".gz", ".parquet") else 1)
    return state if stat.S_ISREG(state.st_mode) and text >= LEAST_BYTES else None


def _same(first: os.stat_result, second: os.stat_result | None) -> bool:
    names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
    return second is not None and all(getattr(first, name) == getattr(second, name) for name in names)


_in_force: list[Cache] = []


@contextmanager
def in_force(folder: Path | None, keep_bytes: int = KEEP_BYTES) -> Iterator[None]:
    """Let readings come from a folder, and go to it, within the block; None: they do not. Forked processes follow.

    Raises UsageError for a folder that cannot be made, or that others could write into.
    """
    if folder is None:
        yield
        return
    _in_force.append(Cache(_made(folder), keep_bytes))
    try:
        yield
    finally:
        _in_force.pop()


def remembered(path: Path, detail: bool, read: Callable[[], Reading]) -> Reading:
    """Return the reading of a file, from the cache that is in force, if any."""
    return _in_force[-1].reading(path, detail, read) if _in_force else read()


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = folder.stat()
    except OSError as error:
        raise UsageError(f"--cache {folder}: the folder cannot be made: {error.strerror or error}") from None
    if not stat.S_ISDIR(state.st_mode):
        raise UsageError(f"--cache {folder}: is no folder")
    if state.st_mode & stat.S_IWOTH:  # a sticky bit does not help: entries could be laid there before ours
        raise UsageError(f"--cache {folder}: anybody may write into it; take a folder of your own")
    return folder
