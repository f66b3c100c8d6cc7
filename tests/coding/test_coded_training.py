"""A real job under a coded scheme: processes over gloo, late workers, and the exact gradient without them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).parents[1] / "jobs/coded_training.py"
STEPS = 5
CODES = ("uneven-fractional", "cyclic-random")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train once for each code: six workers, two of them slowed in each step."""
    out = tmp_path_factory.mktemp("coded") / "result.json"
    command = [sys.executable, str(JOB), "--workers", "6", "--losses", "2", "--steps", str(STEPS), "--codes", *CODES]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("code", CODES)
def test_every_step_has_the_exact_gradient_without_the_late_workers(trained, code):
    """Repetition may end as early as with one worker of each of its two groups, so up to four are missing there."""
    steps, most = trained[code]["steps"], {"uneven-fractional": 4, "cyclic-random": 2}[code]
    assert len(steps) == STEPS
    assert all(1 <= len(step["missing"]) <= most for step in steps)
    assert max(step["error_ratio"] for step in steps) < (1e-6 if code == "uneven-fractional" else 1e-3)
    assert len({tuple(step["slowed"]) for step in steps}) > 1, "the same workers were slowed every time"
    assert any(set(step["slowed"]) & set(step["missing"]) for step in steps), "no slowed worker was ever left behind"


@pytest.mark.parametrize("code", CODES)
def test_training_is_the_same_as_without_coding(trained, code):
    losses = [step["loss"] for step in trained[code]["steps"]]
    assert losses == pytest.approx(trained[code]["uncoded_losses"], rel=1e-4)
    assert losses[-1] < losses[0]
