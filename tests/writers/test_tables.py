import math

import pandas as pd
import pytest
from pyarrow import csv

from skewscope.catalogue import rooms
from skewscope.errors import SchemaError
from skewscope.frames import frame
from skewscope.writers import csv_tables
from skewscope.writers.csv_tables import CsvTables
from skewscope.writers.parquet_tables import ParquetTables

LINKS = {
    "t_ns": [1_700_000_000_123_456_789, -1], "src": ['a "quoted", b', "é"], "dst": ["", "x\ny"], "medium": "tcp",
    "speed_bytes_per_s": [float("nan"), 2.5e9],
}  # fmt: skip


def test_csv_holds_all_columns_exactly(tmp_path):
    rows, place = frame("links", LINKS), tmp_path / "links.csv"
    CsvTables().write_table("links", rows, place)
    options = csv.ParseOptions(newlines_in_values=True)
    made = csv.read_csv(place, parse_options=options).to_pandas()
    assert list(made) == list(rows) and made["t_ns"].tolist() == rows["t_ns"].tolist()
    assert made["src"].tolist() == rows["src"].tolist() and made["dst"].tolist() == ["", "x\ny"]
    assert math.isnan(made["speed_bytes_per_s"][0]) and place.read_text().count("nan") == 0


def test_csv_is_written_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "BLOCK_ROWS", 7)
    rows = frame("ranks", {"job": "job", "rank": list(range(50)), "node": [f"n{rank // 8}" for rank in range(50)]})
    CsvTables().write_table("ranks", rows, tmp_path / "r.csv")
    assert pd.read_csv(tmp_path / "r.csv")["node"].tolist() == rows["node"].tolist()


def test_parquet_reads_back(tmp_path):
    rows = frame("links", LINKS)
    ParquetTables().write_table("links", rows, tmp_path / "links.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "links.parquet"), rows, check_categorical=False)


@pytest.mark.parametrize("form", [CsvTables, ParquetTables])
def test_what_is_no_table_is_refused(tmp_path, form):
    with pytest.raises(SchemaError):
        form().write_table("links", pd.DataFrame({"src": ["a"]}), tmp_path / "x")


def test_every_form_says_what_it_is():
    assert {room.id for room in rooms("writers")} == {"csv-tables", "parquet-tables", "perfetto"}
    kinds = [room.kind() for room in rooms("writers")]
    assert all(hasattr(kind, "write" if kind.analysed else "write_table") and kind.file_name for kind in kinds)
