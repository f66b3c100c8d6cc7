"""The page of a plan in a real browser: drawn, quiet, readable on a phone and in the dark, without the network."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import load

HERE = Path(__file__)
driven = run_path(str(HERE.with_name("_driven.py")))
severe = run_path(str(HERE.with_name("test_pages.py")))["severe"]
tried = run_path(str(HERE.parents[1] / "test_plan_page.py"))
ALL_DRAWN = "[...document.querySelectorAll('.plot')].every((one) => one.querySelector('.main-svg'))"


@pytest.fixture(scope="module")
def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()


@pytest.fixture(params=["light", "dark"])
def shown(request, browser, tmp_path):
    from playwright.sync_api import TimeoutError as late

    made = tried["plan"]()
    (tmp_path / "plan.html").write_text(load("dashboards.plan_page").page(made.document(), made.pictures), "utf-8")
    context = browser.new_context(offline=True, color_scheme=request.param, viewport={"width": 1280, "height": 900})
    tab = driven["Tab"](context.new_page(), (tmp_path / "plan.html").as_uri(), late)
    tab.page.goto(tab.address)
    tab.page.wait_for_function(ALL_DRAWN)
    yield tab
    context.close()


def test_a_plan_is_drawn_quiet_and_readable_everywhere(shown, axe, pictures):
    assert shown.page.locator("h1").inner_text() == "Balance rises to 0.9."
    assert shown.page.locator(".plot .main-svg").count() >= 5
    assert severe(axe, shown.page) == []
    shown.shot("plan", pictures)
    assert shown.overflow(390) == []
    panels = [one.bounding_box() for one in shown.page.locator("#picture-2 figure").all()]
    assert panels[1]["y"] >= panels[0]["y"] + panels[0]["height"]  # one below the other
    assert severe(axe, shown.page) == []
    shown.shot("plan-narrow", pictures)
    assert shown.overflow(1280) == []
    panels = [one.bounding_box() for one in shown.page.locator("#picture-2 figure").all()]
    assert panels[0]["y"] == panels[1]["y"]  # beside each other
    assert shown.complaints() == []
