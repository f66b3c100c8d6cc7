"""Gathers seeds from the tests: a plugin of pytest that keeps a copy of every small file that a reader is given.

    FUZZ_SEEDS=tests/fuzz/seeds python -m pytest -p _harvest tests/sources     (with tests/fuzz on PYTHONPATH)

What the tests make by themselves and what is shipped in `sample_data` comes in; of each reader the smallest file, and
those that differ most in size, `MOST` at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from skewscope.catalogue import Room, rooms

LARGEST_BYTES = 20_000
MOST = 8  # seeds of one reader
found: dict[str, dict[bytes, tuple[str, bytes]]] = {}


def pytest_configure() -> None:
    """Stand between the tests and every reader."""
    for room in rooms("sources"):
        kind = room.kind()
        for method in ("read", "read_detail"):
            if hasattr(kind, method):
                setattr(kind, method, _watched(room, getattr(kind, method)))


def pytest_unconfigure() -> None:
    """Write the seeds of all readers."""
    for reader, files in found.items():
        folder = Path(os.environ["FUZZ_SEEDS"]) / reader
        folder.mkdir(parents=True, exist_ok=True)
        ordered = sorted(files.values(), key=lambda file: (len(file[1]), file[0], file[1]))
        for number, (name, data) in enumerate(_spread(ordered)):
            (folder / f"{number:02d}--{name[-60:]}").write_bytes(data)


def _spread(ordered: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    step = max(1, (len(ordered) - 1) / (MOST - 1))
    places = sorted({min(len(ordered) - 1, round(place * step)) for place in range(MOST)})
    return [ordered[place] for place in places]


def _watched(room: Room, read: Callable[..., Any]) -> Callable[..., Any]:
    def watched(self: object, path: Path, *more: Any, **named: Any) -> Any:
        reading = read(self, path, *more, **named)
        _keep(room.id, Path(path))
        return reading

    return watched


def _keep(reader: str, path: Path) -> None:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            return
        data = path.read_bytes()
    except OSError:
        return
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in path.name)
    found.setdefault(reader, {})[blake2b(data, digest_size=16).digest()] = (name, data)
