"""What small files cost: neither large arrays nor folders nor a gigabyte of room, and the same rows all the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from skewscope.errors import SchemaError
from skewscope.frames import part
from skewscope.sources import _bytes, _kineto_columns, _sqlite_file


@pytest.mark.parametrize("sizes", [[1], [3, 1], [4, 1], [2, 9], [5], [4, 4, 4, 9, 1], [40], [3, 30, 3]])
def test_columns_that_outgrow_their_first_room_keep_all_rows(monkeypatch: pytest.MonkeyPatch, sizes: list[int]):
    monkeypatch.setattr(_kineto_columns, "FEW", 4)
    monkeypatch.setattr(_kineto_columns, "ROOM", 16)
    columns = _kineto_columns.Columns({"a": "i8", "b": "i4"})
    rows = np.arange(sum(sizes))
    for some in np.split(rows, np.cumsum(sizes)[:-1]):
        columns.add(a=some, b=some * 2)
    assert len(columns) == len(rows)
    done = columns.done()
    assert done["a"].tolist() == rows.tolist() and done["b"].tolist() == (rows * 2).tolist()
    columns.add(a=[7], b=[8])  # after that a new chunk is opened
    assert columns.done()["a"].tolist() == [*rows.tolist(), 7] and columns.pop("b").tolist()[-1] == 8


def test_few_rows_take_little_room():
    columns = _kineto_columns.Columns({"a": "i8"})
    columns.add(a=[1, 2])
    assert columns.done()["a"].base.nbytes <= 8 * _kineto_columns.FEW


@pytest.mark.parametrize("size", [0, 1, 70_000, _bytes.FEED_BYTES + 1, 3 * _bytes.FEED_BYTES])
def test_whole_files_are_read_to_their_end(tmp_path: Path, size: int):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(251)) * (size // 251) + b"x" * (size % 251))
    assert _bytes.whole(path) == (path.read_bytes(), "")
    with _bytes.Stream(path) as stream:
        parts = [stream.read(_bytes.FEED_BYTES + 1), stream.read(1 << 30), stream.read(1 << 30)]
    assert b"".join(parts) == path.read_bytes() and parts[-1] == b""


def test_a_file_without_a_length_is_read_whole():
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("no /proc")
    assert path.stat().st_size == 0 and b"Name:" in _bytes.whole(path)[0]


def test_a_plain_database_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE a (b INTEGER)")
        made.execute("INSERT INTO a VALUES (3)")
    made.close()
    monkeypatch.setattr(_sqlite_file, "TemporaryDirectory", None)
    with _sqlite_file.opened(path) as database:
        assert database.rows("a", ["b"]) == [(3,)] and database.damage == ""


def test_columns_of_the_right_type_are_taken_as_they_are():
    ranks = np.array([0, 1], dtype=np.int32)
    columns = part("ranks", {"job": "job", "rank": ranks}).columns
    assert columns["rank"] is ranks
    assert part("ranks", {"job": "job", "rank": ranks.astype(">i4")}).columns["rank"].dtype == np.int32
    with pytest.raises(SchemaError, match="no column 'a'; it has job, "):
        part("ranks", {"job": "job", "rank": ranks, "b": 1, "a": 2})
