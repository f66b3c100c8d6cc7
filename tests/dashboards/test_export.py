from __future__ import annotations

import io
from pathlib import Path
from runpy import run_path

import pandas as pd
import pytest

pytest.importorskip("dash")
made = run_path(str(Path(__file__).with_name("_served.py")))
encoded = made["load"]("dashboards._export").encoded


def test_a_table_comes_as_csv_and_parquet_for_the_selection():
    client, _ = made["served"]()
    reply = client.get("/export/maps/same.csv?rank=3")
    assert "attachment" in reply.headers["Content-Disposition"]
    assert reply.text == "who,what\nrank <3>,'=1+1\n"
    whole = pd.read_parquet(io.BytesIO(client.get("/export/maps/same.parquet?rank=3").data))
    assert whole["what"].tolist() == ["=1+1"]


@pytest.mark.parametrize(
    ("cell", "written"),
    [("=cmd()", "'=cmd()"), ("@a", "'@a"), ("+a", "'+a"), ("-a", "'-a"), ("-5 ms", "-5 ms"), ("-", "-"), ("+3", "+3")],
)
def test_no_cell_is_taken_for_a_formula(cell, written):
    assert encoded(pd.DataFrame({"a": [cell]}), "csv").decode() == f"a\n{written}\n"


def test_names_of_columns_are_no_formulas_either():
    assert encoded(pd.DataFrame({"=1": [1]}), "csv") == b"'=1\n1\n"


def test_a_page_comes_as_one_file_that_loads_nothing():
    client, _ = made["served"]()
    text = client.get("/export/maps.html").text
    assert "seen one" in text
    assert "default-src 'none'" in text
    assert "rank &lt;-1&gt;" in text
    assert "<script src" not in text
    assert "<link" not in text


@pytest.mark.parametrize(
    "path",
    [
        "maps/nothing.csv", "nothing/same.csv", "maps/same.exe", "nothing.html", "../../etc/passwd",
        "..%2f..%2fetc/passwd.csv", "maps/..%2f.csv",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(path):
    client, _ = made["served"]()
    assert client.get(f"/export/{path}").status_code == 404
