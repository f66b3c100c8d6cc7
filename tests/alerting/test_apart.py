"""A file of tests in pieces: nothing is lost, nothing is there twice, and what the whole finds, the pieces find."""

import shutil

import pytest

from skewscope.alerting import apart, promtool
from skewscope.alerting.suite import suite
from skewscope.alerting.writing import RULES, TESTS, files
from skewscope.catalogue import rooms

GPU = "skewscope-causes-gpu"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("rules")
    named = [room.id for room in rooms("detectors") if room.id.startswith("gpu-hw") or room.id == "step-shift"]
    for name, text in files(suite([*named, "gpu-power-cap"]), ("prometheus",)).items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def rules_of(documents, key):
    return {rule.get(key) for name, one in documents.items() if name != apart.TESTS
            for group in one["groups"] for rule in group["rules"]} - {None}  # fmt: skip


def test_each_alert_has_its_tests_and_its_rule(folder):
    found = list(apart.alone(folder / f"{GPU}{TESTS}"))
    told = [{test["name"].partition(":")[0] for test in one[apart.TESTS]["tests"]} for one in found]
    assert sorted(map(sorted, told)) == [["SkewscopeGpuHwSlowdown"], ["SkewscopeGpuPowerCap"]]
    assert told == [rules_of(one, "alert") for one in found]
    cases = [test for one in found for test in one[apart.TESTS]["tests"]]
    whole = apart._read(folder / f"{GPU}{TESTS}")["tests"]
    assert len(cases) == len(whole) and all(test in cases for test in whole)


def test_series_that_are_recorded_are_there_for_whoever_reads_them(folder):
    (recorded,) = apart.alone(folder / f"skewscope-recording{TESTS}")
    (shift,) = apart.alone(folder / f"skewscope-causes-step{TESTS}")
    assert len(rules_of(recorded, "record")) == 4 and not rules_of(recorded, "alert")
    assert rules_of(shift, "record") == rules_of(recorded, "record") and rules_of(shift, "alert") == {
        "SkewscopeStepShift"
    }


@needs_promtool
@pytest.mark.parametrize("alert", ["SkewscopeGpuHwSlowdown", "SkewscopeGpuPowerCap"])
def test_a_rule_that_never_fires_is_found_by_the_pieces_and_by_the_whole(folder, tmp_path, alert):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tests, rules = tmp_path / f"{GPU}{TESTS}", tmp_path / f"{GPU}{RULES}"
    assert apart.test_rules(tests, workers=2) == promtool.test_rules(tests) == ""
    document = apart._read(rules)
    next(rule for rule in document["groups"][0]["rules"] if rule["alert"] == alert)["expr"] += " > 1e300"
    rules.write_text(apart.dumped(document))
    for complaint in (apart.test_rules(tests, workers=2), promtool.test_rules(tests)):
        assert "FAILED" in complaint and f'alertname=\\"{alert}\\"' in complaint and str(tests) in complaint
