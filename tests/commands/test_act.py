"""`act`, `undo` and `audit` on verdict files: what they print, what they change, what they refuse."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from runpy import run_path

import pytest

from skewscope import commands

C = run_path(str(Path(__file__).parents[1] / "acting" / "test_cases.py"))
finding, report = C["finding"], C["report"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of verdicts for eight nodes, a policy, a report of one slow GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "verdicts").mkdir()
    settings = '[schedulers.file]\ndry_run = false\nfolder = "verdicts"\nnodes = ["n[0-7]"]\n'
    for mode in ("observe", "approve", "act"):
        text = f'mode = "{mode}"\n[capacity]\nspare_nodes = 0\n[ladder]\nstart = "drain"\n{settings}'
        (tmp_path / f"{mode}.toml").write_text(text)
    written(tmp_path, finding())
    return tmp_path


def written(folder, *findings):
    (folder / "report.json").write_text(json.dumps(report(*findings)))


def act(*words):
    return commands.main(["act", "--scheduler", "file", "report.json", "--audit", "acts.jsonl", *words])


def records(folder):
    path = folder / "acts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def files(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def test_without_apply_nothing_changes_and_all_is_shown(site, capsys):
    before = files(site)
    assert act("--policy", "act.toml") == 0
    shown = capsys.readouterr().out
    assert files(site) == before
    for part in (
        "file: drain n3: would be done",
        "(none) -> drain",
        "verdicts/n3.json",
        "GPU-hours",
        "--apply does it",
    ):
        assert part in shown, part


@pytest.mark.parametrize("mode", ["act", "approve"])
def test_with_apply_it_is_done_written_down_and_can_be_taken_back(site, mode, capsys):
    assert act("--policy", f"{mode}.toml", "--apply") == 0
    shown = capsys.readouterr().out
    assert "file: drain n3: done" in shown and "skewscope undo" in shown
    assert json.loads((site / "verdicts/n3.json").read_text())["keep_out"] is True
    told = records(site)
    wanted = ["intended", "done"] if mode == "act" else ["proposed", "approved", "intended", "done"]
    assert [one["phase"] for one in told] == wanted and told[-1]["actor"] != "skewscope"

    name = told[-1]["act"][:6]
    undo = ["undo", name, "--audit", "acts.jsonl", "--policy", f"{mode}.toml"]
    assert commands.main(undo) == 0
    assert "drain -> (none)" in capsys.readouterr().out and (site / "verdicts/n3.json").exists()
    assert commands.main([*undo, "--apply", "--reason", "fan replaced"]) == 0
    assert not (site / "verdicts/n3.json").exists()
    assert [one["phase"] for one in records(site)][-2:] == ["undoing", "undone"]
    assert records(site)[-2]["detail"] == "fan replaced"
    assert commands.main(undo) == 2 and "does not stand any more" in capsys.readouterr().err
    assert commands.main(["audit", "verify", "acts.jsonl"]) == 0


def test_a_policy_that_only_observes_is_not_overruled(site, capsys):
    assert act("--policy", "observe.toml", "--apply") == 0
    assert "only observed" in capsys.readouterr().out and not (site / "verdicts/n3.json").exists()


def test_without_a_policy_what_is_asked_for_is_done(site, capsys, monkeypatch):
    assert act() == 1 and "folder" in capsys.readouterr().err, "the file actuator needs to know where"


def test_guards_that_hold_are_shown_and_a_named_finding_needs_no_more_evidence(site, capsys):
    small = {"cost": {"seconds_per_step": 0.1, "share": 0.1, "gpu_hours": 1.0}}
    written(site, finding(window={"start_ns": 290 * 10**9, "end_ns": 300 * 10**9}, **small))
    assert act("--policy", "act.toml") == 0
    shown = capsys.readouterr().out
    assert "held back" in shown and "evidence" in shown and "hysteresis" in shown
    assert act("--policy", "act.toml", "--finding", "f1") == 0
    assert "would be done" in capsys.readouterr().out
    assert act("--policy", "act.toml", "--finding", "f7") == 2
    assert "the culprits of report.json are f1" in capsys.readouterr().err


def test_old_reports_are_stale(site, capsys):
    os.utime(site / "report.json", (time.time() - 7200, time.time() - 7200))
    assert act("--policy", "act.toml") == 0 and "quality" in capsys.readouterr().out
    assert act("--policy", "act.toml", "--max-age", "9000") == 0 and "would be done" in capsys.readouterr().out


def test_a_healthy_report_and_victims_ask_for_nothing(site, capsys):
    written(site, finding(role="victim"))
    assert act("--policy", "act.toml") == 0 and "no culprit" in capsys.readouterr().out


def test_what_is_no_single_node_is_left_alone(site, capsys):
    written(site, finding(kind="link", where="job/rank1->job/rank2"))
    assert act("--policy", "act.toml") == 0
    assert "left alone" in capsys.readouterr().out


def test_json_holds_decisions_and_records(site, capsys):
    assert act("--policy", "act.toml", "--json", "-") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "skewscope.acts/1" and told["modes"] == {"file": "act"}
    (decision,) = told["decisions"]
    assert decision["verdict"] == "act" and decision["target"] == "n3" and told["records"][-1]["phase"] == "observed"
    assert act("--policy", "act.toml", "--json", "out.json") == 0
    assert json.loads((site / "out.json").read_text())["budget"]["file"]["nodes"] == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [(["act", "--scheduler", "slurmm", "report.json"], "did you mean slurm"),
     (["act", "--scheduler", "file", "gone.json"], "cannot be read"),
     (["act", "--scheduler", "file", "act.toml"], "is no skewscope.report/1"),
     (["act", "--scheduler", "file", "other.json"], "wants skewscope.report/1"),
     (["act", "--scheduler", "file", "report.json", "--policy", "gone.toml"], "gone.toml"),
     (["undo", "abc"], "no such audit"), (["undo", "abc", "--audit", "act.toml"], "no JSON")],
)  # fmt: skip
def test_wrong_words_are_told(site, capsys, words, said):
    (site / "other.json").write_text('{"schema": "skewscope.bench/1"}')
    assert commands.main(words) in (1, 2)
    assert said in capsys.readouterr().err


def test_odd_names_reach_neither_terminal_nor_reason(site, capsys):
    odd = "n3\x1b[31m;rm -rf /"
    written(site, finding(kind="node", where=odd, subject=C["subject"]("node", odd, node=odd)))
    assert act("--policy", "act.toml", "--apply") in (0, 1)
    out = capsys.readouterr()
    assert "\x1b" not in out.out + out.err
    assert not list((site / "verdicts").iterdir())


def test_an_act_that_waits_for_another_person_stays_a_proposal(site, capsys):
    text = (site / "approve.toml").read_text() + "[approval]\ntwo_persons_above = 0\n"
    (site / "approve.toml").write_text(text)
    assert act("--policy", "approve.toml", "--apply") == 0
    assert "waits for approval" in capsys.readouterr().out and not (site / "verdicts/n3.json").exists()
