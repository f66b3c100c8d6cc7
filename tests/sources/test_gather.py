"""What becomes of files, folders, ranks and jobs. Long, because every kind of bad input comes by this door."""

import gzip
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from skewscope import tables as schema
from skewscope.errors import NothingReadable, UsageError
from skewscope.sources import gather
from skewscope.sources._gather_pool import read_all

DATA = Path(__file__).parents[2] / "../shared/data"
T0 = 1_700_000_000_000_000_000
FOLDERS = sorted(path for path in DATA.glob("*") if path.is_dir() and path.name != "real-jobs") + sorted(
    path for path in DATA.glob("real-jobs/*") if path.is_dir()
)


def steps(folder, rank, count=3, start_ns=T0, name=None, **more):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"step": s, "rank": rank, "t_start_ns": start_ns + s * 10**8, "step_ms": 90.0 + rank, **more})
        for s in range(count)
    ]
    path = folder / (name or f"steps_rank{rank}.jsonl")
    path.write_text("\n".join(lines))
    return path


def dump(folder, rank, groups, name=None, start_ns=T0):
    """Write a flight recorder dump: groups maps name to member list; one call each."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {"record_id": i, "process_group": [group, ""], "collective_seq_id": 1, "profiling_name": "nccl:all_reduce",
         "time_created_ns": start_ns + i * 1000 + rank, "state": "completed", "input_sizes": [[4]],
         "input_dtypes": ["Float"]}
        for i, group in enumerate(groups)
    ]  # fmt: skip
    config = {group: {"name": group, "desc": "", "ranks": str(members)} for group, members in groups.items() if members}
    path = folder / (name or f"fr_rank{rank}.json")
    path.write_text(json.dumps({"version": "2.10", "pg_config": config, "entries": entries}))
    return path


def job(folder, world):
    folder.mkdir(parents=True, exist_ok=True)
    ranks = [{"rank": rank, "host": f"n{rank // 2}", "local_rank": rank % 2} for rank in range(world)]
    (folder / "job.json").write_text(json.dumps({"world_size": world, "ranks": ranks, "parallelism": {"dp": world}}))


def line(recording, name):
    (found,) = [item for item in recording.inputs if item.path.endswith(name)]
    return found


def members(recording):
    rows = recording.tables["groups"]
    return {str(name): sorted(part["rank"].tolist()) for name, part in rows.groupby("group", observed=True)}


def test_one_job_becomes_all_canonical_tables(tmp_path):
    job(tmp_path, 2)
    for rank in range(2):
        steps(tmp_path, rank)
    recording = gather([tmp_path])
    assert set(recording.tables) == {name for name in schema.names() if not schema.table(name).derived}
    assert recording.world_size == 2 and recording.parallelism == {"dp": 2} and len(recording.tables["steps"]) == 6
    assert recording.tables["ranks"][["rank", "node", "gpu"]].values.tolist() == [[0, "n0", 0], [1, "n0", 1]]
    assert all(item.status == "ok" for item in recording.inputs)


def test_hostile_folder(tmp_path, monkeypatch):
    steps(tmp_path, 0)
    (tmp_path / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (tmp_path / "README.md").write_text("# a job\n")
    (tmp_path / "empty.json").touch()
    (tmp_path / "blank.json").write_text("\n \n")
    (tmp_path / ".hidden.json").write_text("{}")
    (tmp_path / "folder.json").mkdir()
    steps(tmp_path / "folder.json", 1)
    (tmp_path / "broken.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "truth.json").write_text('{"culprit_ranks": [3]}')
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"x" * 1000)[:8])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        server.bind("door.json")
        recording = gather([tmp_path])
    assert {item.path for item in recording.inputs if item.status == "ok"} == {
        str(tmp_path / "steps_rank0.jsonl"), str(tmp_path / "folder.json" / "steps_rank1.jsonl")
    }  # fmt: skip
    assert not any("hidden" in item.path for item in recording.inputs)
    assert line(recording, "broken.json").error.startswith("broken link")
    assert line(recording, "door.json").error.startswith("not a regular file")
    assert line(recording, "empty.json").error == "empty file"
    assert (
        "not a recording that skewscope knows; expected one of: balance-log, canonical-table"
        in line(recording, "plot.png").error
    )
    for name in ("README.md", "truth.json", "cut.json.gz", "bad.parquet", "evil.pkl", "blank.json"):
        found = line(recording, name)
        assert found.status == "unreadable" and found.error and "Traceback" not in found.error, found


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission_is_one_line(tmp_path):
    steps(tmp_path, 0)
    steps(tmp_path, 1).chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    recording = gather([tmp_path])
    assert "permission" in line(recording, "steps_rank1.jsonl").error
    assert "cannot be listed" in line(recording, "closed").error


def test_a_missing_path_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.json"):
        gather([tmp_path / "gone.json"])


def test_nothing_readable_tells_each_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "b.json").touch()
    with pytest.raises(NothingReadable, match=r"(?s)a\.png: not a recording.*b\.json: empty file.*kineto") as caught:
        gather([tmp_path])
    assert caught.value.exit_code == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(NothingReadable, match="no files"):
        gather([tmp_path / "none"])


def test_a_file_given_twice_is_read_once(tmp_path):
    path = steps(tmp_path, 0)
    assert len(gather([path, tmp_path, path]).inputs) == 1


def test_the_content_names_the_rank_before_the_name(tmp_path):
    steps(tmp_path, 2, name="steps_rank7.jsonl")
    recording = gather([tmp_path])
    assert recording.inputs[0].rank == 2 and set(recording.tables["steps"]["rank"]) == {2}
    assert any("the name says rank 7, the content rank 2" in warning for warning in recording.warnings)


@pytest.mark.parametrize("name", ["x_rank3.csv", "rank-3.csv", "rank_3.csv", "steps_3.csv", "worker3_step_12.0.csv"])
def test_else_the_name_tells_it(tmp_path, name):
    (tmp_path / name).write_text("step,time,step_ms\n0,1700000000,5\n")
    assert set(gather([tmp_path]).tables["steps"]["rank"]) == {3}


def test_rankless_files(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"step,time,step_ms\n0,1700000000,{ord(name[0])}\n")
    recording = gather([tmp_path])
    assert set(recording.tables["steps"]["rank"]) == {0}
    assert "put rankN" in line(recording, "b.csv").error
    assert any("taken for rank 0" in warning for warning in recording.warnings)


def test_the_same_recording_twice(tmp_path):
    first = steps(tmp_path, 3)
    shutil.copy(first, tmp_path / "the_same.jsonl")
    (tmp_path / "zipped.jsonl.gz").write_bytes(gzip.compress(first.read_bytes()))
    recording = gather([tmp_path])
    assert len(recording.tables["steps"]) == 3
    for name in ("the_same.jsonl", "zipped.jsonl.gz"):
        assert line(recording, name).error == f"same recording as {first} (rank 3): remove one"


def test_overlap_keeps_the_first_and_disjoint_windows_stay(tmp_path):
    steps(tmp_path, 0, name="a_rank0.jsonl")
    steps(tmp_path, 0, name="b_rank0.jsonl", start_ns=T0 + 50_000_000)
    steps(tmp_path, 0, name="c_rank0.jsonl", start_ns=T0 + 10**12)
    recording = gather([tmp_path])
    assert len(recording.tables["steps"]) == 6
    error = line(recording, "b_rank0.jsonl").error
    assert "a_rank0.jsonl" in error and "rank 0" in error


def test_a_whole_file_goes_before_its_damaged_copy(tmp_path):
    whole = steps(tmp_path, 0, name="b_rank0.jsonl")
    (tmp_path / "a_rank0.jsonl").write_text(whole.read_text()[:-20])
    recording = gather([tmp_path])
    assert line(recording, "b_rank0.jsonl").status == "ok" and line(recording, "a_rank0.jsonl").status == "unreadable"


def test_two_jobs_of_different_size(tmp_path):
    job(tmp_path / "small", 2)
    job(tmp_path / "large", 4)
    for rank in range(4):
        steps(tmp_path / "large", rank)
    for rank in range(2):
        steps(tmp_path / "small", rank, start_ns=T0 + 10**15)
    recording = gather([tmp_path])
    assert recording.world_size == 4 and set(recording.tables["steps"]["rank"]) == {0, 1, 2, 3}
    error = line(recording, "small/steps_rank0.jsonl").error
    assert error.startswith("belongs to another job (world size 2, kept job has 4; e.g. ") and "large" in error


def test_two_folders_with_the_same_ranks_are_two_jobs(tmp_path):
    for place, folder in enumerate(("b", "a")):
        for rank in range(2):
            steps(tmp_path / folder, rank, start_ns=T0 + place * 10**13)
    recording = gather([tmp_path])
    assert {item.path for item in recording.inputs if item.status == "ok"} == {
        str(tmp_path / "a" / f"steps_rank{rank}.jsonl") for rank in range(2)
    }


def test_one_job_over_several_folders(tmp_path):
    for rank in range(4):
        steps(tmp_path / f"node{rank // 2}", rank)
        dump(tmp_path / "dumps", rank, {"0": [0, 1, 2, 3]})
    recording = gather([tmp_path])
    assert all(item.status == "ok" for item in recording.inputs) and recording.world_size == 4


def test_contradicting_groups_are_two_jobs(tmp_path):
    for rank in (0, 1, 2):
        dump(tmp_path, rank, {"7": [0, 1, 2]})
    dump(tmp_path, 3, {"7": [0, 3]})
    recording = gather([tmp_path])
    assert members(recording) == {"7": [0, 1, 2]}
    assert "process groups contradict" in line(recording, "fr_rank3.json").error


def test_one_name_for_two_groups(tmp_path):
    for rank in range(4):
        dump(tmp_path, rank, {"0": [0, 1, 2, 3], "tp": [rank // 2 * 2, rank // 2 * 2 + 1]})
    recording = gather([tmp_path])
    assert members(recording) == {"0": [0, 1, 2, 3], "tp@0": [0, 1], "tp@2": [2, 3]}
    calls = recording.tables["collectives"]
    found = {(str(group), rank) for group, rank in zip(calls["group"], calls["rank"], strict=True)}
    assert {("tp@0", 0), ("tp@0", 1), ("tp@2", 2), ("tp@2", 3)} <= found
    assert set(zip(calls["group"].astype(str), calls["group_size"], strict=True)) == {
        ("0", 4),
        ("tp@0", 2),
        ("tp@2", 2),
    }


def test_members_are_the_carriers_where_nobody_declares_them(tmp_path):
    job(tmp_path, 3)
    for rank in range(3):
        dump(tmp_path, rank, {"0": [], "9": []} if rank else {"0": []})
    recording = gather([tmp_path])
    assert members(recording) == {"0": [0, 1, 2], "9": [1, 2]}
    calls = recording.tables["collectives"]
    assert set(zip(calls["group"].astype(str), calls["group_size"], strict=True)) == {("0", 3), ("9", 2)}


def test_missing_ranks_have_a_line_each(tmp_path):
    job(tmp_path, 8)
    for rank in set(range(8)) - {6}:
        steps(tmp_path, rank)
    recording = gather([tmp_path])
    found = recording.inputs[-1]
    assert (found.path, found.format, found.rank, found.status) == ("(missing) rank 6", "step-log", 6, "unreadable")
    assert found.error == (
        "no step-log recording of rank 6 (world size 8) among the inputs: copy it too, or read the result as of 7 ranks"
    )


def test_many_missing_ranks_are_capped(tmp_path):
    job(tmp_path, 60)
    for rank in range(31):
        steps(tmp_path, rank)
    missing = [item for item in gather([tmp_path]).inputs if item.path.startswith("(missing)")]
    assert len(missing) == 21 and missing[-1].error.startswith("9 more ranks")
    for rank in range(1, 31):
        (tmp_path / f"steps_rank{rank}.jsonl").unlink()
    recording = gather([tmp_path])
    assert not any(item.path.startswith("(missing)") for item in recording.inputs)
    assert "step-log recordings of 1 of 60 ranks only" in recording.warnings


def test_addresses_become_ranks(tmp_path):
    for rank in range(2):
        steps(tmp_path, rank)
        text = "Local Address:Port Peer Address:Port\n"
        for peer in (1 - rank, 8):
            text += f"0 0 10.0.0.{rank}:1 10.0.0.{peer}:2\n cubic rtt:1/1 cwnd:1 bytes_sent:5 delivery_rate 8bps\n"
        (tmp_path / f"ss_rank{rank}.txt").write_text(text)
    links = gather([tmp_path]).tables["links"]
    assert links[["src", "dst"]].values.tolist() == [
        ["rank0", "rank1"], ["rank0", "10.0.0.8"], ["rank1", "rank0"], ["rank1", "10.0.0.8"]
    ]  # fmt: skip


def test_stack_dumps_get_the_rank_of_their_name(tmp_path):
    steps(tmp_path, 4)
    text = 'Current thread 0x01 (most recent call first):\n  File "train.py", line 5 in <module>\n'
    (tmp_path / "stack_rank4.txt").write_text(text)
    steps(tmp_path, 4, host="n7")
    assert gather([tmp_path]).tables["events"][["node", "device"]].values.tolist() == [["n7", "rank4"]]


def test_a_reader_that_fails_costs_its_file_only(tmp_path, monkeypatch):
    from skewscope.sources.watchdog_note import WatchdogNote

    def explode(self, path):
        raise RecursionError("too deep")

    monkeypatch.setattr(WatchdogNote, "read", explode)
    steps(tmp_path, 0)
    (tmp_path / "w.json").write_text('{"rank": 0, "dumped_at_ns": 1, "no_progress_s": 1}')
    found = line(gather([tmp_path], workers=1), "w.json")
    assert (found.status, found.format, found.error) == ("unreadable", "watchdog-note", "RecursionError: too deep")


def test_processes_give_what_one_process_gives(tmp_path):
    job(tmp_path, 4)
    for rank in range(4):
        steps(tmp_path, rank)
    told = []
    alone = gather([tmp_path], workers=1)
    many = gather([tmp_path], workers=2, progress=lambda done, total, path: told.append((done, total)))
    assert alone.inputs == many.inputs and told == [(done, 5) for done in range(1, 6)]
    assert all(alone.tables[name].equals(many.tables[name]) for name in alone.tables)


def test_a_process_that_dies_costs_its_file_only(tmp_path, monkeypatch):
    from skewscope.sources.watchdog_note import WatchdogNote

    monkeypatch.setattr(WatchdogNote, "read", lambda self, path: os._exit(9))
    steps(tmp_path, 0)
    (tmp_path / "w.json").write_text('{"rank": 0, "dumped_at_ns": 1, "no_progress_s": 1}')
    recording = gather([tmp_path], workers=2)
    assert "died" in line(recording, "w.json").error and len(recording.tables["steps"]) == 3


def test_an_interrupt_leaves_no_process_behind(tmp_path):
    import multiprocessing

    def interrupt(done, total, path):
        raise KeyboardInterrupt

    paths = [steps(tmp_path, rank) for rank in range(6)]
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        read_all(paths, workers=2, progress=interrupt)
    left = set(multiprocessing.active_children()) - before
    end = time.monotonic() + 60
    while any(process.is_alive() for process in left) and time.monotonic() < end:
        time.sleep(0.01)  # until the pool's own thread has noted the end that it was told of
    assert not any(process.is_alive() for process in left)


def test_tables_written_and_read_again_are_the_same(tmp_path):
    job(tmp_path / "in", 4)
    for rank in range(4):
        steps(tmp_path / "in", rank, rx_bytes=rank)
        dump(tmp_path / "in", rank, {"0": [0, 1, 2, 3], "tp": [rank // 2 * 2, rank // 2 * 2 + 1]})
    first = gather([tmp_path / "in"])
    (tmp_path / "out").mkdir()
    for name, rows in first.tables.items():
        rows.to_parquet(tmp_path / "out" / f"{name}.parquet")
    again = gather([tmp_path / "out"])
    for name, rows in first.tables.items():
        assert rows.astype(str).equals(again.tables[name].astype(str)), name
    assert again.world_size == 4


def test_the_name_of_the_job_is_kept(tmp_path):
    steps(tmp_path, 0)
    given = gather([tmp_path]).tables["steps"]
    (tmp_path / "out").mkdir()
    given.assign(job="night-run").to_parquet(tmp_path / "out/steps.parquet")
    job(tmp_path / "out", 1)
    recording = gather([tmp_path / "out"])
    assert set(recording.tables["steps"]["job"]) == set(recording.tables["ranks"]["job"]) == {"night-run"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_everything_real_is_read_or_refused_in_words(folder):
    if not folder.exists():
        pytest.skip("shared data is not here")
    try:
        recording = gather([folder])
    except NothingReadable as refusal:
        assert "Error" not in str(refusal)
        return
    for item in recording.inputs:
        assert item.status == "ok" or (item.error and "Error:" not in item.error), item
        assert "truth" not in item.path or item.status == "unreadable"


def test_real_job_with_damage():
    folder = DATA / "real-jobs/bad-input"
    if not folder.exists():
        pytest.skip("shared data is not here")
    recording = gather([folder])
    state = {(item.format, item.rank): item.status for item in recording.inputs if item.status != "ok"}
    assert state == {
        ("", -1): "unreadable", ("kineto", 2): "partial", ("step-log", 3): "partial", ("kineto", 6): "unreadable",
        ("flight-recorder", 6): "unreadable",
    }  # fmt: skip
    assert recording.world_size == 8 and recording.tables["ranks"]["node"].tolist()[6] == "node3"


def test_real_links_have_rank_names():
    folder = DATA / "real-jobs/slow-link"
    if not folder.exists():
        pytest.skip("shared data is not here")
    links = gather([folder]).tables["links"]
    ends = set(links["src"]) | set(links["dst"])
    assert ends == {"rank0", "rank1", "rank2", "rank3"}
    probe = links[links["medium"] == "probe"]
    slow = probe[probe["speed_bytes_per_s"] < 20e6]
    assert len(slow) == 3 and all("rank2" in pair for pair in zip(slow["src"], slow["dst"], strict=True))


class Done:
    """Stands for a future that is done."""

    def __init__(self, result):
        self._result = result

    def exception(self):
        return None

    def result(self):
        return self._result

    def release(self):
        self._result = None


class FakeClient:
    """Stands for a Dask client: maps at once, in this process."""

    def __init__(self, address, timeout):
        if address == "tcp://nobody:1":
            raise OSError("timed out")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def map(self, function, paths, pure):
        return [Done(function(path)) for path in paths]


def reversed_list(futures):
    return list(futures)[::-1]


def test_over_dask(tmp_path, monkeypatch):
    for rank in range(2):
        steps(tmp_path, rank)
    fake = SimpleNamespace(Client=FakeClient, KilledWorker=RuntimeError, as_completed=reversed_list)
    monkeypatch.setitem(sys.modules, "distributed", fake)
    assert gather([tmp_path], dask="tcp://here:8786").inputs == gather([tmp_path], workers=1).inputs
    with pytest.raises(UsageError, match="no Dask scheduler answers at tcp://nobody:1"):
        gather([tmp_path], dask="tcp://nobody:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="pip install"):
        gather([tmp_path], dask="tcp://here:8786")
