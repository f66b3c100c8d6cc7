"""One file of events: the table `events` as Parquet, and `end_ns`, the end of the window that told each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skewscope import tables
from skewscope.contracts import Coded
from skewscope.frames import frame

TYPES = {"str": pa.dictionary(pa.int32(), pa.string()), "i64": pa.int64(), "i32": pa.int32()}
COLUMNS = {column.name: column.type for column in tables.table("events").columns}
SCHEMA = pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()] + [("end_ns", pa.int64())])


def write(file: IO[bytes], parts: Iterable[tuple[pd.Series, pd.DataFrame]]) -> None:
    """Write events [N] with the ends of their windows [N], part by part."""
    with pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for ends_ns, table in parts:
            columns = [_column(table[name], kind) for name, kind in COLUMNS.items()]
            columns.append(pa.array(np.asarray(ends_ns, dtype=np.int64)))
            writer.write_table(pa.table(columns, schema=SCHEMA))


def read(path: str) -> tuple[pd.Series, pd.DataFrame]:
    """Return the ends of the windows [N] and the table `events` [N]; raises one of segment.BROKEN."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.schema_arrow.equals(SCHEMA):
            raise ValueError("these are not the columns of events")
        found = file.read(use_threads=False)
    found.validate(full=True)
    columns = {}
    for name, kind in COLUMNS.items():
        column = found.column(name).unify_dictionaries().combine_chunks()
        if kind == "str":
            columns[name] = Coded(column.indices.to_numpy(), column.dictionary.to_pylist())
        else:
            columns[name] = column.to_numpy()
    return pd.Series(found.column("end_ns").to_numpy()), frame("events", columns)


def _column(column: pd.Series, kind: str) -> pa.Array:
    if kind != "str":
        return pa.array(column.to_numpy(), TYPES[kind])
    names = pa.array([str(name) for name in column.cat.categories], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(column.cat.codes.to_numpy().astype(np.int32)), names)
