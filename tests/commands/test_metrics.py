import json

import pytest

from skewscope.catalogue import load, rooms
from skewscope.commands import main
from skewscope.commands.metrics import readme
from skewscope.metrics import METRICS

SUMMARY = "skewscope_nvml_call_seconds"


def test_the_list_has_every_metric(capsys):
    assert main(["metrics", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(listed) == {metric.name for metric in METRICS}
    assert listed["skewscope_finding_active"]["area"] == "finding"
    assert main(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.split()[0] for line in lines if line.startswith("skewscope")}) == len(METRICS)


def test_the_table_is_a_table(capsys):
    assert main(["metrics", "--readme"]) == 0
    printed = capsys.readouterr().out
    assert printed == readme() + "\n"
    assert {line.count(" | ") for line in printed.splitlines() if not line.startswith("|---")} == {5}


def test_a_metric_is_explained(capsys):
    assert main(["metrics", "skewscope_spool_lost_events_total"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("skewscope_spool_lost_events_total (counter)\n")
    assert "  reason: overwritten, malformed, rejected" in page
    assert main(["metrics", "skewscope_build_info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == ["version", "revision", "python"]
    assert {"collector": "node", "group": "fast"} in found["exported_by"]


def test_what_comes_from_no_collector_says_so(capsys):
    assert main(["metrics", "skewscope:step_seconds:p50_10m"]) == 0
    assert "Exported by: no collector of the agent" in capsys.readouterr().out


@pytest.mark.parametrize("room", rooms("agents.collectors"), ids=lambda room: room.id)
def test_a_collector_stands_beside_what_it_exports(room, capsys):
    name = room.kind().exports[0]
    assert main(["metrics", name, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["exported_by"]
    assert {"collector": room.id, "group": room.kind().group} in listed


@pytest.mark.parametrize("series", [SUMMARY, f"{SUMMARY}_sum", f"{SUMMARY}_count"])
def test_a_series_leads_to_its_metric(series, capsys):
    assert main(["metrics", series]) == 0
    assert capsys.readouterr().out.startswith(f"{SUMMARY} (summary)\n")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("gpu_power_watts", "did you mean skewscope_gpu_power_watts"),
        (f"{SUMMARY}_bucket", SUMMARY),
        ("qqq", "`skewscope metrics` lists them"),
    ],
)
def test_a_wrong_name_names_near_ones(wrong, said, capsys):
    assert main(["metrics", wrong]) == 2
    assert said in capsys.readouterr().err


def test_what_the_node_says_of_itself_is_declared():
    assert set(load("agents.node").EXPORTS) <= {metric.name for metric in METRICS}
