"""One pass over the events of a trace: what it keeps of them, and what it noticed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ._bytes import Stream
from ._kineto_blocks import Blocks
from ._kineto_call_rows import CallRows
from ._kineto_events import Decoder, Event
from ._kineto_identity import identity
from ._kineto_rows import Rows

SORTED_AT_ONCE = 1 << 14  # events of several blocks: columns are made of many rows sooner than of few


@dataclass(frozen=True)
class Ask:
    """What is wanted of a file; `host` None decides by the header whether host operators are.

    `exact` reads times as decimals from the beginning, not only from the first event on that needs it.
    """

    path: Path
    block_bytes: int
    host: bool | None = None
    detail: bool = False
    exact: bool = False


@dataclass(frozen=True)
class Scan:
    """All that one pass kept."""

    rows: Rows
    decoder: Decoder
    detail: CallRows | None
    header: bytes
    damage: str
    cut: bool


def scan(ask: Ask) -> Scan:
    """Read the file once, in blocks. Raises Unreadable where it cannot be opened or has no array of events."""
    with Stream(ask.path) as stream:
        blocks = Blocks(stream, ask.block_bytes)
        rows, decoder, detail = events(ask, blocks)
        return Scan(rows, decoder, detail, blocks.header, stream.damage, blocks.cut)


def events(ask: Ask, blocks: Blocks) -> tuple[Rows, Decoder, CallRows | None]:
    """Return what is kept of the events in all blocks."""
    rows, decoder, whole = None, Decoder(), Decoder()
    detail = CallRows() if ask.detail else None
    waiting: list[Event] = []
    for text, end in blocks:
        if rows is None:
            host = not identity(blocks.header, ask.path.name).has_device if ask.host is None else ask.host
            rows, decoder = Rows(host=host), Decoder(host=host, like_exact=ask.exact)
        waiting += decoder.decode(text, end)
        if len(waiting) >= SORTED_AT_ONCE:
            rows.add(waiting)
            waiting = []
        if detail is not None:
            detail.add(whole.every(text, end, decoder))
    rows = rows or Rows(host=False)
    rows.add(waiting)
    return rows, decoder, detail
