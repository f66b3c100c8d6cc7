"""Maps the reading of files over processes, or over a Dask cluster; a process that dies costs its file only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from ..contracts import Reading
from ..mapping import Died, mapped
from ._gather_find import name_rank
from ._gather_read import Draft, is_usual, read_one, readers

Progress = Callable[[int, int, str], None]
IN_PROCESS_BYTES = 64_000_000  # so much text is read sooner than processes are started and handed their results
RANGED_BYTES = 1 << 28  # a trace longer than this is read by all processes together, in ranges
UNPACKED_RATIO = 16  # compressed recordings unfold about so far
DIED = "the process that read it died, maybe for lack of memory: read it alone on a larger machine"


def read_all(
    paths: Sequence[Path], workers: int = 0, progress: Progress | None = None, dask: str = "", detail: bool = False
) -> dict[Path, Draft]:
    """Return the draft of every path; `workers` 0 takes as many processes as cores, 1 reads in this one."""
    sizes = {path: _size(path) for path in paths}
    ordered = sorted(paths, key=lambda path: -sizes[path])
    wanted = min(workers or os.cpu_count() or 1, len(ordered))
    if not workers and sum(sizes.values()) < IN_PROCESS_BYTES:
        wanted = 1
    if wanted > 1 and not all(map(is_usual, ordered)):
        readers()  # imported once, inherited by every process
    found: dict[Path, Draft] = {}
    shared = [] if dask else _shared(ordered, sizes, workers or os.cpu_count() or 1)
    alone = [path for path in ordered if path not in shared]
    with mapped(partial(read_one, detail=detail), alone, wanted, dask) as results:
        for path, result in chain(
            ((path, read_one(path, detail, workers or os.cpu_count() or 1)) for path in shared),
            ((alone[place], result) for place, result in results),
        ):
            found[path] = _draft(path, result)
            if progress is not None:
                progress(len(found), len(ordered), str(path))
    return found


def _shared(ordered: Sequence[Path], sizes: Mapping[Path, int], workers: int) -> list[Path]:
    """Return the files that all processes are to read together: large traces, where there are fewer than processes."""
    large = [path for path in ordered if path.suffix == ".json" and sizes[path] > RANGED_BYTES]
    return large if len(large) < workers else []


def _size(path: Path) -> int:
    """Return about how many bytes of text the file holds."""
    try:
        return path.stat().st_size * (UNPACKED_RATIO if path.suffix in (".gz", ".parquet") else 1)
    except OSError:
        return 0


def _draft(path: Path, result: Draft | Died) -> Draft:
    if not isinstance(result, Died):
        return result
    lost = Reading(str(path), "", name_rank(path.name)[0], status="unreadable", error=DIED)
    return Draft(lost, folder=str(path.parent))
