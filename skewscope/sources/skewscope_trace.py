"""The trace for Perfetto that skewscope itself writes: it may lie beside the recordings it shows, and is not used."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..contracts import Reading

SCHEMA = b'"skewscope.trace/'
HEAD_BYTES = 400  # the schema stands before the events, whose names are anything


class SkewscopeTrace:
    """Reads nothing from it: of a long job it holds the longest events only, on clocks that were moved already."""

    format: ClassVar[str] = "skewscope-trace"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a trace."""
        return 1.0 if head.lstrip().startswith(b"{") and SCHEMA in head[:HEAD_BYTES] else 0.0

    def read(self, path: Path) -> Reading:
        """Return a reading without rows."""
        said = "not used: skewscope wrote this trace itself, for Perfetto; give the recordings that it was made of"
        return Reading(str(path), self.format, error=said, fingerprint=str(path))
