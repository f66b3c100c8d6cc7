"""The folders that skewscope writes to: may it, and is there room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .answer import Answer

LEAST_BYTES = 1 << 30
LEAST_SHARE = 0.05


def spool(folder: Path) -> Answer:
    """Return whether jobs under the hook can leave their records for the agent."""
    if not folder.is_dir():
        return Answer("folders", "spool", "absent", f"{folder} does not exist: no job under the hook can be seen",
                      f"mkdir -m 1777 -p {folder}, or start the agent's systemd unit, which makes it")  # fmt: skip
    if not os.access(folder, os.W_OK | os.X_OK):
        return Answer("folders", "spool", "trouble", f"{folder} cannot be written to by this account",
                      f"chmod 1777 {folder}: every job's account writes there")  # fmt: skip
    rings = sum(1 for _ in folder.glob("*.ring"))
    return Answer("folders", "spool", "ok", f"{folder}, {rings} processes write there")


def room(folder: Path, what: str) -> Answer:
    """Return whether a folder, or the nearest one above that exists, can be written to and has room."""
    place = next(one for one in (folder, *folder.resolve().parents) if one.is_dir())
    if not os.access(place, os.W_OK | os.X_OK):
        return Answer(
            "folders", what, "trouble", f"{place} cannot be written to by this account", "name another folder"
        )
    usage = shutil.disk_usage(place)
    said = f"{folder}, {usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.0f}"
    if usage.free < LEAST_BYTES or usage.free < LEAST_SHARE * usage.total:
        return Answer("folders", what, "trouble", said, "make room, or name a folder on another disk")
    return Answer("folders", what, "ok", said)


def folders(spool_folder: Path, others: dict[str, Path]) -> Iterator[Answer]:
    """Yield the answer of the spool and of each other folder, by what it is for."""
    yield spool(spool_folder)
    for what, folder in others.items():
        yield room(folder, what)
