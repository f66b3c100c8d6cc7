"""Decodes blocks of trace events: only wanted ones where the exporter's layout is known, and around broken spots."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from ._kineto_blocks import BORDER
from ._kineto_layout import Layout, Scan, layout
from ._kineto_mend import BROKEN, mend, mend_name

EXACT_BELOW_US = float(2**43)  # a double keeps one nanosecond below
TRIED = 8  # blocks that are searched for the layout of events
CHECKED = 500  # events looked at per block to see whether their times need decimals
MERGED = 8  # neighbouring pieces tried together, for a border inside an event

Kind = TypeVar("Kind", bound=msgspec.Struct)


class Args(msgspec.Struct, gc=False, frozen=True):
    """The arguments that are read; what an exporter left out keeps its default."""

    external: Any = msgspec.field(name="External id", default=-1)
    collective: Any = msgspec.field(name="Collective name", default="")
    count_in: Any = msgspec.field(name="In msg nelems", default=-1)
    count_out: Any = msgspec.field(name="Out msg nelems", default=-1)
    dtype: Any = ""
    group: Any = msgspec.field(name="Process Group Name", default="")
    description: Any = msgspec.field(name="Process Group Description", default="")
    members: Any = msgspec.field(name="Process Group Ranks", default="")
    group_size: Any = msgspec.field(name="Group size", default=-1)
    first_rank: Any = msgspec.field(name="Global rank start", default=-1)
    stride: Any = msgspec.field(name="Global rank stride", default=-1)
    seq: Any = msgspec.field(name="Seq", default=-1)
    src: Any = msgspec.field(name="Src Rank", default=-1)
    dst: Any = msgspec.field(name="Dst Rank", default=-1)
    dims: Raw = msgspec.field(name="Input Dims", default=Raw(b""))
    types: Raw = msgspec.field(name="Input type", default=Raw(b""))
    inputs: Raw = msgspec.field(name="Concrete Inputs", default=Raw(b""))


class DeviceArgs(msgspec.Struct, gc=False, frozen=True):
    """The arguments read of every device and launch event."""

    correlation: Any = -1
    bytes: Any = -1
    size: Any = -1
    direction: Any = ""


class Event(msgspec.Struct, gc=False):
    """One event; times in microseconds as the file has them."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | float | str | None = 0
    tid: int | float | str | None = 0
    ts: float = 0.0
    dur: float | None = 0.0
    args: Raw = Raw(b"null")


class ExactEvent(Event, gc=False):
    """The same with decimal times, for absolute microseconds that carry nanoseconds."""

    ts: Decimal = Decimal(0)  # type: ignore[assignment]
    dur: Decimal | None = Decimal(0)  # type: ignore[assignment]


def arguments(events: Sequence[Event], kind: type[Kind]) -> list[Kind]:
    """Return the arguments of events; defaults where there are none or they are broken.

    >>> arguments([Event(args=Raw(b'{"correlation": 7}')), Event()], DeviceArgs)[0].correlation
    7
    """
    if not events:
        return []
    text = b",".join([event.args for event in events])  # Raw is a buffer
    none = kind()
    try:
        found: list[Kind | None] = msgspec.json.decode(b"[%b]" % text, type=list[kind | None])  # type: ignore[valid-type]
    except BROKEN:
        found = [_argument(bytes(event.args), kind) for event in events]
    return [none if one is None else one for one in found]


def _argument(text: bytes, kind: type[Kind]) -> Kind | None:
    for tried in (text, mend(text)):
        try:
            return msgspec.json.decode(tried, type=kind)
        except BROKEN:
            continue
    return None


@dataclass
class Decoder:
    """Turns blocks into events. `host` also keeps plain CPU operators; the counters are over all blocks so far.

    `like_exact` reads times as decimals from the beginning.
    """

    host: bool = False
    events: int = 0
    lost: int = 0
    mended: int = 0
    like_exact: InitVar[bool] = False
    _type: type[Event] = Event
    _layout: Layout | None = None
    _tried: int = 0

    def __post_init__(self, like_exact: bool) -> None:
        self._type = ExactEvent if like_exact else Event

    def decode(self, text: bytes, end: int) -> list[Event]:
        """Return the wanted events of the block `text[:end]` (complete ones joined by commas), maybe others too."""
        scan = Scan(text, end)
        self.events += scan.count
        if self._layout is None and self._tried < TRIED:
            self._layout, self._tried = layout(text), self._tried + 1
        pieces = scan.wanted(self._layout, host=self.host) if self._layout is not None else None
        found = self._read(text, end, pieces)
        if self._type is Event and _needs_decimals(found):
            self._type = ExactEvent
            found = self._read(text, end, pieces)
        return found

    @property
    def exact(self) -> bool:
        """Whether times are read as decimals."""
        return self._type is ExactEvent

    def every(self, text: bytes, end: int, like: Decoder) -> list[Event]:
        """Return all events of the block, their times read as `like` read them."""
        self._type = like._type
        return self._read(text, end, None)

    def _read(self, text: bytes, end: int, pieces: list[bytes] | None) -> list[Event]:
        try:
            return self._parse(b"[%b]" % (text[:end] if pieces is None else b",".join(pieces)))
        except BROKEN:
            return self._salvage(split(text[:end] if pieces is None else b",".join(pieces)))

    def _parse(self, text: bytes) -> list[Event]:
        with _without_gc():
            found: list[Event] = msgspec.json.decode(text, type=list[self._type])  # type: ignore[name-defined]
        return found

    def _salvage(self, pieces: list[bytes]) -> list[Event]:
        """Return what can be read of broken text: repaired as a whole, else event by event."""
        mended = [mend(piece) for piece in pieces]
        try:
            found = self._parse(b"[" + b",".join(mended) + b"]")
        except BROKEN:
            return self._one_by_one(mended)
        self.mended += sum(old != new for old, new in zip(pieces, mended, strict=True))
        return found

    def _one_by_one(self, pieces: list[bytes]) -> list[Event]:
        found: list[Event] = []
        place = 0
        while place < len(pieces):
            used, events = self._next(pieces, place)
            found += events
            place += used
        return found

    def _next(self, pieces: list[bytes], place: int) -> tuple[int, list[Event]]:
        """Return how many pieces were used up and the events in them."""
        for used in range(1, 1 + min(MERGED, len(pieces) - place)):
            joined = b",".join(pieces[place : place + used])
            for text in (joined, mend_name(joined)) if used == 1 else (joined,):
                try:
                    events = self._lenient(text)
                except BROKEN:
                    continue
                self.mended += text is not joined
                return used, events
        self.lost += 1
        return 1, []

    def _lenient(self, text: bytes) -> list[Event]:
        kind = list[self._type]  # type: ignore[name-defined]
        found: list[Event] = msgspec.json.decode(b"[" + text + b"]", type=kind, strict=False)
        return found


def _needs_decimals(events: list[Event]) -> bool:
    return any(event.ts >= EXACT_BELOW_US and event.ts % 1 for event in events[:CHECKED])


def split(block: bytes) -> list[bytes]:
    """Return the events of a block cut at everything that looks like a border."""
    cuts = [(match.start() + 1, match.start(1)) for match in BORDER.finditer(block)]
    starts = [0] + [start for _, start in cuts]
    ends = [end for end, _ in cuts] + [len(block)]
    return [block[start:end] for start, end in zip(starts, ends, strict=True)]


@contextmanager
def _without_gc() -> Iterator[None]:
    """Switch cycle collection off: decoding makes many objects and no cycles."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
