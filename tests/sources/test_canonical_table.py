import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope import tables as schema
from skewscope.errors import Unreadable
from skewscope.frames import concat, frame
from skewscope.sources.canonical_table import RESULTS, CanonicalTable

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

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


VALUES = {
    "i64": st.integers(-1, 2**63 - 1), "i32": st.integers(-1, 2**31 - 1), "i16": st.integers(-1, 2**15 - 1),
    "f64": st.floats(allow_nan=False, allow_infinity=False), "bool": st.booleans(),
    # pyarrow writes an empty text as a missing one, and a line of Windows as a line
    "str": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=4),
}  # fmt: skip
TABLES = [name for name in schema.names() if not schema.table(name).derived and name not in RESULTS]


@drawn
@given(st.data(), st.sampled_from(TABLES), st.sampled_from(["csv", "parquet"]))
def test_every_table_comes_back_as_it_was(tmp_path, data, table, form):
    """Names with line ends inside quotes are left out of it: pyarrow's reader of CSV takes them for lines."""
    declared = schema.table(table).columns
    absent = data.draw(st.sets(st.sampled_from([one.name for one in declared if one.optional] or [""])))
    columns = [one for one in declared if one.name not in absent]
    rows = data.draw(st.lists(st.tuples(*(VALUES[one.type] for one in columns)), min_size=1, max_size=3))
    given_rows = frame(table, {one.name: [row[at] for row in rows] for at, one in enumerate(columns)})
    path = tmp_path / f"{table}.{form}"
    kept = given_rows[[one.name for one in data.draw(st.permutations(columns))]]
    if form == "parquet":
        kept.to_parquet(path)
    else:
        pa_csv.write_csv(pa.Table.from_pandas(kept.astype({one.name: object for one in columns if one.type == "str"})),
                         path)  # fmt: skip
    reading = CanonicalTable().read(path)
    found = concat(table, [frame(*batch) for batch in reading.batches])
    for one in declared:
        assert found[one.name].astype(object).equals(given_rows[one.name].astype(object)), one.name
    assert reading.status == "ok" and reading.events == len(rows)


@pytest.mark.parametrize("name", ["007", "NA", "1e3", "true", "2026-01-05", "null"])
def test_names_stay_as_they_are_written(tmp_path, name):
    path = tmp_path / "ranks.csv"
    path.write_text(f"job,rank,node\r\n{name},0,{name}\r\n")
    assert frame(*CanonicalTable().read(path).batches[0])[["job", "node"]].values.tolist() == [[name, name]]
