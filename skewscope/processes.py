"""A pool of processes that is gone when its block is left, however that happens."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_pool(workers: int, initializer: Callable[[], object] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Give a pool that is gone afterwards, at once where the block was left early (an interrupt, a dead process)."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method), initializer=initializer)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
