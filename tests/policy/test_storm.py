from pathlib import Path
from runpy import run_path

from skewscope.policy.ledger import Ledger
from skewscope.policy.storm import storm, together

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
ago, case, done, turn = (WORLD[name] for name in "ago case done turn".split())


def told(at, one):
    return storm(at, one, together(at))


def some(*ages_s, **more):
    return tuple(case(f"i{at}", f"n{at}", opened_ns=ago(age_s), **more) for at, age_s in enumerate(ages_s))


def test_three_nodes_within_a_quarter_of_an_hour_have_a_shared_cause():
    cases = some(1500, 1000, 600)
    text = told(turn(cases=cases), cases[2])
    assert text == "3 nodes bad within 15 min (n0, n1, n2): look for what they share"
    assert not told(turn(cases=some(1501, 1000, 600)), some(1501, 1000, 600)[2])


def test_what_opened_at_an_unknown_time_is_of_now():
    cases = tuple(case(f"i{at}", f"n{at}", opened_ns=-1) for at in range(3))
    assert told(turn(cases=cases), cases[0])


def test_only_culprits_that_are_still_bad_on_different_nodes_count():
    one = case("i0", "n0")
    for other in ({"healthy": True}, {"role": "victim"}, {"node": ""}):
        cases = (one, case("i1", **{"node": "n1", **other}), case("i2", "n2"))
        assert not told(turn(cases=cases), one)
    assert not told(turn(cases=(one, case("i1", "n0"), case("i2", "n0"))), one)


def test_nodes_acted_upon_just_now_count():
    lines = [*done("a", 300, target="n50", incident="x"), *done("b", 200, target="n51", incident="y")]
    fresh = case(opened_ns=ago(100))
    assert told(turn(cases=(fresh,), ledger=Ledger.of(lines)), fresh)
    old = case(opened_ns=ago(4000))
    assert not told(turn(cases=(old,), ledger=Ledger.of(lines)), old)


def test_a_storm_long_ago_is_over_for_who_came_later():
    cases = (*some(9000, 9000, 9000), case("late", "n9", opened_ns=ago(60)))
    assert not told(turn(cases=cases), cases[-1]) and told(turn(cases=cases), cases[0])
