"""What every page owes, on every view: words, units, small figures, links that lead somewhere, and no harm by names."""

import dataclasses
import json
import re
from urllib.parse import urlsplit

import pytest

from skewscope.catalogue import load, rooms
from skewscope.frames import all_tables

PAGES = [room.id for room in rooms("dashboards.pages")]
VIEWS = ("compute-slow", "pipeline-imbalance", "hang", "spool-slow-rank", "gpu-hw-slowdown", "healthy-serving", "made",
         "acting", "empty")  # fmt: skip
LARGEST_BYTES = 1_000_000
WITHOUT_AXIS = {"timeline", "gains"}  # their y axes name things
EVIL = "<img src=x onerror=alert(1)>"


def cells(blocks):
    for block in blocks:
        yield from (cell for row in block.rows for cell in row)
        yield from block.links


def test_there_is_a_page_for_each_question():
    assert set(PAGES) == {
        "overview", "ranks", "why", "incidents", "actions", "collectives", "node", "pipeline", "links", "moe",
        "serving", "conditions",
    }  # fmt: skip


def test_paths_and_places_in_the_menu_differ(page):
    made = [page(name) for name in PAGES]
    assert len({one.path for one in made}) == len({one.order for one in made}) == len(made)
    assert all(table in all_tables({}) for one in made for table in one.needs)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", PAGES)
def test_blocks_have_words_tables_and_small_figures(page, views, chosen, name, view):
    blocks = page(name).blocks(views[view], chosen(""))
    assert blocks and len({one.name for one in blocks}) == len(blocks)
    for one in blocks:
        assert re.fullmatch(r"[a-z0-9-]+", one.name)
        assert one.title and len(one.verdict) > 20 and "nan" not in one.verdict.lower().split(), one.verdict
        assert all(len(row) == len(one.columns) for row in one.rows)
        assert "Nothing to" not in one.verdict or one.advice or one.links, one.name
        if one.figure is None:
            continue
        assert one.rows, f"{one.name} is a chart without a table"
        text = one.figure.to_json()
        assert len(text) < LARGEST_BYTES and "NaN" not in text
        if one.name not in WITHOUT_AXIS:
            assert one.figure.layout.xaxis.title.text and one.figure.layout.yaxis.title.text, one.name


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_view_says_what_to_do(page, views, chosen, name):
    first = page(name).blocks(views["empty"], chosen(""))[0]
    assert name == "conditions" or "skewscope" in first.advice


@pytest.mark.parametrize("view", VIEWS)
def test_links_lead_to_pages(page, views, chosen, view):
    paths = {page(name).path for name in PAGES}
    Link = load("dashboards._page").Link
    for name in PAGES:
        for cell in cells(page(name).blocks(views[view], chosen("?rank=5"))):
            if isinstance(cell, Link):
                place = urlsplit(cell.href)
                assert place.path in paths and not place.netloc, cell
                assert f"?{place.query}" == chosen(place.query).query() or not place.query, cell


@pytest.mark.parametrize("query", ["?rank=999999", "?node=nowhere&job=none", "?begin=9&end=3", "?show=x&order=y",
                                   "?since_ns=5&until_ns=9&rank=0"])  # fmt: skip
@pytest.mark.parametrize("view", ["compute-slow", "gpu-hw-slowdown", "made", "acting"])
def test_selections_of_what_is_not_there_do_no_harm(page, views, chosen, view, query):
    for name in PAGES:
        assert page(name).blocks(views[view], chosen(query))


def test_pages_change_nothing(page, views, chosen):
    view = views["compute-slow"]
    tables = {name: rows.copy() for name, rows in view.tables.items()}
    report = json.dumps(view.report)
    for name in PAGES:
        page(name).blocks(view, chosen("?rank=5"))
    assert json.dumps(view.report) == report
    assert all(rows.equals(tables[name]) for name, rows in view.tables.items())


def renamed(view):
    """Return a view in which every job, host, device and message is hostile."""
    tables = {}
    for name, rows in view.tables.items():
        texts = {
            column: rows[column].cat.rename_categories(lambda old: f"{EVIL}{old}")
            for column in ("job", "node", "device", "message", "group")
            if column in rows and rows[column].dtype == "category"
        }  # fmt: skip
        tables[name] = rows.assign(**texts)
    report = json.loads(json.dumps(view.report).replace('"node": "', f'"node": "{EVIL}'))
    for one in report["findings"]:
        one["summary"] = one["advice"] = EVIL
    return dataclasses.replace(view, id=f"{view.id}-evil", tables=tables, report=report)


@pytest.mark.parametrize("view", ["compute-slow", "gpu-hw-slowdown", "made"])
def test_names_of_others_never_become_markup_in_figures(page, views, chosen, view):
    hostile = renamed(views[view])
    for name in PAGES:
        for one in page(name).blocks(hostile, chosen("")):
            if one.figure is not None:
                assert "<img" not in one.figure.to_json(), (name, one.name)


ODD = (float("nan"), 0.0, -1e9, 1e18)


@pytest.mark.parametrize("table", ["rank_steps", "arrivals", "step_times", "windows"])
@pytest.mark.parametrize("value", ODD)
def test_odd_numbers_break_no_page(page, views, chosen, table, value):
    view = views["gpu-hw-slowdown" if table == "windows" else "compute-slow"]
    rows = view.tables[table]
    floats = list(rows.columns[rows.dtypes == "float64"])
    changed = {**view.tables, table: rows.assign(**dict.fromkeys(floats, value))}
    odd = dataclasses.replace(view, id=f"{view.id}-{table}-{value}", tables=changed)
    for name in PAGES:
        for one in page(name).blocks(odd, chosen("")):
            assert one.verdict and (one.figure is None or "NaN" not in one.figure.to_json())


@pytest.mark.parametrize("missing", ["rank_steps", "arrivals", "step_times", "ops", "steps", "ranks", "collectives"])
def test_tables_may_be_missing(page, views, chosen, missing):
    view = views["compute-slow"]
    tables = {**view.tables, missing: all_tables({})[missing]}
    less = dataclasses.replace(view, id=f"{view.id}-without-{missing}", tables=tables)
    for name in PAGES:
        assert page(name).blocks(less, chosen("?rank=5"))
