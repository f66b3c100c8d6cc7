"""The one tree of errors; each carries the exit code that the command line returns for it.

SkewscopeError            1
├── UsageError            2   a flag, path or config value that cannot be meant
├── SchemaError           2   a table that breaks its declared columns
├── Unreadable            3   an input that cannot be read; says file, reason and mend
│   └── NothingReadable   3   no input at all could be read
└── NoData                0   nothing there to read; not a fault
"""

from __future__ import annotations


class SkewscopeError(Exception):
    """Root of every error that is told to people as one line."""

    exit_code = 1


class UsageError(SkewscopeError):
    """A flag, path or configuration value cannot be meant as given."""

    exit_code = 2


class SchemaError(SkewscopeError):
    """A table breaks its declared columns."""

    exit_code = 2


class Unreadable(SkewscopeError):
    """One input cannot be read: `reason` says why and `mend` what to do about it."""

    exit_code = 3

    def __init__(self, reason: str, mend: str = "") -> None:
        super().__init__(f"{reason}; {mend}" if mend else reason)
        self.reason = reason
        self.mend = mend


class NothingReadable(Unreadable):
    """None of the inputs could be read."""


class NoData(SkewscopeError):
    """There is nothing to read here, which is not a fault."""

    exit_code = 0
