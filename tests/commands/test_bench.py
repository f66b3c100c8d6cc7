import json

import jsonschema
import pytest

from skewscope.bench import cases, pairs
from skewscope.bench.pairs import Pair
from skewscope.bench.results import Case
from skewscope.commands import main
from skewscope.errors import UsageError
from skewscope.reports.json_schema import schema
from skewscope.simulate import scenario, shipped
from skewscope.simulate.scenario import parse

SMALL = [{"ranks": 16, "steps": 120, "tp": 2}]
PLANS = {
    "calm": parse({"jobs": SMALL}, "calm"),
    "busy-host": parse({"jobs": SMALL, "faults": [{"condition": "host-cpu-contention", "severity": 0.3}]}, "busy-host"),
}


@pytest.fixture(autouse=True)
def small_scenarios(monkeypatch):
    monkeypatch.setattr("skewscope.simulate.shipped", lambda: PLANS)
    monkeypatch.setattr(cases, "scenario", lambda name: PLANS.get(name) or scenario(name))


def bench(capsys, *words):
    assert main(["bench", "detect", "--every", "9", "--seeds", "2", "--json", "-", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("bench"))
    return found


def test_the_whole_road(capsys):
    found = bench(capsys, "--workers", "1")
    assert found["failures"] == [] and found["cases"] == 4 and found["scenarios"] == ["busy-host", "calm"]
    assert found["seeds"] == {"set": "tuning", "first": 0, "count": 2}
    assert found["healthy"]["cases"] == 2 and found["healthy"]["node_days"] > 0
    (row,) = [one for one in found["conditions"] if one["condition"] == "host-cpu-contention"]
    assert row["faults"] == 2


def test_processes_change_nothing_and_only_chooses(capsys):
    words = ("--only", "host-cpu-contention", "--judge", "--every", "30")
    one, two = bench(capsys, *words, "--workers", "1"), bench(capsys, *words, "--workers", "2")
    assert one == two
    assert one["scenarios"] == ["busy-host"] and one["seeds"] == {"set": "judging", "first": 3_006_000, "count": 2}


def test_a_sweep_and_its_files(capsys, tmp_path):
    pytest.importorskip("plotly")
    page, figures, written = tmp_path / "bench.html", tmp_path / "bench.json", tmp_path / "bench.md"
    words = ["bench", "detect", "--only", "busy-host", "--seeds", "1", "--every", "30", "--sweep", "--workers", "2"]
    assert main([*words, "--html", str(page), "--json", str(figures), "--markdown", str(written)]) == 0
    assert "recall by severity" in capsys.readouterr().out
    (sweep,) = json.loads(figures.read_text())["sweeps"]
    severities = [point["severity"] for point in sweep["points"]]
    assert severities == sorted(severities) and len(severities) == 6
    assert 'id="chart-severities"' in page.read_text()
    assert "| `host-cpu-contention` | 1 |" in written.read_text() and "1 tuning seeds from 0" in written.read_text()


def test_look_alikes(capsys, monkeypatch, tmp_path):
    pair = Pair("host-cpu-contention", "step-spike", ("host-cpu-contention",))
    monkeypatch.setattr(pairs, "pairs", lambda: (pair, Pair("coll-hang", "coll-desync", ("coll-hang",))))
    written = tmp_path / "alike.md"
    words = ["--only", "step-spike", "--seeds", "1", "--every", "30", "--workers", "1", "--markdown", str(written)]
    assert main(["bench", "look-alikes", *words, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("look_alikes"))
    (told,) = found["pairs"]
    assert (told["one"], told["only_one"]["runs"], told["only_other"]["right"]) == ("host-cpu-contention", 1, 1)
    assert found["untried"] == [] and found["seeds"]["set"] == "tuning"
    assert "| `host-cpu-contention` | → | `step-spike` | 1 |" in written.read_text()


def test_a_case_that_fails_is_told(capsys, monkeypatch):
    def broken(plan, seed):
        raise ValueError(f"odd seed {seed}") if seed else KeyError("x")

    monkeypatch.setattr(cases, "simulate", broken)
    found = bench(capsys, "--only", "calm", "--workers", "1")
    assert [one["error"] for one in found["failures"]] == ["KeyError: 'x'", "ValueError: odd seed 1"]
    assert found["healthy"]["cases"] == 0


def test_sizes_and_severities():
    plan = cases.planned(Case("busy-host", 0, nodes=4, severity=0.9))
    assert plan.jobs[0].ranks == 32 and plan.faults[0].severity == 0.9
    assert cases.planned(Case("calm", 0)) == PLANS["calm"]
    assert cases.natural_kinds("no-such-room") == frozenset()
    assert cases.look({}, ("no-such-room",)) == ()


@pytest.mark.parametrize(
    "words",
    [["bench"], ["bench", "speed"], ["bench", "detect", "--only", "no-such"], ["bench", "detect", "--only", ","],
     ["bench", "detect", "--seeds", "0"], ["bench", "detect", "--seeds", "5000"],
     ["bench", "detect", "--json", "/not/there/x"], ["bench", "look-alikes", "--only", "no-such"],
     ["bench", "look-alikes", "--sweep"], ["bench", "look-alikes", "--html", "x.html"]],
)  # fmt: skip
def test_wrong_usage(words, capsys):
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_size_that_does_not_fit_is_told_first(monkeypatch):
    odd = parse({"jobs": [{"ranks": 24, "steps": 240, "tp": 8, "pp": 3}]}, "odd")
    monkeypatch.setitem(PLANS, "odd", odd)
    with pytest.raises(UsageError, match="multiple"):
        cases.planned(Case("odd", 0, nodes=2))


def test_the_shipped_scenarios_can_be_planned():
    for name in shipped():
        assert cases.planned(Case(name, 0, nodes=16)).jobs
