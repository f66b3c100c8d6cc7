import json

import pytest

from skewscope.acting.audit import Audit, verify
from skewscope.commands import main
from skewscope.policy.ledger import Ledger
from skewscope.policy.settings import Policy


def test_the_file_to_start_from_is_sound(tmp_path, capsys):
    file = tmp_path / "policy.toml"
    assert main(["policy", "init", "--out", str(file)]) == 0
    assert Policy.load(file).version == Policy().version
    assert main(["policy", "check", str(file)]) == 0
    said = capsys.readouterr().out
    assert " 3  budget.nodes_at_once = 1\n" in said and f"sound, version {Policy().version}, 0 dangers" in said
    assert main(["policy", "init"]) == 0
    assert capsys.readouterr().out == file.read_text()


def test_nothing_is_overwritten(tmp_path, capsys):
    file = tmp_path / "policy.toml"
    file.write_text("mine")
    assert main(["policy", "init", "--out", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err and file.read_text() == "mine"


def test_dangers_and_changes_are_shown(tmp_path, capsys):
    file = tmp_path / "policy.toml"
    file.write_text('[budget]\nnodes_at_once = 4\n[retest]\nrequired = false\n[schedulers.file]\nfolder = "/run/v"\n')
    assert main(["policy", "check", str(file), "--changed"]) == 0
    said = capsys.readouterr().out
    assert "budget.nodes_at_once = 4 (default 1)" in said and "storm" not in said
    assert "danger: retest.required: slow nodes return untested" in said
    assert main(["policy", "check", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == Policy.load(file).version and len(told["dangers"]) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[budget]\nnodes = 3", "budget: nodes is unknown"),
        ("[schedulers.slrm]\n", ": no actuator is called 'slrm'; did you mean slurm?"),
        ("[schedulers.file]\nfoldr = '/x'", "[schedulers.file] has no setting 'foldr'; did you mean folder?"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(tmp_path, capsys, text, says):
    file = tmp_path / "policy.toml"
    file.write_text(text)
    assert main(["policy", "check", str(file)]) == 2
    said = capsys.readouterr().err
    assert says in said and str(file) in said


def test_a_person_closes_the_breaker_and_the_audit_keeps_who_and_why(tmp_path, capsys):
    file = tmp_path / "acts.jsonl"
    Audit(file).append("breaker", result="open", detail="3 acts within 30 min")
    words = ["policy", "reset-breaker", "--audit", str(file), "--person", "an\nna", "--reason", "switch `mended`"]
    assert main(words) == 0
    assert capsys.readouterr().out == "closed by an na; it was open: 3 acts within 30 min\n"
    last = Audit(file).records()[-1]
    assert (last["actor"], last["detail"], last["result"]) == ("an na", "switch _mended_", "closed")
    assert verify(file).ok and not Ledger.of(Audit(file).records()).breaker
    assert main(words) == 0 and "closed already" in capsys.readouterr().out


def test_a_reset_wants_an_audit_and_a_reason(tmp_path, capsys):
    assert main(["policy", "reset-breaker", "--audit", str(tmp_path / "none"), "--reason", "x"]) == 2
    (tmp_path / "acts.jsonl").touch()
    assert main(["policy", "reset-breaker", "--audit", str(tmp_path / "acts.jsonl"), "--reason", " "]) == 2
    assert "say what was found" in capsys.readouterr().err
    assert main(["policy"]) == 2
