"""`skewscope plan memory`."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope import commands
from skewscope.optimize.memory import Speeds, extra_s
from skewscope.planners import memory

sound = run_path(str(Path(__file__).with_name("_sound.py")))["sound"]

GPT3 = ("--layers", 96, "--hidden", 12288, "--heads", 96, "--sequence", 2048, "--vocabulary", 51200, "--data", 8,
        "--tensor", 8, "--stages", 8, "--microbatches", 64, "--step", 10)  # fmt: skip


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan memory` to (exit code, document or None, standard error)."""

    def asked(*words):
        file = tmp_path / "plan.json"
        page = ["--json", str(file), "--html", str(tmp_path / "plan.html")]
        code = commands.main(["plan", "memory", *map(str, words), *page])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


def test_what_does_not_fit_gets_the_cheapest_way_that_does(ask):
    code, made, _ = ask(*GPT3, "--gpu-memory", 80)
    assert code == 0 and made["verdict"].startswith("Does not fit today (stage 0 binds")
    assert made["current"]["fullest_ratio"] > 1 >= made["proposed"]["fullest_ratio"]
    assert made["plan"]["binding_stage"] == 0 and made["plan"]["zero"] >= 1
    assert made["steps"][0].startswith("shard states") and made["optimal"]
    freed = [one["freed_bytes"] for one in made["plan"]["single_changes"]]
    assert freed == sorted(freed, reverse=True) and freed[0] > 0


def test_needless_recomputation_is_told(ask):
    _, made, _ = ask(*GPT3, "--gpu-memory", 400, "--recompute", "full")
    assert "which saves up to 3.333 s per step" in made["verdict"]
    assert made["plan"]["recompute"] == "none" and made["proposed"]["extra_s"] == 0


def test_what_fits_is_left_alone(ask):
    _, made, _ = ask(*GPT3, "--gpu-memory", 400)
    assert made["steps"] == [] and made["verdict"].startswith("Fits as it is")
    assert made["proposed"] == made["current"]


def test_what_cannot_fit_is_said_with_a_mend(ask):
    code, made, _ = ask(*GPT3, "--gpu-memory", 2)
    assert code == 1 and not made["feasible"] and "Nothing fits" in made["verdict"]
    assert "more pipeline stages" in made["steps"][0]


def test_a_schedule_changes_what_the_stages_hold(ask):
    _, usual, _ = ask(*GPT3, "--gpu-memory", 400)
    _, all_first, _ = ask(*GPT3, "--gpu-memory", 400, "--schedule", "gpipe")
    assert usual["inputs"]["held_microbatches"] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert all_first["inputs"]["held_microbatches"] == [64] * 8
    assert all_first["current"]["fullest_gib"] > usual["current"]["fullest_gib"]


def test_layers_must_add_up(ask):
    code, _, said = ask(*GPT3, "--gpu-memory", 80, "--split", "50,50")
    assert code == 2 and "96 in all" in said


def held(model, it, zero, recompute, optimizer, activations):
    """Return the bytes of each stage: states after ZeRO, activations, logits and what is gathered, term by term."""
    found = []
    for stage, layers in enumerate(it.split):
        attention = 2 * model.hidden**2 + 2 * model.hidden * model.key_value_hidden
        layer = attention + (3 if model.gated else 2) * model.hidden * model.ffn
        table = model.vocabulary * model.hidden
        outer = (stage == 0) + (stage == len(it.split) - 1)
        count = (layers * layer + outer * table) / it.tensor
        share = [it.data if zero >= at else 1 for at in (3, 2, 1)]
        states = 2 * count / share[0] + 2 * count / share[1] + (0 if optimizer else 12 * count / share[2])
        base = model.sequence * it.microbatch * model.hidden
        whole = it.tensor if it.sequence_parallel else 1
        lean = base * (10 / whole + 24 / it.tensor)
        inner = 5 * model.heads * model.sequence * base / model.hidden / it.tensor
        kept = {"none": lean + inner, "selective": lean, "full": 2 * base / whole}[recompute]
        acts = it.held[stage] * layers * kept * (1 - activations) + (lean if recompute == "full" else 0)
        last = stage == len(it.split) - 1
        logits = 4 * model.sequence * it.microbatch * model.vocabulary / it.tensor * last
        gathered = 2 * max(layer, table) / it.tensor if zero == 3 and it.data > 1 else 0
        found.append(states + acts + logits + gathered + it.other_bytes)
    return np.array(found)


@st.composite
def setups(draw):
    few = st.integers(1, 4)
    hidden, stages = 64 * draw(few), draw(few)
    split = np.array([draw(few) for _ in range(stages)])
    model = memory.Model(int(split.sum()), hidden, draw(few), 128 * draw(few), 1000 * draw(few), 4 * hidden, hidden,
                         draw(st.booleans()))  # fmt: skip
    now = memory.Setup(
        split, np.arange(stages, 0, -1), draw(few), draw(few), draw(few), draw(few), draw(st.booleans()),
        draw(st.integers(0, 3)), draw(st.sampled_from(["none", "selective", "full"])), draw(st.booleans()),
        draw(st.sampled_from([0.0, 0.25, 0.5])), other_bytes=1e5 * draw(few),
    )  # fmt: skip
    return model, now


@settings(max_examples=40)
@given(setups(), st.floats(0.02, 0.99) | st.floats(1.01, 2.0), st.sampled_from([0.1, 1.0, 1e3]))
def test_the_setup_fits_as_counted_anew_and_none_that_fits_is_cheaper(setup, room, compute_s):
    model, now = setup
    today = held(model, now, now.zero, now.recompute, now.offload_optimizer, now.offload_activations)
    capacity = float(today.max()) * room
    speeds = Speeds(compute_s, 50e9, 25e9)
    made = sound(memory.planned(model, now, memory.Wanted(capacity, speeds)), worse=room < 1)
    ways = [made.plan[name] for name in ("zero", "recompute", "offload_optimizer", "offload_activations")]
    assert made.plan["stage_now_bytes"] == pytest.approx(today)
    assert made.plan["binding_stage"] == today.argmax()
    assert sum(made.plan["binding_parts_bytes"].values()) == pytest.approx(today.max())
    assert made.plan["stage_bytes"] == pytest.approx(held(model, now, *ways))
    every = list(product(range(4) if now.data > 1 else (0,), ("none", "selective", "full"), (False, True), (0.0, 0.5)))
    fit = [one for one in every if held(model, now, *one).max() <= capacity * (1 - 1e-12)]
    assert made.feasible == bool(fit or room >= 1)
    if not made.feasible:
        assert made.proposed == made.current and made.plan["stage_bytes"] == pytest.approx(today)
        return
    assert held(model, now, *ways).max() <= capacity * (1 + 1e-12)
    for one in fit:
        other = memory.Setup(now.split, now.held, now.data, now.tensor, now.microbatch, now.microbatches,
                             now.sequence_parallel, *one, other_bytes=now.other_bytes)  # fmt: skip
        assert made.proposed["extra_s"] <= extra_s(model, other, speeds) * (1 + 1e-12)
    for change in made.plan["single_changes"]:
        assert change["fits"] <= made.feasible


@settings(max_examples=20)
@given(setups(), st.floats(0.05, 1.5), st.sampled_from([1.5, 4.0]))
def test_more_memory_never_costs_more(setup, room, more):
    model, now = setup
    capacity = room * float(held(model, now, now.zero, now.recompute, now.offload_optimizer,
                                 now.offload_activations).max())  # fmt: skip
    less, ample = (memory.planned(model, now, memory.Wanted(one)) for one in (capacity, capacity * more))
    assert ample.feasible >= less.feasible
    assert not less.feasible or ample.proposed["extra_s"] <= less.proposed["extra_s"]
