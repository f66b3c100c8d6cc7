"""Programs of the site's own: what they are told, how they answer, that nothing untrusted becomes more than a word."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.acts import LONGEST_REASON, Fleet, JobState, NodeState, plain_text
from skewscope.actuators.exec import PLACES, Exec, fill
from skewscope.errors import SkewscopeError, UsageError

nasty = run_path(str(Path(__file__).with_name("_nasty.py")))
request, record, clean = nasty["request"], nasty["record"], nasty["clean"]

# A scheduler of twenty lines: it keeps fences in a file, and each call beside it.
SITE = """
import json, sys
from pathlib import Path
place, todo, *words = sys.argv[1:]
kept = Path(place) / "fences"
fences = json.loads(kept.read_text()) if kept.exists() else {}
if todo == "look":
    print(json.dumps({"schema": "skewscope.fleet/1", "jobs": [{"id": "j1", "nodes": ["n1"]}], "nodes": [
        {"name": name, "schedulable": name not in fences, "reason": fences.get(name, "")} for name in ("n1", "n2")]}))
else:
    told = json.load(sys.stdin)
    with open(Path(place) / "calls", "a") as calls:
        calls.write(json.dumps([todo, words, told]) + "\\n")
    if todo == "fence":
        fences[words[0]] = words[1]
    else:
        fences.pop(words[0], None)
    kept.write_text(json.dumps(fences))
"""


@pytest.fixture
def site(tmp_path: Path) -> Exec:
    (tmp_path / "site.py").write_text(SITE)
    start = (sys.executable, str(tmp_path / "site.py"), str(tmp_path))
    return Exec(
        words=(*start, "fence", "{node}", "{reason}", "{verb}", "{incident}", "{act}", "{job}", "{gpu}"),
        undo_words=(*start, "free", "{node}", "{act}"), look_words=(*start, "look"),
    )  # fmt: skip


def script(code: str, **settings) -> Exec:
    """Return an actuator of a one-line program, whose nodes and fences another one tells."""
    look = (sys.executable, "-c", """print('{"schema": "skewscope.fleet/1", "nodes": [{"name": "n1"}]}')""")
    settings = {"look_words": look, "undo_words": ("true",)} | settings
    return Exec(words=(sys.executable, "-c", code, "{node}"), **settings)


def calls(place: Path) -> list:
    return [json.loads(line) for line in (place / "calls").read_text().splitlines()]


def test_an_act_and_its_undo(site: Exec, tmp_path: Path):
    made = request(job="train; 'x'", gpu=3)
    command = site.command(made, site.look())
    assert command.before == {"schedulable": True, "reason": ""}
    assert command.after == {"schedulable": False, "reason": made.reason}
    assert site.apply(command, dry_run=False).result == "done"
    told = record(made, dict(command.undo))
    node = site.look().nodes["n1"]
    assert (node.ours, node.schedulable, site.holds(told, site.look())) == (True, False, True)
    assert site.apply(site.undo(told, site.look()), dry_run=False).result == "done"
    assert site.look().nodes["n1"].schedulable and site.holds(told, site.look()) is False
    assert site.undo(told, site.look()).nothing
    (todo, words, document), (undone, undo_words, _) = calls(tmp_path)
    assert (todo, words) == ("fence", ["n1", made.reason, "drain", "c0ffee", "a1", "train; _x_", "3"])
    assert (undone, undo_words) == ("free", ["n1", "a1"])
    assert clean(made.reason) and document["schema"] == "skewscope.act/1"
    assert (document["node"], document["event"], document["job"]) == ("n1", "act", "train; 'x'")


def test_a_dry_run_starts_nothing(site: Exec, tmp_path: Path):
    assert site.apply(site.command(request(), site.look())).result == "done"
    assert not (tmp_path / "calls").exists()
    gone = Exec(words=("no-such-program",), undo_words=("true",), look_words=site.look_words)
    assert gone.apply(gone.command(request(), gone.look())).result == "failed"


@pytest.mark.parametrize("name", nasty["NAMES"])
def test_a_node_that_is_not_listed_is_refused(site: Exec, tmp_path: Path, name: str):
    command = site.command(request(target=name), site.look())
    assert command.refused and site.apply(command, dry_run=False).result == "refused"
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("name", [name for name in nasty["NAMES"] if name])
def test_a_listed_name_is_one_word_or_none(tmp_path: Path, name: str):
    """Names that the site lists itself may look like anything; those a program could misread are refused."""
    code = f"import sys, json; open({str(tmp_path / 'said')!r}, 'w').write(json.dumps(sys.argv[1:]))"
    acting = Exec(words=(sys.executable, "-c", code, "{node}", "{job}"), undo_words=("true",), look_words=("x",))
    made = request(target=name, job=name)
    fleet = Fleet("exec", {name: NodeState(name)}, {})
    outcome = acting.apply(acting.command(made, fleet), dry_run=False)
    if outcome.result == "done":
        assert json.loads((tmp_path / "said").read_text())[0] == name
    else:
        assert outcome.result == "refused" and (name[0] == "-" or not name.isprintable())
        assert not (tmp_path / "said").exists()
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("code", "result", "said"),
    [
        ("raise SystemExit(75)", "waiting", "try again"),
        ("import sys; sys.exit('the `queue` is full; later')", "failed", "exit code 1: the _queue_ is full; later"),
        ("print('queued')", "done", "queued"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed", "exit code -9"),
        ("print('x' * 10_000_000)", "done", "..."),
    ],
)
def test_exit_codes(code: str, result: str, said: str):
    acting = script(code, again_s=7.0)
    outcome = acting.apply(acting.command(request(), acting.look()), dry_run=False)
    assert outcome.result == result and said in outcome.detail
    assert outcome.after_s == (7.0 if result == "waiting" else 0.0)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path):
    child = f"import time; time.sleep(1); open({str(tmp_path / 'alive')!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    acting = script(code, timeout_s=0.5)
    begun = time.monotonic()
    outcome = acting.apply(acting.command(request(), acting.look()), dry_run=False)
    assert (outcome.result, time.monotonic() - begun < 10) == ("failed", True)
    assert "took more than 0.5 s" in outcome.detail


def test_only_named_variables_are_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SKEWSCOPE_TOKEN", "secret")
    monkeypatch.setenv("SITE_REGION", "eu")
    code = "import os; print(os.environ.get('SKEWSCOPE_TOKEN'), os.environ.get('SITE_REGION'))"
    acting = script(code, environment=("PATH", "SITE_REGION"))
    assert acting.apply(acting.command(request(), acting.look()), dry_run=False).detail == "None eu"


def test_nothing_lasting_without_an_undo():
    acting = script("pass", undo_words=())
    assert "undo_words" in acting.command(request("drain"), acting.look()).refused
    assert not acting.command(request("ticket"), acting.look()).refused
    assert "by hand" in acting.undo(record(request("ticket"), {}), acting.look()).refused


def test_without_a_look_or_memory_nothing_lasting_is_sent():
    acting = script("pass", look_words=(), nodes=("n1",))
    assert "look_words, or memory" in acting.command(request(), acting.look()).refused
    assert acting.holds(record(request("note"), {}), acting.look()) is None
    assert not acting.undo(record(request("note"), {}), acting.look()).nothing
    assert not Exec().look().complete


def test_memory_stands_in_for_a_look(tmp_path: Path):
    (tmp_path / "memory").mkdir()
    code = f"import sys; open({str(tmp_path / 'calls')!r}, 'a').write(sys.argv[1] + ' ')"
    acting = script(code, look_words=(), nodes=("n[1-2]",), memory=str(tmp_path / "memory"))
    before = acting.look().nodes
    made = request()
    command = acting.command(made, acting.look())
    assert acting.apply(command).result == "done" and acting.look().nodes == before
    acting.apply(command, dry_run=False)
    acting.apply(command, dry_run=False)
    told, node = record(made, dict(command.undo)), acting.look().nodes["n1"]
    assert (node.ours, node.schedulable, node.reason, acting.holds(told, acting.look())) == (
        True,
        False,
        made.reason,
        True,
    )
    assert acting.apply(acting.undo(told, acting.look()), dry_run=False).result == "done"
    assert acting.look().nodes == before and acting.holds(told, acting.look()) is False
    assert acting.undo(told, acting.look()).nothing
    (tmp_path / "memory" / ".lock").unlink()
    (tmp_path / "memory").rmdir()
    assert "could not be written down" in acting.apply(command, dry_run=False).detail


def test_a_fenced_node_is_tested_by_the_sites_own_words(site: Exec, tmp_path: Path):
    code = "import sys; print('ran', sys.argv[1:])"
    acting = Exec(test_words=(sys.executable, "-c", code, "{node}"))
    assert acting.test(record(request(), {}), ("skewscope", "retest"), 5.0) == "ran ['n1', 'skewscope', 'retest']\n"
    with pytest.raises(SkewscopeError, match="test_words"):
        site.test(record(request(), {}), (), 5.0)
    with pytest.raises(SkewscopeError, match="ended with 3"):
        Exec(test_words=(sys.executable, "-c", "raise SystemExit(3)")).test(record(request(), {}), (), 5.0)


def test_a_node_fenced_by_somebody_else_is_left_alone(site: Exec, tmp_path: Path):
    (tmp_path / "fences").write_text(json.dumps({"n1": "ops: bad fan"}))
    assert "bears a mark of ops: bad fan" in site.command(request(), site.look()).refused
    assert site.undo(record(request(), {}), site.look()).refused
    assert site.holds(record(request(), {}), site.look()) is False


def test_jobs_are_told_only_where_they_are_listed(site: Exec):
    assert not site.command(request("requeue", target="j1", job="j1"), site.look()).refused
    assert "no job" in site.command(request("requeue", target="j2; x", job="j2; x"), site.look()).refused
    assert site.look().jobs["j1"] == JobState("j1", nodes=("n1",))


@pytest.mark.parametrize("words", [(), ("{node}",), ("fence", "--node={node}"), ("sh", "-c", "fence {node}")])
def test_places_are_whole_words_or_refused(words: tuple[str, ...]):
    acting = Exec(words=words, undo_words=("true",), look_words=script("").look_words)
    assert acting.command(request(), acting.look()).refused
    with pytest.raises(UsageError):
        fill(words, request())


@given(st.text(), st.text(), st.text())
def test_no_text_reaches_a_program_as_it_came(why: str, incident: str, job: str):
    made = request(why=why, incident=incident, job=job)
    try:
        words = fill(("x", *PLACES), made)
    except UsageError:
        assert any(plain_text(one)[:1] == "-" for one in (incident, job))
        return
    assert words[1] == "n1" and all(clean(word) for word in words) and len(words[3]) <= LONGEST_REASON


def test_values_are_not_filled_in_twice():
    made = request(target="{reason}", incident="{node}")
    assert fill(("x", *PLACES), made)[1:5] == ("{reason}", "drain", made.reason, "_node_")


@pytest.mark.parametrize(
    "told",
    ["", "[]", "{}", '{"schema": "skewscope.fleet/1"}', '{"schema": "skewscope.fleet/1", "nodes": [{"nam": 1}]}',
     '{"schema": "skewscope.fleet/1", "nodes": [{"name": "n1", "schedulable": "no"}]}',
     '{"schema": "skewscope.fleet/1", "nodes": [{"name": "n1", "jobs": "j1"}]}', "[" * 100_000],
    ids=range(8),
)  # fmt: skip
def test_a_damaged_fleet_is_an_error(told: str):
    acting = Exec(look_words=(sys.executable, "-c", f"print({told!r})"))
    with pytest.raises(SkewscopeError):
        acting.look()


def test_a_look_that_fails_says_why():
    acting = Exec(look_words=(sys.executable, "-c", "import sys; sys.exit('no route')"))
    with pytest.raises(SkewscopeError, match="ended with 1: no route"):
        acting.look()
    with pytest.raises(SkewscopeError, match="cannot be run"):
        Exec(look_words=("no-such-program",)).look()
