"""Tables that stay in their files: the same pages as from memory, fewer columns read, narrower."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from skewscope.catalogue import load, rooms
from skewscope.errors import Unreadable
from skewscope.frames import frame

large, view_module = load("dashboards._large"), load("dashboards._view")
rank_maps, kept = load("dashboards._rank_maps"), load("dashboards._kept")
Selection = load("dashboards._selection").Selection
RANKS, STEPS = 16, 100
write = run_path(str(Path(__file__).parents[1] / "benchmarks" / "_rank_tables.py"))["write"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("job"), RANKS, STEPS)


@pytest.fixture(scope="module")
def both(folder):
    """Return the view of the folder with its large tables in memory, and with them in their files."""
    report = load("dashboards._sources").from_report(folder).report
    made = {}
    for name, most in (("memory", 10**9), ("files", 200)):
        made[name] = view_module.View(id=name, report=report, tables=large.Tables(folder / "tables", most))
    assert not made["memory"].tables.large
    assert set(made["files"].tables.large) == {"rank_steps", "arrivals", "steps"}
    return made


def test_rows_are_those_of_the_file_and_narrower(folder, both):
    whole = pd.read_parquet(folder / "tables" / "rank_steps.parquet")
    columns = ("job", "rank", "step", "node", "start_ns", "work_ns")
    rows = both["files"].rows("rank_steps", columns)
    assert tuple(rows.columns) == columns
    assert {name: str(rows[name].dtype) for name in columns[1:3]} == {"rank": "int32", "step": "int32"}
    assert rows["work_ns"].dtype == np.float32 and rows["start_ns"].dtype == np.int64
    for name in ("rank", "step", "start_ns"):
        assert (rows[name].to_numpy() == whole[name].to_numpy()).all()
    assert rows["node"].astype(str).tolist() == whole["node"].astype(str).tolist()
    assert np.allclose(rows["work_ns"], whole["work_ns"], rtol=1e-6)


def test_a_span_of_steps_and_one_of_a_few(both):
    view = both["files"]
    assert view.rows("rank_steps", ("step", "rank"), step=(7, 8))["step"].tolist() == [7] * RANKS + [8] * RANKS
    assert sorted(set(view.rows("arrivals", ("step",), every=25)["step"])) == [0, 25, 50, 75]
    assert len(view.rows("rank_steps", ("step",), step=(500, 600))) == 0
    assert view.rows("rank_steps", ("rank",), step=(3, 3))["rank"].tolist() == list(range(RANKS))


def test_only_row_groups_of_the_steps_are_read(tmp_path, monkeypatch):
    given = frame("steps", {"job": "j", "step": np.arange(40), "rank": 0, "phase": "step", "start_ns": 1, "end_ns": 2})
    given.to_parquet(tmp_path / "steps.parquet", index=False, row_group_size=10)
    asked = []
    usual = pq.ParquetFile.iter_batches

    def noted(self, size, groups, *words, **more):
        asked.append(list(groups))
        return usual(self, size, groups, *words, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    one = large.Large("steps", tmp_path / "steps.parquet")
    assert len(one.rows(("rank",), (9, 10))) == 2 and asked == [[0, 1]]


def test_columns_that_are_not_there_are_unknown(tmp_path):
    rows = frame("steps", {"job": "j", "step": [0, 1], "rank": 0, "phase": ["a", "b"], "start_ns": 1, "end_ns": 2})
    rows.drop(columns=["microbatch"]).to_parquet(tmp_path / "steps.parquet", index=False)
    one = large.Large("steps", tmp_path / "steps.parquet")
    assert one.rows(("microbatch", "phase"))["microbatch"].tolist() == [-1, -1]
    assert one.names("phase") == ("a", "b")


def test_numbers_beyond_32_bits_stay_whole(tmp_path):
    rows = frame("steps", {"job": "j", "step": [2**40], "rank": 0, "phase": "a", "start_ns": 1, "end_ns": 2})
    rows.to_parquet(tmp_path / "steps.parquet", index=False)
    assert large.Large("steps", tmp_path / "steps.parquet").rows(("step",))["step"].tolist() == [2**40]


@pytest.mark.parametrize("wrong", ["missing", "text", "gone"])
def test_files_that_are_no_such_table_are_told(tmp_path, wrong):
    rows = frame("steps", {"job": "j", "step": [0], "rank": 0, "phase": "a", "start_ns": 1, "end_ns": 2})
    rows = rows.drop(columns=["rank"]) if wrong == "missing" else rows
    rows = rows.assign(start_ns="soon") if wrong == "text" else rows
    rows.to_parquet(tmp_path / "steps.parquet", index=False)
    with pytest.raises(Unreadable, match=r"steps\.parquet"):
        one = large.Large("steps", tmp_path / "steps.parquet")
        (tmp_path / "steps.parquet").unlink()
        one.rows(("step",))


@pytest.mark.parametrize("name", [room.id for room in rooms("dashboards.pages")])
@pytest.mark.parametrize("query", ["", "?rank=3&begin=20&end=60", "?show=late"])
def test_pages_say_the_same_from_files(both, name, query):
    page = next(room for room in rooms("dashboards.pages") if room.id == name).load()
    selection = Selection.of(query)
    told = {where: page.blocks(view, selection) for where, view in both.items()}
    for memory, files in zip(told["memory"], told["files"], strict=True):
        assert (files.name, files.title, files.verdict) == (memory.name, memory.title, memory.verdict)
        assert files.columns == memory.columns and len(files.rows) == len(memory.rows)


def test_no_page_reads_a_large_table_whole(both, monkeypatch):
    monkeypatch.setattr(large.Large, "whole", lambda self: pytest.fail(f"{self.name} was read whole"))
    view = view_module.View(id="fresh", report=both["files"].report, tables=both["files"].tables)
    for room in rooms("dashboards.pages"):
        assert room.load().blocks(view, Selection())


def test_kept_maps_are_bounded_together():
    made = kept.Kept[bytes](10, len, 25)
    for name in "abc":
        made.get(name, lambda: bytes(10))
    assert made.get("a", lambda: b"anew") == b"anew" and made.get("c", lambda: b"anew") == bytes(10)
    assert len(made.get("d", lambda: bytes(100))) == 100  # the newest stays, however large
    assert made.get("d", lambda: b"anew") == bytes(100)


def test_the_slow_rank_is_named_from_files(both):
    page = next(room for room in rooms("dashboards.pages") if room.id == "ranks").load()
    assert page.blocks(both["files"], Selection())[0].verdict.startswith("Rank 9: ")


def test_the_folder_of_a_report_gives_the_view(folder):
    assert json.loads((folder / "report.json").read_text())["job"]["ranks"] == RANKS
    view = load("dashboards._sources").from_report(folder)
    assert view.jobs() == ("big",) and view.count("rank_steps") == RANKS * STEPS and not view.empty
