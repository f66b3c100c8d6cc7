"""The dashboard: what a panel asks can be parsed, and names metrics that somebody exports."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from skewscope.alerting import promtool
from skewscope.alerting.alert import reads
from skewscope.alerting.grafana import WIDTH, dashboard, expressions
from skewscope.alerting.text import dumped
from skewscope.metrics import METRICS, metric

NAMES = {one.name for one in METRICS}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_every_expression_can_be_parsed(tmp_path):
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(dumped({"groups": [{"name": "panels", "rules": rules}]}))
    assert promtool.check_rules([path]) == ""
    path.write_text(dumped({"groups": [{"name": "panels", "rules": [{"record": "x", "expr": "sum(rate(a[1m])"}]}]}))
    assert promtool.check_rules([path]) != ""


@pytest.mark.parametrize("expr", expressions())
def test_panels_ask_for_declared_metrics_and_labels(expr):
    assert reads(expr) and reads(expr) <= NAMES
    for name, matchers in re.findall(r"(skewscope_\w+)\{([^}]*)\}", expr):
        told = set(re.findall(r"(\w+)=~?\"", matchers))
        assert told <= {*metric(name).labels, "instance"}, f"{name} has no label {told}"


def test_the_page_is_one_that_grafana_takes():
    page = json.loads(json.dumps(dashboard()))
    assert page["schemaVersion"] >= 36 and page["uid"] and page["title"]
    ids = [panel["id"] for panel in page["panels"]]
    assert len(set(ids)) == len(ids)
    assert {one["name"] for one in page["templating"]["list"]} == {"source", "job", "instance"}
    for panel in page["panels"]:
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"] and panel["description"] and panel["targets"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${source}"}


def test_no_panel_covers_another():
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= WIDTH
        taken |= cells
