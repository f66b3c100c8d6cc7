"""The spool, made by an agent that finds none and may make one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MODE = 0o3777  # sticky like /tmp; setgid, so that rings are of our group, which may read them


def make_spool(spool: Path) -> bool:
    """Make the spool with its inner folders, open to all users; return whether that was needed and possible.

    It gets its name when it is whole, so that nobody can put a link in the place of an inner folder.
    """
    new = spool.with_name(f".{spool.name}.{os.getpid()}")
    if os.path.lexists(spool):
        return False
    try:
        spool.parent.mkdir(0o755, parents=True, exist_ok=True)
        new.mkdir(0o700)
    except OSError:
        return False
    folders = (new / "flight", new / "inspector", new)
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            folder.chmod(MODE)
        new.rename(spool)
    except OSError:
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()
        return False
    return True
