"""Keeps how incidents went, for `policy replay`: each change as a line, in files that do not grow without end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

NAME, HIDDEN = "history.jsonl", ".history.jsonl"  # hidden in a store, whose files are recordings
MOST_BYTES = 64 << 20  # then it becomes the former one
Document = Mapping[str, Any]


class History:
    """Appends changed `skewscope.incident/1` documents to some files; a full one is kept beside, as `NAME.1.jsonl`."""

    def __init__(self, paths: Sequence[Path], most_bytes: int = MOST_BYTES) -> None:
        self._paths, self._most_bytes = paths, most_bytes
        self._told: dict[str, int] | None = None  # incident -> when it changed last

    def note(self, documents: Iterable[Document]) -> None:
        """Write down what changed since the last call, also of an earlier process; raises OSError."""
        told = self._told if self._told is not None else self._known()
        fresh = [one for one in documents if told.get(one["id"], -1) < one["changed_ns"]]
        fresh.sort(key=lambda one: (one["changed_ns"], one["id"]))
        lines = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in fresh)
        for path in self._paths if fresh else ():
            self._append(path, lines)
        self._told = {**told, **{one["id"]: one["changed_ns"] for one in fresh}}

    def _append(self, path: Path, lines: bytes) -> None:
        if path.exists() and path.stat().st_size >= self._most_bytes:
            os.replace(path, former(path))
        with open(path, "ab") as file:
            file.write(lines)

    def _known(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for path in self._paths:
            for place in (former(path), path):
                for one in _documents(place):
                    found[one["id"]] = max(found.get(one["id"], -1), one["changed_ns"])
        return found


def former(path: Path) -> Path:
    """Return where a file goes when it is full.

    >>> former(Path("history.jsonl")).name
    'history.1.jsonl'
    """
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.1.jsonl")


def _documents(path: Path) -> Iterable[Document]:
    """Yield the documents of a file; a line that a crash left half is passed over."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict) and isinstance(told.get("id"), str) and isinstance(told.get("changed_ns"), int):
                yield told
