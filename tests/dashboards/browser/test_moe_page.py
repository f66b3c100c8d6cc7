"""The page of experts in a real browser, on an engine's recording: drawn, quiet, readable, narrow and in the dark."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import load
from skewscope.frames import all_tables
from skewscope.sources import gather

HERE = Path(__file__)
TINY = HERE.parents[3] / "sample_data" / "moe-tiny" / "vllm_eplb_load_stats.jsonl"
severe = run_path(str(HERE.with_name("test_pages.py")))["severe"]


@pytest.fixture(scope="module")
def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()


def test_ladder_maps_and_drift_are_drawn_and_readable(new_tab, axe, pictures):
    tables = all_tables(gather([TINY], workers=1).tables)
    shown = new_tab(load("dashboards._sources").Fixed(load("dashboards._view").View(id="tiny", tables=tables)))
    shown.open("/moe")
    for name in ("loads", "gap", "placed", "drift", "ladder"):
        assert shown.page.locator(f"#block-{name} .main-svg").count() >= 1, name
    assert "GPUs are balanced to 0.658" in shown.page.locator("#said-gap").inner_text()
    assert severe(axe, shown.page) == []
    assert shown.overflow(390) == []
    shown.shot("moe-narrow", pictures)
    assert shown.overflow(1280) == []
    shown.page.get_by_role("button", name="Theme").click()
    shown.drawn()
    assert severe(axe, shown.page) == []
    shown.shot("moe-dark", pictures)
    assert shown.complaints() == []
