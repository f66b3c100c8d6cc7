"""What can go wrong with a store, and how a damaged file is told."""

from __future__ import annotations

from dataclasses import dataclass

from skewscope.errors import SkewscopeError


class StoreError(SkewscopeError):
    """A folder is no store that can be used here, or a window does not fit into it."""

    exit_code = 2


class StoreFull(StoreError):
    """There is no room for what was to be written; all that was there before still is."""

    exit_code = 1


class StoreTaken(StoreError):
    """Another process writes this store."""


@dataclass(frozen=True)
class Damage:
    """A file, or a part of one, that cannot be read: its name and why."""

    file: str
    why: str
