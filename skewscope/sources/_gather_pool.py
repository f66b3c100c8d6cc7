"""Maps the reading of files over processes, or over a Dask cluster; a process that dies costs its file only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from ..contracts import Reading
from ..errors import UsageError
from ..processes import process_pool
from ._gather_find import name_rank
from ._gather_read import Draft, read_one, readers

Progress = Callable[[int, int, str], None]
IN_PROCESS_BYTES = 64_000_000  # so much text is read sooner than processes are started and handed their results
UNPACKED_RATIO = 16  # compressed recordings unfold about so far
AHEAD = 2  # files in flight per process
DIED = "the process that read it died, maybe for lack of memory: read it alone on a larger machine"


def read_all(
    paths: Sequence[Path], workers: int = 0, progress: Progress | None = None, dask: str = "", detail: bool = False
) -> dict[Path, Draft]:
    """Return the draft of every path; `workers` 0 takes as many processes as cores, 1 reads in this one."""
    sizes = {path: _size(path) for path in paths}
    ordered = sorted(paths, key=lambda path: -sizes[path])
    if dask:
        drafts = _over_dask(ordered, dask, detail)
    else:
        wanted = min(workers or os.cpu_count() or 1, len(ordered))
        alone = wanted <= 1 or (not workers and sum(sizes.values()) < IN_PROCESS_BYTES)
        drafts = (
            ((path, read_one(path, detail)) for path in ordered) if alone else _over_processes(ordered, wanted, detail)
        )
    found: dict[Path, Draft] = {}
    for path, draft in drafts:
        found[path] = draft
        if progress is not None:
            progress(len(found), len(ordered), str(path))
    return found


def _size(path: Path) -> int:
    """Return about how many bytes of text the file holds."""
    try:
        return path.stat().st_size * (UNPACKED_RATIO if path.suffix in (".gz", ".parquet") else 1)
    except OSError:
        return 0


def _over_processes(paths: Sequence[Path], workers: int, detail: bool = False) -> Iterator[tuple[Path, Draft]]:
    """Yield drafts as they come; after a process has died the files not done are read one by one, each in its own."""
    readers()  # imported once, inherited by every process
    left = dict.fromkeys(paths)
    try:
        for path, draft in _in_pool(paths, workers, detail):
            del left[path]
            yield path, draft
    except BrokenProcessPool:
        for path in left:
            try:
                yield from _in_pool([path], 1, detail)
            except BrokenProcessPool:
                lost = Reading(str(path), "", name_rank(path.name)[0], status="unreadable", error=DIED)
                yield path, Draft(lost, folder=str(path.parent))


def _in_pool(paths: Sequence[Path], workers: int, detail: bool) -> Iterator[tuple[Path, Draft]]:
    waiting = iter(paths)
    running: dict[Future[Draft], Path] = {}
    with process_pool(workers) as pool:
        while True:
            while len(running) < workers * AHEAD and (path := next(waiting, None)) is not None:
                running[pool.submit(read_one, path, detail)] = path
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()


def _over_dask(paths: Sequence[Path], address: str, detail: bool) -> Iterator[tuple[Path, Draft]]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UsageError("a Dask cluster wants the package `distributed`: pip install 'skewscope[dask]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        futures = dict(zip(client.map(partial(read_one, detail=detail), paths, pure=False), paths, strict=True))
        for future, draft in as_completed(futures, with_results=True):
            yield futures[future], draft
