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


def analysed(
    paths: Sequence[str], workers: int | None, dask: str | None, span: Window | None, only: Sequence[str] | None
) -> Analysis | None:
    """Return the analysis of a recording that is read in parts, None where it is small enough to be read whole.

    Raises UsageError for a window of times, NothingReadable where no part can be read.
    """
    if not all(Path(path).exists() for path in paths):  # URLs, and what reading will complain of
        return None
    from ..sources import files, is_parquet

    if not any(map(is_parquet, files(list(paths))[0])):
        return None  # only Parquet is read in parts, and what does so takes a tenth of a second to import
    from ..partitioned import analyze, layout

    found = layout([Path(path) for path in paths])
    if found is None:
        return None
    if span is not None and span.unit != "step":
        raise UsageError("--window: a recording of this size is cut by steps; write them as 100:200")
    steps = (span.first, span.last) if span is not None else None
    with _work.progress("analysing") as moved:
        return analyze(found, workers=workers or 0, dask=dask or "", progress=moved, only=only or (), steps=steps)
