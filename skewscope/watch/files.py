"""Small files that must survive a kill: written beside, made durable, then renamed into place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..versions import newer


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole or not at all; raises OSError where that is impossible, and leaves the old one then."""
    write(path, json.dumps(content, separators=(",", ":")).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file as `write_json` does."""
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        with open(hidden, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, path)
        _settle(path.parent)
    except OSError:
        hidden.unlink(missing_ok=True)
        raise


def read_json(path: Path, schema: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what a JSON file holds, None where there is none.

    Raises ValueError for one that is damaged, UsageError for one that cannot be read, or that a newer skewscope wrote
    with a later version of `schema`: it is not to be written over.
    """
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if why := newer(told, schema):
        raise UsageError(f"{path} {why}: use the newer one, or another folder")
    return told


def append_line(path: Path, content: object) -> None:
    """Add one JSON line, durably; raises OSError."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(content, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
