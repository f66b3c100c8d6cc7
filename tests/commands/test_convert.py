import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from skewscope.commands import main

SAMPLES = Path(__file__).parents[2] / "sample_data"
DLRM = SAMPLES / "dlrm-8-ranks"


def convert(capsys, *words):
    code = main(["convert", str(DLRM), "--workers", "1", *map(str, words)])
    return code, *capsys.readouterr()


def test_parquet_is_the_default(tmp_path, capsys):
    code, out, _ = convert(capsys, "--out", tmp_path / "t")
    assert code == 0 and "ops.parquet" in out and (tmp_path / "t" / "ops.parquet").is_file()


def test_csv_has_the_same_rows(tmp_path, capsys):
    convert(capsys, "--out", tmp_path / "p"), convert(capsys, "--to", "csv", "--out", tmp_path / "c")
    for name in ("ops", "collectives", "steps"):
        rows = pd.read_parquet(tmp_path / "p" / f"{name}.parquet")
        made = pd.read_csv(tmp_path / "c" / f"{name}.csv")
        assert list(made) == list(rows) and len(made) == len(rows)
        assert made["start_ns"].tolist() == rows["start_ns"].tolist()


@pytest.mark.parametrize(("out", "file"), [("job.json", "job.json"), ("d/", "d/trace.json.gz")])
def test_a_trace_is_one_file(tmp_path, capsys, out, file):
    code, told, _ = convert(capsys, "--to", "perfetto", "--out", f"{tmp_path}/{out}")
    place = tmp_path / file
    assert code == 0 and str(place) in told and "8 ranks" in told
    content = place.read_bytes()
    trace = json.loads(gzip.decompress(content) if file.endswith("gz") else content)
    assert {one["cat"] for one in trace["traceEvents"] if one["ph"] == "X"} >= {"blame", "steps", "arrivals", "compute"}
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_small_trace_says_what_it_leaves_out(tmp_path, capsys):
    _, told, err = convert(capsys, "--to", "perfetto", "--out", tmp_path / "t.json.gz", "--max-events", 500)
    assert "left out of ops" in err and int(told.split("  ")[1].split(" ")[0]) < 800


def test_wrong_targets_are_told_before_the_work(tmp_path, capsys):
    assert convert(capsys, "--to", "perfetto", "--out", tmp_path / "no" / "t.json.gz")[0] == 2
    (tmp_path / "file").write_text("")
    assert convert(capsys, "--out", tmp_path / "file")[0] == 2
    assert convert(capsys, "--to", "word", "--out", tmp_path)[0] == 2


def test_analyze_writes_the_trace_too(tmp_path, capsys):
    place = tmp_path / "t.json.gz"
    assert main(["analyze", str(DLRM), "--workers", "1", "--perfetto", str(place)]) == 0
    trace = json.loads(gzip.decompress(place.read_bytes()))
    assert trace["metadata"]["ranks"] == 8 and f"wrote {place}" in capsys.readouterr().err
    assert main(["analyze", str(DLRM), "--perfetto", str(tmp_path)]) == 2
