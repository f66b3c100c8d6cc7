"""Marks on a node, as pure functions: whatever stands there, what is put on comes off, and nothing else changes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skewscope.acts import Request
from skewscope.actuators._kubernetes_marks import CORDON, CORDONED, DOMAIN, EFFECTS, Marks, act_name, label_value, mark

VERBS = ("note", "avoid", "exclude", "drain", "quarantine")
TAINTS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b/c", "nvidia.com/gpu"]),
            "effect": st.sampled_from(["NoSchedule", "NoExecute"]),
        },
        optional={"value": st.text("xy", max_size=2), "timeAdded": st.just("2026-01-01T00:00:00Z")},
    ),
    max_size=4,
)
NODES = st.builds(
    lambda taints, cordoned, notes: {
        "metadata": {"annotations": notes}, "spec": {"taints": taints, "unschedulable": cordoned}},
    TAINTS, st.booleans(),
    st.dictionaries(st.sampled_from([f"{DOMAIN}/pause", f"{DOMAIN}/x", "else"]), st.text(max_size=3)),
)  # fmt: skip
ACTS = st.lists(st.tuples(st.sampled_from(VERBS), st.text(max_size=9), st.text(max_size=9)), max_size=6)


def request(number: int, act: tuple[str, str, str]) -> Request:
    return Request(f"a{number}", act[0], "n1", act[1], act[2])


@given(NODES, ACTS, st.randoms())
def test_whatever_is_put_on_comes_off_in_any_order_and_nothing_else_changes(node: Any, acts: Any, random: Any) -> None:
    start = marks = Marks.of(node)
    stood = []
    for number, act in enumerate(acts):
        if not marks.has(act[0]):
            marks = marks.put(request(number, act))
            stood.append((act[0], f"a{number}"))
        assert marks.has(act[0]) and marks.taints[: len(start.taints)] == start.taints
        assert not marks.foreign(act[0]) and not marks.changed(act[0])
    random.shuffle(stood)
    for verb, act in stood:
        assert marks.act(verb) == act
        marks = marks.take(verb)
        assert not marks.has(verb) and marks.taints[: len(start.taints)] == start.taints
    assert marks == start


@given(NODES, st.sampled_from(["exclude", "drain"]))
def test_a_cordon_of_somebody_else_is_never_taken_off(node: Any, verb: str) -> None:
    start = Marks.of({**node, "spec": {**node["spec"], "unschedulable": True}})
    put = start.put(request(0, (verb, "i", "w")))
    assert CORDON not in put.annotations and put.take(verb).unschedulable


@given(st.text(max_size=200), st.text(max_size=99))
def test_all_that_is_written_is_what_the_server_takes(incident: str, why: str) -> None:
    for verb in VERBS:
        marks = Marks().put(Request(f"a{incident}", verb, "n1", incident, why))
        for taint in (one for one in marks.taints if one != CORDONED):
            assert len(taint["value"]) <= 63 and all(sign.isalnum() or sign in "-_." for sign in taint["value"])
            assert taint["value"].isascii() and taint["value"].strip("-_.") == taint["value"]
        assert all(text.isascii() and text.isprintable() for text in marks.annotations.values())
        assert marks.has(verb) and marks.act(verb) == act_name(f"a{incident}")


def test_each_verb_has_a_key_of_its_own() -> None:
    assert len({mark(verb) for verb in VERBS}) == len(VERBS) and set(EFFECTS) < set(VERBS)
    assert label_value("…") == "" and label_value("-x" * 40).startswith("x-")


def test_half_of_a_mark_is_not_a_mark() -> None:
    marks = Marks().put(request(0, ("drain", "i", "w")))
    assert marks.has("drain")
    assert not Marks(True, (), marks.labels, marks.annotations).has("drain")
    assert not Marks(False, marks.taints, marks.labels, marks.annotations).has("drain")
    foreign = ({"key": mark("drain"), "value": "bob", "effect": "NoSchedule"},)
    assert Marks(True, foreign, {}, marks.annotations).changed("drain") == "taint skewscope.io/drain=bob:NoSchedule"
