"""One function over many tasks, on a pool of processes or a Dask cluster; a process that dies costs its task only."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import UsageError
from .processes import process_pool

Task = TypeVar("Task")
Result = TypeVar("Result")
DIED = "the process that worked on it died, maybe for lack of memory: use fewer --workers, or a larger machine"
CONNECT_S = "10s"
AHEAD = 2  # tasks in flight per process


@dataclass(frozen=True)
class Died:
    """Stands for the result of a task whose process died."""

    reason: str = DIED


def mapped(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int = 1, dask: str = ""
) -> closing[Generator[tuple[int, Result | Died]]]:
    """Give (place of the task, its result) as they come, in any order; what `function` raises is raised.

    A block that is left early, by an interrupt say, leaves no process behind. `workers` 1 works in this process; `dask`
    is the address of a scheduler, whose workers then do it all. Raises UsageError where no scheduler answers.

    >>> with mapped(abs, [-3, 4]) as results:
    ...     sorted(results)
    [(0, 3), (1, 4)]
    """
    return closing(_mapped(function, tasks, workers, dask))


def _mapped(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, dask: str
) -> Generator[tuple[int, Result | Died]]:
    if dask:
        yield from _over_dask(function, tasks, dask)
    elif workers <= 1 or not tasks:
        yield from ((place, function(task)) for place, task in enumerate(tasks))
    else:
        yield from _over_processes(function, tasks, workers)


def cluster(address: str) -> Any:  # noqa: ANN401 - a client of a library that may be missing
    """Return a client of the Dask scheduler at `address`; raises UsageError where it is not there."""
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("a Dask cluster wants the package `distributed`: pip install 'skewscope[dask]'") from None
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {address}: {error}") from None


def _over_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[tuple[int, Result | Died]]:
    """Yield results; after a process has died the tasks not done are tried one by one, each in a process of its own."""
    left = dict.fromkeys(range(len(tasks)))
    try:
        with closing(_in_pool(function, tasks, list(left), workers)) as results:
            for place, result in results:
                del left[place]
                yield place, result
    except BrokenProcessPool:
        for place in left:
            try:
                yield from _in_pool(function, tasks, [place], 1)
            except BrokenProcessPool:
                yield place, Died()


def _in_pool(
    function: Callable[[Task], Result], tasks: Sequence[Task], places: Sequence[int], workers: int
) -> Generator[tuple[int, Result]]:
    waiting = iter(places)
    running: dict[Future[Result], int] = {}
    with process_pool(workers) as pool:
        while True:
            while len(running) < workers * AHEAD and (place := next(waiting, None)) is not None:
                running[pool.submit(function, tasks[place])] = place
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()


def _over_dask(
    function: Callable[[Task], Result], tasks: Sequence[Task], address: str
) -> Generator[tuple[int, Result | Died]]:
    with cluster(address) as client:
        from distributed import KilledWorker, as_completed

        futures = dict(zip(client.map(function, tasks, pure=False), range(len(tasks)), strict=True))
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, KilledWorker):
                raise error
            result = Died() if error is not None else future.result()
            future.release()
            yield futures[future], result
