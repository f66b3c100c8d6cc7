from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.approval import approval, is_approved, persons
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
NOW_NS, SECOND_NS, ago, case, fleet, record, texts, turn, wanted = (
    WORLD[name] for name in "NOW_NS SECOND_NS ago case fleet record texts turn wanted".split()
)


def asked(**more):
    return record("proposed", "new", 600, expires_ns=NOW_NS + 1200 * SECOND_NS, **more)


def test_a_yes_holds_for_half_an_hour():
    for age_s, holds in ((1799, True), (1801, False)):
        ledger = Ledger.of([asked(), record("approved", "new", age_s, actor="ann")])
        assert is_approved(turn(ledger=ledger), wanted()) is holds
    assert not is_approved(turn(), wanted()) and not is_approved(turn(ledger=Ledger.of([asked()])), wanted())
    over = Ledger.of([asked(), record("approved", "new", 9, actor="ann"), record("expired", "new", 5)])
    assert not is_approved(turn(ledger=over), wanted())


def test_two_persons_say_yes_where_many_nodes_would_be_out():
    out = {"schedulable": False}
    many, few = fleet(n90=out, n91=out), fleet(n90=out)
    assert persons(turn(fleet=few), wanted()) == 1 and persons(turn(fleet=many), wanted()) == 2
    assert persons(turn(fleet=many), wanted("note")) == 1
    yes = [asked(), record("approved", "new", 9, actor="ann"), record("approved", "new", 8, actor="ann")]
    assert not is_approved(turn(fleet=many, ledger=Ledger.of(yes)), wanted())
    yes.append(record("approved", "new", 7, actor="bob"))
    assert is_approved(turn(fleet=many, ledger=Ledger.of(yes)), wanted())


@pytest.mark.parametrize(("verb", "held"), [("note", False), ("exclude", True), ("drain", True)])
def test_a_no_holds_for_this_and_all_that_is_stronger(verb, held):
    ledger = Ledger.of([record("rejected", "a", 99_999, verb="exclude", actor="ann")])
    assert ("a person said no to exclude of n3" in texts(approval, turn(ledger=ledger), wanted(verb))) is held
    assert not texts(approval, turn(ledger=ledger), wanted(verb, case("other")))


def test_a_no_for_a_while_ends():
    def snoozed(seconds):
        no = record("rejected", "a", 600, result="snoozed", expires_ns=NOW_NS + seconds * SECOND_NS)
        return texts(approval, turn(ledger=Ledger.of([no])), wanted())

    assert snoozed(1) and not snoozed(0)


def test_what_nobody_answered_is_not_asked_again_at_once():
    for age_s, held in ((3599, True), (3601, False)):
        ledger = Ledger.of([record("proposed", "a", 9999), record("expired", "a", age_s)])
        assert bool(texts(approval, turn(ledger=ledger), wanted())) is held
    unwritten = Ledger.of([record("proposed", "a", 1801, expires_ns=ago(1))])
    assert "nobody answered" in texts(approval, turn(ledger=unwritten), wanted())
