"""Layer partitions: brute force, memory, bounds, and the numbers of the reference."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import schedule_1f1b
from skewscope.optimize.partition import Memory, Problem, bound_s, even_split, moved, partition
from skewscope.optimize.pipeline_run import Times, run


def every(layers, stages):
    for inner in combinations(range(1, layers), stages - 1):
        yield np.diff([0, *inner, layers])


def drawn(seed, memory=False):
    draw = np.random.default_rng(seed)
    layers, stages = int(draw.integers(4, 10)), int(draw.integers(2, 5))
    held = None
    if memory:
        held = Memory(draw.uniform(0, 4, layers), draw.uniform(0, 1, layers), np.arange(stages, 0, -1),
                      draw.uniform(8, 20, stages), *draw.uniform(0, 2, 2))  # fmt: skip
    return Problem(draw.uniform(0.1, 2, layers), draw.uniform(0.5, 1.5, stages), *draw.uniform(0, 2, 2), held)


def fits(problem, sizes):
    if problem.memory is None:
        return True
    used = problem.memory.used(np.concatenate([[0], np.cumsum(sizes)]))
    return bool((used <= problem.memory.capacity).all())


@pytest.mark.parametrize("memory", [False, True])
def test_it_equals_brute_force(memory):
    found = short = 0
    for seed in range(100):
        problem = drawn(seed, memory)
        able = [problem.times(one).max() for one in every(len(problem.cost), len(problem.speeds)) if fits(problem, one)]
        if not able:
            with pytest.raises(UsageError, match="fits into memory"):
                partition(problem)
            short += 1
            continue
        made = partition(problem)
        assert made.times_s.max() == pytest.approx(min(able), rel=1e-12)
        assert made.bound_s <= min(able) * (1 + 1e-12)
        assert fits(problem, made.sizes)
        found += 1
    assert found >= 50
    assert (short > 0) == memory


def test_no_partition_runs_shorter_than_the_bound_of_the_makespan():
    reached = []
    for seed in range(40):
        problem, draw = drawn(seed), np.random.default_rng(seed + 1000)
        share, batches = draw.uniform(0.2, 0.5), int(draw.integers(2, 9))
        problem = Problem(problem.cost, problem.speeds, problem.first, problem.last, forward_share=share)
        stages = len(problem.speeds)
        order = schedule_1f1b.schedule(stages, batches)
        spans = []
        for sizes in every(len(problem.cost), stages):
            whole = np.tile(problem.times(sizes)[:, None], (1, batches))
            spans.append(run(order, Times(whole * share, whole * (1 - share))).makespan_s)
        bound = partition(problem, batches).bound_s
        assert bound <= min(spans) * (1 + 1e-9)
        reached.append(bound / min(spans))
    assert np.median(reached) > 0.9


def test_the_bound_is_the_makespan_of_even_stages():
    problem = Problem(np.full(8, 0.375), np.ones(4), forward_share=1 / 3)
    assert partition(problem, 16).bound_s <= 14.25  # 4 stages of .75: 57 * .25
    assert bound_s(problem) == 0.75


def test_numbers_of_the_reference():
    model = Problem(np.ones(32), np.ones(4), 0.3, 2.5)
    assert model.times(even_split(32, 4)).max() == 10.5
    assert partition(model).times_s.tolist() == pytest.approx([8.3, 9, 9, 8.5])
    slow = Problem(np.ones(48), np.array([1, 1, 0.5, 1]))
    made = partition(slow)
    assert made.sizes.tolist() == [13, 14, 7, 14] and made.times_s.max() == 14
    assert slow.times(even_split(48, 4)).max() == 24
    assert moved(even_split(48, 4), made.sizes) == 1 + 3 + 2


def test_fewer_layers_than_stages_are_refused():
    with pytest.raises(UsageError, match="3 layers cannot fill 4 stages"):
        partition(Problem(np.ones(3), np.ones(4)))


def test_memory_moves_layers_off_the_first_stage():
    # The first stage holds four microbatches' activations: 8 layers need 8 + 32.
    memory = Memory(np.ones(32), np.ones(32), np.array([4, 3, 2, 1]), np.full(4, 32.0))
    made = partition(Problem(np.ones(32), np.ones(4), memory=memory))
    assert made.sizes.tolist() == [6, 8, 9, 9]
