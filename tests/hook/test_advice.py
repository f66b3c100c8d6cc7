"""The client of hints: it asks seldom, believes little, and never raises into a training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.acts import Request
from skewscope.actuators.engine import Engine
from skewscope.hook.advice import NONE, Advice, shares
from skewscope.web.server import Server


def told(**hint) -> str:
    return json.dumps({"schema": "skewscope.advice/1", "version": 7, "expires_ns": 10**18, "act": "a1", "hint": hint})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llm.json"


def asked(where: object, **settings) -> Advice:
    advice = Advice(str(where), "llm", clock_ns=lambda: 10**18 - 1, **settings)
    advice.refresh()
    return advice


def test_the_hint_of_an_act_arrives_by_file_and_by_http(tmp_path: Path):
    engine = Engine(folder=str(tmp_path))
    server = Server("127.0.0.1:0", engine.pages())
    server.start()
    try:
        readers = [Advice(str(tmp_path), ".a b/&"), Advice(f"http://127.0.0.1:{server.address[1]}", ".a b/&")]
        assert [reader.refresh() for reader in readers] == [NONE, NONE]
        assert [reader.trouble for reader in readers] == ["", ""]
        made = Request("a1", "advise", "", "c0ffee", "", job=".a b/&", params={"hint": {"weights": [3, 1]}})
        command = engine.command(made, engine.look())
        engine.apply(command, dry_run=False)
        for reader in readers:
            assert reader.refresh().act == "a1"
            assert reader.weights(2) == [1.5, 0.5] and reader.split(8, ranks=2) == [6, 2]
        record = {"act": "a1", "verb": "advise", "job": ".a b/&", "undo": dict(command.undo)}
        engine.apply(engine.undo(record, engine.look()), dry_run=False)
        assert [reader.refresh() for reader in readers] == [NONE, NONE]
        assert readers[0].weights(2) == [1.0, 1.0]
    finally:
        server.stop()


def test_it_asks_in_a_thread_of_its_own_and_seldom(file: Path):
    now = [0.0]
    advice = Advice(str(file.parent), "llm", every_s=30, timer_s=lambda: now[0], clock_ns=lambda: 0)
    assert advice.current() == NONE
    advice._thread.join()
    file.write_text(told(limits={"requests": 5}))
    now[0] = 29.0
    assert advice.current() == NONE and not advice._thread.is_alive()
    now[0] = 30.0
    advice.current()
    advice._thread.join()
    assert advice.current().version == 7 and advice.limit("requests", 9) == 5.0


def test_a_hint_ends_by_itself_after_a_grace(file: Path):
    file.write_text(told(limits={"requests": 5}))
    now = [10**18]
    advice = Advice(str(file), grace_s=300, clock_ns=lambda: now[0])
    assert advice.refresh().version == 7
    now[0] += 300 * 10**9
    assert advice.current() == NONE and advice.limit("requests", 9) == 9


def test_what_was_heard_stays_while_the_source_is_away(file: Path):
    file.write_text(told(experts=[1]))
    advice = asked(file)
    file.write_text("{")
    assert advice.refresh().version == 7 and "JSON" in advice.trouble
    assert advice.experts() == [1]
    file.unlink()
    assert advice.refresh() == NONE


BAD = ["{", "[]", "null", "7", '{"schema": "other/1"}', '{"schema": "skewscope.advice/1"}', "[" * 100_000,
       '{"schema": "skewscope.advice/1", "version": "x", "expires_ns": 1, "hint": {}}',
       '{"schema": "skewscope.advice/1", "version": 1, "expires_ns": 1, "hint": []}']  # fmt: skip


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_nonsense_is_no_hint(file: Path, content: str):
    file.write_text(content)
    advice = asked(file)
    assert advice.trouble and advice.current() == NONE
    assert (advice.weights(2), advice.limit("a", 3.0), advice.experts()) == ([1.0, 1.0], 3.0, None)


@pytest.mark.parametrize("weights", [[1, 2], "123", [1, 2, -1], [1, 2, "3"], [1, 2, None], [1, 2, True], [1, 1, 17],
                                     [1, 2, 10**400], [1e308, 1e308, 1e308], [0, 0, 0], {"0": 1}])  # fmt: skip
def test_weights_that_do_not_fit_are_left_alone(file: Path, weights: object):
    file.write_text(told(weights=weights, limits={"a": weights}))
    advice = asked(file)
    assert advice.weights(3) == [1.0, 1.0, 1.0] and advice.limit("a", 2.0) == 2.0
    assert advice.weights(0) == [] and advice.split(4, 0) == []


@pytest.mark.parametrize("where", ["", "/nonexistent/x", "http://127.0.0.1:1", "http://[::1", "http://127.0.0.1:x/",
                                   "https://127.0.0.1:1/", "\x00", "."])  # fmt: skip
def test_no_source_is_no_harm(where: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SKEWSCOPE_ADVICE", raising=False)
    advice = Advice(where, "llm", timeout_s=0.5)
    assert advice.current() == NONE and advice.refresh() == NONE


def test_the_environment_says_where_and_for_which_job(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text(told(limits={"requests": 5}))
    monkeypatch.setenv("SKEWSCOPE_ADVICE", str(file.parent))
    monkeypatch.setenv("SKEWSCOPE_JOB", "llm")
    advice = Advice(clock_ns=lambda: 0)
    assert advice.refresh().version == 7


@given(st.integers(0, 10_000), st.lists(st.floats(0.1, 1.6), min_size=1, max_size=64))
def test_shares_are_whole_fair_and_complete(samples: int, weights: list[float]):
    made = shares(samples, weights)
    assert sum(made) == samples and len(made) == len(weights)
    assert min(made) >= (1 if samples >= len(weights) else 0)
    free = samples - (len(weights) if samples >= len(weights) else 0)
    least = 1 if samples >= len(weights) else 0
    assert all(abs(one - least - free * w / sum(weights)) <= 1 + 1e-6 for one, w in zip(made, weights, strict=True))


def test_it_stays_light():
    code = (
        "import sys, skewscope.hook.advice; print(sorted({'http.client', 'ssl', 'numpy', 'psutil'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
