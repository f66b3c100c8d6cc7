"""The search finds what trying everything finds, does not believe its own luck, and recommends only what pays."""

from types import SimpleNamespace

import numpy as np
import pytest

from skewscope.coding import bursts, estimate, families, recommend, search, synthetic
from skewscope.coding.families import Batch
from skewscope.coding.response import Response
from skewscope.coding.rounds import BEST, PUBLISHED, Rounds
from skewscope.coding.search import Grid, Tried

SMALL = Grid(mus=(0.2, 0.6, 1.0), slots_most=4, bursts_most=2)


def rounds_of(delays, answer, load=None):
    return Rounds.of(delays, 1 / delays.shape[1] if load is None else load, answer)


def decided(rounds, grid=None, jobs=None, limits=None, seconds=None):
    """Search and choose, as the planner does."""
    grid, jobs = grid or Grid(levels_most=16), jobs or len(rounds.sorted_s)
    tried = search.search(rounds, len(rounds.sorted_s), grid)
    rows = estimate.rows(rounds, jobs, grid.rules, tried, 5)
    found = bursts.fit(bursts.late(rounds.seconds if seconds is None else seconds, 0.5))
    choice = recommend.choose(rows, tried, limits or recommend.Limits(), found)
    return SimpleNamespace(tried=tried, rows=rows, choice=choice, bursts=found)


@pytest.mark.parametrize("rules", [BEST, PUBLISHED], ids=["best", "published"])
def test_the_grid_of_a_small_job_is_every_value(rules):
    """n=10: the best of each family, against all values of all parameters simulated one by one."""
    rounds = rounds_of(synthetic.lambda_like(30, 10, 4), Response("additive", 1.0), 0.0)
    grid = Grid(mus=(0.2, 0.6, 1.0), slots_most=4, bursts_most=2, rules=rules)
    tried = search.search(rounds, 30, grid)
    shapes = {"gc": [(0, 0)], "sr-sgc": [(1, 2), (2, 3)], "m-sgc": [(1, 2), (1, 3), (2, 3), (1, 4)]}
    for family, pairs in shapes.items():
        every = [Batch(family, burst, window, np.array([value]), np.array([mu]))
                 for burst, window in pairs for value in range(1, 10) for mu in grid.mus]  # fmt: skip
        least = min(families.runs(rounds, one, 30, rules).runtime_s[0] for one in every)
        best = tried.runtime_s[tried.best(tried.family == family)[0]]
        assert 0.9 * least <= best <= least + 1e-9, "refinement may only improve"


def test_several_processes_find_the_same():
    rounds = rounds_of(synthetic.lambda_like(20, 40, 1), Response("additive", 2.0), 0.0)
    alone, together = (search.search(rounds, 20, SMALL, processes) for processes in (1, 2))
    for name in Tried.__dataclass_fields__:
        assert (getattr(alone, name) == getattr(together, name)).all()
    assert len(alone.family) > search.CHEAP


def test_the_full_grid_is_large_and_searches_the_deadline():
    kinds = list(search.batches(256, 80, Grid()))
    assert sum(len(batch) for batch in kinds) >= 5000
    assert {batch.family for batch in kinds} == set(families.FAMILIES)
    assert len(set(np.concatenate([batch.mus for batch in kinds if batch.family == "m-sgc"]))) == 7


def test_loads_of_candidates_are_those_of_their_schemes():
    rounds = rounds_of(synthetic.lambda_like(20, 12, 1), Response("additive", 2.0), 0.0)
    for batch in search.batches(12, 20, SMALL):
        for value, load in zip(batch.values, families.loads(12, batch), strict=True):
            scheme = families.scheme(rounds, batch.family, batch.burst, batch.window, int(value))
            if batch.family != "heterogeneous":
                assert load == pytest.approx(scheme.load)


def test_a_lucky_choice_is_judged_by_other_rounds():
    """Two candidates, each fast in one half: the best of both looks like 3 s, but choosing it elsewhere costs 6 s."""
    folds = np.array([[1.0, 1.0, 2.0, 2.0], [2.0, 2.0, 1.0, 1.0], [1.6, 1.6, 1.6, 1.6]])
    same = np.zeros(3)
    tried = Tried(np.array(["gc"] * 3), same, same, same, same, same, folds)
    assert tried.runtime_s.min() == 6.0
    assert tried.honest_s(np.array([True, True, False])) == 8.0
    assert tried.honest_s(np.array([False, False, True])) == pytest.approx(6.4)


def test_rounds_after_the_last_job_are_paid():
    rounds = rounds_of(synthetic.lambda_like(16, 8, 1), Response("additive", 2.0), 0.0)
    batch = Batch("m-sgc", 1, 4, np.array([2]), np.array([0.5]))
    made = search.evaluate(rounds, 16, BEST, batch)
    assert made.fold_s.sum() == pytest.approx(families.runs(rounds, batch, 16, BEST).runtime_s[0])
    assert len(families.runs(rounds, batch, 16, BEST).seconds) == 19


def test_an_interval_holds_the_truth_and_widens_with_bursts():
    """One round in ten is slow and is saved: truth 1 - 0.9 / 1.8. Independent rounds, then blocks of 20."""
    truth, covered = 0.5, 0
    for seed in range(40):
        slow = np.random.default_rng(seed).random(400) < 0.1
        low, high = estimate.interval(np.where(slow, 9.0, 1.0), np.full(400, 0.9), 1.0, seed)
        covered += low <= truth <= high
    assert covered >= 32
    lasting = np.repeat(np.random.default_rng(1).random(20) < 0.2, 20)
    before, after = np.where(lasting, 9.0, 1.0), np.full(400, 0.9)
    (low, high), (lower, higher) = (estimate.interval(before, after, burst) for burst in (1.0, 20.0))
    assert higher - lower > 1.2 * (high - low)


def test_no_scheme_undercuts_the_bound():
    for seed, answer in enumerate((Response("additive", 2.0), Response("multiplicative", fixed_s=0.1))):
        delays = synthetic.compute_bound(40, 12, 6.0, 0.05, 0.5, seed)
        rounds = rounds_of(delays, answer)
        tried = search.search(rounds, 40, SMALL)
        assert tried.runtime_s.min() >= estimate.bound_s(rounds, 40)


def gpus(slowdown, start, end, workers=64, rounds=200, seed=0):
    delays = synthetic.compute_bound(rounds, workers, slowdown, start, end, seed)
    return rounds_of(delays, Response("multiplicative", fixed_s=0.1))


def test_on_a_compute_bound_job_twofold_transients_never_pay_for_exact_coding():
    """n=64, p .002, q .9, 2x. Reference: best GC 960 s against 561 s uncoded."""
    found = decided(gpus(2.0, 0.002, 0.9))
    assert not found.choice.pays and found.choice.best.family not in ("gc", "fractional")
    coded = min(row.runtime_s for row in found.rows if row.family in ("gc", "fractional"))
    assert coded / found.choice.uncoded.runtime_s > 1.5
    said = recommend.verdict(found.choice, found.rows, recommend.Limits(), 200)
    assert said.startswith("Coding does not pay")
    assert recommend.steps(found.choice, found.rows, 64) == ["do nothing here: keep the uncoded rounds"]


def test_chronic_slowness_is_sent_elsewhere():
    found = decided(gpus(2.0, 0.0002, 0.01))
    assert not found.choice.pays
    said = recommend.doubts(found.bursts, found.choice, tuple(map(str, range(64))))
    assert any("plan batch" in one for one in said)


def test_equal_workers_need_nothing():
    for answer in (Response("multiplicative", fixed_s=0.1), Response("additive", 0.5)):
        rounds = rounds_of(synthetic.compute_bound(60, 16, 1.0, 0.01, 0.5), answer)
        assert not decided(rounds).choice.pays
    flat = rounds_of(np.ones((40, 8)), Response("additive", 0.0))
    assert not decided(flat).choice.pays


@pytest.mark.parametrize("case", ["twentyfold on GPUs", "functions with a heavy tail and a dear load"])
def test_a_heavy_tail_with_costly_load_wants_m_sgc_and_says_what_it_needs(case):
    if case == "twentyfold on GPUs":
        rounds = gpus(20.0, 0.002, 0.9)
    else:  # 2 % late, slope 200 s: an uncoded share costs 0.8 s of 1.4 s
        start = synthetic.END * 0.02 / 0.98
        delays = synthetic.lambda_like(80, 256, 1, start, heavy=8)
        rounds = rounds_of(delays, Response("additive", 200.0), 0.0)
    found = decided(rounds)
    choice = found.choice
    assert choice.pays and choice.best.family == "m-sgc" and choice.low_ratio > 0.2
    count = choice.best.scheme.delay_rounds + 1
    assert count > 1
    said = recommend.verdict(choice, found.rows, recommend.Limits(), 200)
    assert f"it needs {count} (T + 1) independent jobs in flight" in said
    first = recommend.steps(choice, found.rows, rounds.workers)[0]
    assert f"{count} (T + 1) independent jobs" in first and "one synchronous model cannot use it" in first


def test_one_synchronous_model_gets_no_delayed_scheme():
    single = Grid(slots_most=1, bursts_most=0)
    found = decided(gpus(20.0, 0.002, 0.9), single, limits=recommend.Limits(jobs_in_flight=1))
    assert all(row.scheme.delay_rounds == 0 for row in found.rows)
    assert found.choice.best.family == "fractional"
    wide = decided(gpus(20.0, 0.002, 0.9), limits=recommend.Limits(jobs_in_flight=3))
    assert wide.choice.best.scheme.delay_rounds <= 2


def test_lossy_schemes_are_taken_only_where_loss_is_allowed():
    rounds = rounds_of(synthetic.lambda_like(60, 128, 1), Response("additive", 22.0), 0.0)
    strict, loose = (decided(rounds, limits=recommend.Limits(lost_ratio=share)) for share in (0.0, 0.01))
    assert strict.choice.best.family != "approximate" and loose.choice.best.family == "approximate"
    assert loose.choice.best.runtime_s < strict.choice.best.runtime_s
    assert 0 < loose.choice.best.lost_ratio <= 0.01


def test_where_load_is_nearly_free_repetition_beats_what_is_published():
    """Groups end a round with one result each, which no deadline undercuts; M-SGC is named with its condition."""
    rounds = rounds_of(synthetic.lambda_like(80, 256, 3), Response("additive", 2.2), 0.0)
    found = decided(rounds)
    assert found.choice.pays and found.choice.best.family == "fractional"
    assert found.choice.saving_ratio > 0.5 and found.choice.best.runtime_s >= estimate.bound_s(rounds, 80)
    assert any("for comparison: M-SGC" in one for one in recommend.steps(found.choice, found.rows, 256))


def test_nearly_equal_schemes_are_decided_by_their_delay():
    scheme = SimpleNamespace
    rows = [SimpleNamespace(runtime_s=time, scheme=scheme(delay_rounds=delay)) for time, delay in
            ((100.0, 6), (101.0, 2), (101.5, 2), (105.0, 0))]  # fmt: skip
    assert recommend._simplest(rows) is rows[1]
