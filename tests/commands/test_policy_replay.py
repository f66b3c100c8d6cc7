import json

import pytest

from skewscope.commands import main

SMALL = ["policy", "replay", "--nodes", "12", "--days", "0.4", "--seed", "3", "--workers", "1"]


def test_four_policies_over_a_simulated_time(capsys):
    assert main(SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0.4 simulated days of 12 nodes, seed 3")
    assert [line.split()[0] for line in lines[4:8]] == ["observe", "approve", "cautious", "bold"]


def test_a_file_of_mine_beside_a_preset_in_processes_of_their_own(tmp_path, capsys):
    mine = tmp_path / "mine.toml"
    mine.write_text('mode = "act"\n[ladder]\nstart = "drain"\n')
    words = [*SMALL[:-1], "2", str(mine), "observe", "--weeks", "2", "--acts", "--json", str(tmp_path / "x.json")]
    assert main([*words, "--keep", str(tmp_path / "audits")]) == 0
    assert "mine:" in capsys.readouterr().out
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["schema"] == "skewscope.replay/1" and [one["name"] for one in told["policies"]] == ["mine", "observe"]
    assert len(told["weeks"]) == 2 and told["policies"][1]["saved_gpu_hours"] == 0
    assert sorted(path.name for path in (tmp_path / "audits").iterdir()) == [
        "mine-1.jsonl", "mine-2.jsonl", "observe-1.jsonl", "observe-2.jsonl",
    ]  # fmt: skip
    assert main(["audit", "verify", str(tmp_path / "audits/mine-1.jsonl")]) == 0


def test_json_on_standard_output(capsys):
    assert main([*SMALL, "observe", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["policies"][0]["mode"] == "observe"


def test_my_own_incidents(tmp_path, capsys):
    from pathlib import Path
    from runpy import run_path

    made = run_path(str(Path(__file__).parents[1] / "acting/test_replay_history.py"))
    made["watched"](tmp_path, [0.4] * 240 + [0.0] * 20)
    assert main(["policy", "replay", "bold", "observe", str(tmp_path), "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 recorded incidents") and lines[4].split()[:5] == ["bold", "exclude", "1", "?", "?"]


def test_the_log_stays_quiet(capsys):
    assert main([*SMALL, "bold"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["brave"], "brave: is no policy (observe, approve, cautious, bold, or a .toml file), and no folder"),
        (["missing.toml"], "cannot read the policy missing.toml"),
        (["."], "no skewscope.incident/1 in it"),
        (["--turn", "1"], "no number of seconds between 30 and 3600"),
        (["--days", "0"], "0 to 366 days"),
        (["--json", "no/such/x.json"], "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "replay", *words]) == 2
    assert said in capsys.readouterr().err
