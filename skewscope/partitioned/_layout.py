"""Where the rows of each step are on disk, told by the Parquet row groups that hold them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..attribution.whatif import is_operation_trace
from ..mapping import Died, mapped
from ..recording import Input
from ..sources import files, is_parquet
from ..sources.canonical_table import columns_of, table_of

STEPWISE = ("collectives", "ops", "steps")  # tables with a row for everything that a rank does
LIMIT_ROWS = 5_000_000  # of these tables; a recording of more is analysed in parts
MOST_STEPS = 1 << 22  # of one row group: of more, a time in nanoseconds say, nothing is known
APART = 2  # workers, so that no task runs in this process
STDERR = 2
PART_ROWS = 1_900_000  # about so many make one part: 1.3 GB of memory for each process


@dataclass(frozen=True)
class Group:
    """One row group: its place in the file, the steps it holds (both ends included) and its rows."""

    place: int
    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class Piece:
    """One file of one stepwise table, and its row groups."""

    path: str
    table: str
    groups: tuple[Group, ...]

    @property
    def rows(self) -> int:
        """Rows of all groups."""
        return sum(group.rows for group in self.groups)

    def within(self, first: int, last: int) -> Piece:
        """Return the piece with only the groups that may hold steps from `first` to `last`."""
        kept = tuple(group for group in self.groups if group.first <= last and group.last >= first)
        return Piece(self.path, self.table, kept)


@dataclass(frozen=True)
class Layout:
    """A recording on disk: files that are read in parts, all others, and paths that cannot be read at all."""

    pieces: tuple[Piece, ...]
    others: tuple[Path, ...]
    refused: tuple[Input, ...]
    order: tuple[str, ...]

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each stepwise table."""
        found: Counter[str] = Counter()
        for piece in self.pieces:
            found[piece.table] += piece.rows
        return dict(found)

    def ranges(self, part_rows: int = 0) -> list[tuple[int, int]]:
        """Return ranges of steps, both ends included, of about `part_rows` rows each (0: PART_ROWS); all steps.

        Where files end, ranges end early, so that few of them need a file that cannot be read.
        """
        most = part_rows or PART_ROWS
        by_step: Counter[int] = Counter()
        for piece in self.pieces:
            for group in piece.groups:
                steps = group.last - group.first + 1
                by_step.update(dict.fromkeys(range(group.first, group.last + 1), -(-group.rows // steps)))
        ends = {max(group.last for group in piece.groups) for piece in self.pieces if piece.groups}
        order = sorted(by_step)
        found: list[tuple[int, int]] = []
        begin, held = 0, 0  # place of the first step of the range that is open, and its rows
        for place, step in enumerate(order):
            held += by_step[step]
            more = by_step[order[place + 1]] if place + 1 < len(order) else most
            if held + more > most or (step in ends and held + more > most / 2):
                found.append((order[begin], step))
                begin, held = place + 1, 0
        return found


def layout(paths: Sequence[Path], limit_rows: int = -1) -> Layout | None:
    """Return where the rows of a recording are, or None where it is to be read whole.

    Whole is read what has at most `limit_rows` rows (-1: LIMIT_ROWS), what does not tell the step of every row, what
    has no calls, and operation-level traces, whose ideal is made of all steps. Raises UsageError for a path that does
    not exist.
    """
    found, refused = files(list(paths))
    tables = {path: told for path in found if (told := _stepwise(path))}
    rows: Counter[str] = Counter()
    for table, count in tables.values():
        rows[table] += count
    if _is_small(rows, limit_rows):  # so that a small recording is not read twice
        return None
    pieces, others = [], []
    for path in found:
        piece = _piece(path, tables[path][0]) if path in tables else None
        others.append(path) if piece is None else pieces.append(piece)
    made = Layout(tuple(pieces), tuple(others), tuple(refused), tuple(map(str, found)))
    if _is_small(made.rows, limit_rows):
        return None
    known = all(group.first >= 0 for piece in pieces for group in piece.groups)
    return made if known and not _of_operations(pieces) else None


def _is_small(rows: Mapping[str, int], limit_rows: int) -> bool:
    return sum(rows.values()) <= (LIMIT_ROWS if limit_rows < 0 else limit_rows) or not rows.get("collectives")


def _stepwise(path: Path) -> tuple[str, int] | None:
    """Return which stepwise table the file is of, and its rows; None for any other file."""
    if not is_parquet(path):
        return None
    try:
        about = pq.read_metadata(path)
        names = list(about.schema.to_arrow_schema().names)
    except (OSError, pa.ArrowException, ValueError):
        return None
    table = table_of(names, path.name.split(".", 1)[0])
    return (table, about.num_rows) if table in STEPWISE and "step" in names else None


def _piece(path: Path, table: str) -> Piece | None:
    """Return the file as a piece, None where not all of its row groups tell their steps."""
    try:
        with pq.ParquetFile(path) as file:
            groups = _groups(path, file)
            return Piece(str(path), table, groups) if len(groups) == file.metadata.num_row_groups else None
    except (OSError, pa.ArrowException, ValueError):
        return None


def _groups(path: Path, file: pq.ParquetFile) -> tuple[Group, ...]:
    """Return the row groups that have a step in every row.

    The steps themselves are read. The footer tells of them too, but of broken statistics in it pyarrow (26) makes an
    exception that ends the process: where a page cannot be read, another process asks the footer.
    """
    try:
        found = [_span(file.read_row_group(place, ["step"], use_threads=False).column(0), place)
                 for place in range(file.metadata.num_row_groups)]  # fmt: skip
    except (OSError, pa.ArrowException):
        with mapped(_in_footer, [path], APART) as results:
            ((_, told),) = results
        return () if isinstance(told, Died) else told
    return tuple(group for group in found if group is not None)


def _span(steps: pa.ChunkedArray, place: int) -> Group | None:
    if steps.null_count or not len(steps) or not pa.types.is_integer(steps.type):
        return None
    ends = pc.min_max(steps).as_py()
    return _near(place, ends["min"], ends["max"], len(steps))


def _in_footer(path: Path) -> tuple[Group, ...]:
    """Return what the statistics in the footer say of the row groups; may end the process, without a word."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), STDERR)
    about = pq.read_metadata(path)
    found = []
    for place in range(about.num_row_groups):
        group = about.row_group(place)
        told = group.column(about.schema.names.index("step")).statistics
        if told is not None and told.has_min_max and not told.null_count and isinstance(told.min, int):
            found.append(_near(place, told.min, told.max, group.num_rows))
    return tuple(found)


def _near(place: int, first: int, last: int, rows: int) -> Group:
    return Group(place, first if last - first < MOST_STEPS else -1, last, rows)


def _of_operations(pieces: Sequence[Piece]) -> bool:
    for piece in pieces:
        if piece.table == "ops" and piece.groups:
            try:
                with pq.ParquetFile(piece.path) as file:
                    head = next(file.iter_batches(10_000, columns=["op"], use_threads=False))
            except (OSError, pa.ArrowException, StopIteration):
                continue
            op = columns_of("ops", pa.table(head), partly=True)["op"]
            return is_operation_trace_of(op.values)
    return False


def is_operation_trace_of(names: Sequence[str]) -> bool:
    """Return whether operations of these names are those of an operation-level trace."""
    import pandas as pd

    return is_operation_trace(pd.DataFrame({"op": list(names)}))
