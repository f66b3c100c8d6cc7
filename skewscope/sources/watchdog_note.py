"""Notes of a hang watchdog: one JSON object per rank that says when it fired and how long nothing had moved."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._whole import Rank, Whole

LARGEST_CODE = 2**31 - 1


class Note(msgspec.Struct):
    """The note as it stands in the file."""

    dumped_at_ns: Whole
    no_progress_s: float
    rank: Rank = -1


class WatchdogNote:
    """Reads `{"rank": 3, "dumped_at_ns": ..., "no_progress_s": 8}`."""

    format: ClassVar[str] = "watchdog-note"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` is a watchdog's note."""
        return 0.95 if head.lstrip().startswith(b"{") and b'"no_progress_s"' in head[:4096] else 0.0

    def read(self, path: Path) -> Reading:
        """Return one row of `events`; raises Unreadable for anything that is not one whole note."""
        content, damage = _bytes.whole(path)
        try:
            note = msgspec.json.decode(content, type=Note, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"not one whole watchdog note: {damage or error}") from None
        code = int(min(max(note.no_progress_s, 0), LARGEST_CODE)) if note.no_progress_s == note.no_progress_s else -1
        row = {
            "t_ns": [note.dumped_at_ns], "device": f"rank{note.rank}" if note.rank >= 0 else "", "event": "no-progress",
            "code": [code], "message": f"no progress for {note.no_progress_s:g} s",
        }  # fmt: skip
        reading = Reading(str(path), self.format, note.rank, events=1, batches=[("events", row)])
        if damage:
            reading.status, reading.error = "partial", damage
        return reading
