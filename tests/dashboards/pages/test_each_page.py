"""What single pages say: numbers against what the views are known to hold."""

import re
from urllib.parse import urlsplit

import numpy as np
import pytest

from skewscope.catalogue import load

CASES = [
    ("compute-slow", "rank 5", "coll-late-rank"), ("pipeline-imbalance", "stage 3", "pp-stage-imbalance"),
    ("hang", "rank 3", "coll-missing-rank"), ("spool-slow-rank", "rank 2", "coll-late-rank"),
    ("gpu-hw-slowdown", "n006/gpu4", "gpu-hw-slowdown"),
]  # fmt: skip


def followed(page, view, chosen, href):
    """Return the blocks of the page that an address leads to."""
    place = urlsplit(href)
    found = next(page(name) for name in ("overview", "why", "actions", "ranks", "conditions")
                 if page(name).path == place.path)  # fmt: skip
    return found.blocks(view, chosen(f"?{place.query}"))


@pytest.mark.parametrize(("view", "who", "condition"), CASES)
def test_three_clicks_lead_from_the_overview_to_culprit_cost_and_advice(page, views, chosen, view, who, condition):
    jobs = page("overview").blocks(views[view], chosen(""))[0]
    assert jobs.links[0].text.startswith(f"Why {who}")
    why = followed(page, views[view], chosen, jobs.links[0].href)[0]
    table = {row[0]: row[1] for row in why.rows}
    assert table["condition"].text == condition and "cost per step" in table and table["what to do"]
    actions = followed(page, views[view], chosen, why.links[0].href)
    assert {form.action for form in actions[1].forms} == {"approve", "snooze", "reject"}
    assert actions[1].forms[0].fields == {"recommendation": "r1"}
    runbook = followed(page, views[view], chosen, why.links[1].href)[0]
    assert runbook.title == f"Runbook: {condition}"
    assert [row[0] for row in runbook.rows].count("found now") >= 1


def test_the_overview_counts_what_is_lost(block):
    row = block("overview", "jobs", "gpu-hw-slowdown").rows[0]
    assert [getattr(cell, "text", cell) for cell in row[:3]] == ["job", "64", "8"]
    assert float(row[5]) == pytest.approx(11.3, abs=0.2) and row[4] == "1.22x"
    assert block("overview", "trend", "gpu-hw-slowdown").rows[0][3] == "1.20x"
    assert block("overview", "incidents", "made").verdict.startswith("1 of 2 incidents are open")


def test_jobs_share_a_fleet_and_blame_falls_on_the_one_that_ran_there(views):
    lines = load("dashboards._jobs").job_lines(views["gpu-hw-slowdown"])
    assert [one.name for one in lines] == ["job"] and lines[0].worst["condition"] == "gpu-hw-slowdown"
    assert lines[0].lost_gpus == pytest.approx(64 * (1 - 1 / lines[0].slowdown))


def test_evidence_is_told_in_units_that_people_read(block):
    said = dict(block("why", "verdict", "gpu-hw-slowdown").rows)
    assert said["evidence: slowed by hw power brake"] == "0.572 (usual 0, line at 0.05)"
    assert said["evidence: sm clock"] == "1.24 GHz"


def test_the_waterfall_ends_at_the_measured_step(block):
    for view in ("compute-slow", "gpu-hw-slowdown"):
        rows = block("why", "waterfall", view).rows
        assert rows[0][0] == "ideal step" and rows[-1][0] == "measured step"
        assert not [row for row in rows if row[0] == "counted twice"]


def test_a_hang_is_laid_to_its_culprit_and_to_nobody_else(block):
    one = block("why", "waterfall", "hang")
    assert one.verdict.startswith("rank 3 on node1: coll-missing-rank stopped the job for 8.1")
    assert [row[0] for row in one.rows if "rank" in row[0]] == ["rank 3 on node1: coll-missing-rank, once"]


def test_a_step_is_drawn_for_the_ranks_that_matter(block):
    one = block("why", "step", "compute-slow")
    assert re.match(r"In step 2\d rank 5 arrived last at (\d+) of \1 calls", one.verdict)
    names = [trace.name for trace in one.figure.data]
    assert {"own work", "transfer", "waits for others", "last to arrive"} <= set(names)
    path = next(trace for trace in one.figure.data if trace.name == "last to arrive")
    assert set(path.y) == {"rank 5"} and one.rows[0][0] == "5"
    assert one.links[0].href.startswith("/why?begin=") and len(one.data) > 50


def test_the_selected_step_is_drawn(block):
    assert block("why", "step", "compute-slow", "?begin=27&end=27").verdict.startswith("In step 27 ")


def test_victims_point_at_the_culprit(block):
    one = block("why", "waited", "compute-slow")
    assert one.verdict.startswith("7 ranks waited for rank 5, ") and one.rows[0][3] == "100 %"
    live = block("why", "waited", "gpu-hw-slowdown")
    assert {row[3] for row in live.rows} == {"step-shift", "step-spike"}


def test_a_rank_without_findings_is_not_blamed(block):
    assert "Nothing speaks against rank 1" in block("why", "verdict", "compute-slow", "?rank=1").verdict


def test_incidents_events_and_checkpoints_share_one_axis(block):
    one = block("incidents", "timeline", "made")
    assert {trace.name for trace in one.figure.data} == {"growing", "closed", "xid", "restart"}
    bar = next(trace for trace in one.figure.data if trace.name == "closed")
    assert list(bar.x) == [6_000.0]  # ms
    saves = block("incidents", "timeline", "gpu-hw-slowdown")
    assert "checkpoint" in {trace.name for trace in saves.figure.data}
    assert block("incidents", "events", "made", "?node=n3").verdict.startswith("2 events")


def test_a_runbook_shows_its_checks(block):
    assert block("conditions", "checks", "gpu-hw-slowdown", "?show=gpu-hw-slowdown").rows[0][0] == "brake"
    listed = block("conditions", "catalogue", "empty", "?order=gpu")
    assert {row[2] for row in listed.rows} == {"gpu"}


def test_collectives_are_judged_against_their_own_kind(block):
    assert block("collectives", "arrivals", "compute-slow").verdict.startswith("Rank 5 is last in")
    assert block("collectives", "sizes", "compute-slow").rows[0][0] == "all_reduce"
    live = block("collectives", "bandwidth", "gpu-hw-slowdown")
    assert len(live.rows) == 8 and live.rows[0][1].endswith("GB/s")


def test_a_node_shows_what_holds_its_clocks(block):
    first = block("node", "clocks", "gpu-hw-slowdown", "?node=n006").rows
    assert {"hw_power_brake", "hw_slowdown"} <= {row[1] for row in first if row[0] == "gpu4"}
    gpus = block("node", "gpus", "gpu-hw-slowdown", "?node=n006")
    assert gpus.verdict.startswith("gpu4 has the least SM clock") and len(gpus.rows) == 8
    power = block("node", "gpus", "gpu-hw-slowdown", "?node=n006&show=gpus-power")
    assert power.figure.layout.yaxis.title.text == "power (W)"
    assert "no agent on node2" in block("node", "gpus", "compute-slow", "?rank=5").verdict


def test_pipeline_stages_and_their_bubbles(block):
    one = block("pipeline", "stages", "pipeline-imbalance")
    assert one.verdict.startswith("Stage 3 works") and one.rows[3][3] == "1.54x"
    assert len(block("pipeline", "schedule", "pipeline-imbalance").rows) == 4


def test_a_slow_pair_stands_out_on_the_matrix(block):
    one = block("links", "pairs", "made")
    assert one.verdict.startswith("n3/gpu0 to n7/gpu0 is slowest: 5 GB/s, 300 % more time")
    cells = np.asarray(one.figure.data[0].z)
    assert cells.shape == (12, 12) and np.nanmax(cells) == pytest.approx(300) and np.isnan(np.diag(cells)).all()
    assert "rank 3 to rank 2 is slowest" in block("links", "pairs", "pipeline-imbalance").verdict


def test_rails_and_the_map_of_hosts(block):
    assert "mlx5_5" in block("links", "rails", "gpu-hw-slowdown").verdict
    one = block("links", "topology", "gpu-hw-slowdown")
    assert np.asarray(one.figure.data[0].z).shape == (8, 8) and "Host n006 stands alone" in one.verdict


def test_the_busiest_expert_and_the_ladder(block, page, views, chosen):
    one = block("moe", "loads", "made")
    assert one.verdict.startswith("Expert 9 of layer 4 takes 7.20x") and "% of tokens were dropped" in one.note
    assert block("moe", "ladder", "made").rows[0][:3] == ("4", "7.20x", "9")
    near = page("moe").zoomed(views["made"], chosen(""), 8, 10, 3, 5)
    assert np.asarray(near.data[0].z).shape == (3, 3)


def test_replicas_are_compared(block):
    one = block("serving", "replicas", "healthy-serving")
    assert len(one.rows) == 16 and one.columns[1] == "time between tokens (ms)"
    cache = block("serving", "replicas", "healthy-serving", "?show=kv")
    assert cache.figure.layout.yaxis.title.text == "KV cache in use (%)"


def test_of_several_jobs_the_one_that_is_meant_is_explained(views, page, chosen):
    from skewscope.frames import all_tables, frame

    rows = {
        "job": ["a", "b"] * 4, "step": np.repeat(np.arange(4), 2), "start_ns": 0, "planned": False, "ranks_count": 2,
        "duration_ns": [1e9, 5e9] * 4, "ideal_ns": [1e9, 4e9] * 4,
    }  # fmt: skip
    ranks = {"job": ["a", "b"], "rank": [0, 0], "node": ["n1", "n2"]}
    tables = all_tables({"step_times": frame("step_times", rows), "ranks": frame("ranks", ranks)})
    view = load("dashboards._view").View(id="two", tables=tables)
    for job, measured in (("a", "1 s"), ("b", "5 s")):
        lost = page("why").blocks(view, chosen(f"?job={job}"))[1]
        assert lost.rows[-1][1] == measured
    assert [row[3] for row in page("overview").blocks(view, chosen(""))[0].rows] == ["1 s", "5 s"]
