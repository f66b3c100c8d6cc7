"""Writes results so that a reader never meets half a file, and says clearly what stands in the way."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SkewscopeError, UsageError

if TYPE_CHECKING:
    import pandas as pd


def check_file(path: Path, flag: str) -> None:
    """Raise UsageError unless a file can be written at `path`; asked before the long work."""
    if path.is_dir():
        raise UsageError(f"{flag} {path}: is a folder; name a file")
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"{flag} {path}: the folder {folder} does not exist; make it first")
    target = path if path.exists() and not path.is_file() else folder
    if not os.access(target, os.W_OK):
        raise UsageError(f"{flag} {path}: no permission to write to {target}")


def make_folder(path: Path, flag: str) -> Path:
    """Make the folder where it is missing and return it; raises UsageError where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{flag} {path}: is a file; name a folder") from None
    except OSError as error:
        raise UsageError(f"{flag} {path}: cannot make the folder: {error.strerror or error}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"{flag} {path}: no permission to write into the folder")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; raises SkewscopeError with the reason."""
    data = text.encode("utf-8", "backslashreplace")
    write(path, lambda place: place.write_bytes(data))


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a hidden file beside `path`, then give it the name; raises SkewscopeError with the reason."""
    target = Path(os.path.realpath(path))
    if _special(target):  # /dev/stdout, /dev/null or a pipe must be written to, never replaced
        _guarded(path, lambda: fill(target))
        return
    hidden = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _guarded(path, lambda: fill(hidden))
        _guarded(path, lambda: os.replace(hidden, target))
    finally:
        hidden.unlink(missing_ok=True)


def _special(target: Path) -> bool:
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except OSError:
        return False


def _guarded(path: Path, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise SkewscopeError(f"cannot write {path}: {error.strerror or error}") from None


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Write every table that has rows as FOLDER/NAME.parquet and return their names."""
    from ..frames import check

    names = [name for name, rows in tables.items() if len(rows)]
    for name in names:
        rows = check(name, tables[name])
        write(folder / f"{name}.parquet", functools.partial(rows.to_parquet, index=False))
    return names
