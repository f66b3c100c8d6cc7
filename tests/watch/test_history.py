import json
from pathlib import Path
from runpy import run_path

from skewscope.watch.history import History, former

incident = run_path(str(Path(__file__).with_name("_incidents.py")))["incident"]


def told(path):
    return [(one["id"], one["changed_ns"]) for one in map(json.loads, path.read_text().splitlines())]


def test_each_change_is_one_line_also_after_a_restart(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History([path])
    history.note([incident("b", 7), incident("a", 5)])
    history.note([incident("b", 7), incident("a", 9)])
    History([path]).note([incident("b", 8), incident("a", 9)])
    assert told(path) == [("a", 5), ("b", 7), ("a", 9), ("b", 8)]


def test_a_full_file_is_kept_beside(tmp_path):
    path = tmp_path / ".history.jsonl"
    history = History([path], most_bytes=10)
    for changed in range(1, 4):
        history.note([incident("a", changed)])
    assert told(path) == [("a", 3)] and told(former(path)) == [("a", 2)]
    History([path]).note([incident("a", 3)])
    assert told(path) == [("a", 3)]


def test_half_a_line_is_passed_over(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"id": "a", "changed_ns"\n[]\n')
    History([path]).note([incident("a", 5)])
    assert path.read_text().splitlines()[-1].startswith("{")
