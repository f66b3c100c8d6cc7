"""Each fault that engines' records really had, made by hand, and next to it the sound record that must stay silent."""

import numpy as np
import pytest

from skewscope.moe import checks
from skewscope.moe.loads import of_array


def sound(seed=0, steps=12, layers=4, experts=16, tokens=512, top_k=2):
    """Return counts of tokens that pick `top_k` different experts from a skewed popularity."""
    random = np.random.default_rng(seed)
    counts = np.zeros((steps, layers, experts), dtype=np.int64)
    for layer in range(layers):
        popularity = random.gumbel(size=experts) * 0.7
        noise = random.gumbel(size=(steps, tokens, experts))
        picks = np.argsort(-(popularity + noise), axis=2)[:, :, :top_k]
        for step in range(steps):
            counts[step, layer] = np.bincount(picks[step].ravel(), minlength=experts)
    return counts


LAYERS = np.arange(4)


@pytest.mark.parametrize("seed", range(8))
def test_a_sound_record_is_silent(seed):
    assert checks.check(sound(seed), LAYERS, top_k=2) == []
    assert checks.check(sound(seed), LAYERS) == []


@pytest.mark.parametrize("name", ["dsv3_r1-like", "dsv3_shift", "dsv3_burst", "dsv3_uniform", "qwen3-235b_mild"])
def test_realistic_loads_are_silent(shared, name):
    counts = np.load(shared / f"moe-synth/{name}.npz")["counts"]
    assert of_array(counts, top_k=8).warnings == ()


def test_conservation_names_layer_and_tokens():
    counts = sound()
    counts[3:, 2, 5] += 100  # padding that one layer counts
    (said,) = checks.check(counts, np.array([3, 4, 5, 6]), top_k=2)
    assert said.startswith("layer 5 counts 1,124 tokens where the median layer counts 1,024 (9 of 12 steps)")
    assert "record again without padding" in said


def test_many_uneven_layers_are_counted_not_listed():
    counts = np.full((1, 12, 4), 25)
    counts[0, :5, 0] += np.arange(10, 60, 10)
    said = checks.conservation(counts, np.arange(12))
    assert len(said) == 4 and said[-1] == "and 2 more layers count other tokens than the median layer"


def test_dropped_tokens_leave_a_remainder():
    counts = sound()
    counts[:, :, 0] -= 1
    assert checks.conservation(counts, LAYERS) == []  # all layers alike: only the picks of a token tell
    (said,) = checks.check(counts, LAYERS, top_k=2)
    assert said.startswith("48 of 48 sums over experts are no multiple of top_k = 2")


@pytest.mark.parametrize("times", [2, 3, 8])
def test_counts_multiplied_by_the_data_parallel_size(times):
    (said,) = checks.multiplied(sound() * times)
    assert said.startswith(f"every token is counted {times} times: all") and f"divide by {times}" in said
    (said,) = checks.multiplied(sound() * times, tokens=512 * 12, top_k=2)
    assert said.startswith(f"every token is counted {times} times: {12 * 1024 * times:,} picks")
    assert checks.multiplied(sound(), tokens=512 * 12, top_k=2) == []


def test_a_load_forced_to_be_even_is_not_multiplied():
    assert checks.multiplied(np.full((4, 4, 16), 64)) == []


def test_the_record_of_one_rank_alone():
    counts = sound()
    counts[:, :, :8] = 0
    counts[:, :, 12:] = 0
    (said,) = checks.one_rank_only(counts)
    assert said.startswith("only experts 8 to 11 of 16 have tokens in any layer: this is the record of one of 4 ranks")
    counts[0, 1, 0] = 1
    assert checks.one_rank_only(counts) == []


def test_dead_experts_are_no_missing_rank():
    counts = sound()
    counts[:, :, 13:] = 0
    assert checks.one_rank_only(counts) == []


@pytest.mark.parametrize("top_k", [0, 2])
def test_padding_goes_to_the_same_experts(top_k):
    counts = sound()
    counts[:, 1, [4, 9]] += 2000
    told = checks.padding_experts(counts, LAYERS, top_k)
    assert len(told) == 1 and told[0].startswith("layer 1: experts 4, 9 get at least ")
    assert "padding, dummy batches or a warm-up" in told[0]


def test_padding_in_a_single_step_is_none_of_all_steps():
    counts = sound()
    counts[3, 1, [4, 9]] += 200_000
    assert checks.padding_experts(counts, LAYERS, 2) == []


def test_one_hot_expert_is_no_padding():
    counts = sound()
    counts[:, :, 4] += 5000
    assert checks.padding_experts(counts, LAYERS) == []


def test_all_experts_alike_is_no_padding():
    assert checks.padding_experts(np.full((3, 4, 16), 10), LAYERS) == []


def test_windows_longer_than_the_interval():
    assert checks.window_beyond_interval(1000, 3000) == [] and checks.window_beyond_interval(1000, 0) == []
    (said,) = checks.window_beyond_interval(1000, 100)
    assert "window of 1000 steps" in said and "set window_size to at most 100" in said


def test_nothing_recorded_is_told():
    (said,) = checks.check(np.zeros((2, 4, 16), dtype=int), LAYERS)
    assert "no token is routed" in said
