import json
from dataclasses import replace

import jsonschema
import pytest

from skewscope.bench import mistakes, sweeps
from skewscope.bench.terminal import COLUMNS, cells, page
from skewscope.bench.totals import document
from skewscope.bench.watching import Alarm
from skewscope.catalogue import load
from skewscope.plans import plain
from skewscope.reports.json_schema import schema


@pytest.fixture
def made(results, swept):
    return document(results, judge=False, seeds=range(3), sweeps=sweeps.curves(results, swept))


def row(made, name):
    return next(one for one in made["conditions"] if one["condition"] == name)


def test_figures_of_a_condition(made):
    hot, slow = row(made, "gpu-hot"), row(made, "nic-slow")
    assert (hot["faults"], hot["found"], hot["recall"], hot["right"], hot["wrong"]) == (3, 3, 1.0, 3, 4)
    assert hot["precision"] == pytest.approx(3 / 7)
    assert hot["detect_s"] == {"count": 3, "median": 61.0, "p90": pytest.approx(61.8)}
    assert hot["price_error"]["median"] == pytest.approx(0.5)
    assert hot["root_cause"] == 1.0
    assert (slow["found"], slow["recall"], slow["precision"]) == (1, pytest.approx(1 / 3), None)
    assert slow["seen_only"] == 2 and slow["root_cause"] == pytest.approx(1 / 3)
    assert slow["detect_steps"] == {"count": 0, "median": None, "p90": None}
    assert slow["price_error"]["median"] == pytest.approx(0.0)
    assert row(made, "step-shift")["symptoms"] == 3 and row(made, "step-shift")["recall"] is None
    assert made["overall"]["faults"] == 6 and made["overall"]["symptoms"] == 3


def test_the_matrix_of_confusion(made):
    matrix = made["confusion"]
    assert matrix["rows"] == ["gpu-hot", "nic-slow", "healthy"] and matrix["columns"][-1] == "nothing"
    counts = {(r, c): n for r, line in zip(matrix["rows"], matrix["counts"], strict=True)
              for c, n in zip(matrix["columns"], line, strict=True)}  # fmt: skip
    assert counts["gpu-hot", "gpu-hot"] == 3 and counts["nic-slow", "gpu-hot"] == 2
    assert counts["healthy", "gpu-hot"] == 1 and sum(counts.values()) == 7


def test_healthy_fleets(made):
    sound = made["healthy"]
    assert (sound["cases"], sound["false_alarms"], sound["by_condition"]) == (3, 1, {"gpu-hot": 1})
    assert sound["node_days"] == pytest.approx(3 * 4 * 1200 / 86_400)
    assert sound["per_1000_node_days"] == pytest.approx(6000)
    assert sound["at_most"] > sound["per_1000_node_days"]


def test_mistakes_are_told_one_by_one(made, results):
    assert sorted(one["scenario"] for one in made["wrong"]) == ["healthy", "slow", "slow", "slow"]
    assert mistakes.wrong(made) and {one["condition"] for one in made["missed"]} == {"nic-slow"}
    watched = replace(results[0].watched, alarms=(Alarm("gpu-hot", "n3/gpu0", "wrong"),))
    (one,) = document([replace(results[0], watched=watched)], judge=False, seeds=range(1))["wrong"]
    assert (one["true"], one["claimed"], one["seed"]) == ("n1/gpu2", "n3/gpu0", 0)
    assert "it is at n1/gpu2" in mistakes.wrong({"wrong": [one]})[0]


def test_the_smallest_severity(made):
    hot = next(one for one in made["sweeps"] if one["condition"] == "gpu-hot")
    assert [point["recall"] for point in hot["points"]] == [0, 0, 0, 1, 1, 1]
    assert hot["smallest_found"] == pytest.approx(0.12)
    slow = next(one for one in made["sweeps"] if one["condition"] == "nic-slow")
    assert slow["smallest_found"] is None and len(slow["points"]) == 1


def test_the_grid_goes_around_single_faults(results):
    cases = sweeps.grid(results)
    assert len(cases) == 6 * (len(sweeps.FACTORS) - 1)
    assert {case.scenario for case in cases} == {"hot", "slow"} and all(case.own_room_only for case in cases)
    assert max(case.severity for case in cases) == pytest.approx(0.34)


def test_the_document_fits_its_schema(made):
    assert made["seeds"] == {"set": "tuning", "first": 0, "count": 3}
    assert made["without_room"] == ["gpu-hot", "nic-slow"] and made["failures"][0]["seed"] == 3
    jsonschema.validate(json.loads(json.dumps(plain(made), allow_nan=False)), schema("bench"))
    empty = document([], judge=True, seeds=range(1))
    jsonschema.validate(plain(empty), schema("skewscope.bench/1"))
    assert empty["seeds"]["set"] == "judging"


def said(document):
    from rich.console import Console

    console = Console(width=160, force_terminal=False)
    with console.capture() as captured:
        console.print(page(document))
    return captured.get()


def test_the_terminal_page(made):
    text = said(made)
    assert "tuning seeds" in text and "per 1,000 node-days" in text and "Failed: hot with seed 3" in text
    assert "gpu-hot" in text and "overall" in text and "0.12" in text
    assert len(cells(made["overall"])) == len(COLUMNS)
    assert "No healthy fleet" in said(document([], judge=True, seeds=range(1)))


def test_the_html_page(made):
    pytest.importorskip("plotly")
    room = load("dashboards.bench_page")
    charts = {chart.name: chart for chart in room.charts(made)}
    assert set(charts) == {"scores", "detection", "severities", "confusion"}
    assert all(chart.figure is not None and chart.rows and chart.verdict for chart in charts.values())
    assert "nic-slow is taken for gpu-hot (2 times)" in charts["confusion"].verdict
    made["failures"][0]["error"] = "<script>alert(1)</script>"
    html = room.page(made)
    assert html.count("<script") == 3 and "alert(1)</script>" not in html.split('id="charts"')[0]
    assert "default-src 'none'" in html and "https://" not in html.split("<script>", 1)[0]
    empty = room.page(document([], judge=True, seeds=range(1)))
    assert empty.count("Nothing to draw") == 5 and "plotly" not in empty.lower()
