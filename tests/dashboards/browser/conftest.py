"""One Chromium for the tests of a module; they are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

driven = run_path(str(Path(__file__).with_name("_driven.py")))
tried = run_path(str(Path(__file__).parents[1] / "pages" / "conftest.py"))


@cache
def view_of(name: str) -> Any:
    """Return the view of a recording, of a simulated live fleet, or of nothing."""
    from skewscope.catalogue import load

    if name == "nothing":
        return load("dashboards._view").View()
    return (tried["simulated"] if name in tried["SIMULATED"] else tried["recorded"])(name)


def late() -> type[Exception]:
    """Return what Playwright raises after waiting for nothing."""
    from playwright.sync_api import TimeoutError as late

    return late


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a Chromium."""
    pytest.importorskip("dash")
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as made:
        one = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Callable[[str], Any]]:
    """Return a function: the name of a view to a tab that shows it, one for each view."""
    from skewscope.catalogue import load

    with ExitStack() as ending:

        @cache
        def opened(name: str) -> Any:
            source = load("dashboards._sources").Fixed(view_of(name))
            source.live = view_of(name).live
            address = ending.enter_context(driven["serving"](source))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            ending.callback(page.close)
            return driven["Tab"](page, address, late())

        yield opened


@pytest.fixture
def new_tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function: a source, who may do what, and where it is written down, to a tab that shows it."""
    with ExitStack() as ending:

        def opened(source: Any, guard: Any = None, audit: Any = None) -> Any:
            address = ending.enter_context(driven["serving"](source, guard, audit))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            ending.callback(page.close)
            return driven["Tab"](page, address, late())

        yield opened


@pytest.fixture(scope="session")
def view_named() -> Callable[[str], Any]:
    """Return the function that makes views."""
    return view_of


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the pictures of pages."""
    return tmp_path_factory.mktemp("pictures")
