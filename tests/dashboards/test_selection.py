from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as some

from skewscope.catalogue import load

Selection = load("dashboards._selection").Selection
words = some.text(some.characters(exclude_categories=("C", "Z")), max_size=60)
numbers = some.integers(-1, 2**63 - 1)
selections = some.builds(Selection, **{one.name: words if one.type == "str" else numbers for one in fields(Selection)})


@given(selections)
def test_a_link_shows_the_same(selection):
    assert Selection.of(selection.query()) in (selection, Selection())  # the latter where it became too long
    if len(selection.query()) <= 2048:
        assert Selection.of(selection.query()) == selection


@given(some.text())
def test_any_text_is_a_selection_within_bounds(text):
    found = Selection.of(text)
    assert all(len(getattr(found, one.name)) <= 200 for one in fields(found) if one.type == "str")
    assert all(-1 <= getattr(found, one.name) < 2**63 for one in fields(found) if one.type == "int")


def test_what_does_not_fit_is_left_out():
    assert Selection.of("?rank=1;drop&begin=-7&end=%00&node=a%0Ab") == Selection(node="ab")
    assert Selection.of("?job=" + "x" * 5000) == Selection()
    assert Selection.of("&".join(f"a{one}=1" for one in range(100))) == Selection()
    assert Selection().query() == ""
