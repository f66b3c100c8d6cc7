from __future__ import annotations

import argparse
import gzip
import json
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skewscope import commands
from skewscope.commands import _cached
from skewscope.contracts import Coded, Reading
from skewscope.errors import UsageError
from skewscope.sources import _cache, _cache_file, gather
from skewscope.sources._cache import Cache, in_force

SAMPLE = Path(__file__).parents[2] / "sample_data/compute-slow"
SETTLED_NS = 10 * 10**9


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """Two real traces that count as large, and old enough to be known by their times."""
    monkeypatch.setattr(_cache, "LEAST_BYTES", 1000)
    folder = tmp_path / "traces"
    folder.mkdir()
    for rank in range(2):
        place = folder / f"rank{rank}.pt.trace.json.gz"
        place.write_bytes((SAMPLE / place.name).read_bytes())
    monkeypatch.setattr(_cache, "YOUNG_NS", -1)
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that readers really read."""
    from skewscope.sources.kineto import Kineto

    seen: list[str] = []
    for name in ("read", "read_detail"):
        whole = getattr(Kineto, name)

        def counted(self, path, whole=whole):
            seen.append(path.name)
            return whole(self, path)

        monkeypatch.setattr(Kineto, name, counted)
    return seen


def same(one, other) -> None:
    for name, rows in one.tables.items():
        pd.testing.assert_frame_equal(rows, other.tables[name])
    assert (one.inputs, one.warnings, one.world_size) == (other.inputs, other.warnings, other.world_size)


def cached(folder: Path, traces: Path, **more):
    with in_force(folder):
        return gather([traces], workers=1, **more)


@pytest.mark.parametrize("detail", [False, True])
def test_a_second_run_reads_nothing_and_gives_the_same(tmp_path, traces, reads, detail):
    plain = gather([traces], workers=1, detail=detail)
    reads.clear()
    first = cached(tmp_path / "kept", traces, detail=detail)
    assert len(reads) == (2 if not detail else len(reads)) and reads
    reads.clear()
    second = cached(tmp_path / "kept", traces, detail=detail)
    assert reads == []
    same(plain, first)
    same(plain, second)


def test_processes_keep_and_find_too(tmp_path, traces, reads):
    plain = gather([traces], workers=1)
    with in_force(tmp_path / "kept"):
        same(plain, gather([traces], workers=2))
    reads.clear()
    same(plain, cached(tmp_path / "kept", traces))
    assert reads == []


def test_light_and_detailed_readings_are_two(tmp_path, traces, reads):
    cached(tmp_path / "kept", traces)
    reads.clear()
    assert len(cached(tmp_path / "kept", traces, detail=True).tables["operators"])
    assert reads


def test_the_content_counts_and_not_the_place(tmp_path, traces, reads):
    cached(tmp_path / "kept", traces)
    moved = tmp_path / "moved"
    traces.rename(moved)
    reads.clear()
    again = cached(tmp_path / "kept", moved)
    assert reads == [] and again.inputs[0].path.startswith(str(moved))


def test_a_file_that_changed_is_read_anew_even_with_its_old_times(tmp_path, traces, reads):
    cached(tmp_path / "kept", traces)
    place = traces / "rank0.pt.trace.json.gz"
    before = place.stat()
    document = json.loads(gzip.decompress(place.read_bytes()))
    document["traceEvents"] = document["traceEvents"][:-5]
    place.write_bytes(gzip.compress(json.dumps(document).encode()))
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    reads.clear()
    cached(tmp_path / "kept", traces)
    assert reads == [place.name]


def test_young_files_are_known_by_content_alone(tmp_path, traces, reads, monkeypatch):
    monkeypatch.setattr(_cache, "YOUNG_NS", SETTLED_NS * 10**6)
    cached(tmp_path / "kept", traces)
    assert not list((tmp_path / "kept").glob(f"*{_cache.PLACE_ENDING}"))
    reads.clear()
    cached(tmp_path / "kept", traces)
    assert reads == []


def test_other_readers_find_nothing_old(tmp_path, traces, reads, monkeypatch):
    cached(tmp_path / "kept", traces)
    reads.clear()
    monkeypatch.setattr(_cache, "readers_state", lambda: "of tomorrow")
    cached(tmp_path / "kept", traces)
    assert len(reads) == 2


def test_damaged_entries_are_ignored_and_replaced(tmp_path, traces, reads):
    plain = cached(tmp_path / "kept", traces)
    one, other = sorted((tmp_path / "kept").glob(f"*{_cache.ENDING}"))
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1
    one.write_bytes(content)
    other.write_bytes(other.read_bytes()[:1000])
    reads.clear()
    same(plain, cached(tmp_path / "kept", traces))
    assert len(reads) == 2
    reads.clear()
    same(plain, cached(tmp_path / "kept", traces))
    assert reads == []


def test_unreadable_and_small_files_are_not_kept(tmp_path, traces, monkeypatch):
    (traces / "noise.json").write_bytes(os.urandom(5000))
    cached(tmp_path / "kept", traces)
    assert len(list((tmp_path / "kept").glob(f"*{_cache.ENDING}"))) == 2
    monkeypatch.setattr(_cache, "LEAST_BYTES", 10**9)
    cached(tmp_path / "none", traces)
    assert list((tmp_path / "none").iterdir()) == []


def test_the_least_recently_used_goes_first(tmp_path):
    kept = Cache(tmp_path, keep_bytes=250)
    for place, name in enumerate(("old", "used", "new")):
        path = tmp_path / f"{name}{_cache.ENDING}"
        path.write_bytes(bytes(100))
        os.utime(path, ns=(place * 10**9, place * 10**9))
    os.utime(tmp_path / f"old{_cache.ENDING}")  # used again
    (tmp_path / "precious.txt").write_bytes(bytes(1000))
    kept.sweep()
    assert {path.stem for path in tmp_path.iterdir()} == {"old", "new", "precious"}


def test_runs_at_once_share_a_folder(tmp_path, traces):
    plain = gather([traces], workers=1)
    found = []
    threads = [threading.Thread(target=lambda: found.append(cached(tmp_path / "kept", traces))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        same(plain, one)
    assert not list((tmp_path / "kept").glob(".part-*"))


def test_a_full_disk_costs_nothing_but_the_cache(tmp_path, traces, monkeypatch, caplog):
    def full(self, place, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cache, "_write", full)
    same(gather([traces], workers=1), cached(tmp_path / "kept", traces))


def test_a_folder_that_anybody_may_write_to_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UsageError, match="anybody may write"), in_force(tmp_path / "open"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"), in_force(tmp_path / "file"):
        pass


def test_any_column_comes_back_as_it_was():
    columns = {
        "one": 3, "text": "x", "real": 0.5, "numbers": np.arange(3, dtype=np.int32), "none": np.zeros(0),
        "flags": np.array([True, False]), "coded": Coded(np.array([0, -1]), ["a"]), "list": ["a", "b"],
        "objects": np.array(["a", "b"], dtype=object), "whole": [1, 2],
    }  # fmt: skip
    made = Reading("p", "kineto", 3, "n", 8, 10, "partial", "cut", ["w"], [("ops", columns)], {"hosts": {0: "n"}}, "f")
    back = _cache_file.decoded(_cache_file.encoded(made), "p")
    table, got = back.batches[0]
    assert table == "ops" and got.keys() == columns.keys()
    for name, value in columns.items():
        if isinstance(value, np.ndarray):
            assert got[name].dtype == value.dtype and got[name].tolist() == value.tolist()
            got[name][:] = got[name]  # readers' arrays may be written to, and so may these
        elif isinstance(value, Coded):
            assert (got[name].codes.tolist(), list(got[name].values)) == (value.codes.tolist(), list(value.values))
        else:
            assert got[name] == value
    made.batches, back.batches = [], []
    assert back == made


@pytest.mark.parametrize("job", [{"join": gather}, {"part": object()}, {"bytes": b"x"}])
def test_what_is_not_plain_is_never_written(job):
    with pytest.raises(_cache_file.NotPlain):
        _cache_file.encoded(Reading("p", "kineto", job=job))


def test_a_pickle_is_nothing_to_it(tmp_path):
    import pickle

    with pytest.raises(_cache_file.Damaged):
        _cache_file.decoded(pickle.dumps(Reading("p", "kineto")), "p")


def test_the_report_is_the_same_with_and_without(tmp_path, traces, reads, monkeypatch, capsys):
    monkeypatch.delenv("SKEWSCOPE_NO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def report(*words: str) -> str:
        reads.clear()
        assert commands.main(["analyze", str(traces), "--workers", "1", "--json", "-", *words]) == 0
        return capsys.readouterr().out

    plain = report("--no-cache")
    assert not (tmp_path / "home").exists()
    assert report() == plain and len(reads) == 2
    assert report() == plain and reads == []
    assert report("--cache", str(tmp_path / "other")) == plain and len(reads) == 2
    assert list((tmp_path / "home/skewscope/readings").glob(f"*{_cache.ENDING}"))
    assert (tmp_path / "home/skewscope/readings").stat().st_mode & 0o777 == 0o700


def test_without_a_home_it_goes_without(tmp_path, traces, monkeypatch, capsys):
    monkeypatch.delenv("SKEWSCOPE_NO_CACHE", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert commands.main(["analyze", str(traces), "--workers", "1"]) == 0
    capsys.readouterr()
    assert commands.main(["analyze", str(traces), "--cache", str(tmp_path / "file")]) == 2
    assert "--cache" in capsys.readouterr().err


def test_off_is_no_folder():
    told = argparse.Namespace(no_cache=False, cache_bytes=1, cache=Path("off"))
    assert _cached.folder(told) is None
