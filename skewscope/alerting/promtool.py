"""Runs promtool and amtool: the one place where the check of rules leaves Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError

WHERE = {
    "promtool": "it comes with Prometheus: apt-get install prometheus, or https://prometheus.io/download",
    "amtool": "it comes with Alertmanager: apt-get install prometheus-alertmanager, or https://prometheus.io/download",
}
TIMEOUT_S = 600
ALONE = {"GOMAXPROCS": "1"}  # a file of tests is one chain of evaluations: other threads only look for garbage in it


def find(tool: str) -> str:
    """Return the path of promtool or amtool; raises UsageError that says where it can be had."""
    found = shutil.which(tool)
    if found is None:
        raise UsageError(f"{tool} is not installed; {WHERE[tool]}")
    return found


def check_rules(files: Sequence[Path]) -> str:
    """Return what promtool complains of in rule files, "" for nothing."""
    return _run([find("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *map(str, files)])


def test_rules(file: Path) -> str:
    """Return what fails in a file of rule tests, "" for nothing."""
    return _run([find("promtool"), "test", "rules", str(file)])


def check_routes(file: Path) -> str:
    """Return what amtool complains of in an Alertmanager configuration, "" for nothing."""
    return _run([find("amtool"), "check-config", str(file)])


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env={**os.environ, **ALONE}
        )
    except subprocess.TimeoutExpired:
        return f"{words[0]} took more than {TIMEOUT_S} s"
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()
