import json
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.commands import main
from skewscope.retest import document, gate, run

MADE = run_path(str(Path(__file__).parents[1] / "retest/_results.py"))
WORDS = ["retest", "--seconds", "0.05", "--cpu", "--node", "n1"]


def peers(path, faster):
    """Write a file of peers that are so many times as fast as this machine, told before a node is measured."""
    (mine,) = run.measure(run.Plan("n1", 0.05, cpu=True), run.loaded())
    measures = tuple(replace(one, values=tuple(speed * faster for speed in one.values)) for one in mine.measures)
    for at in range(4):
        gate.keep(path, document.line(replace(mine, node=f"peer{at}", measures=measures)))
    return path


def test_what_a_node_reaches(capsys, tmp_path):
    assert main([*WORDS, "--keep", str(tmp_path / "peers.jsonl")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("n1: ") and "gemm         cpu" in told and "flop/s" in told
    assert gate.references(tmp_path / "peers.jsonl")[0].node == "n1"


@pytest.mark.parametrize(("faster", "verdict", "code"), [(0.001, "pass", 0), (1000.0, "fail", 1)])
def test_the_exit_code_is_the_verdict(faster, verdict, code, capsys, tmp_path):
    """The peers are far from this machine: how fast it is changes from one moment to the next."""
    words = [*WORDS, "--against", str(peers(tmp_path / "peers.jsonl", faster)), "--json", str(tmp_path / "x.json")]
    assert main(words) == code
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["verdict"] == verdict and verdict in capsys.readouterr().out


def test_json_on_standard_output_is_one_line(capsys):
    assert main([*WORDS, "--json", "-"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["schema"] == "skewscope.retest/1"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--against", "missing.jsonl"], 3, "No such file"),
        (["--json", "no/such/x.json"], 2, "does not exist"),
        (["--seconds", "0"], 2, "no number of seconds"),
        (["--least-ratio", "2"], 2, "no share"),
        (["--together"], 2, "is not set"),
    ],
)
def test_what_cannot_be_meant(words, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, *words]) == code
    assert said in capsys.readouterr().err
