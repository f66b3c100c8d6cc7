import pytest

from skewscope import catalogue
from skewscope.bench import pairs
from skewscope.errors import UsageError
from skewscope.simulate import shipped
from skewscope.simulate.scenario import parse

KNOWN = {room.id for room in catalogue.rooms("detectors")}


def test_pages_tell_the_pairs():
    told = pairs.confused({
        "a": "A.\n\nHow it is seen\n    By `b`.\n\nLook-alikes\n    `c`: later,\n    `a` itself, `no-room`.",
        "b": "B.\n\nHow it is seen\n    Not to\n    be confused with `c`.",
        "c": "C.\n\nLook-alikes\n    `a`: sooner.\n\nWhat to do\n    See `b`.",
    })  # fmt: skip
    assert [(pair.one, pair.other, pair.told_by) for pair in told] == [("a", "c", ("a", "c")), ("b", "c", ("b",))]


def test_every_condition_has_a_look_alike():
    """A page that names none, or names them in words that nobody finds, would drop out of the matrix in silence."""
    assert set(pairs.conditions(pairs.pairs())) == KNOWN
    assert len(pairs.pairs()) >= 150


def test_every_look_alike_has_runs_in_which_it_alone_is_true():
    without = [name for name, some in pairs.scenarios(KNOWN, shipped()).items() if not some]
    for name in without:
        assert any(world.expect for world in catalogue.room("detectors", name).load().cases()), name


def test_only_scenarios_with_a_single_fault_are_taken():
    jobs = [{"ranks": 16, "steps": 120, "tp": 2}]
    fault, other = {"condition": "host-cpu-contention"}, {"condition": "gpu-power-cap"}
    plans = {"one": parse({"jobs": jobs, "faults": [fault]}, "one"), "calm": parse({"jobs": jobs}, "calm"),
             "both": parse({"jobs": jobs, "faults": [fault, other]}, "both"),
             "else": parse({"jobs": jobs, "faults": [other]}, "else")}  # fmt: skip
    assert pairs.scenarios(["host-cpu-contention", "step-spike"], plans) == {
        "host-cpu-contention": ["one"], "step-spike": [],
    }  # fmt: skip


def test_a_cause_is_known_from_precedence():
    by = {(pair.one, pair.other): pair for pair in pairs.pairs()}
    assert by["coll-late-rank", "tp-straggler"].cause == "coll-late-rank"
    assert by["gpu-power-cap", "power-oversubscribed"].cause == "power-oversubscribed"
    assert by["step-shift", "step-spike"].cause == ""


def test_some_pairs_are_chosen():
    some = pairs.chosen("coll-desync, step-spike")
    assert some and all({pair.one, pair.other} & {"coll-desync", "step-spike"} for pair in some)
    assert pairs.chosen(None) == pairs.pairs()
    for wrong in ("no-such", " ,", "coll-desync,no-such"):
        with pytest.raises(UsageError, match="no page tells"):
            pairs.chosen(wrong)


def test_families_hold_every_condition_once():
    made = pairs.families(KNOWN)
    assert sorted(name for _, some in made for name in some) == sorted(KNOWN)
    assert pairs.OTHERS not in dict(made)
    assert pairs.families(["kv-pressure", "srv-flow-skew", "no-room"]) == [
        ("Serving and KV cache", ["kv-pressure", "srv-flow-skew"]), ("Others", ["no-room"]),
    ]  # fmt: skip
