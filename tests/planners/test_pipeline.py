"""`skewscope plan pipeline`, from tables of layers and from recordings."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skewscope import commands
from skewscope.errors import SkewscopeError, UsageError
from skewscope.planners._pipeline_input import Measured, spread
from skewscope.planners.pipeline import LEAST_GAIN_RATIO, ORDERED, Wanted, planned

sound = run_path(str(Path(__file__).with_name("_sound.py")))["sound"]

SAMPLES = Path(__file__).parents[2] / "sample_data"


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan pipeline` to (exit code, document or None, standard error)."""

    def asked(*words):
        file = tmp_path / "plan.json"
        page = ["--json", str(file), "--html", str(tmp_path / "plan.html")]
        code = commands.main(["plan", "pipeline", *map(str, words), *page])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


@pytest.fixture
def layers(tmp_path):
    """Return the path of a table of 32 equal layers of 30 ms, 2 GB kept, .5 GB activations."""
    path = tmp_path / "layers.csv"
    rows = ["forward_s,backward_s,kept_bytes,activation_bytes", *["0.01,0.02,2e9,0.5e9"] * 32]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_heavy_head_gets_fewer_layers(ask, layers):
    code, made, _ = ask("--layers", layers, "--stages", 4, "--microbatches", 16, "--first", 0.009, "--last", 0.075)
    assert code == 0
    assert made["plan"]["layers"] == [8, 9, 9, 6] and made["plan"]["layers_now"] == [8, 8, 8, 8]
    assert made["current"]["slowest_stage_s"] == pytest.approx(0.315)
    assert made["proposed"]["slowest_stage_s"] == pytest.approx(0.27)
    assert made["lower_bound"] <= made["proposed"]["makespan_s"] < made["current"]["makespan_s"]
    assert any("stage 3: layers 26 to 31 (6 instead of 8)" in step for step in made["steps"])
    for side in ("current", "proposed"):
        one = made[side]
        assert one["structural_bubble_s"] + one["imbalance_bubble_s"] == pytest.approx(one["bubble_s"])
        ideal = one["bubble_over_work_ratio"]
        assert one["bubble_over_makespan_ratio"] == pytest.approx(ideal / (1 + ideal))


def test_even_layers_stay_where_they_are(ask, layers):
    _, made, _ = ask("--layers", layers, "--stages", 4, "--microbatches", 16)
    assert made["verdict"].startswith("Leave the layers")
    assert made["plan"]["moved"] == 0 and made["proposed"] == made["current"]
    assert made["optimal"] and made["current"]["makespan_s"] == pytest.approx(57 * 0.08)
    assert made["current"]["imbalance_bubble_s"] == pytest.approx(0)


def test_a_slow_device_gets_fewer_layers_and_skipping_is_priced(ask, layers):
    _, made, _ = ask("--layers", layers, "--stages", 4, "--microbatches", 16, "--speeds", "1,1,0.5,1")
    assert made["plan"]["layers"][2] in (4, 5) and sum(made["plan"]["layers"]) == 32
    assert made["proposed"]["slowest_over_mean_ratio"] < 1.2 < made["current"]["slowest_over_mean_ratio"]
    few = planned(Measured(np.ones(4), np.ones(4), np.ones(4, int), np.array([1, 1, 0.5, 1]), 16))
    assert few.plan["moved"] == 0 and [one["share"] for one in few.plan["skip"]] == [0.1, 0.25]
    assert few.plan["skip"][1]["makespan_s"] < few.current["makespan_s"]
    assert any("another training" in step for step in few.steps)


def test_memory_is_a_hard_limit(ask, layers):
    asked = ("--layers", layers, "--stages", 4, "--microbatches", 16, "--memory")
    code, made, _ = ask(*asked, 27)
    assert code == 0 and made["feasible"]
    assert "does not fit" in made["verdict"]  # 8 layers on the first stage: 16 GB and 4 x 4 GB of activations
    assert made["current"]["fullest_stage_ratio"] > 1 >= made["proposed"]["fullest_stage_ratio"]
    code, _, said = ask(*asked, 10)
    assert code == 2 and "of 32 layers over" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stages", 4), "--microbatches M is missing"),
        (("--microbatches", 4), "--stages P is missing"),
        (("--microbatches", 4, "--split", "8,8"), "must add up"),
        (("--microbatches", 4, "--stages", 4, "--speeds", "1,2"), "--speeds 1,2: wants positive numbers"),
        (("--microbatches", 4, "--stages", 4, "--split", "a"), "--split a: wants whole numbers"),
    ],
)
def test_what_is_missing_is_said(ask, layers, words, said):
    code, _, error = ask("--layers", layers, *words)
    assert code == 2 and said in error


def test_bad_tables_name_the_file_and_the_row(ask, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("seconds\n1\nx\n")
    code, _, error = ask("--layers", path, "--stages", 2, "--microbatches", 4)
    assert code == 2 and f"{path}: column seconds, row 2" in error
    path.write_text("time\n1\n2\n")
    assert "wants columns forward_s and backward_s" in ask("--layers", path, "--stages", 2, "--microbatches", 4)[2]
    assert ask("--layers", tmp_path / "none.csv", "--stages", 2, "--microbatches", 4)[0] == 3


def test_a_recorded_pipeline_with_a_heavy_last_stage(ask):
    code, made, said = ask(SAMPLES / "pipeline-imbalance")
    assert code == 0 and made["inputs"]["microbatches"] == 8 and made["inputs"]["stages"] == 4
    now, then = made["plan"]["layers_now"], made["plan"]["layers"]
    assert now == [20] * 4 and then[3] < 10 < 20 < min(then[:3])
    # With the work spread evenly the pipeline takes .72 of its time; what surrounds it in the step stays.
    assert made["proposed"]["makespan_s"] / made["current"]["makespan_s"] == pytest.approx(0.74, abs=0.03)
    assert made["current"]["step_s"] > made["current"]["makespan_s"] > 0.8 * made["current"]["step_s"]
    saved = 1 - made["proposed"]["makespan_s"] / made["current"]["makespan_s"]
    assert made["plan"]["saved_share_low"] <= saved <= made["plan"]["saved_share_high"] < saved + 0.1
    assert "from recorded steps" in made["verdict"] and "layers per stage are unknown" in said


def test_a_slow_rank_is_not_a_slow_stage(ask):
    _, made, said = ask(SAMPLES / "bytedance-whatif")
    assert "stage 0: rank 0 needs 2.3" in said and "a slow rank" in said
    assert made["verdict"].startswith("Leave the layers") and made["inputs"]["microbatches"] == 32


def test_recordings_without_stages_are_refused(ask):
    code, _, said = ask(SAMPLES / "compute-slow")
    assert code == 2 and "show no pipeline" in said


def test_what_explains_uneven_stages():
    middle = spread(np.array([4.0, 4, 8, 4]), np.array([8.0, 8, 16, 8]), np.full(4, 8), 8)
    assert middle.speeds.tolist() == [1, 1, 0.5, 1] and not middle.first_s.any()
    assert middle.stages_s(middle.sizes)[0] == pytest.approx([4, 4, 8, 4])
    with pytest.raises(UsageError, match="4 stages; one number each"):
        spread(np.ones(4), np.ones(4), np.array([1, 2]), 8)


def test_other_orders_are_planned_too():
    model = Measured(np.ones(16), 2 * np.ones(16), np.full(4, 4), np.ones(4), 8, last_s=np.array([1.0, 2.0]))
    for schedule in ("gpipe", "interleaved", "zb-h1", "zb-h2", "zb-v", "hanayo"):
        made = planned(model, Wanted(schedule))
        assert made.lower_bound <= made.proposed["makespan_s"] <= made.current["makespan_s"]


def test_the_comparison_says_whose_order_and_what_it_costs(ask, layers):
    asked = ("--layers", layers, "--stages", 4, "--microbatches", 16, "--speeds", "1,1,0.5,1")
    _, made, _ = ask(*asked, "--split", "8,8,8,8", "--shards", 4)
    rows = {one["name"]: one for one in made["plan"]["schedules"]}
    for name in ("hanayo", "chimera", "bitpipe", "zeropp"):
        one = rows[name]
        assert one["order"] == "our order on its placement" and one["simulated"] and len(one["peaks"]) == 4
        assert one["least_s"] <= one["makespan_s"] and one["peak_activations"] <= 4
        ideal = one["ideal_ratio"]
        assert one["total_ratio"] == pytest.approx(ideal / (1 + ideal))
    assert rows["1f1b"]["order"] == "published order" and rows["zeropp"]["formula_ratio"] is None
    assert rows["zeropp"]["weights"] == 0.75 and 6 <= rows["zeropp"]["gathers"] < 32
    assert rows["chimera"]["formula_ratio"] == pytest.approx(2 / 34) and rows["chimera"]["weights"] == 2
    # A slow device slows the copy that it holds of the stage on the other side: it works longer than any stage says.
    stage_s = np.array(made["plan"]["stage_s"])
    sizes = np.array(made["plan"]["layers"])
    both = 8 * (stage_s[2] + 0.03 * sizes[1] / 0.5)
    assert rows["chimera"]["least_s"] == pytest.approx(both)
    assert not any(f"schedule {name}" in step for step in made["steps"] for name in ("chimera", "bitpipe", "zeropp"))


def test_orders_that_hold_other_weights_are_no_choice_for_today(ask, layers):
    code, _, said = ask("--layers", layers, "--stages", 4, "--microbatches", 4, "--schedule", "chimera")
    assert code == 2 and "invalid choice: 'chimera'" in said


def one_by_one_s(forward, backward, microbatches):
    """Return 1F1B's makespan, worked out pass by pass: p - i forward passes first, then backward and forward by turns.

    A pass waits for its device and for the same microbatch's pass before it in the pipeline.
    """
    stages = len(forward)
    queue = []
    for stage in range(stages):
        ahead = min(stages - stage, microbatches)
        mine = [("F", at) for at in range(ahead)]
        for at in range(microbatches):
            mine += [("B", at)] + ([("F", at + ahead)] if at + ahead < microbatches else [])
        queue.append(mine)
    done, clock = {}, [0.0] * stages
    while any(queue):
        for stage, mine in enumerate(queue):
            while mine:
                kind, at = mine[0]
                before = {"F": ("F", stage - 1, at), "B": ("B", stage + 1, at) if stage < stages - 1
                          else ("F", stage, at)}[kind]  # fmt: skip
                if before[1] >= 0 and before not in done:
                    break
                begin = max(clock[stage], done.get(before, 0.0))
                clock[stage] = done[kind, stage, at] = begin + (forward if kind == "F" else backward)[stage]
                mine.pop(0)
    return max(clock)


def splits(layers, stages):
    for cut in combinations(range(1, layers), stages - 1):
        yield np.diff([0, *cut, layers])


@st.composite
def pipelines(draw, most=7):
    stages = draw(st.integers(1, 4))
    layers = draw(st.integers(stages, most))
    each = arrays.arrays(float, layers, elements=st.sampled_from([1.0, 1.0, 1.25, 4.0, 0.0]))
    forward, backward = draw(each), draw(each)
    assume((forward + backward).all())
    cut = draw(st.permutations(range(1, layers)))[: stages - 1]
    sizes = np.diff([0, *sorted(cut), layers])
    speeds = draw(arrays.arrays(float, stages, elements=st.sampled_from([1.0, 1.0, 0.5, 1.5])))
    last = draw(st.sampled_from([0.0, 3.0])) * np.array([1.0, 2.0])
    return Measured(forward, backward, sizes, speeds, draw(st.integers(1, 8)), last_s=last,
                    kept_bytes=draw(arrays.arrays(float, layers, elements=st.integers(0, 4).map(float))),
                    activation_bytes=np.ones(layers))  # fmt: skip


@settings(max_examples=25)
@given(pipelines())
def test_makespans_are_those_of_every_pass_and_no_split_is_below_the_bound(model):
    made = sound(planned(model))
    sizes = np.array(made.plan["layers"])
    assert sizes.sum() == len(model.forward_s) and (sizes >= 1).all() and len(sizes) == len(model.sizes)
    for side, held in (("current", model.sizes), ("proposed", sizes)):
        assert getattr(made, side)["makespan_s"] == pytest.approx(one_by_one_s(*model.stages_s(held),
                                                                               model.microbatches))  # fmt: skip
        one = getattr(made, side)
        assert one["structural_bubble_s"] + one["imbalance_bubble_s"] == pytest.approx(one["bubble_s"])
        assert one["makespan_s"] >= max(model.microbatches * one["slowest_stage_s"] * (1 - 1e-9), one["bubble_s"])
    every = list(splits(len(model.forward_s), len(sizes)))
    spans = [one_by_one_s(*model.stages_s(one), model.microbatches) for one in every]
    assert made.lower_bound <= min(spans) * (1 + 1e-9)
    slowest = [sum(model.stages_s(one)).max() for one in every]  # what dynamic programming finds is among those tried
    evenest = [span for one, span in zip(slowest, spans, strict=True) if one <= min(slowest) * (1 + 1e-9)]
    assert made.proposed["makespan_s"] * (1 - LEAST_GAIN_RATIO) <= max(evenest) * (1 + 1e-9)
    assert made.plan["moved"] == (np.repeat(range(len(sizes)), sizes)
                                  != np.repeat(range(len(sizes)), model.sizes)).sum()  # fmt: skip


@settings(max_examples=20)
@given(pipelines(), st.integers(1, 24))
def test_a_split_that_fits_is_found_where_there_is_one(model, room):
    stages = len(model.sizes)
    held = np.minimum(np.arange(stages, 0, -1), model.microbatches)  # 1F1B

    def used(sizes):
        cuts = np.concatenate([[0], np.cumsum(sizes)])
        return np.array([model.kept_bytes[a:b].sum() + held[at] * model.activation_bytes[a:b].sum()
                         for at, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False))])  # fmt: skip

    wanted = Wanted(memory_bytes=np.full(stages, float(room)))
    if not any(used(one).max() <= room for one in splits(len(model.forward_s), stages)):
        with pytest.raises(UsageError, match="fits into memory"):
            planned(model, wanted)
        return
    made = sound(planned(model, wanted), worse=used(model.sizes).max() > room)
    assert used(np.array(made.plan["layers"])).max() <= room
    assert made.plan["memory_bytes"] == pytest.approx(used(made.plan["layers"]))


@settings(max_examples=12)
@given(pipelines(), st.sampled_from([2.0**-10, 32.0]), st.sampled_from(ORDERED), st.sampled_from([0.0, 0.5]))
@example(Measured(np.ones(4), np.ones(4), np.array([2, 2]), np.ones(2), 3), 32.0, "interleaved", 0.0)
def test_another_unit_of_time_moves_the_same_layers(model, scale, schedule, transfer_s):
    other = Measured(model.forward_s * scale, model.backward_s * scale, model.sizes, model.speeds, model.microbatches,
                     last_s=model.last_s * scale)  # fmt: skip
    try:
        one = sound(planned(model, Wanted(schedule, transfer_s=transfer_s)))
    except SkewscopeError as error:
        assert schedule == "interleaved" and model.microbatches % len(model.sizes) and "microbatches" in str(error)
        return
    two = planned(other, Wanted(schedule, transfer_s=transfer_s * scale))
    assert one.plan["layers"] == two.plan["layers"] and len(one.steps) == len(two.steps)
    for name in ("makespan_s", "slowest_stage_s", "bubble_s"):
        assert two.proposed[name] == pytest.approx(one.proposed[name] * scale, abs=1e-9 * scale)


@settings(max_examples=8)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(4, 9), st.sampled_from([0.5, 2.0]))
def test_even_stages_with_enough_microbatches_are_left_alone(stages, each, turns, ratio):
    layers, microbatches = np.ones(stages * each), turns * stages
    made = sound(planned(Measured(layers, ratio * layers, np.full(stages, each), np.ones(stages), microbatches)))
    assert made.plan["moved"] == 0 and made.proposed == made.current and made.optimal
    assert made.current["makespan_s"] == pytest.approx((microbatches + stages - 1) * each * (1 + ratio))


@settings(max_examples=12)
@given(arrays.arrays(float, (2, 4), elements=st.sampled_from([1.0, 1.5, 6.0, 0.0])), st.booleans())
@example(np.array([[1.0, 1.0, 0.0, 1.0]] * 2), True)
def test_equal_layers_explain_any_recorded_stages(seconds, known):
    sizes = np.array([3, 2, 1, 2]) if known else None
    if not seconds.sum(axis=0).all():
        with pytest.raises(UsageError, match="no compute was recorded"):
            spread(*seconds, sizes, 8)
        return
    made = spread(*seconds, sizes, 8)
    assert sum(made.stages_s(made.sizes)) == pytest.approx(seconds.sum(axis=0))
    sound(planned(made))


def test_layers_that_take_no_time_are_refused(ask, tmp_path):
    path = tmp_path / "idle.csv"
    path.write_text("seconds\n0\n0\n")
    code, _, said = ask("--layers", path, "--stages", 2, "--microbatches", 4)
    assert code == 2 and "no time" in said
