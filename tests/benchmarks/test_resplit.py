"""The re-split taken at its word five times: real jobs, and the step within a tenth of what the plan predicted."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

JOBS = run_path(str(Path(__file__).parents[1] / "test_resplit_jobs.py"))


@pytest.mark.benchmark
def test_five_resplits_keep_their_word(tmp_path):
    pytest.importorskip("torch")
    found = JOBS["rows"](tmp_path, "--runs", 5, "--seed", JOBS["SEED"])
    for row in found:
        JOBS["judge"](row, 0.10)
    assert len(found) == 5
