"""Any recording to canonical tables: one file, one format; the format is found from content."""

from __future__ import annotations

from ..recording import Input, Recording
from ._gather import gather
from ._gather_find import files, is_parquet
from ._gather_rest import gather_rest

__all__ = ["Input", "Recording", "files", "gather", "gather_rest", "is_parquet"]
