"""Hands memory back to the system: after a window much of what was needed for it is free, and C libraries keep that."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> bool:
    """Return free memory of this process to the system; False where there is none or the C library cannot do it."""
    trim = _trim()
    return bool(trim is not None and trim(0))


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found = ctypes.CDLL(None).malloc_trim  # of glibc
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = (ctypes.c_size_t,), ctypes.c_int
    return found
