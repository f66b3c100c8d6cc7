from pathlib import Path
from runpy import run_path

from skewscope.policy.breaker import breaker, trips
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
NOW_NS, done, fleet, policy, record, texts, turn, wanted, wide = (
    WORLD[name] for name in "NOW_NS done fleet policy record texts turn wanted wide".split()
)


def acts(*ages_s, verb="drain"):
    return [line for at, age_s in enumerate(ages_s) for line in done(f"a{at}", age_s, verb=verb, target=f"n{at + 50}")]


def why(lines, told=None, **more):
    return trips(told or wide(breaker={"out_share": 1.0}), more.get("fleet", fleet()), Ledger.of(lines), NOW_NS)


def test_three_acts_in_half_an_hour_open_it():
    assert why(acts(1799, 600, 5)).startswith("3 fences and restarts within 30 min")
    assert not why(acts(1801, 600, 5)) and not why(acts(600, 5))
    assert not why(acts(9, 8, 7, verb="avoid")) and why(acts(9, 8, 7, verb="requeue"))


def test_three_failures_open_it():
    failed = [record(phase, f"a{at}", 60) for at in range(3) for phase in ("intended", "failed")]
    assert "3 failed acts" in why(failed, wide(breaker={"acts": 9, "out_share": 1.0}))


def test_too_many_nodes_out_by_whomever_open_it():
    out = {"schedulable": False}
    some = {f"n{at + 20}": out for at in range(10)}
    assert not why([], policy(), fleet=fleet(**some))
    assert (
        why([], policy(), fleet=fleet(n90=out, **some))
        == "11 of 200 nodes are out (breaker.out_share = 0.05, out_nodes)"
    )
    assert why(done("a", 9999, target="n91", verb="exclude"), policy(), fleet=fleet(**some)), "an exclusion is out, too"
    assert not why([], policy(), fleet=fleet(8, n1=out, n2=out)), "a small cluster can act"


def test_open_it_stays_until_a_person_says_so():
    ledger = Ledger.of([*acts(5, 4, 3), {"phase": "breaker", "result": "open", "detail": "3 acts"}])
    held = texts(breaker, turn(wide(), ledger=ledger), wanted("note"))
    assert held == "open: 3 acts; a person resets it: skewscope policy reset-breaker"
    ledger.add({"phase": "breaker", "result": "closed"})
    assert not texts(breaker, turn(wide(), ledger=ledger), wanted())
    assert texts(breaker, turn(wide(breaker={"acts": 1}), ledger=Ledger.of(acts(5))), wanted()).startswith(
        "opens: 1 fences"
    )


def test_a_clock_that_went_back_forgets_nothing():
    assert why(acts(-5000, -5001, -5002))
