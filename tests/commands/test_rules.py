import json
import shutil

import pytest
import yaml

from skewscope.alerting import promtool
from skewscope.commands import main

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
ONE = "gpu-squatter"


def rules(folder, *words):
    return main(["rules", "--out", str(folder), *words])


def test_everything_is_written(tmp_path, capsys):
    assert rules(tmp_path / "new", "--format", "all") == 0
    said = capsys.readouterr().out
    assert "2 page" in said and str(tmp_path) in said
    assert json.loads((tmp_path / "new/grafana/skewscope.json").read_text())["title"] == "skewscope"
    for name in ("skewscope-findings.rules.yml", "skewscope-findings.test.yml", "alertmanager.yml", "prometheus.yml",
                 "kubernetes/skewscope-causes-gpu.yml", "victoriametrics/skewscope-causes-nic.rules.yml"):  # fmt: skip
        assert yaml.safe_load((tmp_path / "new" / name).read_text())


def test_flags_reach_the_rules(tmp_path):
    flags = ("--only", ONE, "--for-scale", "2", "--runbook-url", "https://wiki/gpu", "--node-label", "node")
    assert rules(tmp_path, *flags) == 0
    assert not (tmp_path / "skewscope-findings.rules.yml").exists()
    (rule,) = yaml.safe_load((tmp_path / "skewscope-causes-host.rules.yml").read_text())["groups"][0]["rules"]
    assert rule["for"] == "4m" and rule["annotations"]["runbook_url"] == f"https://wiki/gpu/{ONE}"
    assert "$labels.node" in rule["annotations"]["description"] and "node" not in rule["labels"]


@needs_promtool
def test_what_is_written_is_checked(tmp_path, capsys):
    assert rules(tmp_path, "--only", ONE, "--check") == 0
    assert capsys.readouterr().out.count("ok  ") == 2


@needs_promtool
def test_a_failed_check_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(promtool, "test_rules", lambda file: f"FAILED in {file.name}")
    assert rules(tmp_path, "--only", ONE, "--check") == 1
    assert "FAILED  skewscope-causes-host.test.yml\nFAILED in" in capsys.readouterr().out


def test_without_promtool_it_says_where_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rules(tmp_path / "out", "--check") == 2
    assert "apt-get install prometheus" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--only", "gpu-squater"), "gpu-squatter"),
        (("--only", "coll-desync"), "no alert"),
        (("--for-scale", "-1"), "0 to 100"),
        (("--format", "mixin"), "victoriametrics"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, capsys, words, says):
    assert rules(tmp_path, *words) == 2
    assert says in capsys.readouterr().err
