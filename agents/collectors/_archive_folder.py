"""The folder of the archive: by default it lies where everybody may write, so it is trusted only as far as seen.

Each use opens it anew and works through the descriptor, so what is checked is what is used. Raises OSError wherever
something is not as it should be; the message says what.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ENDING = ".ring.gz"
_SEGMENT = re.compile(r"(.+)\.([0-9]+)(?:-([0-9]+))?\.ring\.gz", re.DOTALL)
_ALWAYS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in the place of a file must not hold us up


@dataclass(frozen=True)
class Segment:
    """A file of records of one ring, from number `first` on; `order` rises with every segment that is begun."""

    name: str
    stem: str
    first: int
    order: int


def segment_name(stem: str, first: int, order: int) -> str:
    """Return the name of a file.

    >>> segment_name("llm-r0-4242", 1, 17), parsed("llm-r0-4242.1-17.ring.gz").order, parsed("llm-r0-4242.81.ring.gz")
    ('llm-r0-4242.1-17.ring.gz', 17, Segment(name='llm-r0-4242.81.ring.gz', stem='llm-r0-4242', first=81, order=0))
    """
    return f"{stem}.{first}-{order}{ENDING}"


def parsed(name: str) -> Segment | None:
    """Return what a name says, None for other files; one without an order is from before there was one."""
    found = _SEGMENT.fullmatch(name)
    return Segment(name, found[1], int(found[2]), int(found[3] or 0)) if found else None


class ArchiveFolder:
    """Segments by their names."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if make:
            os.makedirs(self._path, 0o750, exist_ok=True)
        folder = os.open(self._path, flags)
        try:
            found = os.fstat(folder)
            if found.st_uid not in (os.geteuid(), 0):
                raise _distrusted(f"user {found.st_uid} owns {self._path}: remove it, or choose another --archive")
            if found.st_mode & 0o022:
                raise _distrusted(f"others may write to {self._path}: chmod go-w, or choose another --archive")
            yield folder
        finally:
            os.close(folder)

    def segments(self) -> list[Segment]:
        """Return all segments, in no order."""
        with self._opened() as folder:
            return [segment for name in os.listdir(folder) if (segment := parsed(name))]

    def size_bytes(self, name: str) -> int:
        """Return the size of a segment, 0 where it is gone."""
        with self._opened() as folder:
            try:
                return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
            except FileNotFoundError:
                return 0

    def read(self, name: str) -> int:
        """Return a descriptor to read a segment of ours from."""
        with self._opened() as folder:
            return _own_file(os.open(name, os.O_RDONLY | _ALWAYS, dir_fd=folder))

    def remove(self, name: str) -> None:
        """Remove a segment."""
        with self._opened() as folder:
            os.unlink(name, dir_fd=folder)

    def append(self, name: str, payload: bytes) -> int:
        """Append all of it to a segment or nothing, and return the new size; makes folder and file where needed."""
        with self._opened(make=True) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _ALWAYS
            descriptor = _own_file(os.open(name, flags, 0o640, dir_fd=folder))
        try:
            before = os.fstat(descriptor).st_size
            try:
                view = memoryview(payload)
                while view:
                    view = view[os.write(descriptor, view) :]
            except OSError:
                os.ftruncate(descriptor, before)
                raise
            return before + len(payload)
        finally:
            os.close(descriptor)


def _own_file(descriptor: int) -> int:
    """Return the descriptor of a regular file of ours, close any other."""
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise _distrusted("a file in the archive is no regular file of the agent's user")


def _distrusted(reason: str) -> PermissionError:
    return PermissionError(errno.EPERM, reason)
