from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from skewscope import commands
from skewscope.errors import NothingReadable, UsageError
from skewscope.sources import _remote, gather

fsspec = pytest.importorskip("fsspec")

SAMPLE = Path(__file__).parents[2] / "sample_data/compute-slow"
PARTS = ("job.json", *(f"rank{rank}.pt.trace.json.gz" for rank in range(8)))


@pytest.fixture
def store(request):
    """A folder in memory that holds a sample; gone afterwards."""
    system = fsspec.filesystem("memory")
    root = f"/{request.node.name}"
    for name in PARTS:
        system.pipe_file(f"{root}/run/{name}", (SAMPLE / name).read_bytes())
    yield system, f"memory:/{root}/run"
    system.rm(root, recursive=True)


def same(one, other) -> None:
    for name, rows in one.tables.items():
        pd.testing.assert_frame_equal(rows, other.tables[name])
    assert (one.world_size, one.parallelism) == (other.world_size, other.parallelism)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    for name in PARTS:
        shutil.copy(SAMPLE / name, folder / name)
    return gather([folder], workers=1)


def test_a_folder_in_memory_is_read_as_the_files_are(store, local):
    system, url = store
    read = gather([url], workers=1)
    same(read, local)
    assert [item.path for item in read.inputs] == [f"{url}/{name}" for name in sorted(PARTS)]
    assert {item.status for item in read.inputs} == {"ok"}


def test_large_files_are_fetched_by_turns_and_do_not_stay(store, local, monkeypatch):
    monkeypatch.setattr(_remote, "SMALL_BYTES", 1000)  # all traces are large, the job file is not
    files, _ = _remote.found(store[1])
    large = [one for one in files if one.size_bytes > 1000]
    assert len(large) == 8
    assert all(one.stat().st_size == one.size_bytes and one.stat().st_blocks == 0 for one in large), "holes"
    same(gather([store[1]], workers=2), local)
    with _remote.at_hand(large[0]):
        assert large[0].read_bytes() == (SAMPLE / large[0].name).read_bytes()
    assert not large[0].exists()


def test_patterns_and_single_files(store):
    url = store[1]
    assert [one.name for one in _remote.found(f"{url}/rank[01].*")[0]] == list(PARTS[1:3])
    assert [one.url for one in _remote.found(f"{url}/job.json")[0]] == [f"{url}/job.json"]
    assert len(gather([f"{url}/rank0.pt.trace.json.gz", f"{url}/*"], workers=1).inputs) == len(PARTS), "each once"


def test_an_archive_is_a_store_too(tmp_path, local):
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for name in PARTS:
            archive.write(SAMPLE / name, f"run/{name}")
        archive.writestr("run/.hidden.json", "{}")
    read = gather([f"zip://run::{tmp_path}/run.zip"], workers=1)
    same(read, local)
    assert read.inputs[0].path == f"zip://run/job.json::{tmp_path}/run.zip"


def test_urls_of_files_are_paths(tmp_path):
    shutil.copy(SAMPLE / PARTS[1], tmp_path / "rank 0.json.gz")
    (item,) = gather([f"file://{tmp_path}/rank%200.json.gz"], workers=1).inputs
    assert item.path == str(tmp_path / "rank 0.json.gz")
    with pytest.raises(UsageError, match="names the machine 'n7'"):
        gather(["file://n7/data"])


def test_the_report_names_urls(store, tmp_path, capsys):
    out = tmp_path / "report.json"
    assert commands.main(["analyze", store[1], "--workers", "1", "--no-cache", "--json", str(out)]) == 0
    paths = [item["path"] for item in json.loads(out.read_text())["inputs"]]
    assert paths and all(path.startswith("memory://") for path in paths)
    assert "skewscope-remote" not in out.read_text() + "".join(capsys.readouterr())


def test_what_is_not_there_is_one_line(capsys):
    assert commands.main(["analyze", "memory://nowhere/at-all"]) == 2
    assert "no such file or folder: memory://nowhere/at-all" in capsys.readouterr().err


def test_a_store_without_its_driver_says_what_to_install(capsys):
    try:
        import s3fs  # noqa: F401
    except ImportError:
        assert commands.main(["analyze", "s3://key:secret@bucket/run/"]) == 2
        said = capsys.readouterr().err
        assert "pip install fsspec s3fs" in said and "secret" not in said


def test_without_fsspec_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert commands.main(["analyze", "gs://bucket/run/"]) == 2
    assert "pip install 'skewscope[remote]' gcsfs" in capsys.readouterr().err


def test_empty_and_broken_files_have_their_line(store):
    system, url = store
    system.pipe_file(f"{url.removeprefix('memory:/')}/empty.json", b"")
    system.pipe_file(f"{url.removeprefix('memory:/')}/noise.bin", b"\x00\x01\x02" * 100)
    told = {item.path.rpartition("/")[2]: item for item in gather([url], workers=1).inputs}
    assert told["empty.json"].error == "empty file"
    assert told["noise.bin"].status == "unreadable" and "skewscope-remote" not in told["noise.bin"].error


def test_a_file_that_cannot_be_fetched_sinks_only_itself(store, monkeypatch, local):
    fetch = _remote._fetch

    def failing(path):
        if path.name == PARTS[3]:
            raise _remote.Unreadable("it cannot be fetched (403)", "check the address and your login")
        fetch(path)

    monkeypatch.setattr(_remote, "_fetch", failing)
    read = gather([store[1]], workers=1)
    (lost,) = [item for item in read.inputs if item.status == "unreadable" and "missing" not in item.path]
    assert lost.path.endswith(PARTS[3]) and "403" in lost.error
    with pytest.raises(NothingReadable, match="403"):
        gather([f"{store[1]}/{PARTS[3]}"], workers=1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/a.json?X-Amz-Signature=ab&token=1", "https://h/a.json"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("cannot open 'https://u:p@h/a?sig=1': 403", "cannot open 'https://h/a': 403"),
        ("s3://bucket/run", "s3://bucket/run"),
    ],
)
def test_secrets_are_not_shown(text, shown):
    assert _remote.without_secrets(text) == shown


def test_a_remote_path_goes_to_other_processes_whole(tmp_path):
    made = _remote.RemoteFile.of(tmp_path / "a.json", "s3://k:s@b/a.json", 5)
    again = pickle.loads(pickle.dumps(made))
    assert (again, again.url, again.shown, again.size_bytes) == (made, made.url, "s3://b/a.json", 5)
