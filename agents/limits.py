"""What a long-running process asks of its system: little memory, where the C library is glibc, and enough files."""

from __future__ import annotations

import resource

ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1  # <malloc.h>
LARGE_BYTES = 64 << 10
MOST_FILES = 8192


def stay_small() -> None:
    """Let threads share one heap, and give large blocks such as pages back as soon as they are free."""
    libc = _libc()
    for parameter, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, LARGE_BYTES), (TRIM_THRESHOLD, LARGE_BYTES)):
        if hasattr(libc, "mallopt"):
            libc.mallopt(parameter, value)


def _libc() -> object:
    import ctypes

    return ctypes.CDLL(None)


def raise_descriptor_limit() -> None:
    """Allow as many open files as the collectors keep."""
    # Counters stay open between looks: several hundred files on a node with eight adapters.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
