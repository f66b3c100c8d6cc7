"""What analyze, demo and convert share: reading with a progress bar, and printing the page."""

from __future__ import annotations

import ctypes
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..recording import Recording

LOG = logging.getLogger("skewscope")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # <malloc.h>
LARGE_BYTES, KEPT_BYTES = 32 << 20, 512 << 20  # the most that glibc takes for the first


def read(
    paths: Sequence[str], workers: int | None = None, dask: str | None = None, *, detail: bool = False
) -> Recording:
    """Return the recording of files and folders; raises UsageError, or NothingReadable with each file's reason."""
    from ..sources import gather

    with progress("reading") as moved:
        return gather(list(paths), workers=workers, progress=moved, dask=dask, detail=detail)


def keep_freed() -> None:
    """Have freed memory kept for the next table: to give it back and ask for it again costs a tenth of an analysis."""
    libc = ctypes.CDLL(None)
    for parameter, value in ((MMAP_THRESHOLD, LARGE_BYTES), (TRIM_THRESHOLD, KEPT_BYTES)):
        if hasattr(libc, "mallopt"):  # of glibc
            libc.mallopt(parameter, value)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int, str], None] | None]:
    """Give a function `(done, total, path)` that moves a bar on standard error, or None where nobody looks at one."""
    if not sys.stderr.isatty() or not LOG.isEnabledFor(logging.INFO):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, _: bar.update(task, completed=done, total=total)


def show(page: RenderableType, stream: IO[str]) -> None:
    """Print a page: colours only on a terminal, 80 to 140 columns wide."""
    from rich.console import Console

    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    columns = shutil.get_terminal_size((100, 24)).columns
    console = Console(file=stream, width=max(80, min(140, columns)), highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(page)
    stream.write(captured.get())  # written by ourselves: rich would answer a closed pipe with exit code 1


def whole_number(text: str) -> int:
    """Return a count of at least 1; raises ValueError otherwise (argparse tells it)."""
    value = int(text)
    if value < 1:
        raise ValueError("wants a whole number of 1 or more")
    return value
