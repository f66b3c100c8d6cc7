"""Reads the small text files of proc and sys, which may be missing, forbidden, or gone at any moment."""

from __future__ import annotations

import os

FLAGS = os.O_RDONLY | os.O_CLOEXEC
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Kept:
    """A file that is kept open and read anew from its start at each look; what cannot be read is b""."""

    __slots__ = ("path", "_descriptor", "_bytes")

    def __init__(self, path: str, most_bytes: int = 4096) -> None:
        self.path = path
        self._descriptor = -1
        self._bytes = most_bytes

    def read(self) -> bytes:
        """Return what the file says now."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, FLAGS)
            raw = os.pread(self._descriptor, self._bytes, 0)
            while len(raw) == self._bytes:  # it may have grown: such files are written at once or not at all
                self._bytes *= 2
                raw = os.pread(self._descriptor, self._bytes, 0)
            return raw
        except OSError:
            self.close()
            return b""

    def close(self) -> None:
        """Let go of the descriptor; the next read opens the file again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


def whole(path: str, most_bytes: int = 1 << 20) -> bytes:
    """Return a file's bytes, b"" where it cannot be read."""
    try:
        descriptor = os.open(path, FLAGS)
    except OSError:
        return b""
    try:
        parts, size = [], 0
        while size < most_bytes and (part := os.read(descriptor, 65_536)):
            parts.append(part)
            size += len(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def entries(path: str) -> list[str]:
    """Return the sorted names in a folder, none where it cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def number(raw: bytes) -> int | None:
    r"""Return the whole number that a file holds, None for anything else.

    >>> number(b"42\n"), number(b""), number(b"<unsupported>")
    (42, None, None)
    """
    try:
        return int(raw)
    except ValueError:
        return None


def table(raw: bytes) -> dict[bytes, int]:
    r"""Return the lines `name number ...` or `name: number ...` of a file; other lines are left out.

    >>> table(b"MemTotal:  16 kB\npgfault 7\nrubbish\n")
    {b'MemTotal': 16, b'pgfault': 7}
    """
    found = {}
    for line in raw.splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0].rstrip(b":")] = int(words[1])
    return found


def members(text: str) -> frozenset[int]:
    r"""Return the numbers of a list as the kernel writes it; rubbish gives none.

    >>> sorted(members("0-2,8\n")), members("x")
    ([0, 1, 2, 8], frozenset())
    """
    found: set[int] = set()
    try:
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError:
        return frozenset()
    return frozenset(found)


def stat_fields(raw: bytes) -> list[bytes]:
    """Return the fields of a process's `stat` from its state on, [] for rubbish; a name may hold any character.

    >>> stat_fields(b"7 (a) (b) S 1 7" + b" 0" * 20)[:3]
    [b'S', b'1', b'7']
    >>> stat_fields(b"7 (cut")
    []
    """
    fields = raw[raw.rfind(b")") + 1 :].split()
    return fields if len(fields) >= 22 and raw.rfind(b")") > 0 else []
