"""All rules in earnest: promtool checks and tests them, vmalert takes its form, and a broken number is noticed."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess

import pytest
import yaml

from skewscope.alerting import apart, promtool, recording
from skewscope.alerting.alert import reads
from skewscope.alerting.suite import CAUSES, FINDINGS, RECORDING, custom_resource, suite
from skewscope.alerting.text import dumped
from skewscope.alerting.writing import ROUTES, check, files
from skewscope.catalogue import rooms
from skewscope.metrics import METRICS

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
needs_amtool = pytest.mark.skipif(not shutil.which("amtool"), reason="amtool is not installed")
needs_vmalert = pytest.mark.skipif(not shutil.which("vmalert"), reason="vmalert is not installed")
WHOLE = suite()
FILES = {
    rule.get("alert", "recorded"): name
    for name, document in WHOLE.rules().items()
    for rule in document["groups"][0]["rules"]
}
SERIES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
KNOWN = {f"{metric.name}{end}" for metric in METRICS for end in ("", *SERIES.get(metric.kind, ()))}
NUMBER = re.compile(r"((?:>=|<=|>|<) )(-?[\d.]+(?:e[+-]?\d+)?)(?![\w.])")


def cases_of(alert):
    """Return the tests of an alert in the file that is written."""
    return [test for test in WHOLE.tests[FILES[alert]]["tests"] if test["name"].startswith(f"{alert}: ")]


def write(folder, found, formats=("prometheus",)):
    texts = files(found, formats)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return list(texts)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    return folder, write(folder, WHOLE, ("prometheus", "crd", "victoriametrics"))


def test_every_room_with_an_alert_has_its_rule():
    wanted = {room.id for room in rooms("detectors") if room.load().alert() is not None}
    assert {alert.condition for _, alert in WHOLE.causes} == wanted
    names = [alert.name for alert in WHOLE.alerts]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("alert", WHOLE.alerts, ids=lambda alert: alert.name)
def test_an_alert_says_what_operators_need(alert):
    rule = alert.rule()
    assert "$" not in rule["annotations"]["summary"] and "{{" not in rule["annotations"]["summary"]
    assert rule["annotations"]["description"] and alert.runbook_url
    assert reads(alert.expr) <= KNOWN
    assert alert.keep_s >= 600 or alert.expr.startswith("absent("), "a scrape gap would resolve it"
    assert not ("over_time" in alert.expr and alert.for_s and alert.condition == ""), "two windows for one idea"


def test_only_symptoms_page():
    pages = {alert.name for alert in WHOLE.alerts if alert.severity == "critical"}
    assert pages == {"SkewscopeJobGpuHoursLost", "SkewscopeJobStopped"}


@pytest.mark.parametrize("alert", WHOLE.alerts, ids=lambda alert: alert.name)
def test_every_alert_has_its_four_tests(alert):
    tests = [test for document in WHOLE.tests.values() for test in document["tests"]
             if test["name"].startswith(f"{alert.name}: ")]  # fmt: skip
    assert any(
        "fires" in test["name"] and "scrape gap" in test["name"] and "resolves" in test["name"] for test in tests
    )
    assert any("silent" in test["name"] for test in tests)
    whole = [test for test in tests if "scrape gap" in test["name"]]
    for test in whole:
        assert [bool(one["exp_samples"]) for one in test["promql_expr_test"]] == [True, True, True, False]
        assert all("stale" in one["values"] for one in test["input_series"])


@needs_promtool
@pytest.mark.parametrize("name", [f"{name}.rules.yml" for name in WHOLE.rules()])
def test_promtool_takes_the_rules(written, name):
    folder, _ = written
    assert promtool.check_rules([folder / name]) == ""


def test_each_file_tests_its_own_alerts_alone():
    for name, document in WHOLE.tests.items():
        tested = {test["name"].partition(":")[0] for test in document["tests"]}
        assert name == RECORDING or tested == {alert for alert, file in FILES.items() if file == name}


@needs_promtool
@pytest.mark.parametrize("name", WHOLE.tests)
def test_promtool_finds_them_right(written, name):
    folder, _ = written
    assert apart.test_rules(folder / f"{name}.test.yml") == ""


@needs_promtool
@pytest.mark.parametrize("only", ["gpu-power-cap", "rdma-retransmit", "host-launch-bound", "pcie-d2h-bottleneck"])
def test_hosts_may_be_told_by_a_label_of_their_own(tmp_path, only):
    names = write(tmp_path, suite([only], host="node"))
    rules = "".join((tmp_path / name).read_text() for name in names if name.endswith(".rules.yml"))
    assert "instance" not in rules and "(node" in rules
    assert [complaint for _, complaint in check(tmp_path, names)] == ["", ""]


def broken(expr, factor):
    """Yield the expression with one of its numbers moved, for each of them."""
    for hit in NUMBER.finditer(expr):
        if float(hit[2]):
            yield f"{expr[: hit.start()]}{hit[1]}{float(hit[2]) * factor:g}{expr[hit.end() :]}"


@needs_promtool
@pytest.mark.parametrize(
    ("condition", "factor"),
    [
        ("gpu-power-cap", 1.1), ("gpu-hw-slowdown", 1.1), ("gpu-hw-slowdown", 0.9), ("coll-late-rank", 1.1),
        ("coll-late-rank", 0.9), ("host-clock-skew", 1.1), ("host-clock-skew", 0.9), ("step-shift", 1.1),
        ("step-shift", 0.9), ("pcie-nic-backpressure", 0.9), ("gpu-slow-silent", 0.95), ("gpu-slow-silent", 1.05),
    ],
)  # fmt: skip
def test_a_broken_threshold_is_noticed(tmp_path, condition, factor):
    found = suite([condition])
    ((category, alert),) = found.causes
    wrong = next(broken(alert.expr, factor))
    write(tmp_path, found)
    bad = dataclasses.replace(found, causes=((category, dataclasses.replace(alert, expr=wrong)),))
    name = f"{CAUSES}-{category}"
    assert found.tests[name]["tests"] == cases_of(alert.name), "others than those that promtool finds right"
    (tmp_path / f"{name}.rules.yml").write_text(dumped(bad.rules()[name]))
    assert "FAILED" in promtool.test_rules(tmp_path / f"{name}.test.yml")


@needs_promtool
@pytest.mark.parametrize("one", WHOLE.findings, ids=lambda one: one.alert.name)
def test_a_broken_line_on_findings_is_noticed(tmp_path, one):
    factor = 0.5 if one.alert.name in ("SkewscopeWatchSlow", "SkewscopeNotificationsFail") else 1.3
    wrong = next(broken(one.alert.expr, factor), None)
    if wrong is None:
        pytest.skip("no line to break: the metric says yes or no")
    found = dataclasses.replace(WHOLE, causes=(), findings=(one,), recorded=())
    write(tmp_path, found)
    bad = dataclasses.replace(
        found, findings=(dataclasses.replace(one, alert=dataclasses.replace(one.alert, expr=wrong)),)
    )
    (tmp_path / f"{FINDINGS}.rules.yml").write_text(dumped(bad.rules()[FINDINGS]))
    assert "FAILED" in promtool.test_rules(tmp_path / f"{FINDINGS}.test.yml")


@needs_promtool
def test_an_alert_that_does_not_hold_on_is_noticed(tmp_path):
    found = suite(["gpu-row-remap"])
    write(tmp_path, found)
    hasty = yaml.safe_load((tmp_path / f"{CAUSES}-gpu.rules.yml").read_text())
    del hasty["groups"][0]["rules"][0]["keep_firing_for"]
    (tmp_path / f"{CAUSES}-gpu.rules.yml").write_text(yaml.safe_dump(hasty))
    assert "got: nil" in promtool.test_rules(tmp_path / f"{CAUSES}-gpu.test.yml")


@needs_amtool
def test_amtool_takes_the_routes(written):
    folder, _ = written
    assert promtool.check_routes(folder / ROUTES) == ""


@needs_amtool
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [("severity=critical", "pager"), ("severity=warning", "tickets"), ("severity=info", "context")],
)
def test_severity_says_who_hears_of_it(written, labels, receiver):
    folder, _ = written
    words = ["amtool", "config", "routes", "test", f"--config.file={folder / ROUTES}", labels]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == receiver


@needs_promtool
def test_promtool_takes_the_example_of_scraping(written):
    folder, _ = written
    words = ["promtool", "check", "config", str(folder / "prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_vmalert
@pytest.mark.parametrize("name", list(WHOLE.rules()))
def test_vmalert_takes_its_form(written, name):
    folder, _ = written
    words = ["vmalert", "-dryRun", f"-rule={folder / 'victoriametrics' / name}.rules.yml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]


@needs_promtool
def test_a_custom_resource_holds_the_same_rules(written):
    folder, names = written
    found = [name for name in names if name.startswith("kubernetes/")]
    assert len(found) == len(WHOLE.rules())
    for name, document in WHOLE.rules().items():
        resource = yaml.safe_load((folder / f"kubernetes/{name}.yml").read_text())
        assert resource == custom_resource(name, document)
        assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", resource["metadata"]["name"])
        assert resource["spec"] == yaml.safe_load((folder / f"{name}.rules.yml").read_text())


def test_every_runbook_is_there(written):
    folder, _ = written
    for alert in suite(runbook_url="runbooks/{id}.md").alerts:
        page = folder / alert.runbook_url
        assert "What to do" in page.read_text(), alert.name


def test_recorded_series_are_declared_and_used():
    recorded = {rule["record"] for rule in recording.rules()}
    assert recorded == {metric.name for metric in METRICS if metric.kind == "recorded"}
    read = {name for alert in WHOLE.alerts for name in reads(alert.expr)}
    read |= {name for rule in recording.rules() for name in reads(rule["expr"])}
    assert recorded <= read
    assert list(WHOLE.tests) == list(WHOLE.rules())


@pytest.mark.parametrize("alert", WHOLE.alerts, ids=lambda alert: alert.name)
def test_an_alert_says_what_it_is_about(alert):
    assert alert.scope in ("job", "node", "rank", "gpu", "nic", "rack", "watch", "{{ $labels.subject_kind }}")
    assert "{{ $value }}" not in alert.description or alert.name == "SkewscopeStragglerRotates", (
        "a number of many digits"
    )
    if alert.scope in ("gpu", "nic", "rank", "node"):
        assert "$labels.instance" in alert.description or "$labels.node" in alert.description, "on which host?"
