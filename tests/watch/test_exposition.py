from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skewscope import subjects
from skewscope.contracts import Evidence
from skewscope.metrics import METRICS
from skewscope.watch.exposition import Health, Totals, page
from skewscope.watch.jobs import Job

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))
JOB = Job("llm", 16, 2.0, 0.25, False)
WEIRD = 'a"b\\c\nd{e="f"}é'


def samples(text: bytes) -> dict[tuple, float]:
    """Return {(name, label value, ...): value}, the labels sorted by name."""
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text.decode()) for one in family.samples
    }  # fmt: skip


def full() -> bytes:
    """Return a page on which something is said of everything."""
    story = F.Story()
    found = [F.seen(), F.seen(F.LOST, subjects.gpu("n9", 0), share=0.0, job=""), F.seen(subject=subjects.job(WEIRD))]
    story.go(*found)
    totals = Totals({"done": 3, "failed": 1}, {F.HOT: 2}, 4, 5, {"llm": 7.5, WEIRD: 1.0})
    health = Health(0.5, 100.0, 90.0, 10, ("n1", "n2"), 1234, {("webhook-0", "sent"): 2}, {"webhook-0": 1})
    return page(found, [JOB, Job(WEIRD, 8, math.nan, 1.0, True)], story.board.incidents, totals, health)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("made", [full, lambda: page([], [], [], Totals(), Health())])
def test_promtool_finds_nothing_wrong(made):
    ran = subprocess.run(["promtool", "check", "metrics"], input=made(), capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_every_declared_metric_is_exported_with_its_labels():
    text = full().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    declared = [
        one for one in METRICS
        if one.name.startswith(("skewscope_watch_", "skewscope_job_", "skewscope_finding_")) and one.kind != "recorded"
    ]  # fmt: skip
    assert len(declared) > 20
    for one in declared:
        family = families.pop(one.name.removesuffix("_total") if one.kind == "counter" else one.name)
        assert (family.type, family.documentation) == (one.kind, one.help)
        assert all(set(sample.labels) == set(one.labels) for sample in family.samples)
    assert not families


def test_values_of_a_finding_and_of_its_job():
    found = samples(page([F.seen()], [JOB], [], Totals(), Health()))
    labels = (F.HOT, "llm", "n3", "7", "culprit", "S2", "n3/gpu1", "gpu")
    assert found["skewscope_finding_active", *labels] == 1
    assert found["skewscope_finding_cost_seconds_per_step", *labels] == pytest.approx(0.4)
    assert found["skewscope_finding_lost_share_ratio", *labels] == pytest.approx(0.2)
    assert found["skewscope_finding_lost_gpus", *labels] == pytest.approx(3.2)
    assert found["skewscope_finding_score_ratio", *labels] == pytest.approx(2.0)
    assert found["skewscope_job_gpus", "llm"] == 16
    assert found["skewscope_job_lost_gpus", "llm"] == 4
    assert found["skewscope_job_slowdown_ratio", "llm"] == pytest.approx(4 / 3)
    assert found["skewscope_job_step_seconds", "llm"] == 2.0


def test_what_is_not_known_is_left_out():
    bare = F.seen(evidence=(Evidence("x", 1.0, None, None, ""),), job="")
    names = {name for name, *_ in samples(page([bare], [Job("a", 1, math.nan, 1.0, True)], [], Totals(), Health()))}
    assert "skewscope_finding_active" in names
    assert not names & {
        "skewscope_finding_score_ratio", "skewscope_finding_lost_gpus", "skewscope_job_step_seconds",
        "skewscope_job_slowdown_ratio", "skewscope_watch_store_bytes", "skewscope_watch_node_stale",
    }  # fmt: skip


def test_one_culprit_told_twice_is_one_series():
    text = page([F.seen(), F.seen(share=0.5)], [], [], Totals(), Health())
    assert text.count(b"skewscope_finding_active{") == 1


def test_labels_are_escaped():
    found = samples(full())
    assert found["skewscope_job_lost_gpu_seconds_total", WEIRD] == 1.0
    assert found["skewscope_job_gpus", WEIRD] == 8


def test_incidents_are_counted_by_state():
    story = F.Story()
    story.go(F.seen(), F.seen(subject=subjects.gpu("n9", 1)))
    story.go(F.seen(), windows=6)
    story.go(F.seen(share=0.9))
    found = samples(page([], [], story.board.incidents, Totals(), Health()))
    counts = {state: found["skewscope_watch_incidents", state] for state in ("open", "growing", "mitigated", "closed")}
    assert counts == {"open": 0, "growing": 1, "mitigated": 0, "closed": 1}


def test_health_is_told():
    found = samples(full())
    assert found["skewscope_watch_cycles_total", "failed"] == 1
    assert found["skewscope_watch_targets_stale",] == 2
    assert found["skewscope_watch_node_stale", "n2"] == 1
    assert found["skewscope_watch_notifications_total", "webhook-0", "sent"] == 2
    assert found["skewscope_watch_notifications_waiting", "webhook-0"] == 1
    assert found["skewscope_watch_store_bytes",] == 1234
