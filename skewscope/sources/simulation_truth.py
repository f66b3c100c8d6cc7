"""What a simulated fleet knows of itself (`truth.json`): it may lie beside the fleet's tables, and is not used."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..contracts import Reading

SCHEMA = b'"skewscope.truth/'


class SimulationTruth:
    """Reads nothing from it: an analysis that knew the truth would prove nothing."""

    format: ClassVar[str] = "simulation-truth"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such a document."""
        return 1.0 if head.lstrip().startswith(b"{") and SCHEMA in head[:200] else 0.0

    def read(self, path: Path) -> Reading:
        """Return a reading without rows."""
        return Reading(str(path), self.format, error="not used: it tells the answer", fingerprint=str(path))
