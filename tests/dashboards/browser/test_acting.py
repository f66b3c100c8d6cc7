"""Signing in, answering a recommendation, taking a page away, and names that are made to do harm."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path

import bcrypt
import pytest

from skewscope.catalogue import load, rooms

renamed = run_path(str(Path(__file__).parents[1] / "pages" / "test_all_pages.py"))["renamed"]


def fixed(view):
    return load("dashboards._sources").Fixed(view)


@pytest.fixture
def guard(tmp_path):
    from skewscope.web.web_config import WebConfig

    sealed = bcrypt.hashpw(b"pass word", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{ann: '{sealed}'}}\n")
    made = load("dashboards._security").Guard
    return made(web=WebConfig(tmp_path / "web.yml"), operators=frozenset({"ann"}))


def test_an_operator_signs_in_and_answers_a_recommendation(view_named, new_tab, guard, tmp_path):
    audit = load("dashboards._acts").Audit(tmp_path / "decisions.jsonl")
    shown = new_tab(fixed(view_named("compute-slow")), guard, audit)
    page = shown.page
    page.goto(f"{shown.address}/actions")
    assert page.title() == "Sign in - skewscope"
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("pass word")
    page.get_by_role("button", name="Sign in").click()
    shown.drawn()
    shown.follow("Actions", within="nav.pages")
    page.get_by_role("link", name="Approve").click()
    page.get_by_label("Reason").fill("seen it <b>twice</b>")
    page.get_by_role("button", name="Approve").click()
    page.wait_for_url("**/actions")
    shown.drawn()
    told = json.loads((tmp_path / "decisions.jsonl").read_text())
    assert (told["person"], told["decision"], told["reason"]) == ("ann", "approve", "seen it <b>twice</b>")
    page.get_by_role("cell", name="seen it <b>twice</b>").wait_for()
    assert "approve of r1, is by ann" in page.locator("#said-answers").inner_text()
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.get_by_role("link", name="Sign out").click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{shown.address}/actions")
    assert page.title() == "Sign in - skewscope"
    assert shown.wrong == []


def test_viewers_are_offered_no_answers(tab):
    shown = tab("compute-slow")
    shown.open("/actions")
    assert shown.page.get_by_role("link", name="Approve").count() == 0 and shown.complaints() == []


def test_a_saved_page_opens_without_its_server(tab, browser, tmp_path):
    shown = tab("compute-slow")
    shown.open("/why")
    with shown.page.expect_download() as saved:
        shown.page.get_by_role("link", name="Save this page as one HTML file").click()
    saved.value.save_as(tmp_path / "why.html")
    with shown.page.expect_download() as table:
        shown.page.get_by_role("link", name="CSV of Where the lost time goes").click()
    assert "rank 5" in Path(table.value.path()).read_text()
    context = browser.new_context(offline=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "why.html").as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
    assert "rank 5" in page.locator("main").inner_text() and wrong == []
    context.close()


def test_names_of_others_do_nothing_in_a_browser(view_named, new_tab):
    hostile = renamed(view_named("compute-slow"))
    shown = new_tab(fixed(hostile))
    shown.page.on("dialog", lambda one: (shown.wrong.append(f"dialog {one.message}"), one.dismiss()))
    for room in rooms("dashboards.pages"):
        shown.open(room.load().path)
        assert shown.page.locator("img[src=x]").count() == 0
    shown.open("/ranks")
    assert "<img" in shown.page.locator("#page").inner_text()  # it is read, as text
    box = shown.page.locator("#block-ranks .nsewdrag").bounding_box()
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.page.locator("#block-ranks .hoverlayer text").first.wait_for()
    assert shown.complaints() == []
