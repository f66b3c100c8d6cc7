import json

import pytest

from skewscope import commands
from skewscope.acting.audit import Audit


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "acts.jsonl"
    audit = Audit(path, lambda: 1_750_000_000 * 10**9)
    told = {"act": "abc123", "scheduler": "slurm", "verb": "drain", "target": "n3", "incident": "i1",
            "reason": "skewscope:i1 it is slow", "before": {"State": "IDLE"}, "after": {"State": "DRAIN"},
            "sent": [{"kind": "run", "words": ["scontrol", "update", "NodeName=n3"], "body": None}],
            "why": [{"guard": "mode", "text": "slurm acts"}]}  # fmt: skip
    audit.append("held", scheduler="slurm", target="n9\x1b[31m", incident="i0")
    audit.append("intended", **told)
    audit.append("done", **told, result="done")
    audit.append("intended", act="abd", scheduler="slurm", verb="note", target="n4", incident="i2")
    return path


def test_a_whole_chain_is_said_to_be_so(path, capsys):
    assert commands.main(["audit", "verify", str(path)]) == 0
    said = capsys.readouterr().out
    assert "4 records, one unbroken chain" in said
    head = said.split()[-1]
    assert commands.main(["audit", "verify", str(path), "--head", head[:8]]) == 0


def test_a_broken_chain_names_the_line(path, capsys):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("n3", "n4"), *lines[2:]]) + "\n")
    assert commands.main(["audit", "verify", str(path)]) == 1
    assert "line 2 of the audit was changed after it was written; the 1 records" in capsys.readouterr().out
    assert commands.main(["audit", "list", str(path)]) == 1


def test_lines_cut_off_are_found_by_the_head(path, capsys):
    head = json.loads(path.read_text().splitlines()[-1])["hash"]
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert commands.main(["audit", "verify", str(path)]) == 0
    assert commands.main(["audit", "verify", str(path), "--head", head]) == 1
    assert "cut off" in capsys.readouterr().out


def test_acts_are_listed(path, capsys):
    assert commands.main(["audit", "list", str(path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[3] for row in rows] == ["intended", "done", "intended"] and "2025-06-15 15:06:40Z" in rows[0]
    assert commands.main(["audit", "list", str(path), "--standing"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert commands.main(["audit", "list", str(path), "--all", "--target", "n9\x1b[31m"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert commands.main(["audit", "list", str(path), "--target", "n4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["act"] == "abd"


def test_one_act_is_shown(path, capsys):
    assert commands.main(["audit", "show", "abc", str(path)]) == 0
    said = capsys.readouterr().out
    for part in ("State: IDLE -> DRAIN", "scontrol update NodeName=n3", "slurm acts", "done"):
        assert part in said
    assert commands.main(["audit", "show", "abc", str(path), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert commands.main(["audit", "show", "ab", str(path)]) == 2
    assert "may be abc123, abd" in capsys.readouterr().err
    assert commands.main(["audit", "show", "zz", str(path)]) == 2


def test_a_line_that_is_written_right_now_is_passed_over(path, capsys):
    with open(path, "ab") as file:
        file.write(b'{"act":"zz"')
    assert commands.main(["audit", "list", str(path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
