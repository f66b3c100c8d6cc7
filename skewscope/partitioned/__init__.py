"""Recordings too large to be held: ranges of steps are attributed one by one, and their digests judged together."""

from ._layout import LIMIT_ROWS, Layout, layout
from ._run import analyze

__all__ = ["LIMIT_ROWS", "Layout", "analyze", "layout"]
