"""Recordings too large to be held: `analyze` reads them in parts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import _work

if TYPE_CHECKING:
    from ..analysis import Analysis
    from ._window import Window

PARQUET = b"PAR1"  # the only format that is read in parts


def analysed(
    paths: Sequence[str], workers: int | None, dask: str | None, span: Window | None, only: Sequence[str] | None
) -> Analysis | None:
    """Return the analysis of a recording that is read in parts, None where it is small enough to be read whole.

    Raises UsageError for a window of times, NothingReadable where no part can be read.
    """
    if not all(Path(path).exists() for path in paths):  # URLs, and what reading will complain of
        return None
    from ..sources import files

    if not any(map(_is_parquet, files(list(paths))[0])):
        return None  # before what reads in parts is imported: that takes a tenth of a second
    from ..partitioned import analyze, layout

    found = layout([Path(path) for path in paths])
    if found is None:
        return None
    if span is not None and span.unit != "step":
        raise UsageError("--window: a recording of this size is cut by steps; write them as 100:200")
    steps = (span.first, span.last) if span is not None else None
    with _work.progress("analysing") as moved:
        return analyze(found, workers=workers or 0, dask=dask or "", progress=moved, only=only or (), steps=steps)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError:
        return False
