"""`skewscope plan gradient-coding`: what it reads, what it says, what it refuses, what it writes."""

import argparse
import json
from itertools import combinations
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skewscope import commands
from skewscope.coding import synthetic
from skewscope.coding.response import Response
from skewscope.errors import UsageError
from skewscope.planners import _coding_pictures
from skewscope.planners.gradient_coding import GradientCoding

SOUND = run_path(str(Path(__file__).parents[1] / "planners" / "_sound.py"))
sound, times = SOUND["sound"], SOUND["times"]
# Late are whole groups of two and of three copies, but no three neighbours.
LATE = np.where(np.isin(np.arange(20) - np.arange(8)[:, None] % 4, [2, 8, 12, 14]), 10.0, 1.0)
profiles = times(workers=(2, 5), rounds=(4, 8))


def planned(*argv):
    parser = argparse.ArgumentParser()
    planner = GradientCoding()
    planner.arguments(parser)
    return planner.plan(parser.parse_args([*map(str, argv), "--processes", "1"]))


def save(folder, delays, name="delays.npy"):
    np.save(folder / name, delays)
    return folder / name


@pytest.fixture
def functions(tmp_path):
    return save(tmp_path, synthetic.lambda_like(40, 32, 1, heavy=4))


def test_the_document_has_what_is_promised(functions):
    made = planned(functions, "--load", 0, "--load-slope", 2.2, "--rounds", 60)
    document = json.loads(json.dumps(made.document()))
    assert document["schema"] == "skewscope.plan.gradient-coding/1"
    plan = document["plan"]
    for row in plan["schemes"]:
        assert {"scheme", "parameters", "load", "runtime_s", "delay_rounds"} <= set(row)
    wanted = {"uncoded", "gc", "fractional", "sr-sgc", "m-sgc", "heterogeneous"}
    assert wanted <= {row["scheme"] for row in plan["schemes"]}
    assert plan["best"] == plan["chosen"]["scheme"] and plan["candidates_tried"] > 500
    assert document["lower_bound"] <= document["proposed"]["runtime_s"] < document["current"]["runtime_s"]
    assert set(document["proposed"]) == set(document["current"]) and document["objective"] in document["proposed"]
    assert plan["saving_low_ratio"] <= plan["saving_ratio"] <= plan["saving_high_ratio"]
    uncoded = synthetic.lambda_like(40, 32, 1, heavy=4)
    again = np.concatenate([uncoded, uncoded[:20]]).max(axis=1).sum() + 60 * 2.2 / 32
    assert document["current"]["runtime_s"] == pytest.approx(again)
    assert document["inputs"]["bursts"]["count"] > 0 and document["inputs"]["response"]["kind"] == "additive"
    assert [picture.kind for picture in made.pictures] == ["bars", "heatmap", "lines"]


def test_one_load_is_refused_with_what_to_measure(functions):
    made = planned(functions)
    assert not made.feasible and "only one load" in made.verdict
    assert made.plan["chosen"] is None and made.plan["schemes"] == []
    assert "--at" in made.steps[0] and made.proposed == made.current


def test_several_loads_are_fitted(tmp_path):
    answer = Response("multiplicative", fixed_s=0.1)
    base = [synthetic.compute_bound(40, 16, 20.0, 0.01, 0.9, seed) for seed in range(3)]
    first = save(tmp_path, base[0])
    more = [save(tmp_path, answer.move(base[number], 1 / 16, number / 8), f"{number}.npy") for number in (1, 2)]
    made = planned(first, "--at", 1 / 8, more[0], "--at", 2 / 8, more[1])
    assert made.inputs["response"]["kind"] == "multiplicative"
    assert made.inputs["response"]["fixed_s"] == pytest.approx(0.1, abs=0.05)
    assert made.inputs["loads_measured"] == [1 / 16, 1 / 8, 1 / 4] and made.inputs["load"] == 1 / 16
    table = pd.concat([
        pd.DataFrame({"round": np.repeat(np.arange(40), 16), "worker": np.tile(np.arange(16), 40), "load": load,
                      "seconds": answer.move(part, 1 / 16, load).ravel()})
        for part, load in zip(base, (1 / 16, 1 / 8, 1 / 4), strict=True)
    ])  # fmt: skip
    table.to_parquet(tmp_path / "loads.parquet")
    together = planned(tmp_path / "loads.parquet")
    assert together.plan["best"] == made.plan["best"]
    assert together.proposed["runtime_s"] == pytest.approx(made.proposed["runtime_s"])


def test_a_compute_bound_job_is_left_alone(tmp_path):
    path = save(tmp_path, synthetic.compute_bound(120, 32, 2.0, 0.002, 0.9))
    made = planned(path, "--fixed", 0.1)
    assert made.plan["best"] == "coding does not pay" and made.plan["chosen"] is None
    assert made.proposed == made.current and made.feasible and "Coding does not pay" in made.verdict


def test_limits_of_the_trainer_are_kept(tmp_path):
    path = save(tmp_path, synthetic.compute_bound(120, 32, 20.0, 0.005, 0.9))
    free, single = planned(path, "--fixed", 0.1), planned(path, "--fixed", 0.1, "--jobs", 1)
    assert free.plan["best"] == "m-sgc" and "independent jobs in flight" in free.verdict
    assert single.proposed["delay_rounds"] == 0 and {row["delay_rounds"] for row in single.plan["schemes"]} == {0}
    only = planned(path, "--fixed", 0.1, "--schemes", "gc,sr-sgc")
    assert {row["scheme"] for row in only.plan["schemes"]} == {"uncoded", "gc", "sr-sgc"}


def test_mu_and_published_rules(functions):
    known = (functions, "--load", 0, "--load-slope", 2.2)
    made = planned(*known, "--mu", 1, "--rules", "published", "--schemes", "gc,m-sgc")
    mus = {row["mu"] for row in made.plan["schemes"] if row["scheme"] != "uncoded"}
    assert mus == {1.0} and "losses fit the model" in made.plan["schemes"][0]["closing"]


def test_a_recording_says_what_is_nobodys_work(shared):
    """Rank 2 of the real job is 1.35 times as slow: no coding without a known response to load."""
    made = planned(shared / "real-jobs/compute-slow")
    assert not made.feasible and "this recording shows" in made.steps[1]
    coded = planned(shared / "real-jobs/compute-slow", "--fixed", 0.001)
    assert coded.plan["best"] == "coding does not pay"


def test_mini_batch_times_of_a_cluster_are_read(shared):
    made = planned(shared / "alibaba-minibatch-stragglers/job_1_norm.csv.gz", "--fixed", 0)
    assert made.inputs["workers"] == 10 and made.inputs["rounds"] > 100


@pytest.mark.parametrize(("argv", "words"), [
    ((), "nothing to plan"), (("none.npy",), "does not exist"), (("--load-slope", 1, "--fixed", 0.1), "give one"),
    (("--fixed", 9), "not less than the shortest delay"), (("--fixed", 0.1, "--jobs", 0), "--jobs wants at least 1"),
    (("--fixed", 0.1, "--schemes", "gc,xy"), "'xy'"), (("--fixed", 0.1, "--mu", -1), "--mu"),
    (("--load", 2), "no share"), (("--load-slope", -1), "not negative"), (("--at", "x", "delays.npy"), "--at wants"),
    (("--load-slope", 99, "--load", 0.5), "contradicts"), (("--fixed", 0.1, "--load", 0), "load 0"),
    (("--encode", "a", "1", "x.npy"), "two whole numbers"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(functions, argv, words):
    given = [str(functions.parent / one) if str(one).endswith("delays.npy") else one for one in argv]
    if argv and argv[0] not in ("none.npy", "--encode"):
        given = [functions, *given]
    with pytest.raises(UsageError, match=words):
        planned(*given)


def test_profiles_of_other_workers_or_too_few_are_refused(tmp_path, functions):
    other = save(tmp_path, np.ones((40, 31)), "other.npy")
    with pytest.raises(UsageError, match="31 and 32 workers"):
        planned(functions, "--at", 0.1, other)
    for shape in ((3, 8), (8, 1)):
        with pytest.raises(UsageError, match="at least 2 workers and 4 rounds"):
            planned(save(tmp_path, np.ones(shape), "few.npy"), "--load-slope", 1)


def test_a_matrix_is_written_where_it_is_safe(tmp_path, functions):
    made = planned("--encode", 12, 2, "code.npy", "--dtype", "bf16")
    assert made.feasible and list(made.files) == ["code.npy"] and made.proposed["load_ratio"] == 0.25
    bad = planned("--encode", 256, 15, "code.npy", "--code", "unit-circle", "--dtype", "bf16")
    assert not bad.feasible and not bad.files
    assert "refused in bf16" in bad.verdict and "uneven-fractional" in bad.verdict
    both = planned(functions, "--load", 0, "--load-slope", 2.2, "--encode", 32, 1, "code.csv", "--schedule", "who.json")
    assert set(both.files) == {"code.csv", "who.json"}
    schedule = json.loads(both.files["who.json"])
    assert schedule["load"] == pytest.approx(both.proposed["load_ratio"])


def test_the_picture_of_a_large_profile_keeps_its_peaks():
    delays = np.ones((1000, 300))
    delays[777, 123] = 50.0
    picture = _coding_pictures.heat(delays)
    (drawn,) = picture.series.values()
    assert drawn.shape == _coding_pictures.CELLS and drawn.max() == 50.0 and (drawn == 1.0).sum() == drawn.size - 1


def test_the_command_plans_prints_and_writes(tmp_path, functions, capsys):
    written = tmp_path / "plan.json"
    argv = ["plan", "gradient-coding", str(functions), "--load", "0", "--load-slope", "2.2", "--processes", "1"]
    assert commands.main([*argv, "--json", str(written), "--html", str(tmp_path / "plan.html")]) == 0
    said = capsys.readouterr().out
    assert "would take" in said and "runtime_s" in said
    assert json.loads(written.read_text())["plan"]["best"] in said.lower().replace(" repetition", "")
    assert "Delay of each worker" in (tmp_path / "plan.html").read_text()
    assert commands.main(["plan", "gradient-coding", str(functions)]) == 1
    assert commands.main(["plan", "gradient-coding", "none.npy"]) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("profiles")


@settings(max_examples=15)
@given(profiles, st.sampled_from([0.0, 0.3]), st.sampled_from([None, 1, 2]), st.sampled_from([0.0, 0.4]))
@example(LATE, 0.3, 1, 0.0)  # three copies may lose a thousandth of the batch, and nothing is allowed
def test_schemes_take_what_their_rounds_take(folder, own, fixed, jobs, lost):
    limits = ["--jobs", jobs] if jobs else []
    made = sound(planned(save(folder, own), "--fixed", fixed, "--allow-lost", lost, *limits))
    workers, rows = own.shape[1], made.plan["schemes"]
    arrivals = np.sort(own, axis=1)
    assert made.current["runtime_s"] == pytest.approx(own.max(axis=1).sum())
    assert made.lower_bound == pytest.approx(own.min(axis=1).sum())
    for row in rows:
        assert row["runtime_s"] >= made.lower_bound * (1 - 1e-9) and row["load"] >= 1 / workers - 1e-12
        assert row["saving_ratio"] == pytest.approx(1 - row["runtime_s"] / made.current["runtime_s"])
        if row["scheme"] == "gc":  # a round ends with the (s + 1)-th last result of s + 1 times the load
            late = row["parameters"]["s"]
            last = arrivals[:, workers - 1 - late]
            assert row["load"] == pytest.approx((late + 1) / workers)
            assert row["runtime_s"] == pytest.approx((fixed + (last - fixed) * (late + 1)).sum())
    chosen = made.plan["chosen"]
    if chosen is None:
        assert made.proposed == made.current
    else:
        assert made.proposed["runtime_s"] == chosen["runtime_s"] <= 0.98 * made.current["runtime_s"]
        assert jobs is None or chosen["jobs_in_flight"] <= jobs
        assert chosen["lost_ratio"] <= lost
    assert {row["scheme"]: row["runtime_s"] for row in rows}.get("uncoded", 0) == made.current["runtime_s"]


@settings(max_examples=10)
@given(profiles, st.sampled_from([2.0**-5, 16.0]), st.randoms(use_true_random=False))
def test_neither_names_nor_units_change_what_pays(folder, own, scale, draw):
    order = draw.sample(range(own.shape[1]), own.shape[1])
    asked = ("--schemes", "gc", "--jobs", 1, "--fixed")
    one = planned(save(folder, own), *asked, 0.25)
    renamed = planned(save(folder, own[:, order]), *asked, 0.25)
    scaled = planned(save(folder, own * scale), *asked, 0.25 * scale)
    for other, by in ((renamed, 1.0), (scaled, scale)):
        assert other.plan["best"] == one.plan["best"]
        assert other.current["runtime_s"] == pytest.approx(one.current["runtime_s"] * by)
        assert other.proposed["runtime_s"] == pytest.approx(one.proposed["runtime_s"] * by)
        assert other.plan["saving_ratio"] == pytest.approx(one.plan["saving_ratio"])


@settings(max_examples=5)
@given(st.integers(2, 5), st.integers(4, 8), st.sampled_from([0.0, 0.5]))
def test_equal_workers_are_not_coded(folder, workers, rounds, fixed):
    made = sound(planned(save(folder, np.ones((rounds, workers))), "--fixed", fixed))
    assert made.plan["chosen"] is None and made.proposed == made.current and made.optimal is False
    assert made.lower_bound == made.current["runtime_s"]


@settings(max_examples=30)
@given(st.sampled_from(["uneven-fractional", "fractional", "cyclic-random", "unit-circle"]), st.integers(-1, 8),
       st.integers(-1, 8))  # fmt: skip
@example("cyclic-random", 5, 4)
def test_any_losses_allowed_decode_from_the_written_matrix(kind, workers, losses):
    try:
        made = planned("--encode", workers, losses, "code.csv", "--code", kind, "--dtype", "fp64")
    except UsageError as error:
        possible = 0 <= losses < workers
        parted = possible and kind == "fractional" and workers % (losses + 1)
        even = kind == "unit-circle" and losses and (workers - losses) % 2 == 0
        assert not possible or parted or even, error
        return
    assert made.feasible and made.proposed["losses_survived"] == losses
    matrix = np.array(
        [[float(cell) for cell in row.split(",")] for row in made.files["code.csv"].decode().splitlines()]
    )
    assert len(matrix) == workers
    assert made.proposed["load_ratio"] == pytest.approx((matrix != 0).sum(axis=1).max() / matrix.shape[1])
    for missing in (set(one) for count in range(losses + 1) for one in combinations(range(workers), count)):
        left = matrix[[one for one in range(workers) if one not in missing]]
        weights = np.linalg.lstsq(left.T, np.ones(matrix.shape[1]), rcond=None)[0]
        assert weights @ left == pytest.approx(np.ones(matrix.shape[1]), abs=1e-6)


@pytest.mark.parametrize("flag", ["--allow-lost", "--fixed", "--load-slope", "--mu", "--load"])
@pytest.mark.parametrize("value", ["nan", "-1"])
def test_what_is_no_number_is_named(folder, flag, value):
    more = [] if flag in ("--fixed", "--load-slope") else ["--fixed", 0.1]
    with pytest.raises(UsageError):
        planned(save(folder, np.arange(1.0, 13).reshape(4, 3)), flag, value, *more)
