import numpy as np
import pandas as pd
import pytest

from skewscope.catalogue import load
from skewscope.contracts import Picture, Shown

pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def pictures():
    return load("dashboards._view_pictures")


@pytest.fixture
def rows():
    return pd.DataFrame(
        {
            "rank": [0, 0, 1, 1],
            "step": [1, 2, 1, 2],
            "name": ["a", "b", "a", "<i>c"],
            "busy_s": [0.001, 0.002, 0.004, np.nan],
            "idle_s": [0.001, 0.001, 0.001, 0.001],
            "start_s": [0.0, 1.0, 0.5, 2.0],
            "end_s": [1.0, 2.0, 1.5, 3.0],
            "moved_bytes": [2e9, 1e9, 3e9, 4e9],
        }
    )


@pytest.mark.parametrize(
    ("picture", "x", "y", "traces"),
    [
        (Picture("t", "bars", "", "name", "busy_s"), "name", "busy (ms)", 1),
        (Picture("t", "bars", "", "step", "moved_bytes", "rank"), "step", "moved (GB)", 2),
        (Picture("t", "stacked", "", "rank", parts=("busy_s", "idle_s")), "rank", "ms", 2),
        (Picture("t", "lines", "", "step", "busy_s", "rank"), "step", "busy (ms)", 2),
        (Picture("t", "steps", "", "start_s", parts=("busy_s", "idle_s")), "start (s)", "busy (ms)", 2),
        (Picture("t", "points", "", "moved_bytes", "busy_s", "rank"), "moved (GB)", "busy (ms)", 2),
        (Picture("t", "heatmap", "", "step", "rank", "busy_s"), "step", "rank", 1),
        (Picture("t", "spans", "", "start_s", "name", "rank"), "time (s)", "name", 2),
    ],
    ids=lambda one: one.kind if isinstance(one, Picture) else "",
)
def test_axes_carry_units(pictures, rows, picture, x, y, traces):
    figure, note = pictures.drawn(picture, rows)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (x, y)
    assert len(figure.data) == traces and note == ""
    figure.to_json()


def test_values_are_in_the_unit_of_the_axis(pictures, rows):
    figure, _ = pictures.drawn(Picture("t", "stacked", "", "rank", parts=("busy_s", "idle_s")), rows)
    assert list(figure.data[0].y)[:3] == pytest.approx([1.0, 2.0, 4.0])
    figure, _ = pictures.drawn(Picture("t", "spans", "", "start_s", "name", "rank"), rows)
    assert list(figure.data[1].base) == [0.5, 2.0] and list(figure.data[1].x) == [1.0, 1.0]
    figure, _ = pictures.drawn(Picture("t", "heatmap", "", "step", "rank", "busy_s"), rows)
    assert figure.data[0].z[1, 0] == pytest.approx(4.0) and np.isnan(figure.data[0].z[1, 1])


def test_spans_may_be_given_by_their_length(pictures, rows):
    figure, _ = pictures.drawn(Picture("t", "spans", "", "start_s", "idle_s", "name"), rows)
    assert [list(trace.y) for trace in figure.data] == [["a", "a"], ["b"], ["&lt;i&gt;c"]]
    assert list(figure.data[0].base) == [0.0, 0.5] and list(figure.data[0].x) == pytest.approx([0.001, 0.001])
    assert pictures.drawn(Picture("t", "spans", "", "busy_s", "name"), rows) == (None, "")


def test_foreign_names_are_escaped(pictures, rows):
    figure, _ = pictures.drawn(Picture("t", "bars", "", "name", "idle_s", "name"), rows)
    assert [trace.name for trace in figure.data] == ["a", "b", "&lt;i&gt;c"]


def test_much_is_cut_with_a_note(pictures):
    many = pd.DataFrame({"name": [f"k{one}" for one in range(900)], "busy_s": 1.0, "rank": range(900), "step": 0})
    figure, note = pictures.drawn(Picture("t", "bars", "", "name", "busy_s"), many)
    assert len(figure.data[0].x) == pictures.MOST_BARS and "of 900" in note
    figure, note = pictures.drawn(Picture("t", "lines", "", "step", "busy_s", "rank"), many)
    assert len(figure.data) == pictures.MOST_LINES and "of 900" in note
    figure, note = pictures.drawn(Picture("t", "heatmap", "", "step", "rank", "busy_s"), many)
    assert figure.data[0].z.shape[0] <= pictures.MOST_HIGH and "greatest" in note


def test_nothing_gives_no_figure_but_words(pictures):
    empty = pd.DataFrame({"name": [], "busy_s": []})
    picture = Picture("t", "bars", "Busy", "name", "busy_s")
    assert pictures.drawn(picture, empty) == (None, "")
    (chart,) = pictures.charts("x", "What?", Shown({"t": empty}, ("Nothing.",), ("Unknown.",), (picture,)))
    assert chart.figure is None and chart.verdict == "Nothing." and chart.note == "Unknown."


def test_a_view_becomes_charts_with_distinct_names(pictures, rows):
    shown = Shown(
        {"t": rows},
        ("One.", "Two."),
        (),
        (Picture("t", "bars", "A", "name", "busy_s"), Picture("t", "lines", "B", "step", "busy_s", "rank")),
    )
    made = pictures.charts("my-view", "What?", shown)
    assert [(one.name, one.title, one.verdict) for one in made] == [
        ("view-my-view", "my-view: What?", "One. Two."), ("view-my-view-1", "B", ""),
    ]  # fmt: skip
    assert made[0].rows[0][3] == "1 ms" and made[0].columns[3] == "busy"
