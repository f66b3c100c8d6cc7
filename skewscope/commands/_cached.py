"""The flags of the cache of readings, and the cache they name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .watch import size

DEFAULT_BYTES = 5 * 10**9
OFF = ("off", "no", "none", "false")  # SKEWSCOPE_CACHE=off means --no-cache, not a folder of that name


def flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("--cache", metavar="DIR", type=Path, help="keep what was read of large files there (default: the user's cache)")
    add("--no-cache", action="store_true", help="read all files anew and keep nothing")
    add("--cache-bytes", metavar="SIZE", type=size, default=DEFAULT_BYTES,
        help="of the cache; the least recently used goes first (default 5G)")  # fmt: skip


def folder(args: argparse.Namespace) -> Path | None:
    """Return the folder of the cache: the one named, else that of the user; None where nothing is to be kept."""
    if args.no_cache or not args.cache_bytes or str(args.cache) in OFF:
        return None
    if args.cache is not None:
        return Path(args.cache)
    home = os.environ.get("XDG_CACHE_HOME", "")
    above = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return above / "skewscope" / "readings"


@contextmanager
def used(args: argparse.Namespace) -> Iterator[None]:
    """Let readings come from the cache within the block; the user's own is done without where it cannot be made."""
    from ..errors import UsageError
    from ..sources._cache import in_force

    with ExitStack() as stack:
        try:
            stack.enter_context(in_force(folder(args), args.cache_bytes))
        except (UsageError, RuntimeError):  # the latter: nobody knows where the user's home is
            if args.cache is not None:
                raise
        yield
