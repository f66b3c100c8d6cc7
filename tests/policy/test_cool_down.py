from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.cool_down import cool_down, is_offender, node_s
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
NOW_NS, case, done, policy, record, texts, turn, undone, wanted, wide = (
    WORLD[name] for name in "NOW_NS case done policy record texts turn undone wanted wide".split()
)
HOUR_S = 3600


def said(*lines, what=None, told=None):
    return texts(cool_down, turn(told, ledger=Ledger.of(lines)), what or wanted())


def back(name, hours, incident="old", **more):
    """A fence that was taken back within a minute."""
    at = {"incident": incident, "job": "", **more}
    return [*done(name, hours * HOUR_S, **at), *undone(name, hours * HOUR_S - 60, **at)]


def test_a_node_rests_for_six_hours_after_it_returned():
    assert "n3 rests for 59 more min after another act" not in said(*back("a", 6.1))
    assert "(cool_down.node_s)" in said(*back("a", 6.0)) and not said(*back("a", 6.1))


def test_a_note_begins_no_rest_and_a_ticket_needs_none():
    assert not said(*back("a", 1, verb="note"))
    assert not said(*back("a", 1), what=wanted("ticket")) and said(*back("a", 1), what=wanted("note"))


def test_the_ladder_of_one_incident_is_no_repeat_until_it_was_taken_back():
    assert not said(*done("a", 700, verb="exclude"))
    assert "rests" in said(*back("a", 1, incident="c0ffee"))


def test_a_job_rests_for_an_hour():
    assert "job train rests for 30 more min" in said(*done("a", 1800, target="n90", incident="x"))
    assert not said(*done("a", 3601, target="n90", incident="x"))


def test_repeats_stretch_the_rest():
    past = [*back("a", 40, "i1"), *back("b", 20, "i2"), *back("c", 10, "i3")]
    rests = [node_s(turn(ledger=Ledger.of(past[:length])), "n3") / HOUR_S for length in (0, 4, 8, 12)]
    assert rests == [6, 6, 12, 24]
    short = policy(cool_down={"most_s": 7 * HOUR_S})
    assert node_s(turn(short, ledger=Ledger.of(past)), "n3") == 7 * HOUR_S
    assert node_s(turn(ledger=Ledger.of(back("a", 9 * 24))), "n3") == 6 * HOUR_S


def test_three_fences_in_a_week_call_for_a_person():
    past = [
        *back("a", 150, "i1"),
        *back("b", 100, "i2"),
        *done("b2", 100 * HOUR_S - 5, incident="i2"),
        *back("c", 50, "i3"),
    ]
    assert is_offender(turn(ledger=Ledger.of(past)), "n3", "new")
    assert not is_offender(turn(ledger=Ledger.of(past)), "n3", "i3"), "the third may go on"
    assert not is_offender(turn(ledger=Ledger.of(past[4:])), "n3", "new")
    assert not is_offender(turn(ledger=Ledger.of([*back("z", 170, "i1"), *past[4:]])), "n3", "new")


@pytest.mark.parametrize("phase", ["failed", "refused"])
def test_what_failed_is_tried_again_after_a_while(phase):
    assert "the next in 9 min" in said(record(phase, "a", 60)) and not said(record(phase, "a", 601))


@pytest.mark.parametrize("lines", [[record("intended", "a", 5, incident="x")],
                                   [record("proposed", "a", 5, incident="x", expires_ns=NOW_NS + 9)]])  # fmt: skip
def test_one_thing_at_a_time_is_done_to_a_node(lines):
    assert "is under way for incident x" in said(*lines)


def test_a_node_that_another_incident_fenced_is_left_so():
    assert "n3 is fenced already, for incident x" in said(*done("a", 9 * HOUR_S, incident="x"))


def test_a_clock_that_went_back_makes_rests_longer():
    assert "rests" in said(*back("a", -3))


def test_one_act_a_turn_for_a_node_and_a_job():
    at = turn(wide())
    at.granted.append(wanted("note", case("b")))
    assert "n3 was acted upon in this very turn" in texts(cool_down, at, wanted())
    at.granted[:] = [wanted("avoid", case("b", "n5"))]
    assert "a node of job train was acted upon" in texts(cool_down, at, wanted())
