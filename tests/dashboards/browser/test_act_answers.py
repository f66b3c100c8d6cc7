"""Proposals answered in a browser: by keys alone, by two people, from what an engine writes while the page is open."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path

import bcrypt
import pytest

from skewscope.catalogue import load

here = Path(__file__)
world = run_path(str(here.parents[1] / "_act_world.py"))
checks = run_path(str(here.with_name("test_pages.py")))
acting = run_path(str(here.parents[1] / "pages" / "conftest.py"))["acting"]
FOCUSED = "() => [document.activeElement.tagName, document.activeElement.textContent.trim()]"
NOW_NS = world["NOW_NS"]


@pytest.fixture
def audit(tmp_path):
    return load("dashboards._acts").Audit(tmp_path / "decisions.jsonl", clock_ns=lambda: NOW_NS)


@pytest.fixture
def operator():
    return load("dashboards._security").Guard(operators=frozenset({"local"}))


@pytest.fixture
def fixed():
    return load("dashboards._sources").Fixed(acting())


def decided(audit):
    return [json.loads(line) for line in audit.path.read_text().splitlines()]


def tabbed_to(page, name, most=60):
    """Press Tab until the link or button with this name has the focus; return how often."""
    for count in range(1, most + 1):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED)[1] == name:
            return count
    raise AssertionError(f"{name!r} is not reached by {most} tabs")


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("Approve drain n006", ["seen twice", "Enter"], {"decision": "approve", "reason": "seen twice"}),
        ("Reject drain n006", ["we repair it at noon", "Enter"], {"decision": "reject"}),
        ("Snooze drain n006", ["ArrowDown", "Tab", "later", "Enter"], {"decision": "snooze", "seconds": 28_800}),
    ],
)  # fmt: skip
def test_keys_alone_answer_a_proposal(new_tab, fixed, operator, audit, name, keys, told):
    shown = new_tab(fixed, operator, audit)
    page = shown.page
    shown.open("/")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_function("() => document.title === 'Actions - skewscope'")
    tabbed_to(page, name)
    page.keyboard.press("Enter")
    page.wait_for_url("**/act/**")
    assert page.get_by_role("heading", level=1).inner_text() == name.replace(" drain", ": drain")
    page.wait_for_function("() => ['reason', 'for'].includes(document.activeElement.name)")  # the first field
    for key in keys:
        if key in ("Enter", "Tab", "ArrowDown"):
            page.keyboard.press(key)
        else:
            page.keyboard.type(key)
    page.wait_for_url("**/actions")
    shown.drawn()
    (line,) = decided(audit)
    assert line["act"] == "c0ffee12.drain" and told.items() <= line.items()
    word = {"approve": "approved", "reject": "rejected", "snooze": "snoozed"}[told["decision"]]
    assert f"{word} by local" in page.locator("#said-waits-c0ffee12-drain").inner_text()
    assert shown.complaints() == []


def test_two_people_approve_and_neither_alone(new_tab, fixed, audit, tmp_path):
    from skewscope.web.web_config import WebConfig

    sealed = bcrypt.hashpw(b"pass word", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{ann: '{sealed}', bob: '{sealed}'}}\n")
    guard = load("dashboards._security").Guard(
        web=WebConfig(tmp_path / "web.yml"), operators=frozenset({"ann", "bob"})
    )  # fmt: skip
    shown = new_tab(fixed, guard, audit)
    page = shown.page
    for name, said in (("ann", "approved by ann, one more person must approve"), ("bob", "approved by ann, bob")):
        page.goto(f"{shown.address}/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill("pass word")
        page.get_by_role("button", name="Sign in").click()
        shown.drawn()
        shown.follow("Actions", within="nav.pages")
        page.get_by_role("link", name="Approve exclude gpu-b-17").click()
        page.get_by_label("Reason").fill("it is slow")
        page.get_by_role("button", name="Approve").click()
        page.wait_for_url("**/actions")
        shown.drawn()
        assert said in page.locator("#said-waits-c0ffee13-exclude").inner_text()
        if name == "ann":
            page.get_by_role("link", name="Approve exclude gpu-b-17").click()
            assert "You approved it already" in page.get_by_role("main").inner_text()
            assert shown.wrong.pop(0).startswith("409") and "409" in shown.wrong.pop(0)
        page.context.clear_cookies()
    assert [one["person"] for one in decided(audit)] == ["ann", "bob"] and shown.wrong == []


def test_an_act_that_is_written_down_appears_on_the_open_page(new_tab, operator, audit, tmp_path):
    path, say = tmp_path / "audit.jsonl", world["Told"]()
    path.write_text("")
    files = load("dashboards._act_file")
    source = files.WithActs(load("dashboards._sources").Fixed(acting()), files.ActFile(path, lambda: NOW_NS))
    shown = new_tab(source, operator, audit)
    shown.open("/actions")
    assert shown.page.locator("#said-waits").inner_text() == "No proposal waits for an answer."
    say("proposed", "c0ffee12.drain", world["SLURM"], expires_ns=NOW_NS + 30 * world["MINUTE_NS"])
    path.write_text(json.dumps(say.records[0]) + "\n")
    shown.page.get_by_role("link", name="Approve drain n006").wait_for()
    with open(path, "a") as file:
        for phase in ("approved", "intended", "done"):
            file.write(json.dumps(say(phase, "c0ffee12.drain", world["SLURM"])) + "\n")
    shown.page.get_by_role("cell", name="skewscope undo c0ffee12.drain").wait_for()
    assert shown.page.get_by_role("link", name="Approve drain n006").count() == 0 and shown.complaints() == []


@pytest.mark.parametrize(("theme", "path"), [
    ("light", "/actions"), ("light", "/actions?show=act%2Fbeef01.drain"), ("light", "/incidents"),
    ("light", "/act/approve"), ("light", "/act/snooze"), ("dark", "/actions"), ("dark", "/act/approve"),
])  # fmt: skip
def test_acts_are_readable_on_a_phone_and_to_all(browser, new_tab, fixed, operator, audit, pictures, path, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    shown = new_tab(fixed, operator, audit)
    page = shown.page
    page.emulate_media(color_scheme=theme)
    if path.startswith("/act/"):
        page.goto(f"{shown.address}{path}?act=c0ffee13.exclude")
    else:
        shown.open(path)
        assert page.evaluate(checks["FAULTS"]) == []
    assert checks["severe"](axe, page) == []
    name = path.strip("/").replace("/", "-").partition("?")[0]
    shown.shot(f"acts-{name}-{theme}", pictures)
    assert shown.overflow(390) == [] and shown.overflow(1280) == []
    assert shown.complaints() == []
