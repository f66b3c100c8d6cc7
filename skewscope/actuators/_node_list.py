"""The nodes an actuator may name, where no scheduler lists them: from its settings, or a file with one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ._slurm_hostlist import expand


def node_names(names: Sequence[str], file: str = "") -> tuple[str, ...]:
    """Return all names, once each and in order; raises UsageError for a range or file that cannot be meant.

    >>> node_names(("n[08-10,12]", "login"))
    ('n08', 'n09', 'n10', 'n12', 'login')
    """
    return tuple(dict.fromkeys(name for words in (*names, *_lines(file)) for name in _expanded(words)))


def _lines(file: str) -> list[str]:
    if not file:
        return []
    try:
        text = Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"nodes_file {file}: cannot be read: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _expanded(words: str) -> tuple[str, ...]:
    if not set("[],") & set(words):
        return (words,)
    try:
        found = expand(words)
    except ValueError as error:
        raise UsageError(f"{words}: {error}") from None
    if not found or any(set("[]") & set(name) for name in found):
        raise UsageError(f"{words}: wants nodes as n[01-64,70]")
    return found
