"""One file of windows: Parquet, series after series, in row groups of whole metrics.

The names of a series stand in its first row alone; other rows have none. `step_ns` is the window's end in the first row
of a series, else how much later it ends than one window after the row before. `numbers` explains the other columns.
Every page has a checksum.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skewscope.contracts import Coded
from skewscope.frames import empty, frame

from . import numbers
from .numbers import CODES, VALUES, Codes
from .series import NAMES, begins

Array = np.ndarray[Any, Any]
LEAST_ROWS, MOST_ROWS = 1 << 15, 1 << 20  # of a row group, but for the last and for a metric that is not cut
PAGE = {"data_page_size": 1 << 22}  # one byte of many numbers packs better than all bytes of few
if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters:  # older ones count bytes alone
    PAGE["max_rows_per_page"] = 1 << 22
PLAIN = ("rank", "step_ns", "window_ns", "samples_count")
SCHEMA = pa.schema(
    [(name, pa.dictionary(pa.int32(), pa.string())) for name in NAMES]
    + [("rank", pa.int32()), ("step_ns", pa.int64()), ("window_ns", pa.int64()), ("samples_count", pa.int32())]
    + [(name, pa.int64()) for name in CODES]
)
# What broken bytes make of a reader: checksums find most, the rest shows as one of these.
BROKEN = (pa.ArrowException, OSError, ValueError, IndexError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True)
class Group:
    """One row group: the metrics from `first` to `last`."""

    number: int
    first: str
    last: str
    rows: int


def write(file: IO[bytes], tables: Iterable[pd.DataFrame]) -> int:
    """Write tables `windows`, each in the order of series and after the one before, to a file; return the rows."""
    rows = 0
    with pq.ParquetWriter(
        file, SCHEMA, compression="zstd", compression_level=1, write_statistics=["metric"], write_page_checksum=True,
        use_dictionary=[*NAMES, *PLAIN], column_encoding=dict.fromkeys(CODES, "BYTE_STREAM_SPLIT"), **PAGE,
    ) as writer:  # fmt: skip
        for table in tables:
            fresh = begins(table)
            for begin, end in _cuts(table["metric"].cat.codes.to_numpy(), fresh):
                part = _packed(table.iloc[begin:end], fresh[begin:end])
                writer.write_table(part, row_group_size=len(part))
                rows += len(part)
    return rows


class Segment:
    """A file of windows to read from; any of BROKEN may come of a damaged one."""

    def __init__(self, path: str) -> None:
        self._file = pq.ParquetFile(path, page_checksum_verification=True)
        if not self._file.schema_arrow.equals(SCHEMA):
            self._file.close()
            raise ValueError("these are not the columns of a segment")
        self.groups = tuple(self._groups())

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _groups(self) -> Iterator[Group]:
        """Yield what each row group holds, by its names, which stand in a page: they have a checksum.

        Statistics stand in the footer. Broken ones are an exception that pyarrow (26) lets end the process.
        """
        about = self._file.metadata
        for number in range(about.num_row_groups):
            if rows := about.row_group(number).num_rows:
                head = next(self._file.iter_batches(1, [number], ["metric"], use_threads=False), None)
                if head is None:
                    raise ValueError(f"row group {number} of {rows:,} rows has none")
                names = sorted(head.column(0).dictionary.to_pylist())
                yield Group(number, names[0], names[-1], rows)

    def rows(self, group: Group, metrics: Collection[str] | None = None) -> pd.DataFrame:
        """Return the windows of a row group, of all or of some metrics."""
        found = self._file.read_row_group(group.number, use_threads=False)
        found.validate(full=True)
        table = _unpacked(found)
        if metrics is None:
            return table
        wanted = table["metric"].cat.categories.isin(list(metrics))
        return table if wanted.all() else table[wanted[table["metric"].cat.codes.to_numpy()]]


def _cuts(metric: Array, fresh: Array) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the row groups: of whole metrics where they are small, else of whole series."""
    ends = np.concatenate((np.flatnonzero(np.diff(metric)) + 1, [len(metric)]))
    firsts = np.flatnonzero(fresh)
    begin = 0
    for end in ends.tolist():
        while end - begin > MOST_ROWS:
            cut = int(firsts[np.searchsorted(firsts, begin + MOST_ROWS, side="right") - 1])
            cut = cut if cut > begin else begin + MOST_ROWS
            yield begin, cut
            begin = cut
        if end > begin and (end - begin >= LEAST_ROWS or end == len(metric)):
            yield begin, end
            begin = end


def _packed(table: pd.DataFrame, fresh: Array) -> pa.Table:
    """Return the columns of a row group."""
    fresh = fresh.copy()
    fresh[0] = True
    columns: list[Any] = [_names(table[name], fresh) for name in NAMES]
    t_ns, window_ns = table["t_ns"].to_numpy(), table["window_ns"].to_numpy()
    steps = np.where(fresh, t_ns, np.diff(t_ns, prepend=np.int64(0)) - window_ns)
    columns += [pa.array(table["rank"].to_numpy().astype(np.int32), mask=~fresh), pa.array(steps), pa.array(window_ns)]
    columns.append(pa.array(table["samples_count"].to_numpy().astype(np.int32)))
    metric = table["metric"].cat
    exact = numbers.exact([str(name) for name in metric.categories], metric.codes.to_numpy())
    codes = numbers.encode([table[name].to_numpy() for name in VALUES], exact)
    columns += [pa.array(codes.codes[name], mask=codes.absent[name]) for name in CODES]
    return pa.table(columns, schema=SCHEMA)


def _names(column: pd.Series, fresh: Array) -> pa.DictionaryArray:
    used, place = np.unique(column.cat.codes.to_numpy()[fresh], return_inverse=True)
    indices = np.zeros(len(fresh), dtype=np.int32)
    indices[fresh] = place
    names = pa.array([str(column.cat.categories[code]) for code in used.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=~fresh), names)


def _unpacked(found: pa.Table) -> pd.DataFrame:
    if not found.num_rows:
        return empty("windows")
    arrays = {name: found.column(name).combine_chunks() for name in found.column_names}
    fresh = arrays["metric"].is_valid().to_numpy(zero_copy_only=False)
    if not fresh[0]:
        raise ValueError("a row group begins without the name of its series")
    at = np.cumsum(fresh) - 1
    columns: dict[str, Any] = {}
    for name in NAMES:
        told = arrays[name].drop_null()
        columns[name] = Coded(told.indices.to_numpy()[at], told.dictionary.to_pylist())
    columns["rank"] = arrays["rank"].drop_null().to_numpy()[at]
    window_ns = columns["window_ns"] = arrays["window_ns"].to_numpy()
    steps = arrays["step_ns"].to_numpy()
    passed = np.cumsum(np.where(fresh, 0, steps + window_ns))
    columns["t_ns"] = passed + (steps - passed)[fresh][at]
    columns["samples_count"] = arrays["samples_count"].to_numpy()
    codes = {name: arrays[name].fill_null(0).to_numpy() for name in CODES}
    absent = {name: arrays[name].is_null().to_numpy(zero_copy_only=False) for name in CODES}
    columns |= dict(zip(VALUES, numbers.decode(Codes(codes, absent)), strict=True))
    return frame("windows", columns)
