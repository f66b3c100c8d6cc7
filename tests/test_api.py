"""What programs and notebooks use of the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import skewscope
from skewscope.errors import NoData, UsageError
from skewscope.frames import empty

SAMPLE = Path(__file__).parents[1] / "sample_data" / "compute-slow"


@pytest.fixture(scope="module")
def report():
    return skewscope.analyze(SAMPLE, workers=1)


def test_a_report_names_the_culprit(report, tmp_path):
    (culprit, *_) = report.culprits()
    assert culprit.subject.id == "job/rank5" and culprit.condition == "coll-late-rank"
    assert report.verdict.startswith("coll-late-rank: rank 5") and report.verdict in str(report)
    assert 1.2 < report.summary["slowdown"] < 1.5 and len(report.tables["steps"])
    told = json.loads(report.save(tmp_path / "r.json").read_text())
    assert told["schema"] == "skewscope.report/1" and told["summary"]["verdict"] == report.verdict
    with pytest.raises(UsageError, match="ends with .html or .json"):
        report.save(tmp_path / "r.txt")


def test_a_report_shows_itself(report, tmp_path):
    page = report.save(tmp_path / "r.html").read_text()
    assert page.startswith("<!doctype html>") and "rank 5" in page
    assert report._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')


def test_views_are_asked_by_name(report):
    assert len(next(iter(report.view("stragglers").tables.values())))
    with pytest.raises(UsageError, match="no view is called"):
        report.view("straglers")
    with pytest.raises(NoData):
        report.view("operators")


def test_what_is_done_to_its_tables_stays_there():
    one = skewscope.analyze(SAMPLE, only=("coll-hang",), workers=1)
    name = next(name for name, table in one.tables.items() if not len(table))
    one.tables[name]["mine"] = []
    assert "mine" in one.tables[name] and "mine" not in one.analysis.tables[name] and "mine" not in empty(name)


def test_only_some_conditions():
    assert skewscope.analyze(SAMPLE, only=("coll-hang",), workers=1).findings == ()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, skewscope; sys.exit(bool({'numpy', 'pandas', 'argparse'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(skewscope, "nothing")  # noqa: B009
