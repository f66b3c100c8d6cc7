"""`undo` on verdict files: what is ours comes off, what somebody else changed stays."""

from __future__ import annotations

import json

import pytest

from skewscope import commands
from skewscope.acting import rooms
from skewscope.acting.audit import Audit
from skewscope.acting.book import Book
from skewscope.acting.pace import Pace
from skewscope.acting.performing import Performer, request_fields
from skewscope.acts import Request
from skewscope.policy.settings import Policy


@pytest.fixture
def site(tmp_path):
    """Two nodes with an act on each."""
    (tmp_path / "verdicts").mkdir()
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[schedulers.file]\nfolder = "{tmp_path / "verdicts"}"\nnodes = ["n[0-7]"]\n')
    book = Book(Audit(tmp_path / "acts.jsonl"))
    actuator = rooms.actuators(Policy.load(policy), ["file"])["file"]
    hand = Performer("file", actuator, book, Pace(1e9))
    for act, node in (("aa11", "n3"), ("aa22", "n4")):
        request = Request(act, "drain", node, "i1", "it is slow")
        hand.act(request_fields(request, "file"), hand.command(request, hand.look()))
    return tmp_path


def undo(site, act, *words):
    audit, policy = str(site / "acts.jsonl"), str(site / "policy.toml")
    return commands.main(["undo", act, "--audit", audit, "--policy", policy, *words])


def phases(site):
    return [(one["act"], one["phase"]) for one in map(json.loads, (site / "acts.jsonl").read_text().splitlines())]


def test_only_the_act_that_is_named_is_taken_back(site, capsys):
    assert undo(site, "aa", "--apply") == 2 and "aa11, aa22" in capsys.readouterr().err
    assert undo(site, "aa1", "--apply") == 0
    assert [one.name for one in (site / "verdicts").iterdir() if one.suffix == ".json"] == ["n4.json"]
    assert phases(site)[-2:] == [("aa11", "undoing"), ("aa11", "undone")]


def test_it_is_not_done_twice(site, capsys):
    assert undo(site, "aa1", "--apply") == 0
    assert undo(site, "aa1", "--apply") == 2 and "does not stand any more" in capsys.readouterr().err
    assert undo(site, "zz", "--apply") == 2 and "no act is called" in capsys.readouterr().err


def test_what_somebody_else_wrote_stays(site, capsys):
    (site / "verdicts/n3.json").write_text('{"mine": 1}')
    assert undo(site, "aa1") == 1
    assert undo(site, "aa1", "--apply") == 1
    assert (site / "verdicts/n3.json").read_text() == '{"mine": 1}'
    assert phases(site)[-1][1] in ("undo-failed", "done")


def test_what_is_gone_already_needs_nothing(site, capsys):
    (site / "verdicts/n3.json").unlink()
    assert undo(site, "aa1") == 0 and "so already" in capsys.readouterr().out
    assert undo(site, "aa1", "--apply") == 0 and phases(site)[-1] == ("aa11", "undone")
