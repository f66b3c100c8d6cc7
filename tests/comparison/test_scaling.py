from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest

from skewscope.comparison import laws
from skewscope.comparison.scaling import scaling
from skewscope.errors import UsageError
from skewscope.reports.json_schema import schema

R = SimpleNamespace(**run_path(str(Path(__file__).parent / "_runs.py")))
SIZES = (2, 4, 8, 16, 32)


def strong(serial: float = 0.1, **more):
    """Runs of T(n) = serial + (1 - serial) / n: the serial share is waiting, the rest compute."""
    return [
        R.made(f"r{n}", ranks=n, steps=20, compute_s=(1 - serial) / n, wait_s=serial, seed=n, **more) for n in SIZES
    ]


def test_strong_scaling_gives_amdahls_share_back():
    document = scaling(strong())
    jsonschema.validate(document, schema("scaling"))
    assert document["mode"] == "strong" and "compute per rank falls" in document["mode_from"]
    (amdahl,) = (fit for fit in document["fits"] if fit["law"] == "amdahl")
    share = amdahl["parameters"]["serial_share"]
    assert share["value"] == pytest.approx(0.1, abs=0.01) and share["low"] < 0.1 < share["high"]
    assert share["high"] - share["low"] < 0.05
    kept = [one["efficiency"] for one in document["runs"]]
    ideal = [(0.1 + 0.9 / 2) * 2 / ((0.1 + 0.9 / n) * n) for n in SIZES]
    assert kept == pytest.approx(ideal, rel=0.02)
    assert document["growth"][0]["part"] == "wait", "what does not shrink is what is lost"
    assert document["growth"][0]["beyond_s"] == pytest.approx(0.1 - 0.1 * 2 / 32, rel=0.05)


def test_weak_scaling_is_known_by_tokens():
    runs = [R.made(f"r{n}", ranks=n, steps=20, wait_s=0.001 * n, tokens=4096, seed=n) for n in SIZES]
    document = scaling(runs)
    assert (document["mode"], document["unit"]) == ("weak", "tokens")
    last = document["runs"][-1]
    assert last["tokens"] == 4096 * 32
    assert last["throughput_per_rank_per_s"] == pytest.approx(4096 / (0.08 + 0.032), rel=0.02)
    assert last["efficiency"] == pytest.approx((0.08 + 0.002) / (0.08 + 0.032), rel=0.02)
    assert "waiting for other ranks" in document["verdict"]


def test_equal_tokens_of_the_whole_job_are_strong_scaling():
    runs = [R.made(f"r{n}", ranks=n, tokens=65536 // n, compute_s=1 / n, steps=12, seed=n) for n in (2, 4)]
    document = scaling(runs)
    assert document["mode"] == "strong"
    assert document["fits"][0]["parameters"]["serial_share"]["low"] is None
    assert any("without intervals" in note for note in document["notes"])


def test_what_neither_law_tells_is_asked_for():
    runs = [R.made(f"r{n}", ranks=n, compute_s=n**-0.4, seed=n) for n in (2, 8)]
    with pytest.raises(UsageError, match="--mode strong"):
        scaling(runs)
    assert scaling(runs, "strong")["mode_from"] == "as asked"


def test_one_size_is_no_scaling():
    with pytest.raises(UsageError, match="all runs have 4 ranks"):
        scaling([R.made("a"), R.made("b", seed=1)])


def test_a_run_without_steps_is_told():
    with pytest.raises(UsageError, match="b tells no steps"):
        scaling([R.made("a"), R.Run("b", R.made("b").report)])


def test_more_ranks_than_pay_are_seen():
    ranks = np.array([1.0, 2, 4, 8, 16, 32, 64])
    found = laws.usl(ranks, ranks / (1 + 0.02 * (ranks - 1) + 0.001 * ranks * (ranks - 1)))
    (law,) = (one for one in laws.LAWS["weak"] if one.name == "usl")
    assert law.limit(found) == "fastest at 31 ranks, slower with more"
    assert laws.error(law, found, ranks, law.curve(found, ranks)) < 1e-9
