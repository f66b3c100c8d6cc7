"""Lines of a text file, plain or gzip, one after another: files larger than memory can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import Unreadable
from . import _bytes

BLOCK_BYTES = 1 << 22
LONGEST_BYTES = 1 << 28
CUT = "the last line has no end and is left out"


class Lines:
    r"""The lines of a file with their numbers; after the last, `damage` says what was wrong with it, "" for nothing.

    A last line without an end is given too, except where only `ended` ones are wanted: half a number looks like a
    whole one. Raises Unreadable for a line of more than 256 MiB.

    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile() as place:
    ...     _ = place.write(b"a\n\nb"); place.flush()
    ...     list(Lines(Path(place.name)))
    [(1, b'a'), (3, b'b')]
    """

    def __init__(self, path: Path, *, ended: bool = False) -> None:
        self._path = path
        self._ended = ended
        self.damage = ""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        number, rest = 0, b""
        with _bytes.Stream(self._path) as stream:
            while block := stream.read(BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    number += 1
                    if line.strip():
                        yield number, line
                if len(rest) > LONGEST_BYTES:
                    raise Unreadable(f"line {number + 1} is longer than {LONGEST_BYTES >> 20} MiB")
            self.damage = stream.damage
        if rest.strip() and self._ended:
            self.damage = self.damage or CUT
        elif rest.strip():
            yield number + 1, rest


def ended(content: bytes, damage: str) -> tuple[bytes, str]:
    r"""Return the lines of a text that have an end, and its damage: half a number looks like a whole one.

    >>> ended(b"step,ms\n1,25\n2,2", "")
    (b'step,ms\n1,25\n', 'the last line has no end and is left out')
    """
    at = content.rfind(b"\n") + 1
    return content[:at], damage or (CUT if content[at:].strip() else "")


def texts(content: bytes) -> Iterator[str]:
    r"""Yield the lines of a text without their ends; what only Unicode takes for the end of a line is none.

    >>> list(texts("a\u2028b\r\nc".encode()))
    ['a\u2028b', 'c']
    """
    return (line.decode("utf-8", "replace") for line in content.splitlines())
