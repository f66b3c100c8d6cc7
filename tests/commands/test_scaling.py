from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from skewscope import commands
from skewscope.reports.json_schema import schema

NS = 10**9
START_NS = 1_700_000_000 * NS


def recorded(folder: Path, ranks: int, step_s: float, tokens: int, steps: int = 12) -> str:
    """Write step logs of a run, as canonical tables, and return its folder."""
    import pandas as pd

    folder.mkdir()
    step, rank = (part.ravel() for part in np.meshgrid(np.arange(steps), np.arange(ranks), indexing="ij"))
    noise = 1 + 0.01 * np.random.default_rng(ranks).standard_normal(steps)
    ends = START_NS + np.cumsum(NS * step_s * noise).astype(np.int64)
    starts = np.concatenate([[START_NS], ends[:-1]])
    rows = {"job": "job", "step": step, "rank": rank, "phase": "step", "start_ns": starts[step], "end_ns": ends[step],
            "work_tokens": tokens}  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "steps.parquet", index=False)
    return str(folder)


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """Weak scaling whose step grows by 2 % of the first with every doubling."""
    return [recorded(tmp_path / f"r{n}", n, 0.5 * (1 + 0.1 * place), 2048) for place, n in enumerate((2, 4, 8, 16))]


def test_efficiency_of_recordings(runs, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert commands.main(["scaling", *runs, "--json", "-", "--html", str(page), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    jsonschema.validate(document, schema("scaling"))
    assert (document["mode"], document["unit"]) == ("weak", "tokens")
    kept = [one["efficiency"] for one in document["runs"]]
    assert kept == pytest.approx([1, 1 / 1.1, 1 / 1.2, 1 / 1.3], rel=0.02)
    assert document["runs"][-1]["throughput_per_s"] == pytest.approx(16 * 2048 / 0.65, rel=0.02)
    assert {fit["law"] for fit in document["fits"]} == {"gustafson", "usl"}
    assert all(one["low"] is not None for fit in document["fits"] for one in fit["parameters"].values())
    assert "Weak scaling from 2 to 16 ranks" in " ".join(err.split())
    assert "Efficiency" in page.read_text() and "gustafson" in page.read_text()


def test_a_gate_closes_when_too_little_is_left(runs, capsys):
    assert commands.main(["scaling", *runs, "--fail-below", "0.8", "--workers", "1"]) == 1
    assert commands.main(["scaling", runs[0], runs[1], "--fail-below", "0.8", "--workers", "1"]) == 0
    assert "keeps 91 %" in " ".join(capsys.readouterr().out.split())


def test_one_run_is_no_scaling(runs, capsys):
    assert commands.main(["scaling", runs[0]]) == 2
    assert "wants two runs or more" in capsys.readouterr().err
