import dataclasses
import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.catalogue import load
from skewscope.plans import PICTURES, Picture, Plan

pytest.importorskip("plotly")
tried = run_path(str(Path(__file__).with_name("test_report_page.py")))
Page, EVIL = tried["Page"], tried["EVIL"]

PICTURED = (
    Picture("lines", "Balance", "Layer 2 is worst: 0.5.", "layer", "balance (1)",
            {"now": (range(3), [0.9, 0.8, 0.5]), "planned": (range(3), [1.0, float("nan"), 0.9])}),
    Picture("bars", "Ladder", "The plan reaches 0.9.", "", "balance (1)", {"mean": (["now", "plan"], [0.7, 0.9])}),
    Picture("heatmap", "Load", "GPU 1 is hot.", "GPU", "layer",
            {"now": [[1.0, 4.0], [2.0, 2.0]], "planned": [[2.5, 2.5], [2.0, 2.0]]}, "tokens"),
    Picture("gantt", "Schedule", "3 s idle.", "time (s)", "stage",
            {"stage 0": [(0.0, 1.0, "F0"), (2.0, 4.0, "B0")], "stage 1": [(1.0, 2.0, "F0")]}),
)  # fmt: skip


def plan(**changes):
    made = Plan(
        "moe", {"gpus": 2, "loads": ["a.npz"]}, "balance", {"balance": 0.7, "moves": 0},
        {"balance": 0.9, "moves": 12}, "Balance rises to 0.9.", {"phy2log": [[0] * 20] * 3, "tried": [{"slots": 2}]},
        lower_bound=0.95, gap=0.0526, solve_s=0.2, steps=("copy expert 3 to GPU 1",), warnings=("one window",),
        pictures=PICTURED,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def plan_page():
    return load("dashboards.plan_page")


@pytest.fixture(scope="module")
def pictures():
    return load("dashboards._plan_pictures")


def page_of(plan_page, made):
    return plan_page.page(made.document(), made.pictures)


def figures(html):
    return json.loads(Page(html).scripts[0])


def test_the_page_loads_nothing_from_anywhere(plan_page):
    page = Page(page_of(plan_page, plan()))
    assert all(value.startswith("#") for value in page.loads), page.loads
    policies = [given for tag, given in page.tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policies[0]["content"]


def test_every_link_has_its_place(plan_page):
    for made in (plan(), plan(pictures=(), steps=())):
        page = Page(page_of(plan_page, made))
        places = {given["id"] for _, given in page.tags if "id" in given}
        assert {value[1:] for value in page.loads} <= places


def test_before_after_and_bound_stand_in_one_row(plan_page):
    html = page_of(plan_page, plan())
    row = next(line for line in html.splitlines() if ">balance</td>" in line and ">0.9</td>" in line)
    assert [cell.partition("<")[0] for cell in row.partition("balance</td>")[2].split('<td class="tight">')[1:]] == [
        "0.7", "0.9", "+29 %", "0.95",
    ]  # fmt: skip
    for words in ("Balance rises to 0.9.", "gap 5.3 %", "copy expert 3 to GPU 1", "one window", "3 x 20 values",
                  "200 ms", "a.npz"):  # fmt: skip
        assert words in html, words
    assert "No such plan is possible" in page_of(plan_page, plan(feasible=False))
    assert "reached: no plan is better" in page_of(plan_page, plan(optimal=True))


def test_each_picture_is_drawn_with_its_sentence_and_numbers(plan_page):
    sections = Page(page_of(plan_page, plan())).sections
    assert [one["plots"] for one in sections] == [1, 1, 2, 1]
    assert [one["tables"] for one in sections[:3]] == [1, 1, 1]
    assert [one["verdict"] for one in sections] == [one.text for one in PICTURED]
    assert {one.kind for one in PICTURED} == set(PICTURES)


def test_the_figures_hold_the_numbers(plan_page):
    made = figures(page_of(plan_page, plan()))
    assert list(made) == ["0-0", "1-0", "2-0", "2-1", "3-0"]
    assert [trace["name"] for trace in made["0-0"]["data"]] == ["now", "planned"]
    assert made["1-0"]["data"][0]["x"] == ["now", "plan"]
    now, planned = made["2-0"]["data"][0], made["2-1"]["data"][0]
    assert (now["zmin"], now["zmax"]) == (planned["zmin"], planned["zmax"]) == (1.0, 4.0)  # one scale of colours
    forward, backward = made["3-0"]["data"]
    assert (forward["name"], forward["y"], forward["base"], forward["x"]) == (
        "F", ["stage 0", "stage 1"], [0.0, 1.0], [1.0, 1.0],
    )  # fmt: skip
    assert (backward["name"], backward["base"], backward["x"]) == ("B", [2.0], [2.0])
    for figure in made.values():
        assert figure["layout"]["yaxis"]["title"]["text"] in ("balance (1)", "layer", "stage")


def test_tables_beside_pictures(pictures):
    lines, bars, heat, gantt = (pictures.drawn(one) for one in PICTURED)
    assert lines.rows == (("0", "0.9", "1"), ("1", "0.8", "-"), ("2", "0.5", "0.9"))
    assert bars.columns == ("", "mean") and bars.rows == (("now", "0.7"), ("plan", "0.9"))
    assert heat.rows[0] == ("now", "1", "2.25", "4", "0, 1")
    assert gantt.rows == (("stage 0", "2", "3", "0", "4"), ("stage 1", "1", "1", "1", "2"))
    many = pictures.drawn(Picture("lines", "t", "s", "step", "y", {"a": (range(100), np.arange(100.0)[::-1])}))
    assert many.rows == (("a", "99", "0", "0", "99", "0"),) and many.columns[-1] == "greatest at: step"


def test_large_pictures_are_bounded_and_say_so(pictures):
    rows = np.arange(1000)
    wide = pictures.drawn(
        Picture("heatmap", "t", "s", "x", "y", {"a": np.where(rows[:, None] == 777, 9.0, rows[:, None] * 0.001)})
    )
    cells = np.asarray(wide.panels[0][1].data[0].z)
    assert cells.shape == (334, 1) and cells[777 // 3, 0] == 9 and wide.note == "One cell shows the greatest of 3 x 1."
    line = pictures.drawn(Picture("lines", "t", "s", "x", "y", {"a": (range(5000), range(5000))}))
    assert len(line.panels[0][1].data[0].x) == 1667 and line.note == "Every 3. point is drawn."
    bars = pictures.drawn(Picture("bars", "t", "s", "x", "y", {"a": (range(500), range(500))}))
    assert len(bars.panels[0][1].data[0].x) == 400 and "400 of 500" in bars.note
    spans = pictures.drawn(Picture("gantt", "t", "s", "x", "y", {"a": [(at, at + 1, "F") for at in range(4500)]}))
    assert len(spans.panels[0][1].data[0].x) == 4000 and "4000 of 4,500" in spans.note


def renamed(picture):
    series = {f"{EVIL}{name}": value for name, value in picture.series.items()}
    if picture.kind == "bars":
        series = {name: ([EVIL, EVIL + "2"], y) for name, (_, y) in series.items()}
    if picture.kind == "gantt":
        series = {name: [(start, end, EVIL) for start, end, _ in parts] for name, parts in series.items()}
    return Picture(picture.kind, EVIL, EVIL, EVIL, EVIL, series, EVIL)


def test_foreign_text_cannot_become_markup(plan_page):
    made = plan(
        inputs={EVIL: {EVIL: EVIL}}, objective=EVIL, current={EVIL: EVIL}, proposed={EVIL: EVIL}, verdict=EVIL,
        steps=(EVIL,), warnings=(EVIL,), plan={EVIL: EVIL, EVIL + "2": [{EVIL: EVIL}]},
        pictures=tuple(renamed(one) for one in PICTURED),
    )  # fmt: skip
    page = Page(page_of(plan_page, made))
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not [given for tag, given in page.tags if tag == "img" or "onerror" in given]
    drawn = json.dumps(json.loads(page.scripts[0]))
    assert "<" not in drawn.replace("<br>", "").replace("<extra></extra>", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_unknown_numbers_are_gaps(plan_page, value):
    pictures = (
        Picture("lines", "a", "b", "x", "y", {"s": ([0, 1], [value, 1.0]), "t": ([], [])}),
        Picture("heatmap", "a", "b", "x", "y", {"s": [[value, 1.0]], "t": [[value, value]]}),
        Picture("bars", "a", "b", "x", "y", {"s": (["p"], [value])}),
    )
    made = plan(pictures=pictures, current={"m": value}, proposed={"m": 1.0}, lower_bound=value, gap=value)
    html = page_of(plan_page, made)
    assert "NaN" not in html.partition('id="charts">')[2].partition("</script>")[0]
    assert "Infinity" not in html.partition('id="charts">')[2].partition("</script>")[0]


def test_an_empty_picture_says_so_and_needs_no_script(plan_page):
    empty = Picture("gantt", "Schedule", "No span.", "time (s)", "stage", {"stage 0": []})
    html = page_of(plan_page, plan(pictures=(empty,)))
    assert "There is nothing to draw" in html and "plotly" not in html.lower()
    bare = plan(pictures=(), current={}, proposed={}, inputs={}, plan={}, steps=(), warnings=(), lower_bound=None)
    assert "Nothing is compared" in page_of(plan_page, bare)


def test_colours_part_at_the_middle(pictures):
    picture = Picture("heatmap", "t", "s", "x", "y", {"now": [[0.0, 4.0]]}, middle=1.0)
    scale = pictures.drawn(picture).panels[0][1].data[0].colorscale
    assert scale[0][1].startswith("rgba(0,114,178") and scale[1] == (0.25, "rgba(230,159,0,0.06)")
    assert scale[-1] == (1.0, "#D55E00")
    above = dataclasses.replace(picture, middle=-1.0)
    assert pictures.drawn(above).panels[0][1].data[0].colorscale[0][1] == "rgba(230,159,0,0.06)"


def test_an_unknown_kind_of_picture_is_refused():
    with pytest.raises(ValueError, match="no picture is called 'pie'"):
        Picture("pie", "a", "b", "x", "y", {})
