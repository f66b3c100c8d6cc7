"""The trace for Perfetto, as `convert` and `analyze` write it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import _files, _work

if TYPE_CHECKING:
    from ..analysis import Analysis

FILE_NAME = "trace.json.gz"


def target(text: str, flag: str) -> Path:
    """Return the file that a flag names, in the folder where it names one; raises UsageError where it cannot be."""
    path = Path(text)
    if path.is_dir() or text.endswith("/"):
        path = _files.make_folder(path, flag) / FILE_NAME
    _files.check_file(path, flag)
    return path


def write(analysis: Analysis, place: Path, most_events: int | None = None) -> str:
    """Write the trace of an analysis, gzip where the name ends in .gz; return what it holds, in words."""
    from ..writers.perfetto import MOST_EVENTS, Perfetto

    words: list[str] = []
    most = most_events or MOST_EVENTS
    with _work.progress("writing the trace"):
        _files.write(
            place,
            lambda hidden: words.extend(Perfetto().write(analysis, hidden, most, compressed=place.suffix == ".gz")),
        )
    for line in words[1:]:
        _work.LOG.warning("%s", line)
    return words[0]
