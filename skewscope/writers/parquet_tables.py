"""The tables as Parquet, one file each, as `skewscope analyze` reads them again."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from ..frames import check


class ParquetTables:
    """Writes one table a file."""

    analysed: ClassVar[bool] = False
    file_name: ClassVar[str] = "{name}.parquet"

    def write_table(self, name: str, rows: pd.DataFrame, place: Path) -> None:
        """Write one table to the file `place`; raises SchemaError where it is not of its schema."""
        check(name, rows).to_parquet(place, index=False)
