"""Hints of jobs: written with a version and an end, given back as they were, served over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.actuators.engine import Engine
from skewscope.errors import SkewscopeError, UsageError
from skewscope.web.server import Server

nasty = run_path(str(Path(__file__).with_name("_nasty.py")))
request, record, clean = nasty["request"], nasty["record"], nasty["clean"]
HINT = {"weights": (1.1, 1.1, 0.8), "limits": {"requests": 64}}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(folder=str(tmp_path))


def hint(values: object = HINT, act: str = "a1", job: str = "llm", **more):
    return request("advise", job, act, job=job, params={"hint": values}, **more)


def give(engine: Engine, made):
    command = engine.command(made, engine.look())
    return command, engine.apply(command, dry_run=False)


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")}


def test_a_hint_has_a_version_and_an_end(engine: Engine, tmp_path: Path):
    command, outcome = give(engine, hint())
    assert outcome.result == "done"
    assert command.before == {"hint": {}, "act": ""}
    assert command.after == {"hint": {"weights": [1.1, 1.1, 0.8], "limits": {"requests": 64}}, "act": "a1"}
    told = json.loads((tmp_path / "llm.json").read_text())
    assert (told["schema"], told["job"], told["hint"]) == ("skewscope.advice/1", "llm", command.after["hint"])
    assert told["expires_ns"] - told["version"] == 21_600 * 10**9 and clean(told["reason"])
    assert engine.command(hint(), engine.look()).nothing


def test_undo_restores_the_exact_former_state(engine: Engine, tmp_path: Path):
    stages = [contents(tmp_path)]
    records = []
    for act, values in (("a1", HINT), ("a2", {"experts": [[3, 1]]})):
        made = hint(values, act)
        command, _ = give(engine, made)
        records.append(record(made, dict(command.undo)))
        stages.append(contents(tmp_path))
        assert engine.holds(records[-1], engine.look()) is True
    assert "later hint" in engine.undo(records[0], engine.look()).refused
    for told, before in zip(reversed(records), (stages[1], stages[0]), strict=True):
        back = engine.undo(json.loads(json.dumps(told)), engine.look())
        assert engine.apply(back, dry_run=False).result == "done"
        assert contents(tmp_path).keys() == before.keys()
        assert {n: json.loads(c) | {"former": 0} for n, c in contents(tmp_path).items()} == {
            n: json.loads(c) | {"former": 0} for n, c in before.items()
        }
        assert engine.holds(told, engine.look()) is False and engine.undo(told, engine.look()).nothing


def test_a_hint_that_ended_can_be_set_anew_and_still_be_undone(engine: Engine):
    give(engine, hint({"limits": {"requests": 9}}, "a0"))
    made = hint()
    command, _ = give(engine, made)
    told = record(made, dict(command.undo))
    brief = replace(engine, valid_s=0.0)
    later = replace(engine.look(), read_ns=engine.look().read_ns + 21_601 * 10**9)
    assert engine.holds(told, later) is False
    again = engine.command(replace(made, params={}), later)  # an audit record has no params
    assert not again.nothing and again.after == command.after and again.undo == command.undo
    assert engine.apply(again, dry_run=False).result == "done"
    assert engine.holds(told, engine.look()) is True
    assert brief.apply(again, dry_run=False).result == "done" and engine.holds(told, engine.look()) is False
    engine.apply(engine.undo(told, engine.look()), dry_run=False)
    assert engine.look().jobs["llm"].native["advice"]["hint"] == {"limits": {"requests": 9}}


def test_twice_is_no_more_than_once(engine: Engine, tmp_path: Path):
    command, _ = give(engine, hint())
    assert engine.apply(command, dry_run=False).result == "done"
    assert len(contents(tmp_path)) == 1 and engine.holds(record(hint(), dict(command.undo)), engine.look())


def test_a_dry_run_changes_nothing(engine: Engine, tmp_path: Path):
    assert engine.apply(engine.command(hint(), engine.look())).result == "done"
    assert list(tmp_path.iterdir()) == []


def test_another_hint_meanwhile_is_a_conflict(engine: Engine):
    late = engine.command(hint(), engine.look())
    give(engine, hint(act="a2"))
    assert engine.apply(late).result == engine.apply(late, dry_run=False).result == "conflict"


@pytest.mark.parametrize("foreign", ["", "{}", '{"schema": "skewscope.advice/1"}', '{"schema": "other/1", "hint": {}}'])
def test_what_is_not_ours_stays(engine: Engine, tmp_path: Path, foreign: str):
    free = engine.command(hint(), engine.look())
    (tmp_path / "llm.json").write_text(foreign)
    assert engine.command(hint(), engine.look()).refused
    assert engine.undo(record(hint(), {"job": "llm", "act": "a1"}), engine.look()).refused
    assert engine.holds(record(hint(), {}), engine.look()) is None
    assert engine.apply(free, dry_run=False).result == "refused"
    assert (tmp_path / "llm.json").read_text() == foreign


@pytest.mark.parametrize("job", [name for name in nasty["NAMES"] if 0 < len(name) < 200])
def test_a_job_may_be_called_anything(engine: Engine, tmp_path: Path, job: str):
    place = tmp_path / "inner"
    place.mkdir()
    engine = Engine(folder=str(place))
    assert give(engine, hint(job=job))[1].result == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["inner"] and list(engine.look().jobs) == [job]


BAD = [None, {}, [], "fast", {"weights": []}, {"weights": [1, 0]}, {"weights": [True]}, {"weights": [float("nan")]},
       {"limits": {}}, {"limits": {"a": "b"}}, {"x": float("inf")}, {"x": {1, 2}}, {"x": "y" * 300_000}]  # fmt: skip


@pytest.mark.parametrize("values", BAD, ids=range(len(BAD)))
def test_no_hint_that_cannot_be_meant(engine: Engine, values: object):
    assert engine.command(hint(values), engine.look()).refused


def test_what_it_cannot_do(engine: Engine, tmp_path: Path):
    assert "can advise" in engine.command(request("drain"), engine.look()).refused
    assert "none is named" in engine.command(request("advise", "", params={"hint": HINT}), engine.look()).refused
    with pytest.raises(UsageError, match="folder"):
        Engine().look()
    gone = Engine(folder=str(tmp_path / "none"))
    with pytest.raises(SkewscopeError):
        gone.look()
    command = gone.command(hint(), engine.look())
    assert gone.apply(command).result == gone.apply(command, dry_run=False).result == "failed"


def test_hints_are_served(engine: Engine):
    give(engine, hint({"limits": {"requests": 1}}, "a0", job="a b&c"))
    give(engine, hint(job="a b&c"))
    server = Server("127.0.0.1:0", engine.pages())
    server.start()
    try:
        url = f"http://127.0.0.1:{server.address[1]}"
        with urllib.request.urlopen(f"{url}/advice?job=a+b%26c", timeout=5) as reply:
            told = json.load(reply)
        assert (told["job"], told["act"], told["hint"]["limits"]) == ("a b&c", "a1", {"requests": 64})
        assert "former" not in told and reply.headers["Content-Type"] == "application/json"
        for path, status in (("/advice?job=none", 404), ("/advice", 400), ("/", 404), ("/advice?job=..%2Fx", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(url + path, timeout=5)
            assert caught.value.code == status
    finally:
        server.stop()
