from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.errors import Unreadable
from skewscope.retest import document, gate

MADE = run_path(str(Path(__file__).with_name("_results.py")))
healthy, peers = MADE["healthy"], MADE["peers"]


def test_only_a_fresh_answer_of_the_node_itself_passes():
    text = document.line(healthy("n3"))
    assert gate.answer(text, "n3", 50, peers()).verdict == "pass"
    for node, since_ns, said in (("n4", 50, "is of n3, not of n4"), ("n3", 101, "before the test began")):
        judged = gate.answer(text, node, since_ns, peers())
        assert judged.verdict == "unsure" and said in judged.why[0]
    assert gate.answer("", "n3", 0, peers()).verdict == "unsure"


def test_a_node_cannot_pass_itself():
    told = replace(healthy("n3", speed=0.5), verdict="pass", why=("I say so",))
    assert gate.answer(document.line(told), "n3", 50, peers()).verdict == "fail"


def test_nodes_tested_at_once_are_peers():
    text = "\n".join(document.line(one) for one in (healthy("n3"), *peers(4)))
    assert gate.answer(text, "n3", 0, ()).verdict == "pass"


def test_references_are_kept_line_by_line(tmp_path):
    for one in peers(3):
        gate.keep(tmp_path / "peers.jsonl", document.line(one))
    assert gate.references(tmp_path / "peers.jsonl") == gate.references(tmp_path) == peers(3)


def test_references_that_are_none(tmp_path):
    with pytest.raises(Unreadable, match="No such file"):
        gate.references(tmp_path / "peers.jsonl")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(Unreadable, match="x.json: there is no skewscope.retest/1"):
        gate.references(tmp_path / "x.json")
