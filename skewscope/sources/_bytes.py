"""Bytes of plain and gzip files, in blocks; what a damaged file still holds is given, and the damage told."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from types import TracebackType

from isal import isal_zlib

from ..errors import Unreadable

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31  # zlib's code for a gzip wrapper around a window of 32 KiB
FEED_BYTES = 1 << 18
HEAD_BYTES = 1 << 16
BROKEN: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub calls the class an instance
COPY_AGAIN = "copy the file again"


class Stream:
    """A file opened for reading text that may be compressed; `damage` says what was wrong with it, "" for nothing.

    Raises Unreadable where the file cannot be opened.

    >>> from tempfile import NamedTemporaryFile
    >>> import gzip
    >>> with NamedTemporaryFile() as place:
    ...     _ = place.write(gzip.compress(b"abc" * 1000)[:-9]); place.flush()
    ...     with Stream(Path(place.name)) as stream:
    ...         len(stream.read(5000)) > 0, stream.read(5000), stream.damage
    (True, b'', 'the gzip stream is cut')
    """

    def __init__(self, path: Path) -> None:
        self.damage = ""
        self._file = _opened(path)
        self._pending = b""
        self._compressed = self._file.peek(2).startswith(GZIP_MAGIC)
        self._gzip = isal_zlib.decompressobj(GZIP_WINDOW)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes of text, fewer only at the end of what can be read."""
        try:
            return self._inflate(size) if self._compressed else self._file.read(self._room(size))
        except OSError as error:
            self.damage = self.damage or f"the disk gave an error ({error.strerror or error})"
            return b""

    def _room(self, size: int) -> int:
        """Return the bytes to ask for: room for what a file cannot hold is taken from the system and given back."""
        if size <= FEED_BYTES:
            return size
        left = os.fstat(self._file.fileno()).st_size - self._file.tell()
        return min(size, left + 1) if left > 0 else size  # what is no file of a disk has no length

    def _inflate(self, size: int) -> bytes:
        parts: list[bytes] = []
        wanted = size
        while wanted and (part := self._piece(wanted)) is not None:
            parts.append(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, wanted: int) -> bytes | None:
        """Return some bytes (maybe none yet) or None at the end."""
        if self._gzip.eof and not self._next_member():
            self._stop("")
            return None
        feed = self._pending or self._file.read(FEED_BYTES)
        try:
            text: bytes = self._gzip.decompress(feed, wanted)
        except BROKEN as error:
            self._stop(f"the gzip stream is damaged ({error})")
            return None
        if not feed and not text and not self._gzip.eof:
            self._stop("the gzip stream is cut")
            return None
        self._pending = self._gzip.unconsumed_tail
        return text

    def _next_member(self) -> bool:
        rest = self._gzip.unused_data or self._file.read(FEED_BYTES)
        if not rest.startswith(GZIP_MAGIC):
            return False
        self._pending = rest
        self._gzip = isal_zlib.decompressobj(GZIP_WINDOW)
        return True

    def _stop(self, damage: str) -> None:
        self.damage = self.damage or damage
        self._file.seek(0, 2)
        self._pending = b""


def head(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return the first `size` bytes of the text in a plain or gzip file; raises Unreadable."""
    with Stream(path) as stream:
        return stream.read(size)


def whole(path: Path, limit: int = 1 << 30) -> tuple[bytes, str]:
    """Return the text of a file (at most `limit` bytes) and the damage it had, "" for none; raises Unreadable."""
    with Stream(path) as stream:
        text = stream.read(limit)
        if len(text) == limit and stream.read(1):
            raise Unreadable(f"more than {limit >> 20} MiB of text for this format", "split the file")
        return text, stream.damage


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise Unreadable("no such file", "check the path") from None
    except IsADirectoryError:
        raise Unreadable("this is a folder", "give the files in it") from None
    except PermissionError:
        raise Unreadable("no permission to read it", "give yourself read permission") from None
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror or error})", COPY_AGAIN) from None
