from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skewscope import commands
from skewscope.errors import NothingReadable
from skewscope.sources import gather

SAMPLE = Path(__file__).parents[2] / "sample_data" / "compute-slow"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Return a folder with two ranks of a recording and the trace that was made of them."""
    folder = tmp_path_factory.mktemp("written")
    for path in sorted(SAMPLE.glob("*rank[01]*")):
        shutil.copy(path, folder)
    assert len(list(folder.iterdir())) >= 2
    assert commands.main(["convert", str(folder), "--to", "perfetto", "--out", str(folder / "trace.json"), "-q"]) == 0
    return folder


def test_alone_it_is_told_what_it_is_and_what_to_give(written):
    with pytest.raises(NothingReadable, match="wrote this trace itself, for Perfetto; give the recordings"):
        gather([written / "trace.json"])


def test_beside_the_recordings_it_changes_nothing(written):
    both = gather([written])
    (own,) = [one for one in both.inputs if one.path.endswith("trace.json")]
    assert (own.format, own.status, own.events) == ("skewscope-trace", "ok", 0) and "not used" in own.error
    alone = gather([one.path for one in both.inputs if one is not own])
    assert {name: len(rows) for name, rows in both.tables.items()} == {
        name: len(rows) for name, rows in alone.tables.items()
    }
    assert both.tables["steps"]["rank"].nunique() == 2


def test_a_trace_that_only_speaks_of_it_is_no_such_trace(tmp_path):
    events = '{"name": "a", "ph": "X", "ts": 1, "dur": 5, "pid": 1, "tid": 1, "cat": "cpu_op"}, ' * 9
    last = '{"name": "skewscope.trace/1", "ph": "X", "ts": 1, "dur": 5, "pid": 1, "tid": 1}'
    (tmp_path / "rank0.json").write_text(f'{{"traceEvents": [{events}{last}]}}')
    assert gather([tmp_path]).inputs[0].format == "kineto"
