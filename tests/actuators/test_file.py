"""Verdict files: what stands in them, whose they are, that nothing else is touched."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.acts import FENCES, LADDER
from skewscope.actuators.file import File
from skewscope.errors import SkewscopeError, UsageError

nasty = run_path(str(Path(__file__).with_name("_nasty.py")))
request, record, clean = nasty["request"], nasty["record"], nasty["clean"]


@pytest.fixture
def files(tmp_path: Path) -> File:
    return File(folder=str(tmp_path), nodes=("n[1-4]",))


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")}


def do(files: File, made):
    command = files.command(made, files.look())
    return command, files.apply(command, dry_run=False)


def test_a_verdict_says_what_a_launcher_must_know(files: File, tmp_path: Path):
    command, outcome = do(files, request())
    assert outcome.result == "done"
    written = json.loads((tmp_path / "n1.json").read_text())
    assert written == command.steps[0].body
    assert (written["schema"], written["node"], written["keep_out"]) == ("skewscope.verdict/1", "n1", True)
    assert written["reason"].startswith("skewscope:c0ffee rank 7") and clean(written["reason"])
    assert (command.before, command.after["verb"]) == ({"verb": "", "reason": "", "acts": []}, "drain")
    state = files.look().nodes["n1"]
    assert (state.ours, state.schedulable, state.reason) == (True, False, written["reason"])
    assert os.stat(tmp_path / "n1.json").st_mode & 0o777 == 0o644


def test_a_shell_script_can_read_it(files: File, tmp_path: Path):
    do(files, request())
    script = 'sed -n \'s/^ "keep_out": \\(.*\\),$/\\1/p; s/^ "reason": "\\(.*\\)",$/\\1/p\' n1.json'
    said = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["true", files.look().nodes["n1"].reason]


@pytest.mark.parametrize("verb", LADDER)
def test_undo_restores_the_exact_former_state(files: File, tmp_path: Path, verb: str):
    do(files, request("note", "n2", "a0", "other"))
    before = contents(tmp_path)
    for node in ("n1", "n2"):
        made = request(verb, node)
        command, _ = do(files, made)
        told = record(made, dict(command.undo))
        assert files.look().nodes[node].schedulable == (verb not in FENCES)
        assert files.holds(told, files.look()) is True
        back = files.undo(told, files.look())
        assert files.apply(back, dry_run=False).result == "done"
        assert files.holds(told, files.look()) is False
        assert contents(tmp_path) == before
        assert files.undo(told, files.look()).nothing


def test_the_strongest_act_counts_and_each_is_taken_back_alone(files: File, tmp_path: Path):
    made = [request("drain", act="a1"), request("note", act="a2"), request("avoid", act="a3", incident="beef")]
    for one in made:
        do(files, one)
    assert json.loads((tmp_path / "n1.json").read_text())["verb"] == "drain"
    files.apply(files.undo(record(made[0], {}), files.look()), dry_run=False)
    left = json.loads((tmp_path / "n1.json").read_text())
    assert (left["verb"], left["keep_out"], [one["act"] for one in left["acts"]]) == ("avoid", False, ["a2", "a3"])


def test_twice_is_no_more_than_once(files: File, tmp_path: Path):
    command, _ = do(files, request())
    before = contents(tmp_path)
    assert files.apply(command, dry_run=False).result == "nothing"
    again, outcome = do(files, request())
    assert (again.nothing, outcome.result) == (True, "nothing")
    assert contents(tmp_path) == before


def test_a_dry_run_changes_nothing(files: File, tmp_path: Path):
    assert files.apply(files.command(request(), files.look())).result == "done"
    assert list(tmp_path.iterdir()) == []


def test_a_change_meanwhile_is_a_conflict(files: File, tmp_path: Path):
    late = files.command(request(), files.look())
    do(files, request("note", act="a2"))
    before = contents(tmp_path)
    assert files.apply(late, dry_run=False).result == "conflict"
    assert contents(tmp_path) == before


FOREIGN = (
    "", "drained by ops", '{"keep_out": true}', "[1]", '{"schema": "skewscope.verdict/1"}', "[" * 100_000,
    '{"schema": "skewscope.verdict/1", "acts": [{"verb": "x"}]}',
)  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN, ids=range(len(FOREIGN)))
def test_what_is_not_ours_stays(files: File, tmp_path: Path, foreign: str):
    free = files.command(request(), files.look())
    (tmp_path / "n1.json").write_text(foreign)
    (tmp_path / "readme.txt").write_text("kept")
    state = files.look().nodes["n1"]
    assert not state.ours and state.owner and not state.schedulable
    assert "bears a mark of" in files.command(request(), files.look()).refused
    assert files.undo(record(request(), {}), files.look()).refused
    assert files.holds(record(request(), {}), files.look()) is None
    assert files.apply(free, dry_run=False).result == "refused"
    assert contents(tmp_path) == {"n1.json": foreign.encode(), "readme.txt": b"kept"}


@pytest.mark.parametrize("name", nasty["NAMES"])
def test_a_node_that_is_not_listed_is_refused(files: File, tmp_path: Path, name: str):
    command = files.command(request(target=name), files.look())
    assert command.refused and files.apply(command, dry_run=False).result == "refused"
    assert list(tmp_path.iterdir()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(name=st.text(min_size=1, max_size=20).filter(lambda name: not set("[],") & set(name)))
def test_even_a_listed_name_cannot_leave_the_folder(tmp_path: Path, name: str):
    place = tmp_path / "inner"
    place.mkdir(exist_ok=True)
    files = File(folder=str(place), nodes=(name,))
    made = request(target=name)
    command, outcome = do(files, made)
    assert outcome.result == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert files.look().nodes[name].ours
    files.apply(files.undo(record(made, dict(command.undo)), files.look()), dry_run=False)
    assert contents(place) == {}


def test_settings_that_cannot_be_meant(tmp_path: Path):
    with pytest.raises(UsageError, match="folder"):
        File().look()
    with pytest.raises(SkewscopeError, match="cannot be read"):
        File(folder=str(tmp_path / "none")).look()
    for bad in ("n[1", "n[3-1]", "n[a-b]", "n[1-999999]"):
        with pytest.raises(UsageError):
            File(folder=str(tmp_path), nodes=(bad,)).look()
    with pytest.raises(UsageError, match="nodes_file"):
        File(folder=str(tmp_path), nodes_file=str(tmp_path / "none")).look()
    assert not File(folder=str(tmp_path)).look().complete


def test_nodes_from_a_file_and_verbs_from_the_settings(tmp_path: Path):
    (tmp_path / "nodes").write_text("# ours\nn[08-10]\n\nlogin\n")
    files = File(folder=str(tmp_path), nodes_file=str(tmp_path / "nodes"), verbs=("exclude",))
    assert list(files.look().nodes) == ["n08", "n09", "n10", "login"]
    assert "cannot drain" in files.command(request(target="n08"), files.look()).refused


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_closed(files: File, tmp_path: Path):
    command = files.command(request(), files.look())
    tmp_path.chmod(0o500)
    assert files.apply(command).result == files.apply(command, dry_run=False).result == "failed"


def test_a_folder_that_went_away(files: File, tmp_path: Path):
    command = files.command(request(), files.look())
    tmp_path.rmdir()
    assert files.apply(command, dry_run=False).result == files.apply(command).result == "failed"


def test_a_folder_that_another_process_holds_is_a_failure(files: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skewscope.actuators._whole_file.LOCK_S", 0.0)
    command = files.command(request(), files.look())
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = files.apply(command, dry_run=False)
    assert (outcome.result, "holds its lock" in outcome.detail) == ("failed", True)
    assert files.apply(command, dry_run=False).result == "done"
