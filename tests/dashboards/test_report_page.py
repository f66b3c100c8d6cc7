import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from skewscope.catalogue import load
from skewscope.frames import all_tables, frame
from skewscope.reports.document import document

pytest.importorskip("plotly")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
LOADING = ("src", "href", "srcset", "data", "action", "poster")


class Page(HTMLParser):
    """Collects tags, attributes that load something, and the text of each chart section."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads, self.sections, self.scripts = [], [], [], []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.inside = tag
        self.loads += [value for name, value in attributes if name in LOADING and value]
        if given.get("class", "").split()[:1] == ["chart"]:
            self.sections.append({"id": given["id"], "plots": 0, "tables": 0, "verdict": ""})
        if self.sections:
            self.sections[-1]["plots"] += given.get("class") == "plot"
            self.sections[-1]["tables"] += tag == "table"
            if "verdict" in given.get("class", ""):
                self.inside = "verdict"

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        if self.inside == "verdict" and self.sections:
            self.sections[-1]["verdict"] += data

    def handle_endtag(self, tag):
        self.inside = ""


@pytest.fixture
def report_page():
    return load("dashboards.report_page")


def test_the_page_loads_nothing_from_anywhere(make_world, report_page):
    page = Page(report_page.page(document(make_world()), make_world().tables))
    assert all(value.startswith("#") for value in page.loads), page.loads
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "embed", "base")]
    policies = [given for tag, given in page.tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policies[0]["content"]


def test_each_chart_has_a_verdict_and_a_table(make_world, report_page):
    sections = Page(report_page.page(document(make_world()), make_world().tables)).sections
    assert {one["id"] for one in sections} == {f"chart-{name}" for name in NAMES}
    for one in sections:
        assert one["plots"] == 1 and one["tables"] >= 1 and len(one["verdict"]) > 20, one


NAMES = ("waterfall", "heatmap", "arrivals", "split", "steps")


def test_names_from_files_cannot_become_markup(make_world, report_page):
    world = make_world(host=EVIL + "{}")
    world.recording.inputs[0].path = EVIL
    made = document(world)
    made["summary"]["verdict"] = made["findings"][0]["summary"] = made["findings"][0]["advice"] = EVIL
    made["findings"][0]["condition"] = made["findings"][0]["evidence"][0]["signal"] = EVIL
    made["warnings"] = [EVIL]
    page = Page(report_page.page(made, world.tables))
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not [given for tag, given in page.tags if tag == "img" or "onerror" in given]
    data = json.loads(page.scripts[0])
    assert "<" not in json.dumps(data["waterfall"]["data"][0]["x"])


def test_figures_are_pure_and_axes_carry_units(make_world, report_page):
    tables = make_world().tables
    before = {name: rows.copy() for name, rows in tables.items()}
    figures = report_page.figures(tables)
    assert set(figures) == set(NAMES)
    assert all(rows.equals(before[name]) for name, rows in tables.items())
    for name in ("waterfall", "arrivals", "split", "steps"):
        assert re.search(r"\((s|ms|us)\)", figures[name].layout.yaxis.title.text), name
    assert figures["heatmap"].layout.xaxis.title.text == "step"
    assert figures["heatmap"].data[0].colorbar.title.text in ("s", "ms", "us")


def test_verdicts_name_the_slow_rank(make_world, report_page):
    world = make_world()
    charts = {one.name: one for one in report_page.charts(world.tables, document(world)["findings"])}
    assert charts["heatmap"].verdict.startswith("Rank 5: 493 ms more own work")
    assert charts["arrivals"].verdict.startswith("Rank 5 is last in")
    assert charts["split"].verdict.startswith("Rank 5 waits least")
    assert "rank 5 on n1: gpu-slow-silent" in charts["waterfall"].verdict
    assert "slower than the first" in charts["steps"].verdict
    assert charts["steps"].rows[-1][1] == "steps 10-39"


def test_empty_tables_give_an_empty_state(report_page, make_world):
    assert report_page.figures(all_tables({})) == {}
    page = report_page.page(document(make_world(quiet=True)), all_tables({}))
    assert page.count("Nothing to draw") >= 5
    assert "plotly" not in page.lower()


def test_arrivals_alone_are_enough_for_a_map(make_world, report_page):
    tables = make_world().tables
    figures = report_page.figures({"arrivals": tables["arrivals"]})
    assert set(figures) == {"heatmap", "arrivals"}


def test_many_ranks_and_steps_stay_small(report_page):
    ranks, steps = 1024, 300
    step, rank = (part.ravel() for part in np.meshgrid(np.arange(steps), np.arange(ranks), indexing="ij"))
    own = 1e9 + 1e6 * (rank % 7) + 5e8 * (rank == 700)
    rows = {
        name: 0.0 for name in ("compute_ns", "input_ns", "gc_ns", "checkpoint_ns", "idle_ns", "comm_ns", "transfer_ns")
    }
    rows |= {
        "job": "job",
        "step": step,
        "rank": rank,
        "start_ns": 0,
        "end_ns": 10**9,
        "work_ns": own,
        "own_ns": own,
        "wait_ns": 0.0,
    }
    many = 20_000
    times = {
        "job": "job", "step": np.arange(many), "start_ns": 0, "duration_ns": np.full(many, 2e9), "ideal_ns": 1e9,
        "planned": False, "ranks_count": ranks,
    }  # fmt: skip
    figures = report_page.figures({"rank_steps": frame("rank_steps", rows), "step_times": frame("step_times", times)})
    drawn = figures["heatmap"].data[0]
    assert drawn.z.shape == (256, 300) and drawn.z[700 // 4].min() > 100
    assert len(figures["steps"].data[0].x) <= 1500
    assert len(figures["split"].data[0].x) == 49
    assert sum(len(one.to_json()) for one in figures.values()) < 2_000_000


ODD = (float("nan"), 0.0, -1e9, 1e18)


@pytest.mark.parametrize("table", ["rank_steps", "arrivals", "step_times"])
@pytest.mark.parametrize("value", ODD)
def test_odd_numbers_never_break_the_charts(make_world, report_page, table, value):
    world = make_world(ranks=3, steps=4)
    findings, rows = document(world)["findings"], world.tables[table]
    floats = list(rows.columns[rows.dtypes == "float64"])
    for columns in (*([name] for name in floats), floats):
        changed = {**world.tables, table: rows.assign(**{name: value for name in columns})}
        for chart in report_page.charts(changed, findings):
            assert chart.verdict and (chart.figure is None) == (not chart.rows)
            assert chart.figure is None or "NaN" not in chart.figure.to_json()


@pytest.mark.parametrize(("ranks", "steps"), [(1, 1), (1, 5), (2, 1)])
def test_small_worlds(make_world, report_page, ranks, steps):
    world = make_world(ranks, steps)
    assert "Traceback" not in report_page.page(document(world), world.tables)


def test_all_planned_steps_are_drawn_rather_than_none(make_world, report_page):
    tables = make_world().tables
    tables["step_times"] = tables["step_times"].assign(planned=True)
    assert set(report_page.figures(tables)) == set(NAMES)
