"""A settings file: are its sections and keys known, and do the values fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .answer import Answer


def settings_file(path: Path, complaints: Callable[[Path], Sequence[str]]) -> Iterator[Answer]:
    """Yield an answer for each thing that is wrong in the file, or one that nothing is."""
    found = complaints(path)
    if not found:
        yield Answer("settings", path.name, "ok", f"{path}: every key is known and every value fits")
    for one in found:
        yield Answer(
            "settings", path.name, "trouble", one, "correct the file; `skewscope COMMAND --help` lists the keys"
        )
