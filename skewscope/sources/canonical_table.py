"""Canonical tables: Parquet or CSV that `skewscope convert` wrote, or anybody who follows `skewscope schema TABLE`.

The table is told by the file's name, else by its columns. Tables that an analysis makes anew are not read again.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from .. import tables as schema
from ..contracts import Coded, Columns, Reading
from ..errors import SchemaError, Unreadable
from . import _bytes, _csv_table
from ._lines import ended

RESULTS = ("findings", "recommendations", "actions")
INTEGERS = ("i64", "i32", "i16")


class CanonicalTable:
    """Reads `TABLE.parquet` and `TABLE.csv`."""

    format: ClassVar[str] = "canonical-table"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; the columns of Parquet stand at its end, so there only the name speaks."""
        stem = name.split(".", 1)[0]
        if head.startswith(b"PAR1"):
            return 0.8 if stem in schema.names() else 0.3
        first = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
        columns = [part.strip().strip('"') for part in first.split(",")]
        return 0.95 if len(columns) > 1 and table_of(columns, stem) else 0.0

    def read(self, path: Path) -> Reading:
        """Return the rows of one table; raises Unreadable naming the table and the column that does not fit."""
        content = _bytes.head(path, 4)
        try:
            return self._parquet(path) if content == b"PAR1" else self._csv(path)
        except SchemaError as error:
            raise Unreadable(str(error)) from None
        except (pa.ArrowException, OSError, ValueError) as error:  # a name that is no UTF-8 is a ValueError
            raise Unreadable(f"damaged table: {error}"[:300]) from None

    def _parquet(self, path: Path) -> Reading:
        with pq.ParquetFile(path) as file:
            reading, name = self._start(path, file.schema_arrow.names, file.metadata.num_rows)
            for group in range(file.num_row_groups if name else 0):
                part = file.read_row_group(group, use_threads=False)
                reading.batches.append((name, columns_of(name, part)))
        return reading

    def _csv(self, path: Path) -> Reading:
        content, damage = ended(*_bytes.whole(path))
        name = _name(_csv_table.heads(content), path)
        declared = schema.table(name).columns if name else ()
        # Names stay text: else a host called 007 would be a number, and one called NA nothing.
        texts = csv.ConvertOptions(column_types={one.name: pa.string() for one in declared if one.type == "str"})
        table = csv.read_csv(BytesIO(content), csv.ReadOptions(use_threads=False), convert_options=texts)
        reading, name = self._start(path, table.column_names, table.num_rows)
        if name:
            reading.batches.append((name, columns_of(name, table)))
        if damage:
            reading.status, reading.error = "partial", damage
        return reading

    def _start(self, path: Path, columns: list[str], rows: int) -> tuple[Reading, str]:
        """Return the reading and the table's name, "" where the table is made anew by every analysis."""
        name = _name(columns, path)
        if not name:
            raise Unreadable(f"columns {', '.join(columns[:6])} fit no canonical table", "see `skewscope schema steps`")
        if schema.table(name).derived or name in RESULTS:
            why = "made anew by every analysis, so not read"
            return Reading(str(path), self.format, error=why, fingerprint=f"{name} of {path}"), ""
        return Reading(str(path), self.format, events=rows), name


def _name(columns: list[str], path: Path) -> str:
    """Return the table that a file holds, "" for none."""
    stem = path.name.split(".", 1)[0]
    return table_of(columns, stem) or (stem if stem in schema.names() else "")


def table_of(columns: list[str], stem: str) -> str:
    """Return the table whose needed columns are all there; the file's own name first, else the closest fit.

    >>> table_of(["job", "step", "rank", "phase", "start_ns", "end_ns"], "log")
    'steps'
    """
    given = set(columns)
    fits = []
    for name in schema.names():
        declared = schema.table(name).columns
        needed = {column.name for column in declared if not column.optional}
        if needed <= given and given <= {column.name for column in declared} | {"", "index"}:
            fits.append((name == stem, len(needed), name))
    return max(fits)[2] if fits else ""


def columns_of(name: str, part: pa.Table, *, partly: bool = False) -> Columns:
    """Return the columns of a table that Arrow holds; `partly` lets needed ones be absent.

    Raises SchemaError naming the column that is missing or of the wrong type.
    """
    declared = schema.table(name).by_name
    types = {field.name: field.type for field in part.schema}
    found = {}
    for column in part.column_names:
        if column in declared:
            if part.column_names.count(column) > 1:
                raise SchemaError(f"table {name}: column {column!r} stands twice; keep one")
            where = f"table {name}: column {column!r}"
            found[column] = _column(part.column(column), declared[column].type, types[column], where)
    missing = [column for column in declared.values() if not column.optional and column.name not in found]
    if missing and not partly:
        raise SchemaError(f"table {name}: column {missing[0].name!r} is missing; it means: {missing[0].doc}")
    return found


def _column(values: pa.ChunkedArray, wanted: str, given: pa.DataType, where: str) -> Any:  # noqa: ANN401
    whole = values.combine_chunks()
    if pa.types.is_dictionary(given) and wanted != "str":
        whole = whole.dictionary_decode()
    if wanted == "str":
        return _coded(whole if pa.types.is_dictionary(given) else whole.dictionary_encode())
    try:
        if wanted in INTEGERS:  # through floats nanoseconds would lose their end
            return (whole.fill_null(-1) if whole.null_count else whole).cast(pa.int64()).to_numpy(zero_copy_only=False)
        if wanted == "bool":
            return whole.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False)
        return whole.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError) as error:
        raise SchemaError(f"{where} holds {given}, not {wanted}: {error}"[:300]) from None


def _coded(found: pa.DictionaryArray) -> Coded:
    values = ["" if value is None else str(value) for value in found.dictionary.to_pylist()]
    codes = found.indices.fill_null(-1) if found.null_count else found.indices
    return Coded(codes.to_numpy(zero_copy_only=False).astype("int64"), values)
