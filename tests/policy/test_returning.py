from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.ledger import Ledger
from skewscope.policy.returning import returns

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
JOB, SLURM, VERBS, around, case, done, fleet, policy, record = (
    WORLD[name] for name in "JOB SLURM VERBS around case done fleet policy record".split()
)
OURS = {"schedulable": False, "owner": "skewscope", "reason": "skewscope:c0ffee n3 is slow", "jobs": (), "idle": True}


def steps(lines, *cases, told=None, node=OURS, verbs=VERBS, **more):
    parts = {"fleet": fleet(**({"n3": node} if node else {})), "ledger": Ledger.of(lines), "around": around(), **more}
    return {one.record["act"]: one for one in returns(told or policy(), SLURM, cases, verbs=verbs, **parts)}


def step(lines, *cases, **more):
    (found,) = steps(lines, *cases, **more).values()
    return found.step, "; ".join(said.text for said in found.why)


def line_of_test(age_s, result="pass", act="a"):
    return record("tested", f"t{age_s}", age_s, of=act, result=result)


def test_a_fence_rests_is_tested_and_returns():
    assert step(done("a", 500)) == ("keep", "stands for 2 more min at least (hold_s)")
    assert step(done("a", 700), told=policy(retest={"after_s": 900}))[1] == "its test comes in 3 min"
    assert step(done("a", 700))[0] == "test"
    assert step([*done("a", 700), line_of_test(9)]) == ("undo", "the node passed its test of speed")


def test_while_the_trouble_stands_nothing_returns():
    for one in (case(), case(share=0.12), case("other", "n3"), case("other", "n3", role="victim")):
        assert step([*done("a", 700), line_of_test(9)], one)[0] == "keep"
    for over in (case(healthy=True), case(share=0.05), case("other", "n4")):
        assert step([*done("a", 700), line_of_test(9)], over)[0] == "undo"


def test_without_trusted_data_nothing_is_concluded():
    lines = [*done("a", 700), line_of_test(9)]
    assert step(lines, around=around(doubt="no target answers")) == ("keep", "no target answers")
    assert step(lines, case(healthy=True, doubt="clocks")) == ("keep", "clocks")


def test_a_test_counts_for_a_while_and_since_the_last_fence():
    assert step([*done("a", 9999), line_of_test(3601)])[0] == "test"
    lines = [*done("a", 9999, verb="exclude"), line_of_test(900), *done("b", 800, verb="drain")]
    assert {name: one.step for name, one in steps(lines).items()} == {"b": "test", "a": "keep"}
    lines.append(line_of_test(9, act="b"))
    assert {name: one.step for name, one in steps(lines).items()} == {"b": "undo", "a": "undo"}


def test_a_failed_test_is_repeated_and_then_a_person_is_called():
    failed = [*done("a", 50_000), line_of_test(9000, "fail"), line_of_test(5000, "fail")]
    assert step(failed)[0] == "test" and step([*failed[:-1], line_of_test(60, "fail")])[1] == "its test comes in 59 min"
    found = steps([*failed, line_of_test(60, "fail")])["a"]
    assert found.step == "escalate" and found.request.verb == "ticket" and found.request.target == "n3"
    assert steps([*failed, line_of_test(60, "fail")], verbs=("drain",))["a"].request is None
    tripped = [*failed, line_of_test(60, "fail"), {"phase": "breaker", "result": "open", "detail": "storm"}]
    assert steps(tripped)["a"].step == "keep", "an open breaker calls for a person already"
    called = [*failed, line_of_test(60, "fail"), *done("t", 30, verb="ticket")]
    assert steps(called)["a"].step == "keep" and steps(called)["t"].step == "keep"


def test_a_person_hears_of_what_is_fenced_for_too_long():
    lines = done("a", 90_000)
    found = steps(lines, case())["a"]
    assert (found.step, found.why[0].text) == ("escalate", "n3 has been fenced for 25 h: incident c0ffee still stands")
    assert steps(lines, node={**OURS, "idle": False})["a"].step == "escalate"
    both = steps([*done("x", 90_001, verb="exclude"), *lines], case())
    assert both["x"].request == both["a"].request, "one ticket an incident"
    assert steps([*lines, *done("t", 30, verb="ticket")], case())["a"].step == "keep", "once"
    assert step(done("a", 80_000), case())[0] == step(done("a", 90_000, verb="avoid"), case())[0] == "keep"
    assert step(lines, case(), around=around(stopped="x"))[0] == "keep"


def test_what_runs_there_ends_first():
    for node in ({**OURS, "jobs": (JOB,)}, {**OURS, "idle": False}):
        assert step(done("a", 700), node=node) == ("keep", "work still runs on n3, or nobody can tell")


def test_gentle_acts_return_without_a_test_but_not_before_the_fence():
    assert step(done("a", 700, verb="avoid"))[0] == "undo" and step(done("a", 500, verb="avoid"))[0] == "keep"
    lines = [*done("a", 9000, verb="avoid"), *done("b", 800)]
    assert {name: (one.step, one.why[0].text) for name, one in steps(lines).items()} == {
        "b": ("test", "it rested, and nothing is seen any more"), "a": ("keep", "waits for the test of n3"),
    }  # fmt: skip


def test_acts_are_taken_back_in_reverse():
    lines = [*done("a", 9000, verb="note"), *done("b", 8000, verb="avoid"), *done("c", 7000), line_of_test(9, act="c")]
    assert [(name, one.step) for name, one in steps(lines).items()] == [("c", "undo"), ("b", "undo"), ("a", "undo")]


def test_what_others_took_over_is_not_ours_any_more():
    assert step(done("a", 9), node={**OURS, "owner": "anna", "reason": "fan"}) == (
        "drop",
        "n3 belongs to anna now: fan",
    )
    assert step(done("a", 9), node={"schedulable": True})[0] == "keep", "some schedulers show nothing"
    assert step(done("a", 9, verb="exclude"), node={"schedulable": True})[0] == "keep"


def test_neither_breaker_nor_budget_nor_calendar_keeps_a_node_out():
    lines = [*done("a", 700), line_of_test(9), {"phase": "breaker", "result": "open", "detail": "storm"}]
    narrow = policy(budget={"nodes_at_once": 0}, calendar={"windows": ["Sun 00:00-01:00"], "freezes": ["00:00-24:00"]})
    assert step(lines, told=narrow, around=around(alarms=({"severity": "critical"},)))[0] == "undo"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"around": around(stopped="/run/stop exists")}, "everything is stopped: /run/stop exists"),
        ({"told": policy(mode="observe")}, "slurm is only observed here"),
        ({"node": {**OURS, "native": {"skewscope.io/pause": "true"}}}, "n3 is paused"),
    ],
)
def test_people_can_keep_it_out(more, says):
    assert step([*done("a", 700), line_of_test(9)], **more) == ("keep", says)


def test_a_node_that_is_not_listed_is_waited_for():
    lines = [*done("a", 700, target="n999"), line_of_test(9)]
    assert step(lines, node=None) == ("keep", "slurm lists no node n999 now")


def test_without_a_wish_for_tests_it_returns_once_the_trouble_is_over():
    assert step(done("a", 700), told=policy(retest={"required": False})) == ("undo", "the trouble is over")


def test_what_is_under_way_or_of_another_scheduler_is_not_asked_about():
    assert not steps([*done("a", 700), record("undoing", "u", 9, of="a")])
    assert not steps(done("a", 700, scheduler="ray"))
