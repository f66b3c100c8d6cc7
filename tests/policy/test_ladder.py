from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.ladder import rung
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
NOW_NS, case, done, policy, record, turn, undone = (
    WORLD[name] for name in "NOW_NS case done policy record turn undone".split()
)


def step(*lines, told=None, one=None, **more):
    return rung(turn(told, ledger=Ledger.of(lines), **more), one or case())


def climbed(*verbs, age_s=601.0):
    return [
        line for at, verb in enumerate(verbs) for line in done(f"a{at}", age_s + 700 * (len(verbs) - at - 1), verb=verb)
    ]


def test_it_begins_gently_and_climbs_while_the_trouble_stands():
    assert [step(*climbed(*WORLD["VERBS"][:length])).verb for length in (0, 1, 2, 3)] == [
        "note",
        "avoid",
        "exclude",
        "drain",
    ]
    assert step(*climbed("note", "avoid", "exclude", "drain")).verb == "ticket", "quarantine is not a rung by default"
    assert (
        step(*climbed("note", "avoid", "exclude", "drain", "ticket")).rest == "ticket of n3 stands; it is the last rung"
    )


def test_each_rung_gets_time_to_help():
    assert step(*climbed("note", age_s=599)).rest == "note of n3 stands; avoid in 0 min (ladder.step_s)"
    assert step(*climbed("note", age_s=601)).verb == "avoid"


def test_rungs_that_the_scheduler_lacks_are_left_out():
    assert step(*climbed("note"), verbs=("note", "drain")).verb == "drain"
    assert step(verbs=("requeue",)).rest == "slurm can do none of note, avoid, exclude, drain, ticket"


def test_what_was_so_already_or_refused_is_behind_us():
    assert step(record("done", "a", 700, verb="note", result="nothing")).verb == "avoid"
    assert step(record("refused", "a", 700, verb="note")).verb == "avoid"
    assert step(record("failed", "a", 700, verb="note")).verb == "note"


@pytest.mark.parametrize("phase", ["intended", "undoing", "waiting"])
def test_nothing_is_begun_while_something_is_under_way(phase):
    assert step(*climbed("note"), record(phase, "a9", 9, verb="avoid")).rest == "avoid of n3 is under way"


def test_acts_for_others_are_not_ours_to_climb_on():
    for more in ({"incident": "x"}, {"target": "n4"}, {"scheduler": "ray"}):
        assert step(*done("a", 999, verb="exclude", **more)).verb == "note"
    assert step(*climbed("note"), *undone("a0", 9, verb="note")).verb == "note", "taken back, it begins anew"


def test_the_first_rung_can_be_another():
    told = policy(ladder={"start": "avoid", "starts": {"S1": "exclude", "gpu-off-bus": "drain"}})
    first = [step(told=told, one=case(**more)).verb for more in ({}, {"severity": "S1"}, {"condition": "gpu-off-bus"})]
    assert first == ["avoid", "exclude", "drain"]


def test_who_came_back_too_often_gets_a_ticket():
    past = [line for at in range(3) for line in done(f"a{at}", 99_999, incident=f"old{at}")]
    assert step(*past).verb == "ticket"
    assert "can do none of" in step(*past, verbs=("note", "drain")).rest


def test_an_id_is_the_same_for_the_same_past_and_new_after_it_is_over():
    first = step()
    assert first == step() and first.id != step(one=case("other")).id and len(first.id) == 12
    asked = record("proposed", first.id, 60, verb="note", expires_ns=NOW_NS + 1)
    assert step(asked).id == first.id
    for over in (
        [record("failed", first.id, 60, verb="note")],
        [asked, record("rejected", first.id, verb="note")],
        [record("proposed", first.id, 60, verb="note", expires_ns=NOW_NS)],
        [*done(first.id, 60, verb="note"), *undone(first.id, 50, verb="note")],
    ):
        again = step(*over)
        assert again.verb == "note" and again.id != first.id


def test_a_hint_goes_to_the_job_where_somebody_takes_hints():
    told = case(hint={"weights": [1, 2]})
    assert step(one=told).verb == "note"
    first = step(one=told, verbs=("advise",))
    assert (first.verb, first.target) == ("advise", "train")
    assert step(one=case(hint={"weights": []}, job=""), verbs=("advise",)).target == "n3"


@pytest.mark.parametrize(
    ("age_s", "hint", "says"),
    [
        (9999, {"weights": [1, 2]}, "the hint for train stands"),
        (300, {"weights": [2, 1]}, "another in 5 min"),
        (601, {"weights": [2, 1]}, ""),
    ],
)
def test_a_hint_that_changed_is_given_anew_after_a_while(age_s, hint, says):
    lines = done("a", age_s, verb="advise", target="train", params={"hint": {"weights": [1, 2]}})
    told = step(*lines, one=case(hint=hint), verbs=("advise",))
    assert says in told.rest and bool(told.verb) is not bool(says)
    busy = step(record("intended", "b", verb="advise", target="train"), one=case(hint=hint), verbs=("advise",))
    assert busy.rest == "a hint for train is under way"
