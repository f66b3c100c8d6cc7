"""What programs that run for months do about memory: cycles are found soon, and free memory goes back to the system."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import cache


def settle() -> None:
    """Take what stands now to stay: the cycle collector looks through it no more, so that it comes early and is quick.

    It comes to old objects only when a quarter more than at its last whole turn wait for it. Of a program of 100,000
    that would be an hour's garbage.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts anew


def give_back() -> bool:
    """Free what only holds itself, and return free memory of this process to the system; False where that cannot be.

    C libraries keep what was needed for a moment, a window's tables say; Python keeps up to 4,096 names that attributes
    were looked up by, and those that servers put together for a request are new each time.
    """
    _names_let_go()
    gc.collect()
    trim = _trim()
    return bool(trim is not None and trim(0))


def _names_let_go() -> None:
    clear = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)  # from 3.13; before
    if clear is not None:
        clear()


@cache
def _trim() -> Callable[[int], int] | None:
    import ctypes  # the agent settles, but does without it

    try:
        found = ctypes.CDLL(None).malloc_trim  # of glibc
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = (ctypes.c_size_t,), ctypes.c_int
    return found
