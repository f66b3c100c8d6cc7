import json

import pandas as pd
import pytest

from skewscope.commands import main
from skewscope.simulate import shipped


def test_the_list_tells_every_scenario(capsys):
    assert main(["simulate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(shipped())
    assert main(["simulate", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["about"]


def test_tables_truth_and_extras_are_written(tmp_path, capsys):
    words = ["simulate", "gpu-slow-silent", "--ranks", "16", "--steps", "60", "--seed", "5", "--out", str(tmp_path)]
    assert main([*words, "--with", "kineto,flight-recorder,expositions,samples"]) == 0
    assert "truth.json" in capsys.readouterr().out
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["seed"] == 5 and truth["faults"][0]["condition"] == "gpu-slow-silent"
    for name in ("windows", "ranks", "step_times", "rank_steps", "steps", "samples"):
        assert len(pd.read_parquet(tmp_path / f"{name}.parquet"))
    assert len(list((tmp_path / "kineto").glob("*.pt.trace.json"))) == 16
    assert len(list((tmp_path / "flight-recorder").glob("*_rank_*.json"))) == 16
    assert (tmp_path / "expositions" / "n000.prom").read_text().startswith("# HELP skewscope_")
    assert main(["analyze", str(tmp_path / "kineto")]) == 0
    assert "16 ranks" in capsys.readouterr().out


def test_the_truth_alone_as_json(tmp_path, capsys):
    assert (
        main(["simulate", "healthy-training", "--ranks", "8", "--steps", "20", "--out", str(tmp_path), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["healthy"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate"], "name a SCENARIO"),
        (["simulate", "healthy-training"], "--out DIR"),
        (["simulate", "healthy-train", "--out", "x"], "did you mean healthy-training"),
        (["simulate", "healthy-training", "--out", "x", "--with", "magic"], "--with magic: is none of"),
        (["simulate", "healthy-training", "--ranks", "6", "--out", "x"], "no multiple"),
    ],
)
def test_what_cannot_be_meant_is_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
