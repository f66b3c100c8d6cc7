"""Which files there are to read, and what their names say about ranks."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import UsageError
from ..recording import Input
from . import _remote

EXTENSIONS = re.compile(r"(\.(json|jsonl|gz|pt|trace|txt|log|csv|parquet|pkl|pickle|ndjson))+$", re.I)
STRONG = re.compile(r"(?:^|[^a-z])(?:rank|worker)[_-]?(\d{1,7})(?!\d)", re.I)
PARQUET = b"PAR1"
RING = re.compile(r"-r(\d{1,7})-\d+(?:\.\d+)*\.ring(?:\.gz)?$")
WEAK = re.compile(r"(?:^|[_-])(\d{1,5})$")  # longer ones are dates and process ids


def is_parquet(path: Path) -> bool:
    """Return whether a file begins as Parquet does; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError:
        return False


def files(paths: Sequence[Path | str]) -> tuple[list[Path], list[Input]]:
    """Return the regular files in `paths`, sorted per folder and each once, and a line for what cannot be read.

    A text may be the URL of a file, folder or pattern in a store. Hidden files inside folders are skipped. Raises
    UsageError naming a path that does not exist.
    """
    found: list[Path] = []
    refused: list[Input] = []
    seen: set[str] = set()
    for given in paths:
        if isinstance(given, str) and _remote.is_url(given):
            if (local := _local(given)) is None:
                _take(given, seen, found, refused)
                continue
            given = local
        path = Path(given)
        if not os.path.lexists(path):
            raise UsageError(f"no such file or folder: {path}")
        for item in _walk(path, seen) if path.is_dir() else [path]:
            if isinstance(item, Input):
                refused.append(item)
            elif (reason := _refusal(item)) != "":
                refused.append(unreadable(item, reason))
            elif (real := os.path.realpath(item)) not in seen:
                seen.add(real)
                found.append(item)
    return found, refused


def _local(url: str) -> str | None:
    """Return the path that a `file://` URL names, None for other URLs."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "file" or "::" in url:
        return None
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url}: names the machine {parts.netloc!r}; a file of this one is file:///PATH")
    return unquote(parts.path)


def _take(url: str, seen: set[str], found: list[Path], refused: list[Input]) -> None:
    """Add the files at a URL, each once."""
    there, lost = _remote.found(url)
    refused += lost
    for one in there:
        if one.url not in seen:
            seen.add(one.url)
            found.append(one)


def unreadable(path: Path | str, reason: str, format_name: str = "", rank: int = -1) -> Input:
    """Return the line for an input that gives nothing."""
    return Input(str(path), format_name, rank, 0, "unreadable", reason)


def name_rank(name: str) -> tuple[int, bool]:
    """Return the rank that a file's name tells, -1 for none, and whether it says so plainly.

    >>> name_rank("rank_3.json.gz"), name_rank("trace_12"), name_rank("steps.jsonl"), name_rank("worker3_step_12.json")
    ((3, True), (12, False), (-1, False), (3, True))
    """
    if ring := RING.search(name):
        return int(ring[1]), True
    stem = EXTENSIONS.sub("", name)
    plain = STRONG.findall(stem)
    if plain:
        return int(plain[-1]), True
    last = WEAK.search(stem)
    return (int(last[1]), False) if last else (-1, False)


def _walk(folder: Path, seen: set[str]) -> Iterator[Path | Input]:
    """Yield all files below a folder; links to folders are followed, each folder once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield unreadable(folder, f"the folder cannot be listed: {error.strerror or error}")
        return
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            folders.append(Path(entry.path))
        else:
            yield Path(entry.path)
    for inner in folders:
        yield from _walk(inner, seen)


def _refusal(path: Path) -> str:
    """Return why a path cannot be opened as a file, "" where it can."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return "broken link: its target does not exist"
    except OSError as error:
        return f"cannot be looked at: {error.strerror or error}"
    if not stat.S_ISREG(state.st_mode):
        return "not a regular file (a socket, pipe or device)"
    return "" if state.st_size else "empty file"
