"""The gap ladder and the advice on loads with a known truth: what binds, and that nothing is said of mere chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skewscope.frames import all_tables, frame
from skewscope.moe import advice, diagnosis, ladder, layout, loads, noise
from skewscope.moe.placement import Placement, start_layout


def diagnosed(counts, slots=0, gpus=0, nodes=1, top_k=0, phase="", **more):
    made = loads.of_array(counts, top_k=top_k, phase=phase, **more)
    where = start_layout(made.counts.shape[2], slots, gpus, made.counts.shape[1], nodes) if gpus else None
    return diagnosis.Diagnosis(made, layout.Layout(where, "as the test says"), noise.design_effect(made.counts))


def synthetic(shared, name):
    return np.load(shared / f"moe-synth/{name}.npz")["counts"]


def rules(found):
    return [one.rule for one in advice.advise(found)]


def said(found, rule):
    return next(one.text for one in advice.advise(found) if one.rule == rule)


def multinomial(shares, steps=32, picks=40000, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([[rng.multinomial(picks, share / np.sum(share)) for share in shares] for _ in range(steps)])


@pytest.fixture(scope="module")
def uniform(shared):
    return diagnosed(synthetic(shared, "dsv3_uniform"), 256, 32)


@pytest.fixture(scope="module")
def r1(shared):
    return diagnosed(synthetic(shared, "dsv3_r1-like"), 256, 32)


@pytest.fixture(scope="module")
def burst(shared):
    return diagnosed(synthetic(shared, "dsv3_burst"), 288, 32)


@pytest.fixture(scope="module")
def shift(shared):
    return diagnosed(synthetic(shared, "dsv3_shift"), 288, 32)


def test_the_even_router_is_at_its_noise_ceiling(uniform):
    rungs = uniform.ladder
    assert rungs.now.mean() == pytest.approx(rungs.ceiling.mean(), abs=0.003)
    assert rungs.now_step.mean() == pytest.approx(rungs.ceiling_step.mean(), abs=0.003)
    assert rungs.limit == "noise" and set(rungs.binding()) == {"noise"}
    assert rules(uniform) == ["noise"] and "do nothing" in said(uniform, "noise")
    assert uniform.hottest == pytest.approx(uniform.even_hottest, rel=0.04)


def test_an_even_router_without_gpus_says_so_too(shared):
    found = diagnosed(synthetic(shared, "dsv3_uniform"))
    assert found.ladder is None and rules(found) == ["noise"]


def test_the_rungs_of_deepseek_without_redundancy(r1):
    rungs = r1.ladder
    assert rungs.now.mean() == pytest.approx(0.434, abs=0.001)
    assert rungs.bound.mean() == pytest.approx(0.681, abs=0.002)
    assert rungs.ceiling.mean() == pytest.approx(0.954, abs=0.004)
    assert 0.64 < rungs.plan.mean() <= rungs.bound.mean() and rungs.held_out.mean() == pytest.approx(0.62, abs=0.02)
    assert (rungs.plan <= rungs.bound + 1e-9).all() and (rungs.now <= rungs.bound + 1e-9).all()
    assert rungs.limit == "replication" and r1.slots_needed == 288
    assert rules(r1) == ["redundancy", "placement"]
    assert "32 redundant experts (288 slots, 2.4 GiB a GPU)" in said(r1, "redundancy")


def test_losses_add_up_to_what_is_missing(r1):
    losses = sum(one.mean() for one in r1.ladder.losses().values())
    assert losses == pytest.approx(1 - r1.ladder.now.mean(), abs=0.02)


def test_redundant_slots_leave_only_the_placement(shared):
    found = diagnosed(synthetic(shared, "dsv3_r1-like"), 288, 32)
    rungs = found.ladder
    assert rungs.plan.mean() > 0.995 and rungs.held_out.mean() == pytest.approx(0.885, abs=0.01)
    assert rungs.limit == "placement" and rules(found) == ["placement", "steady"]
    assert rungs.replanned.mean() - rungs.kept.mean() < advice.WORTH


def test_groups_kept_on_nodes_bind(shared):
    found = diagnosed(synthetic(shared, "dsv3_r1-like"), 288, 32, nodes=8)
    assert found.model.groups == 8
    assert found.ladder.group_bound.mean() == pytest.approx(0.69, abs=0.04) and "groups" in rules(found)
    assert np.isnan(diagnosed(synthetic(shared, "dsv3_r1-like"), 288, 32).ladder.group_bound).all()


def test_the_shift_is_judged_from_step_16_on(shift):
    assert len(shift.judged) == 16 and shift.ladder.windows == 2
    text = said(shift, "change")
    assert "at step 16" in text and "falls from 1.000 to 0.5" in text
    assert shift.ladder.held_out.mean() > 0.9


def test_bursts_are_no_reason_to_rebalance(burst):
    text = said(burst, "bursts")
    assert "5-10, 23-25" in text and "do not rebalance more often" in text and "robust plan" in text
    assert len(burst.judged) == 32


def test_one_window_has_no_held_out_score():
    rungs = diagnosed(multinomial([[9, 1, 1, 1, 1, 1, 1, 1]], steps=1), 8, 4).ladder
    assert np.isnan(rungs.held_out).all() and rungs.windows == 1 and rungs.limit == "replication"


def test_steps_without_order_are_dealt_out():
    counts = np.arange(12)[:, None, None]
    assert ladder.shuffled(counts, 3).ravel().tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    half = multinomial([np.ones(8)], steps=16)
    half[8:] = multinomial([[9, 1, 1, 1, 1, 1, 1, 1]], steps=8)
    found = diagnosed(half, 8, 4, ordered=False)
    assert found.changes == [] and len(found.judged) == 16
    assert found.ladder.held_out == pytest.approx(found.ladder.plan, abs=0.01)


def test_the_newest_state_is_judged_where_balance_fell():
    warm = [3.0, 3.0, 1, 1, 1, 1, 1, 1]
    counts = np.concatenate([multinomial([np.ones(8)], 32), multinomial([warm], 16)])
    found = diagnosed(counts, 8, 4)
    assert len(found.judged) == 16 and found.ladder.now == pytest.approx(12 / 4 / 6, abs=0.01)


def test_a_fault_of_the_record_comes_first():
    counts = multinomial([np.ones(8)] * 4)
    counts[:, 2] *= 3
    found = diagnosed(counts, 8, 4)
    assert rules(found)[0] == "data" and "layer 2 counts" in advice.faults(found)[0]


def test_phases_that_differ_want_maps_of_their_own():
    one, other = (np.random.default_rng(seed).dirichlet(np.ones(64)) for seed in (1, 2))
    found = [diagnosed(multinomial([share], 4), 64, 8, phase=phase) for share, phase in ((one, "prefill"),
                                                                                      (other, "decode"))]  # fmt: skip
    bits = diagnosis.apart(found)
    assert bits > 0.2 and "workloads" in [rule.rule for rule in advice.advise(found[0], bits)]
    assert diagnosis.apart([found[0], diagnosed(multinomial([one], 4, seed=5), 64, 8)]) < 0.001


def tables(counts, **more):
    step, layer, expert = np.meshgrid(*(np.arange(size) for size in counts.shape), indexing="ij")
    rows = {"job": "j", "step": step.ravel(), "layer": layer.ravel() + 3, "expert": expert.ravel(), "rank": -1,
            "routed_tokens": counts.ravel()}  # fmt: skip
    return all_tables({"expert_loads": frame("expert_loads", rows), **more})


def ranks(size, nodes):
    number = np.arange(size)
    return frame(
        "ranks", {"job": "j", "rank": number, "ep": number, "node": [f"n{at * nodes // size}" for at in number]}
    )


class TestLayout:
    counts = multinomial([[9, 1, 1, 1, 1, 1, 1, 1]] * 2, steps=4)

    def test_nothing_known(self):
        (found,) = diagnosis.diagnose(tables(self.counts))
        assert found.gpus == 0 and found.cost_s is None and "job.json" in found.layout.basis

    def test_ranks_say_how_many_hold_blocks(self):
        (found,) = diagnosis.diagnose(tables(self.counts, ranks=ranks(4, 2)))
        assert (found.gpus, found.layout.placement.nodes, found.layout.recorded) == (4, 2, False)
        assert found.layout.ranks == (0, 1, 2, 3) and "assumed" in found.layout.basis

    def test_a_recorded_map_wins_and_the_newest_holds(self):
        old, new = self.placed(0, np.arange(8)), self.placed(2, np.arange(8)[::-1])
        later = self.placed(9, np.roll(np.arange(8), 1))
        (found,) = diagnosis.diagnose(tables(self.counts, expert_placements=pd.concat([old, new, later])))
        assert found.layout.recorded and found.layout.since == 2 and found.layout.placement.gpus == 4
        assert found.layout.placement.slots[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]

    def test_a_map_that_grew_stale_says_so(self):
        other = np.roll([9.0, 1, 1, 1, 1, 1, 1, 1], 1)
        first, then = multinomial([np.ones(8)] * 2, 12), multinomial([other] * 2, 12, seed=3)
        made = tables(np.concatenate([first, then]), expert_placements=self.placed(2, np.arange(8)))
        (found,) = diagnosis.diagnose(made)
        assert found.kept == pytest.approx(16 / 4 / 10, abs=0.03) and "stale" in rules(found)
        assert "since" not in said(found, "stale") and "at step 2" in said(found, "stale")
        (steady,) = diagnosis.diagnose(
            tables(multinomial([np.ones(8)] * 2, 24), expert_placements=self.placed(2, np.arange(8)))
        )
        assert steady.kept == pytest.approx(1, abs=0.02) and "stale" not in rules(steady)

    def test_a_map_that_lacks_an_expert_is_left_out_with_its_reason(self):
        wrong = self.placed(0, np.array([0, 0, 2, 3, 4, 5, 6, 7]))
        (found,) = diagnosis.diagnose(tables(self.counts, expert_placements=wrong))
        assert found.layout.placement is None and "no slot holds expert 1" in found.layout.warnings[0]

    def test_declared_sizes_give_coordinates(self):
        made = tables(self.counts)
        told = layout.with_expert_ranks(made, 16, {"ep": 4, "tp": 2})
        assert told["ep"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
        assert layout.with_expert_ranks(made, 16, {}) is made["ranks"]
        assert layout.with_expert_ranks(all_tables({}), 16, {"ep": 4}).empty

    @staticmethod
    def placed(step, experts):
        layer, slot = np.meshgrid([3, 4], np.arange(8), indexing="ij")
        return frame("expert_placements", {
            "job": "j", "step": step, "layer": layer.ravel(), "slot": slot.ravel(), "expert": np.tile(experts, 2),
            "rank": slot.ravel() // 2,
        })  # fmt: skip


def test_seconds_need_a_known_model_and_gpu():
    counts = multinomial([np.linspace(1, 3, 64)] * 16, steps=4)
    gpu = frame("windows", {
        "t_ns": [0], "window_ns": 1, "metric": "skewscope_gpu_info", "labels": "model=NVIDIA H100 80GB HBM3",
        "samples_count": 1,
    })  # fmt: skip
    (found,) = diagnosis.diagnose(tables(counts, ranks=ranks(8, 1), windows=gpu))
    assert found.model.name == "olmoe-1b-7b" and found.clock.board.name == "h100"
    spent = found.clock.gpu_s(found.loads.counts, found.layout.placement)
    assert found.cost_s == pytest.approx(float((spent.max(-1) - spent.mean(-1)).sum(-1).mean()))
    (unknown,) = diagnosis.diagnose(tables(counts, ranks=ranks(8, 1)))
    assert unknown.cost_s is None and unknown.cost_on(found.clock.board) == pytest.approx(found.cost_s)


def test_decode_with_few_tokens_is_bound_by_memory():
    counts = multinomial([np.linspace(1, 3, 64)] * 16, steps=4, picks=640)
    made = loads.of_array(counts, phase="decode", top_k=8)
    from skewscope.moe import times

    clock = times.Clock(times.SHAPES["olmoe-1b-7b"], times.HARDWARE["h100"], 2.0)
    where = layout.Layout(start_layout(64, 64, 8, 16), "")
    found = diagnosis.Diagnosis(made, where, noise.design_effect(counts), clock)
    assert "decode" in rules(found) and "295 tokens" in said(found, "decode")


def test_slots_needed_is_the_first_that_suffices():
    counts = np.array([[8, 1, 1, 1, 1, 1, 1, 2]])  # mean of four GPUs 4: the hot one needs two replicas
    assert ladder.slots_needed(counts, 4) == 12
    assert ladder.slots_needed(np.full((1, 8), 5), 4) == 8


@pytest.mark.parametrize("missing", [Placement(np.array([[0, 1, 1, 0]]), 2, 3)])
def test_a_placement_that_does_not_fit_is_told(missing):
    from skewscope.errors import UsageError

    with pytest.raises(UsageError, match="no slot holds expert 2"):
        ladder.ladder(np.ones((1, 1, 3)), missing)
