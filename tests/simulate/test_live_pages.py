from __future__ import annotations

import shutil
import subprocess
from functools import cache

import numpy as np
import pytest

from skewscope.metrics import METRICS
from skewscope.simulate import simulate
from skewscope.simulate.exposition import pages
from skewscope.simulate.live_pages import LivePages
from skewscope.simulate.scenario import parse
from skewscope.simulate.world import WINDOW_S

KINDS = {metric.name: metric.kind for metric in METRICS}


@cache
def made(condition: str = "gpu-hw-slowdown", seed: int = 2):
    content = {"jobs": [{"ranks": 16, "steps": 300}], "faults": [{"condition": condition}]}
    return simulate(parse(content, "live"), seed)


@cache
def live(condition: str = "gpu-hw-slowdown", seed: int = 2) -> LivePages:
    return LivePages(made(condition, seed))


def values(page: bytes | str) -> dict[str, float]:
    text = page.decode() if isinstance(page, bytes) else page
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def kind(series: str) -> str:
    name = series.partition("{")[0]
    return KINDS.get(name) or "histogram"


def counters(page: bytes) -> dict[str, float]:
    return {series: value for series, value in values(page).items() if kind(series) != "gauge"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("second", [0.0, 7.5, 91.0, 400.3])
def test_promtool_is_content_at_any_moment(second):
    ran = subprocess.run(["promtool", "check", "metrics"], input=live().page("n000", second), capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


@pytest.mark.parametrize("window", [1, 6, 12])
def test_at_the_end_of_a_window_it_is_the_page_of_that_window(window):
    told = pages(made(), window)
    for node in live().nodes:
        just_before = values(live().page(node, (window + 1) * WINDOW_S - 1e-6))
        expected = values(told.get(node, ""))
        assert set(just_before) == set(expected)
        assert all(np.isclose(just_before[one], expected[one], rtol=1e-6, atol=1.001) for one in expected)


def test_between_two_windows_counters_are_on_their_way():
    before, middle, after = (counters(live().page("n000", second)) for second in (90.0, 105.0, 120.0))
    both = set(before) & set(after)
    assert len(both) > 200
    assert all(before[one] <= middle[one] + 1e-6 <= after[one] + 2e-6 for one in both)
    moving = [one for one in both if after[one] - before[one] > 100]
    halves = [(middle[one] - before[one]) / (after[one] - before[one]) for one in moving]
    assert len(moving) > 20
    assert np.allclose(halves, 0.5, atol=0.02)


def test_a_gauge_has_two_samples_in_a_window():
    def gauges(second: float) -> dict[str, float]:
        return {one: value for one, value in values(live().page("n000", second)).items() if kind(one) == "gauge"}

    assert gauges(91.0) == gauges(104.0)
    assert gauges(106.0) == gauges(119.0)
    assert gauges(104.0) != gauges(106.0)


def test_the_last_window_stays():
    end_s = made().windows * WINDOW_S
    assert live().page("n000", end_s) == live().page("n000", 100 * end_s)
    assert live().page("n000", -5.0) == live().page("n000", 0.0)


def test_a_node_that_is_not_there_is_no_page():
    with pytest.raises(KeyError):
        live().page("n999", 0.0)


def test_a_silent_node_has_an_empty_page():
    silent = np.argwhere(made().world.replies <= 0)
    assert len(silent), "the seed loses no scrape: take another"
    for window, node in silent[:5]:
        assert live().page(made().world.fleet.nodes[node], (window + 0.5) * WINDOW_S) == b""


def test_after_a_restart_counters_grow_from_zero():
    simulation = next(one for seed in range(1, 40) if (one := made(seed=seed)).world.restarts)
    window, node = next(iter(simulation.world.restarts))
    own, name = live(seed=simulation.world.seed), simulation.world.fleet.nodes[node]
    assert own.page(name, (window + 0.5) * WINDOW_S) == b""  # while it begins anew
    found = [counters(own.page(name, (window + part) * WINDOW_S)) for part in (-0.01, 1.25, 1.75)]
    began = [one for one in found[0] if found[0][one] > found[1].get(one, np.inf)]
    assert len(began) > 20
    assert all(0 <= found[1][one] <= found[2][one] for one in began)
