"""Flight recorder dumps in JSON, one value after another: no more than a piece of the file is ever unfolded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecoder
from typing import Any

from skewscope.errors import Unreadable

MOST_NESTED = 16  # a dump has 5 levels: the object, its entries, an entry, its sizes, one size
MOST_CONTAINERS = 2_000_000
MOST_VALUES = 1 << 16
VALUE_BYTES = 1 << 20  # the longest is the table of groups, with the ranks of each

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_REST = bytes(set(range(256)) - set(b'"[]{}'))
_QUOTED, _BLANK = re.compile(rb'"[^"]*"'), re.compile(r"[ \t\n\r]*")


def values(content: bytes) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the object that a dump is, each of its entries by itself as ("entries", entry).

    Raises Unreadable or ValueError at what is no whole dump, or more than one.

    >>> list(values(b'{"version": "2.10", "entries": [{"pg_id": 0}, {"pg_id": 1}]}'))
    [('version', '2.10'), ('entries', {'pg_id': 0}), ('entries', {'pg_id': 1})]
    """
    refuse_nesting(content)
    pieces = _Pieces(content)
    pieces.take("{")
    mark, has_entries = ",", False
    while mark == ",":
        key = pieces.value()
        pieces.take(":")
        if key != "entries":
            yield str(key), pieces.value()
        else:
            has_entries = True
            yield from ((key, entry) for entry in pieces.members())
        mark = pieces.take(",}")
    if not has_entries:
        raise Unreadable("no flight recorder dump: it has no list of entries")


def refuse_nesting(content: bytes) -> None:
    """Raise Unreadable where brackets nest too deeply, are too many or do not match, before anything follows them.

    >>> refuse_nesting(b'{"entries": [[1], "[[["]}')
    """
    bare = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_BRACKETS, _REST)
    bare = _QUOTED.sub(b"", bare.replace(b'""', b""))  # nearly all texts hold no bracket and go at once
    if bare.count(b"[") > MOST_CONTAINERS:
        raise Unreadable(f"no flight recorder dump: more than {MOST_CONTAINERS:,} lists and objects")
    for _ in range(MOST_NESTED):
        bare = bare.replace(b"[]", b"")
    if bare:
        raise Unreadable(f"no whole dump: brackets that do not match, or nest deeper than {MOST_NESTED}")


class _Pieces:
    """Reads JSON in windows, in each of which the next value stands whole."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._begin, self._at, self._window = 0, 0, ""
        self._decode = JSONDecoder().raw_decode
        self._left = MOST_VALUES
        self._move()

    def _move(self) -> None:
        self._begin, self._at = self._begin + self._at, 0
        # One letter a byte: a wide letter must not make the whole window four times as large.
        self._window = self._content[self._begin : self._begin + 2 * VALUE_BYTES].decode("latin-1")

    def _next(self) -> str:
        """Go to the next letter that is no blank and return it, "" at the end."""
        if self._at > VALUE_BYTES:
            self._move()
        found = _BLANK.match(self._window, self._at)
        self._at = found.end() if found else self._at
        return self._window[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Go behind the next letter, which must be one of those expected, and return it."""
        letter = self._next()
        if not letter or letter not in expected:
            raise Unreadable(f"no whole dump: {letter!r} where {' or '.join(expected)} should stand")
        self._at += 1
        return letter

    def value(self) -> Any:  # noqa: ANN401 - plain data of any shape
        """Return the next value."""
        self._next()
        self._left -= 1
        if self._left < 0:
            raise Unreadable(f"no flight recorder dump: more than {MOST_VALUES:,} entries")
        found, self._at = self._decode(self._window, self._at)
        return found

    def members(self) -> Iterator[Any]:
        """Yield the members of the list that comes next."""
        self.take("[")
        if self._next() == "]":
            self.take("]")
            return
        mark = ","
        while mark == ",":
            yield self.value()
            mark = self.take(",]")
