"""What people do on the dashboard: find the culprit, zoom, reload, share a link, use keys, watch live data."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from skewscope.catalogue import load
from skewscope.frames import all_tables, frame

MOST_CLICKS, MOST_BYTES = 3, 1_000_000
CASES = (  # what sample_data/*/SOURCE.md says is the truth
    ("compute-slow", "rank 5", "clocks"), ("pipeline-imbalance", "stage 3", "move layers"),
    ("spool-slow-rank", "rank 2", "clocks"), ("hang", "rank 3", "stack"),
)  # fmt: skip
SHOWN = """() => {
  const layout = document.querySelector("#block-ranks .js-plotly-plot")._fullLayout;
  return [...layout.xaxis.range, ...layout.yaxis.range].map((one) => Math.round(one * 100) / 100);
}"""
CELLS = """() => {
  const map = document.querySelector("#block-ranks .js-plotly-plot")._fullData[0];
  return [map.z.length, map.z[0].length];
}"""


def value_of(tab, name):
    return tab.page.get_by_role("row", name=name).get_by_role("cell").nth(1).inner_text()


@pytest.mark.parametrize(("view", "who", "advice"), CASES)
def test_culprit_cost_and_advice_are_a_few_clicks_away(tab, view, who, advice):
    shown, clicks = tab(view), 0
    shown.open("/")
    assert who in shown.page.locator("#said-jobs").inner_text()
    for name in (f"Why {who}", "Recommendation"):
        link = shown.page.get_by_role("main").get_by_role("link", name=name).first
        shown.follow(link.inner_text())
        clicks += 1
        if clicks == 1:
            assert shown.page.get_by_role("heading", level=1).inner_text() == "Why"
            assert who in value_of(shown, "who") and value_of(shown, "role") == "culprit"
            assert advice in value_of(shown, "what to do")
            paid = [value_of(shown, "cost per step"), value_of(shown, "recommended")]
            assert "ms" in paid[0] or "GPU-hours" in paid[1]
    assert clicks <= MOST_CLICKS
    assert shown.page.get_by_role("heading", level=1).inner_text() == "Actions"
    assert who in shown.page.locator("#page").inner_text() and shown.complaints() == []


def answered(reply):
    return "/_dash-update-component" in reply.url and reply.status == 200


def drag(tab, name, left, top, right, bottom):
    """Draw a rectangle on a map, in shares of its width and height."""
    box = tab.page.locator(f"#block-{name} .nsewdrag").bounding_box()
    mouse = tab.page.mouse
    mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
    mouse.down()
    mouse.move(box["x"] + right * box["width"], box["y"] + bottom * box["height"], steps=4)
    mouse.up()


def test_zooming_asks_for_the_range_and_double_click_takes_it_back(tab):
    shown = tab("gpu-hw-slowdown")
    shown.open("/ranks")
    page, whole, cells = shown.page, tab("gpu-hw-slowdown").page.evaluate(SHOWN), shown.page.evaluate(CELLS)
    page.locator("#block-ranks .nsewdrag").scroll_into_view_if_needed()
    with page.expect_response(answered) as reply:
        drag(shown, "ranks", 0.4, 0.6, 0.7, 0.9)
    body = reply.value.body()
    assert len(body) < MOST_BYTES
    figure = next(iter(json.loads(body)["response"].values()))["figure"]
    left, right = figure["layout"]["xaxis"]["range"]
    assert whole[0] < left < right < whole[1]
    page.wait_for_function(f"(before) => ({CELLS})().join() !== before.join()", arg=cells)
    near, few = page.evaluate(SHOWN), page.evaluate(CELLS)
    assert near == pytest.approx([left, right, *figure["layout"]["yaxis"]["range"]], abs=0.02)
    assert 0.3 < few[1] / cells[1] / 0.3 < 3 and few[0] < cells[0]
    with page.expect_response(answered):
        page.locator("#block-ranks .nsewdrag").dblclick()
    page.wait_for_function(f"(before) => ({CELLS})().join() === before.join()", arg=cells)
    assert page.evaluate(SHOWN) == pytest.approx(whole) and shown.complaints() == []


def test_a_zoom_stands_in_the_address_and_a_link_shows_it(tab):
    shown = tab("gpu-hw-slowdown")
    shown.open("/ranks")
    page, whole, every = shown.page, shown.page.evaluate(SHOWN), shown.page.evaluate(CELLS)
    page.locator("#block-ranks .nsewdrag").scroll_into_view_if_needed()
    drag(shown, "ranks", 0.4, 0.6, 0.7, 0.9)
    page.wait_for_function("() => window.location.search.includes('zoom=ranks')")
    page.wait_for_function(f"(before) => ({CELLS})().join() !== before.join()", arg=every)
    near, cells, address = page.evaluate(SHOWN), page.evaluate(CELLS), page.url
    assert near != whole and page.locator("h1").inner_text() == "Ranks"
    for _ in range(2):  # by a link, then by the key of the browser
        shown.open(address.removeprefix(shown.address))
        assert page.evaluate(SHOWN) == pytest.approx(near, abs=0.02)
        assert page.evaluate(CELLS) == cells
        page.reload()
        shown.drawn()
    shown.follow("worst first")
    assert "zoom" not in page.url and page.evaluate(SHOWN) == pytest.approx(whole)
    page.go_back()
    page.wait_for_function(f"(near) => Math.abs(({SHOWN})()[0] - near) < 0.03", arg=near[0])
    assert page.url == address
    shown.follow("Ranks", within="nav.pages")  # the same page, without the zoom: all of it is loaded anew
    page.wait_for_load_state("networkidle")
    assert "zoom" not in page.url and page.evaluate(SHOWN) == pytest.approx(whole)
    drag(shown, "ranks", 0.4, 0.6, 0.7, 0.9)
    page.wait_for_function("() => window.location.search.includes('zoom=ranks')")
    page.wait_for_function(f"(before) => ({CELLS})().join() !== before.join()", arg=every)
    page.locator("#block-ranks .nsewdrag").dblclick()
    page.wait_for_function("() => !window.location.search.includes('zoom')")
    assert shown.complaints() == []


def test_a_cell_of_no_level_is_said_to_be_less_than_one(new_tab):
    ranks, steps = 250, 200
    own = np.full((steps, ranks), 1e9)
    own[:, 7] += 2e9
    own += np.arange(ranks) % 2 * 1e6
    zero = np.zeros(ranks * steps)
    rows = frame("rank_steps", {
        "job": "job", "step": np.repeat(np.arange(steps), ranks), "rank": np.tile(np.arange(ranks), steps),
        "start_ns": 1, "end_ns": 2, "work_ns": own.ravel(), "source": "made", "node": "", "stage": -1,
        **{name: zero for name in ("own_ns", "compute_ns", "input_ns", "gc_ns", "checkpoint_ns", "transfer_ns",
                                   "wait_ns", "idle_ns", "comm_ns")},
    })  # fmt: skip
    view = load("dashboards._view").View(id="flat", tables={**all_tables({}), "rank_steps": rows})
    shown = new_tab(load("dashboards._sources").Fixed(view))
    shown.open("/ranks")
    box = shown.page.locator("#block-ranks .nsewdrag").bounding_box()
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    lines = shown.page.locator("#block-ranks .hoverlayer tspan.line")
    lines.first.wait_for()
    assert lines.all_text_contents()[-1] == "< 100 ms"
    assert shown.complaints() == []


def test_reload_back_and_a_link_show_the_same(tab):
    shown = tab("compute-slow")
    shown.open("/ranks")
    shown.follow("worst first")
    shown.follow("Waiting for others")
    page, title = shown.page, shown.page.locator("#title-ranks").inner_text()
    assert "order=score" in page.url and "show=" in page.url and title.startswith("Waiting for others")
    address, said = page.url, page.locator("#said-ranks").inner_text()
    page.reload()
    shown.drawn()
    assert (page.url, page.locator("#said-ranks").inner_text()) == (address, said)
    assert page.locator(".switch a[aria-current]").all_inner_texts() == ["Waiting for others", "worst first"]
    page.go_back()
    page.wait_for_function("(said) => document.querySelector('#said-ranks').textContent !== said", arg=said)
    assert "show=" not in page.url
    shown.open(address.removeprefix(shown.address))
    assert page.locator("#said-ranks").inner_text() == said and shown.complaints() == []


def test_keys_go_everywhere(tab):
    shown = tab("compute-slow")
    shown.open("/?rank=5")
    page = shown.page
    for key, title in (("r", "Ranks"), ("w", "Why"), ("o", "Overview")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_function("(title) => document.title === title + ' - skewscope'", arg=title)
        assert "rank=5" in page.url
        assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="keyboard help")
    assert "g r Ranks" in help_.inner_text()
    page.keyboard.press("Escape")
    help_.wait_for(state="hidden")
    shown.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent"))
    assert any(one.startswith("Why rank 5") for one in reached) and shown.complaints() == []


def test_live_data_change_words_and_leave_the_zoom(view_named, new_tab):
    view = view_named("gpu-hw-slowdown")
    source = SimpleNamespace(live=True, now=view, view=lambda: source.now)
    shown = new_tab(source)
    shown.open("/ranks")
    page = shown.page
    page.locator("#block-ranks .nsewdrag").scroll_into_view_if_needed()
    with page.expect_response(answered):
        drag(shown, "ranks", 0.4, 0.6, 0.7, 0.9)
    page.wait_for_load_state("networkidle")
    near = page.evaluate(SHOWN)
    source.now = dataclasses.replace(view, id="later", title="one window later")
    page.get_by_text("one window later").wait_for()
    page.wait_for_load_state("networkidle")
    assert page.evaluate(SHOWN) == pytest.approx(near) and shown.complaints() == []
