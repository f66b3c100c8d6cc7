from __future__ import annotations

import json
import os

import pytest

from skewscope.errors import UsageError
from skewscope.watch.files import append_line, read_json, write_json


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path, "skewscope.any/1") is None
    for content in ({"a": [1, None, "é\n"]}, {"a": []}):
        write_json(path, content)
        assert read_json(path, "skewscope.any/1") == content
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "a.json"
    for content in (b'{"a": [1', b"\xff\xfe", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            read_json(path, "skewscope.any/1")


def test_the_old_file_stays_where_a_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": 2})
    monkeypatch.undo()
    assert read_json(path, "skewscope.any/1") == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_content_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path, "skewscope.any/1") == {"a": 1}


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(OSError):
        write_json(tmp_path / "gone" / "a.json", {})


def test_lines_are_added(tmp_path):
    path = tmp_path / "a.jsonl"
    append_line(path, {"a": "x\ny"})
    append_line(path, [2])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": "x\ny"}, [2]]


def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_json(tmp_path, "skewscope.any/1")
