"""A pool of processes that is gone when its block is left, however that happens."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)


@contextmanager
def process_pool(workers: int, initializer: Callable[[], object] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Give a pool that is gone afterwards, at once where the block was left early (an interrupt, a dead process)."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context(method),
        initializer=partial(_begin, os.getpid(), initializer),
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()  # not SIGTERM: a process that was forked a moment ago still has our handler for it
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin(parent: int, initializer: Callable[[], object] | None) -> None:
    """Make this process one of the pool: it ends with its parent, whatever ends that, and has none of its handlers."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent ends the pool
    end_with_parent()
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)
    if initializer is not None:
        initializer()


def end_with_parent() -> None:
    """Have this process killed when the one that made it ends, however that comes; Linux alone can do so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
