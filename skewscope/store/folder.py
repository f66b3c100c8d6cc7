"""The folder of a store: names of its files, which of them count, whole writes, the format and the lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .failures import StoreError, StoreFull, StoreTaken

FORMAT, VERSION = "skewscope.store", 1
ABOUT, LOCK = ".store.json", ".lock"  # hidden: they are no recordings
WINDOWS, EVENTS = "windows", "events"
NAME = re.compile(rf"({WINDOWS}|{EVENTS})-(\d{{1,19}})-(\d{{1,19}})\.segment(\.damaged)?")
TEMPORARY = ".tmp"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOOKS = 100  # at a folder whose files keep changing


@dataclass(frozen=True, order=True)
class Kept:
    """A file of `kind` windows or events that holds the windows which ended from `first_ns` to `last_ns`."""

    last_ns: int
    first_ns: int
    kind: str
    damaged: bool = False

    @property
    def name(self) -> str:
        """The file's name.

        >>> Kept(60, 30, "windows").name
        'windows-30-60.segment'
        """
        return f"{self.kind}-{self.first_ns}-{self.last_ns}.segment" + ".damaged" * self.damaged


def listed(directory: Path) -> list[Kept]:
    """Return the store's files by time, damaged ones and those that others replace with them.

    A folder that changes while it is read may show neither the old nor the new file, so it is read until it stands.
    """
    before: list[str] = []
    for _ in range(LOOKS):
        names = sorted(os.listdir(directory))
        if names == before:
            break
        before = names
    found = [Kept(int(hit[3]), int(hit[2]), hit[1], bool(hit[4])) for hit in map(NAME.fullmatch, before) if hit]
    return sorted(found)


def counting(files: Sequence[Kept], kind: str) -> list[Kept]:
    """Return the readable files of a kind, without those that lie within the time of a longer one.

    A process that dies after it joined windows leaves both these and the segment.

    >>> files = [Kept(30, 30, "windows"), Kept(60, 60, "windows"), Kept(60, 30, "windows"), Kept(90, 90, "windows")]
    >>> [one.name for one in counting(files, "windows")]
    ['windows-30-60.segment', 'windows-90-90.segment']
    """
    found: list[Kept] = []
    reached_ns = -1
    for one in sorted(files, key=lambda file: (file.first_ns, -file.last_ns)):
        if one.kind == kind and not one.damaged and one.last_ns > reached_ns:
            found.append(one)
            reached_ns = one.last_ns
    return found


def size(directory: Path, files: Sequence[Kept]) -> dict[Kept, int]:
    """Return the bytes of each file that is still there."""
    found = {}
    for one in files:
        with suppress(FileNotFoundError):
            found[one] = (directory / one.name).stat().st_size
    return found


def put(directory: Path, name: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that it is there whole or not at all, and on disk when this returns.

    Raises StoreFull where there is no room; nothing of it is left then.
    """
    temporary = directory / f".{name}{TEMPORARY}"
    try:
        with full_is_told(directory):
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, directory / name)
            synced(directory)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def full_is_told(directory: Path) -> Iterator[None]:
    """Raise StoreFull in place of what the system says when there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFull(f"no room for the store {directory}: {error.strerror}; free some or keep less") from error


def synced(directory: Path) -> None:
    """Bring the names in a folder to disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def known(directory: Path) -> None:
    """Raise StoreError where a folder is no store, or one of a format that is not known here."""
    try:
        about = json.loads((directory / ABOUT).read_bytes())
        right = about["format"] == FORMAT
        version = int(about["version"])
    except FileNotFoundError:
        raise StoreError(f"{directory} is no store: it has no {ABOUT}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{directory / ABOUT} cannot be read: {error}") from None
    if not right or version < 1:
        raise StoreError(f"{directory} is no store: {ABOUT} says {about['format']!r}, version {version}")
    if version > VERSION:
        raise StoreError(
            f"the store {directory} has format {version}, and this skewscope knows formats up to {VERSION}: "
            "use a newer skewscope, or another folder"
        )


def made(directory: Path) -> None:
    """Make a folder a store where it is none; raises StoreError for one that holds other things."""
    with full_is_told(directory):
        directory.mkdir(parents=True, exist_ok=True)
    if (directory / ABOUT).exists():
        return
    strange = [name for name in sorted(os.listdir(directory)) if name not in (LOCK, f".{ABOUT}{TEMPORARY}")]
    if strange:
        raise StoreError(f"{directory} is no store and not empty (it holds {strange[0]}): name another folder")
    text = json.dumps({"format": FORMAT, "version": VERSION}) + "\n"
    put(directory, ABOUT, lambda file: file.write(text.encode()))


def locked(directory: Path) -> int:
    """Return the handle of the lock of the store's one writer; raises StoreTaken where another process has it."""
    with full_is_told(directory):
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise StoreTaken(f"the store {directory} is written by another process (id {who or 'unknown'})") from None
    with suppress(OSError):  # only for the message above
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle
