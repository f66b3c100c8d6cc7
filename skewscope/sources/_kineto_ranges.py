"""Reads one large trace in ranges of its bytes, by several processes, and puts together what they kept, in order.

A range ends behind an event that decodes as one, which is all that the blocks of a sequential reading ask, too. Where
one range cannot know what the reading of all before it would have (damage, times that turn out to need decimals,
streams with names), there is no result, and the file is to be read from end to end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader

from ..errors import Unreadable
from ..mapping import Died, mapped
from ._bytes import GZIP_MAGIC
from ._kineto_blocks import Blocks, header, last_border
from ._kineto_call_rows import CallRows
from ._kineto_events import Args, Decoder
from ._kineto_identity import identity
from ._kineto_parts import Packed, packed, take
from ._kineto_rows import Rows
from ._kineto_scan import Ask, Scan, events

Range = tuple[int, int]  # bytes of whole events, without the comma behind them


@dataclass(frozen=True)
class Piece:
    """What one range gave."""

    rows: Packed
    detail: Packed | None
    first_ns: int
    last_ns: int
    clamped: int
    timed: int
    devices: set[int]
    groups: dict[str, Args]
    events: int
    mended: int
    before: bytes
    after: bytes
    cut: bool
    alone: bool  # whether it must not be judged without what came before it


class Slice:
    """The events of one range as text of an array; only what lies behind the last range is kept as it is."""

    def __init__(self, file: BufferedReader, part: Range, *, last: bool) -> None:
        begin, end = part
        file.seek(begin)
        self.damage = ""
        self._file, self._left = file, end - begin
        self._opening, self._closing = b"[" if begin else b"", b"" if last else b"]"

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes and the brackets around all, none at the end."""
        try:
            piece = self._file.read(min(size, self._left))
        except OSError as error:
            self.damage = f"the disk gave an error ({error.strerror or error})"
            return b""
        self._left -= len(piece)
        if self._left and not piece:
            self.damage = "the file became shorter while it was read"
            return b""
        text = self._opening + piece + (b"" if self._left else self._closing)
        self._opening, self._closing = b"", self._closing if self._left else b""
        return text


def ranged(ask: Ask, range_bytes: int, workers: int) -> Scan | None:
    """Return what `scan` returns, read by `workers` processes; None where that takes one reading from end to end.

    Threads that are first met behind the first range may be numbered in another order.
    """
    with ask.path.open("rb") as file:
        parts = ranges(file, ask.path.stat().st_size, range_bytes, ask.block_bytes)
        known = _first_block(ask, file, parts[0]) if len(parts) > 1 else None
    if known is None:
        return None
    ask, bare = known
    whole = _Whole(ask)
    early: dict[int, Piece] = {}
    with mapped(partial(read_range, ask, bare=bare, size=parts[-1][1]), parts, workers) as pieces:
        for place, piece in pieces:
            if isinstance(piece, Died) or piece.alone:
                return None
            early[place] = piece
            while whole.pieces in early:
                whole.add(early.pop(whole.pieces))
    return whole.scan()


def ranges(file: BufferedReader, size_bytes: int, range_bytes: int, probe_bytes: int) -> list[Range]:
    """Return the ranges of a trace, each about `range_bytes` long; the first begins and the last ends with the file."""
    if file.peek(2).startswith(GZIP_MAGIC):
        return []
    begin, found = 0, list[Range]()
    for place in range(range_bytes, size_bytes - range_bytes // 2, range_bytes):
        file.seek(place)
        border = last_border(file.read(min(probe_bytes, range_bytes)), sure=True)
        if border is not None:
            found.append((begin, place + border[0]))
            begin = place + border[1]
    return [*found, (begin, size_bytes)]


def read_range(ask: Ask, part: Range, *, bare: bool, size: int) -> Piece:
    """Return what is kept of one range of a file of `size` bytes; `bare` tells whether its array stands alone."""
    last = part[1] == size
    with ask.path.open("rb") as file:
        text = Slice(file, part, last=last)
        blocks = Blocks(text, ask.block_bytes)
        rows, decoder, detail = events(ask, blocks)
    blocks.bare = bare
    named = rows.named_streams or (detail is not None and len(detail.streams) > 0)
    harmed = bool(text.damage or decoder.lost or (blocks.cut and not last))
    return Piece(
        packed(rows), packed(detail) if detail is not None else None, rows.first_ns, rows.last_ns, rows.clamped,
        rows.timed, rows.devices, rows.groups, decoder.events, decoder.mended, blocks.before, blocks.after, blocks.cut,
        alone=harmed or named or decoder.exact != ask.exact,
    )  # fmt: skip


def _first_block(ask: Ask, file: BufferedReader, part: Range) -> tuple[Ask, bool] | None:
    """Return what is wanted with all that the first block decides, and whether the array stands alone."""
    blocks = Blocks(Slice(file, part, last=False), ask.block_bytes)
    try:
        text, end = next(iter(blocks), (b"", 0))
    except Unreadable:
        return None
    host = not identity(blocks.header, ask.path.name).has_device if ask.host is None else ask.host
    decoder = Decoder(host=host)
    decoder.decode(text, end)
    return replace(ask, host=host, exact=decoder.exact), blocks.bare


class _Whole:
    """All pieces so far, in order."""

    def __init__(self, ask: Ask) -> None:
        host = bool(ask.host)
        self.rows, self.decoder = Rows(host=host), Decoder(host=host)
        self.detail = CallRows() if ask.detail else None
        self.pieces = 0
        self.before = self.after = b""
        self.cut = False

    def add(self, piece: Piece) -> None:
        """Append the next piece."""
        rows = self.rows
        take(rows, piece.rows)
        if self.detail is not None and piece.detail is not None:
            take(self.detail, piece.detail)
        if rows.host:
            rows.keep_outermost()
        rows.first_ns, rows.last_ns = min(rows.first_ns, piece.first_ns), max(rows.last_ns, piece.last_ns)
        rows.clamped += piece.clamped
        rows.timed += piece.timed
        rows.devices |= piece.devices
        for name, args in piece.groups.items():
            rows.groups.setdefault(name, args)
        self.decoder.events += piece.events
        self.decoder.mended += piece.mended
        self.before, self.after, self.cut = self.before or piece.before, piece.after, piece.cut
        self.pieces += 1

    def scan(self) -> Scan:
        """Return what one pass over the whole file would have."""
        return Scan(self.rows, self.decoder, self.detail, header(self.before, self.after), "", self.cut)
