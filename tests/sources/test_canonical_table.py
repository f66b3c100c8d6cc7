import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skewscope.errors import Unreadable
from skewscope.frames import concat, frame
from skewscope.sources.canonical_table import CanonicalTable

STEPS = {"job": "night", "step": [0, 1], "rank": [0, 0], "phase": "step", "start_ns": [1_795_233_129_888_046_167, 5],
         "end_ns": [1_795_233_129_888_046_169, 9]}  # fmt: skip


def test_parquet_comes_back_as_it_was(tmp_path):
    given = frame("steps", STEPS)
    path = tmp_path / "other.parquet"
    given.to_parquet(path)
    reading = CanonicalTable().read(path)
    assert concat("steps", [frame(*batch) for batch in reading.batches]).equals(given)
    assert reading.events == 2


def test_row_groups_are_batches(tmp_path):
    pq.write_table(pa.table({"job": ["j"] * 6, "rank": range(6)}), tmp_path / "ranks.parquet", row_group_size=2)
    reading = CanonicalTable().read(tmp_path / "ranks.parquet")
    assert [len(columns["rank"]) for _, columns in reading.batches] == [2, 2, 2]


def test_csv_with_gaps_keeps_whole_nanoseconds(tmp_path):
    path = tmp_path / "steps.csv"
    text = "job,step,rank,phase,start_ns,end_ns,work_tokens\nj,0,0,step,1795233129888046167,1795233129888046169,\n"
    path.write_text(text + "j,1,0,step,1,2,7\n")
    (batch,) = CanonicalTable().read(path).batches
    found = frame(*batch)
    assert found["start_ns"].tolist() == [1795233129888046167, 1] and found["work_tokens"].tolist() == [-1, 7]


def test_errors_name_table_and_column(tmp_path):
    columns = {"job": ["j"], "step": [0], "rank": ["x"], "phase": ["step"], "start_ns": [1], "end_ns": [2]}
    pq.write_table(pa.table(columns), tmp_path / "steps.parquet")
    with pytest.raises(Unreadable, match=r"table steps: column 'rank' holds string, not i32"):
        CanonicalTable().read(tmp_path / "steps.parquet")
    pq.write_table(pa.table({"job": ["j"], "step": [0]}), tmp_path / "steps.parquet")
    with pytest.raises(Unreadable, match=r"table steps: column 'rank' is missing"):
        CanonicalTable().read(tmp_path / "steps.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(Unreadable, match="fit no canonical table"):
        CanonicalTable().read(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(Unreadable, match="damaged"):
        CanonicalTable().read(tmp_path / "b.parquet")


def test_derived_tables_are_left_alone(tmp_path):
    path = tmp_path / "clocks.parquet"
    frame("clocks", {}).to_parquet(path)
    reading = CanonicalTable().read(path)
    assert reading.status == "ok" and not reading.batches
