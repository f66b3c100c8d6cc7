"""Cuts the text of a Chrome trace at borders between events, so that a file of any size passes through in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import msgspec

from ..errors import Unreadable
from ._bytes import COPY_AGAIN
from ._kineto_mend import BROKEN, mend

EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
BORDER = re.compile(rb'\}\s*,\s*(\{\s*")')
END = re.compile(rb"\}\s*\]")
NEXT_KEY = re.compile(rb'\s*(?:,\s*"|\}|$)')
NOT_A_TRACE = "give the JSON that the profiler exported"
SPACE = b" \t\r\n"
PROBE_BYTES = 1 << 13
HEAD_LIMIT_BYTES = 1 << 28
SPANNED = 8  # objects in lists inside one event that look like borders
GROWN = 8  # blocks without a sure border before an unsure one is taken


class Text(Protocol):
    """What blocks are read from: a file, or a range of one."""

    damage: str

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""


class _Probe(msgspec.Struct):
    ph: str


_PROBE = msgspec.json.Decoder(_Probe)


class Blocks:
    """The event blocks of one trace, in order, as (text, end): `text[:end]` is whole events joined by commas.

    After iteration `header` holds the JSON object around the events (the events left out; `before` and `after` are its
    two parts), and `cut` whether the text ended before the array of events did. Raises Unreadable where there is no
    array of events.
    """

    def __init__(self, stream: Text, block_bytes: int) -> None:
        self._stream = stream
        self._size = max(block_bytes, 256)
        self.bare = False  # no object around the array of events
        self.before = b""
        self.after = b""
        self._open = False
        self._complete = False

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        text = self._start()
        while True:
            more = self._stream.read(self._size)
            if not more:
                break
            text = text + more if text else more
            place = last_border(text, sure=len(text) < GROWN * self._size)
            if place is not None:
                yield text, place[0]
                text = text[place[1] :]
        yield from self._finish(text)

    @property
    def cut(self) -> bool:
        """Whether the text ended inside the array; one without its bracket is whole where nothing is around it."""
        return self._open and not (self.bare and self._complete)

    @property
    def header(self) -> bytes:
        """JSON object of all that stands beside the events."""
        return header(self.before, self.after)

    def _start(self) -> bytes:
        """Return the text behind the opening bracket of the events."""
        text = self._stream.read(self._size).removeprefix(b"\xef\xbb\xbf")
        if not text.strip(SPACE):
            reason = self._stream.damage or "the file is empty"
            raise Unreadable(reason, "write or copy the trace again")
        if text.lstrip(SPACE).startswith(b"["):
            self.bare = True
            text = text.lstrip(SPACE)[1:].lstrip(SPACE)
            if not text.startswith((b"{", b"]")):
                raise Unreadable("not a trace: a list of something else than events", NOT_A_TRACE)
            return text
        found = EVENTS.search(text)
        while found is None and len(text) < HEAD_LIMIT_BYTES:
            more = self._stream.read(self._size)
            if not more:
                break
            seen = max(0, len(text) - 64)
            text += more
            found = EVENTS.search(text, seen)
        if found is None:
            raise self._no_events(text)
        self.before = text[: found.start()]
        return text[found.end() :]

    def _no_events(self, text: bytes) -> Unreadable:
        if b'"schemaVersion"' in text[:4096] or b'"deviceProperties"' in text[:4096]:
            return Unreadable(f"the file ends before the first event: {self._stream.damage or 'it is cut'}", COPY_AGAIN)
        return Unreadable("not a trace: it has no traceEvents", NOT_A_TRACE)

    def _finish(self, text: bytes) -> Iterator[tuple[bytes, int]]:
        place = last_border(text, sure=True)
        if place is not None:
            yield text, place[0]
            text = text[place[1] :]
        if text.lstrip(SPACE).startswith(b"]"):
            self.after = text.lstrip(SPACE)[1:]
            return
        end = _array_end(text)
        if end is not None:
            self.after = text[end[1] :]
            yield text, end[0]
            return
        text = text.rstrip(SPACE).rstrip(b",")
        self._open, self._complete = True, _is_event(text) or _is_event(mend(text))
        place = (len(text), 0) if self._complete else last_border(text, sure=False)
        if place is not None:
            yield text, place[0]


def header(before: bytes, after: bytes) -> bytes:
    """Return the JSON object of what stands before and after the array of events.

    >>> header(b'{"a": 1, ', b', "b": 2}')
    b'{"a": 1,"b": 2}'
    """
    before = before.rstrip(SPACE).rstrip(b",").strip(SPACE)
    after = after.strip(SPACE).lstrip(b",").strip(SPACE)
    if not before.startswith(b"{"):
        return b"{}"
    if not after.endswith(b"}"):
        after = b"}"
    comma = b"," if before != b"{" and after != b"}" else b""
    return before + comma + after


def last_border(text: bytes, *, sure: bool) -> tuple[int, int] | None:
    """Return (end of an event, start of the next one) nearest to the end of `text`, or None.

    A border is sure where the object before it decodes as an event; with `sure=False` the last one that looks so is
    taken where none is.

    >>> last_border(b'{"ph": "X"}, {"ph": "X", "na', sure=True)
    (11, 13)
    """
    width = PROBE_BYTES
    while True:
        offset = max(0, len(text) - width)
        found = list(BORDER.finditer(text, offset))
        starts = [0] * (offset == 0) + [match.start(1) for match in found]
        ends = [match.start() + 1 for match in found][1 - (offset == 0) :]
        for place in range(len(ends) - 1, -1, -1):
            before = starts[max(0, place - SPANNED) : place + 1]
            if any(_is_event(text[start : ends[place]]) for start in reversed(before)):
                return ends[place], starts[place + 1]
        if offset == 0:
            break
        width *= 16
    return None if sure or not found else (found[-1].start() + 1, found[-1].start(1))


def _is_event(piece: bytes) -> bool:
    try:
        _PROBE.decode(piece)
    except BROKEN:
        return False
    return True


def _array_end(text: bytes) -> tuple[int, int] | None:
    """Return (end of the last event, behind the closing bracket), or None where the array is not closed."""
    likely: tuple[int, int] | None = None
    for match in END.finditer(text):
        event = match.start() + 1
        if _is_event(text[:event]) or _is_event(mend(text[:event])):
            return event, match.end()
        if likely is None and NEXT_KEY.match(text, match.end()):
            likely = event, match.end()
    return likely
