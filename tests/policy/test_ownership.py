from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.ledger import Ledger
from skewscope.policy.ownership import bears, ownership

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
case, done, fleet, policy, texts, turn, undone, wanted = (
    WORLD[name] for name in "case done fleet policy texts turn undone wanted".split()
)


def said(told=None, what=None, lines=(), **node):
    at = turn(policy(**(told or {})), fleet=fleet(n3=node) if node else fleet(), ledger=Ledger.of(lines))
    return texts(ownership, at, what or wanted("note"))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"owner": "anna", "reason": "fan broken"}, "n3 belongs to anna: fan broken"),
        ({"owner": "NHC", "schedulable": False}, "n3 belongs to NHC: no reason given"),
        ({"schedulable": False}, "n3 takes no work already"),
        ({"owner": "skewscope", "reason": "skewscope:x"}, "bears our mark for an act that this audit does not know"),
        ({"native": {"labels": {"skewscope.io/pause": "true"}}}, "n3 is paused by skewscope.io/pause"),
        ({"native": {"comment": "do not touch, skewscope.io/pause"}}, "is paused"),
    ],
)
def test_what_is_not_ours_is_left_alone(node, says):
    assert says in said(**node)


def test_our_own_mark_is_known_from_the_audit():
    assert not said(lines=done("a", 700), owner="skewscope", schedulable=False, reason="skewscope:c0ffee")
    assert "does not know" in said(lines=[*done("a", 700), *undone("a", 60)], owner="skewscope")


def test_a_node_that_nobody_lists_is_nobodys():
    assert said(what=wanted(one=case(node="x; rm -rf /"))) == "slurm lists no node x; rm -rf /"


@pytest.mark.parametrize("patterns", [["n3"], ["login*", "n?"], ["*"]])
def test_protected_nodes_are_left_alone(patterns):
    assert said({"ownership": {"protected": patterns}}) == "n3 is protected (ownership.protected)"
    assert not said({"ownership": {"protected": ["n30"]}})


@pytest.mark.parametrize("pattern", ["train", "tra*", "ann"])
def test_nodes_of_protected_jobs_and_users_are_left_alone(pattern):
    assert "job train is protected" in said({"ownership": {"protected_jobs": [pattern]}})


def test_a_hint_to_a_job_touches_no_node():
    assert not said(what=wanted("advise", case(node=""), target="train"))


def test_a_pause_that_says_false_is_none():
    for told in ({"labels": {"p": "False"}}, {"labels": {"other": "p-2"}}, None, 3):
        assert not bears(told, "p")
    assert bears({"features": ["a", {"p": ""}]}, "p") and not bears({}, "")
