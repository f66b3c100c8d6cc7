"""Incident changes as server-sent events: kept for a while, so that who lost the connection misses nothing.

The id of an event is the time of the change and the incident's id: it means the same after a restart of the service,
for the first snapshot then fills the ring again with the last change of each incident.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..plans import plain

RING = 512
TURN_S = 0.5  # the server looks after its client between two turns
HEARTBEAT_S = 15.0
STREAM_S = 900.0  # then the client comes again, and is asked for its password again
RETRY = b"retry: 3000\n\n"
HEARTBEAT = b":\n\n"

Incident = Mapping[str, Any]
_encoder = msgspec.json.Encoder(enc_hook=plain)


def as_json(value: object) -> bytes:
    """Return a value as JSON; NaN and infinity become null.

    >>> as_json({"a": (1, float("nan"))})
    b'{"a":[1,null]}'
    """
    return _encoder.encode(value)


@dataclass(frozen=True)
class Change:
    """One event: its place in the order of all, what orders it after a restart too, and its bytes on the wire."""

    number: int
    key: tuple[int, str]
    wire: bytes

    @property
    def id(self) -> str:
        """The id of the event."""
        return event_id(*self.key)


def event_id(changed_ns: int, incident: str) -> str:
    """Return the id of the event that tells of a change.

    >>> event_id(5, "a7")
    '5-a7'
    """
    return f"{changed_ns}-{incident}"


def _key(event: str) -> tuple[int, str] | None:
    """Return what an event's id says, None where it is no such id.

    >>> _key("5-a7"), _key("a7")
    ((5, 'a7'), None)
    """
    number, dash, incident = event.partition("-")
    return (int(number), incident) if dash and number.isascii() and number.isdecimal() else None


class Changes:
    """Compares each snapshot's incidents with those before, and streams what changed. Threads may share it."""

    def __init__(
        self, *, ring: int = RING, heartbeat_s: float = HEARTBEAT_S, stream_s: float = STREAM_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._ring: deque[Change] = deque(maxlen=ring)
        self._heartbeat_s, self._stream_s, self._clock_s = heartbeat_s, stream_s, clock_s
        self._known: dict[str, tuple[int, str]] | None = None
        self._told = 0
        self._news = threading.Condition()
        self._closed = False

    @property
    def last(self) -> str:
        """The id of the latest event, "" before the first."""
        with self._news:
            return self._ring[-1].id if self._ring else ""

    def tell(self, incidents: Iterable[Incident]) -> None:
        """Take the incidents of a new snapshot: those that are new or changed become events, oldest change first."""
        now = {one["id"]: one for one in incidents}
        marks = {name: (int(one["changed_ns"]), str(one["state"])) for name, one in now.items()}
        known = self._known or {}
        keys = sorted((mark[0], name) for name, mark in marks.items() if known.get(name) != mark)
        wires = [_wire("incident", event_id(*key), as_json(now[key[1]])) for key in keys]
        with self._news:
            for key, wire in zip(keys, wires, strict=True):
                self._told += 1
                self._ring.append(Change(self._told, key, wire))
            self._known = marks
            self._news.notify_all()

    def close(self) -> None:
        """End all streams."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def stream(self, after: str = "", turn_s: float = TURN_S) -> Generator[bytes, None, None]:
        """Yield the events after one, or those to come where `after` is ""; b"" each `turn_s` (s) without any.

        An event `reset` says that it cannot be told what was missed: all incidents are to be asked for again.
        """
        begun_s = spoken_s = self._clock_s()
        at: int | None = None
        yield RETRY
        while not self._closed and (now_s := self._clock_s()) - begun_s < self._stream_s:
            wire, at = self._next(after, at, turn_s)
            if wire or now_s - spoken_s >= self._heartbeat_s:
                spoken_s = now_s
                wire = wire or HEARTBEAT
            yield wire

    def _next(self, after: str, at: int | None, turn_s: float) -> tuple[bytes, int | None]:
        """Return what is new after a place, waiting at most `turn_s` for it, and the place then."""
        with self._news:
            if self._known is None or at == self._told:
                self._news.wait(turn_s)
            if self._known is None:
                return b"", None
            if at is None:
                at = self._place(after)
            oldest = self._ring[0].number if self._ring else self._told + 1
            if at < oldest - 1:
                last = self._ring[-1].id if self._ring else ""
                return _wire("reset", last, as_json({"last_event": last})), self._told
            return b"".join(one.wire for one in self._ring if one.number > at), self._told

    def _place(self, after: str) -> int:
        """Return after which number to go on, -1 where that cannot be told."""
        if not after:
            return self._told
        for one in self._ring:
            if one.id == after:
                return one.number
        key = _key(after)
        if key is None or not self._ring or min(one.key for one in self._ring) > key:
            return -1
        return min((one.number for one in self._ring if one.key > key), default=self._told + 1) - 1


def _wire(event: str, name: str, data: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (name.encode(), event.encode(), data)
