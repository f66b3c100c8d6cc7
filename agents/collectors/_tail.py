"""Follows text files that others append to, rotate and truncate; never more than a bounded piece at a time."""

from __future__ import annotations

import os
import stat

AT_ONCE_BYTES = 1 << 20
LONGEST_LINE_BYTES = 1 << 16
BACKLOG_BYTES = 16 << 20


class Tail:
    """One file from its end, or from its beginning where it is new. Raises OSError where it cannot be opened."""

    def __init__(self, path: str, *, from_end: bool) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._descriptor)
            raise OSError(f"{path} is no regular file")
        self.inode, self.uid = found.st_ino, found.st_uid
        self._at = found.st_size if from_end else 0
        self._held = b""
        self._torn = self._at > 0 and not self._is_behind_a_line()  # the rest of a line is no line
        self.skipped = 0  # lines that are too long, and pieces of backlog

    def _is_behind_a_line(self) -> bool:
        try:
            return os.pread(self._descriptor, 1, self._at - 1) == b"\n"
        except OSError:
            return False

    def lines(self, most: int = 1 << 20) -> list[bytes]:
        """Return the whole lines that came since the last call; where there are more than `most`, the others later."""
        size = os.fstat(self._descriptor).st_size
        if size < self._at:  # truncated: it begins anew
            self._at, self._held, self._torn = 0, b"", False
        if size - self._at > BACKLOG_BYTES:
            self._at, self._held, self._torn = size - AT_ONCE_BYTES, b"", True
            self.skipped += 1
        chunk = os.pread(self._descriptor, AT_ONCE_BYTES, self._at)
        self._at += len(chunk)
        *whole, held = (self._held + chunk).split(b"\n")
        if len(whole) > most:
            self._at -= sum(map(len, whole[most:])) + len(whole) - most + len(held)
            whole, held = whole[:most], b""
        if self._torn and whole:
            self._torn = False
            del whole[0]
        fitting = [line for line in whole if len(line) <= LONGEST_LINE_BYTES]
        self.skipped += len(whole) - len(fitting)
        if len(held) > LONGEST_LINE_BYTES:
            self.skipped += not self._torn
            held, self._torn = b"", True
        self._held = held
        return fitting

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
