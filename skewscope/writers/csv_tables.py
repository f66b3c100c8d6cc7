"""The tables as CSV, one file each, UTF-8 with a head; unknown whole numbers stay -1, unknown floats are empty."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from ..frames import check

BLOCK_ROWS = 1 << 18


class CsvTables:
    """Writes one table a file."""

    analysed: ClassVar[bool] = False
    file_name: ClassVar[str] = "{name}.csv"

    def write_table(self, name: str, rows: pd.DataFrame, place: Path) -> None:
        """Write one table to the file `place`, block by block; raises SchemaError where it is not of its schema."""
        rows = check(name, rows)
        with csv.CSVWriter(place, _plain(rows.iloc[:0]).schema) as writer:
            for start in range(0, len(rows), BLOCK_ROWS):
                writer.write_table(_plain(rows.iloc[start : start + BLOCK_ROWS]))


def _plain(rows: pd.DataFrame) -> pa.Table:
    """Return rows with texts in place of codes, and nothing in place of NaN."""
    made = pa.Table.from_pandas(rows, preserve_index=False)
    return made.cast(pa.schema([
        pa.field(one.name, pa.string() if pa.types.is_dictionary(one.type) else one.type) for one in made.schema
    ]))  # fmt: skip
