"""Every page in a real browser, of a recording, a live fleet and nothing: complete, quiet, readable on a phone."""

from __future__ import annotations

import pytest

from skewscope.catalogue import rooms

VIEWS = ("compute-slow", "gpu-hw-slowdown", "nothing")
PAGES = tuple(room.id for room in rooms("dashboards.pages"))
NARROW = ("overview", "ranks")  # kept as pictures too
SEVERE = ("serious", "critical")
AXE = {"resultTypes": ["violations"]}  # what passes need not be written down: two to three times as quick
FAULTS = """() => {
  const told = [], all = (what) => [...document.querySelectorAll(what)];
  const seen = (one) => one.getClientRects().length > 0;
  const name = (one) => (one.getAttribute("aria-label") || one.textContent).trim();
  const said = (one) => one.outerHTML.slice(0, 120);
  const one = (what) => { if (all(what).length !== 1) { told.push(all(what).length + " of " + what); } };
  ["title", "h1", "main", "body > * header, header", "footer", "nav.pages", "meta[name=viewport]"].forEach(one);
  if (!document.documentElement.lang) { told.push("no language"); }
  const sight = document.querySelector("meta[name=viewport]").content;
  if (!sight.includes("width=device-width") || /user-scalable=no|maximum-scale/.test(sight)) { told.push(sight); }
  let level = 0;
  for (const head of all("h1, h2, h3, h4, h5, h6").filter(seen)) {
    const now = Number(head.tagName[1]);
    if (now > level + 1 || !name(head)) { told.push("heading " + said(head)); }
    level = now;
  }
  const asked = "a[href], button, summary";
  told.push(...all(asked).filter((link) => !name(link)).map((link) => "no name: " + said(link)));
  const vague = /^(here|click here|more|link|read more)$/i;
  told.push(...all("a[href]").filter((link) => vague.test(name(link))).map((link) => "vague: " + said(link)));
  told.push(...all("img:not([alt])").filter((img) => img.closest("#page")).map(said));
  told.push(...all("#page th:not([scope])").map(said));
  told.push(...all("a[href^=http]").map((link) => "leads away: " + said(link)));
  const ids = all("[id]").map((part) => part.id);
  told.push(...ids.filter((id, at) => ids.indexOf(id) !== at && !id.startsWith("clip")).map((id) => "twice: " + id));
  return told;
}"""


def page_of(name):
    return next(room for room in rooms("dashboards.pages") if room.id == name).load()


@pytest.fixture(scope="module")
def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()


def severe(axe, page):
    return [
        f"{one['id']}: {node['html'][:160]}"
        for one in axe.run(page, options=AXE).response["violations"]
        if one["impact"] in SEVERE
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_page_is_complete_and_quiet(tab, axe, pictures, view, name):
    shown, made = tab(view), page_of(name)
    shown.open(made.path)
    page = shown.page
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title() == f"{made.title} - skewscope"
    assert page.locator("main").count() == 1 and page.locator("h1").all_inner_texts() == [made.title]
    words = page.locator("#page .verdict").all_inner_texts()
    assert words and all(words)
    assert page.locator("nav.pages a[aria-current=page]").all_inner_texts() == [made.title]
    if view == "nothing" and name != "conditions":  # the catalogue needs no data
        assert page.locator("#page .advice").count()
    assert severe(axe, page) == []
    assert page.evaluate(FAULTS) == []
    shown.shot(f"{view}-{name}", pictures)
    assert shown.overflow(390) == []
    if name in NARROW:
        shown.shot(f"{view}-{name}-narrow", pictures)
    assert shown.overflow(1280) == []
    assert shown.complaints() == []


def test_dark_pages_are_readable(tab, axe, pictures):
    shown = tab("compute-slow")
    shown.open("/")
    shown.page.get_by_role("button", name="Theme").click()
    for name in PAGES:
        shown.open(page_of(name).path)
        assert shown.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert severe(axe, shown.page) == []
        shown.shot(f"dark-{name}", pictures)
    shown.page.get_by_role("button", name="Theme").click()
    shown.page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    assert shown.complaints() == []


def test_planted_defects_are_caught(tab, axe):
    shown = tab("nothing")
    shown.open("/")
    shown.page.evaluate("""() => {
        document.body.append(Object.assign(document.createElement("script"), {text: "window.ran = 1"}));
        const wide = document.querySelector("#page").appendChild(document.createElement("button"));
        Object.assign(wide.style, {display: "block", width: "700px"});
        console.error("planted");
        const poor = "<h4>Deep</h4><a href='/x'></a><a href='/'>here</a>";
        document.querySelector("#page").insertAdjacentHTML("beforeend", poor);
    }""")
    shown.page.wait_for_function("window.broken.length")
    told = shown.complaints()
    faults = [one.partition(":")[0].partition(" ")[0] for one in shown.page.evaluate(FAULTS)]
    assert faults == ["heading", "no", "no", "vague"]  # the wide button has no name either
    assert "console: planted" in told and any(one.startswith("policy: script-src") for one in told)
    assert shown.page.evaluate("window.ran") is None
    assert any(one.startswith("button-name") for one in severe(axe, shown.page))
    assert any(one.startswith("BUTTON") for one in shown.overflow(390)) and shown.overflow(1280) == []
