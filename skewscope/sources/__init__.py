"""Any recording to canonical tables: one file, one format; the format is found from content."""

from __future__ import annotations

from ..recording import Input, Recording
from ._gather import gather

__all__ = ["Input", "Recording", "gather"]
