"""Where the lines of an audit stand: in a file that several processes share, or in memory, for a replay."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLines:
    """Lines in a file that only its owner reads, locked while one writes; nothing is open between two uses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._identity: tuple[int, int] | None = None

    def lock(self) -> None:
        """Open and lock the file; raises OSError, also where it was replaced or cut since it was last used."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            told = os.fstat(file)
            if self._identity is None:
                settle(self.path.parent)
            elif self._identity != (told.st_dev, told.st_ino):
                raise OSError(f"{self.path} was replaced by another file")
        except BaseException:
            os.close(file)
            raise
        self._file, self._identity = file, (told.st_dev, told.st_ino)

    def unlock(self) -> None:
        """Close the file, which gives up the lock."""
        file, self._file = self._file, -1
        os.close(file)

    def read(self, offset: int) -> bytes:
        """Return what stands behind an offset; raises OSError where the file became shorter than that."""
        size = os.fstat(self._file).st_size
        if size < offset:
            raise OSError(f"{self.path} became shorter: lines were cut off its end")
        parts = []
        while offset < size:
            part = os.pread(self._file, min(size - offset, 1 << 20), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def write(self, line: bytes, offset: int) -> None:
        """Put a line at an offset, the end of what is whole, and make it durable; raises OSError and leaves nothing."""
        if os.fstat(self._file).st_size > offset:
            os.ftruncate(self._file, offset)
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, offset)
            raise


def settle(folder: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


class MemoryLines:
    """Lines in memory, which several audits of one process may share.

    >>> lines = MemoryLines()
    >>> lines.write(b"one", 0)
    >>> lines.read(1)
    b'ne'
    """

    def __init__(self) -> None:
        self.data = bytearray()

    def lock(self) -> None:
        """Do nothing: one thread writes."""

    def unlock(self) -> None:
        """Do nothing."""

    def read(self, offset: int) -> bytes:
        """Return what stands behind an offset."""
        return bytes(self.data[offset:])

    def write(self, line: bytes, offset: int) -> None:
        """Put a line at an offset."""
        self.data[offset:] = line
