"""Published parameters on delays like the published ones: the ratios of an independent reference implementation."""

import numpy as np
import pytest

from skewscope.coding import bursts, gc, m_sgc, response, sr_sgc, synthetic, uncoded
from skewscope.coding.response import Response
from skewscope.coding.rounds import BEST, PUBLISHED, Rounds

ONE = np.ones(1)
JOBS = 480


def published(seed, start=synthetic.START):
    """Return run times of GC(15), SR-SGC(2,3,23), M-SGC(1,2,27), uncoded and eager GC under the published rules."""
    delays = synthetic.lambda_like(JOBS + 2, 256, seed, start)
    rounds = Rounds.of(delays, 0.0, Response("additive", synthetic.SLOPE_S))
    fifteen = np.array([15])
    made = (
        gc.simulate(rounds, fifteen, ONE, JOBS, PUBLISHED),
        sr_sgc.simulate(rounds, 2, np.array([3]), np.array([23]), ONE, JOBS, PUBLISHED),
        m_sgc.simulate(rounds, 1, 2, np.array([27]), ONE, JOBS, PUBLISHED),
        uncoded.simulate(rounds, JOBS),
        gc.simulate(rounds, fifteen, ONE, JOBS),
    )
    assert not any(run.lost_jobs[0] for run in made)
    return [float(run.runtime_s[0]) for run in made]


def test_ratios_of_the_published_parameters():
    """Reference: .964, .952, 1.177, eager .749. The abstract's 16 % for M-SGC is not reproduced, nor claimed."""
    base, selective, multiplexed, plain, eager = np.mean([published(seed) for seed in range(5)], axis=0)
    assert selective / base == pytest.approx(0.964, abs=0.015)
    assert multiplexed / base == pytest.approx(0.952, abs=0.025)
    assert plain / base == pytest.approx(1.177, abs=0.03)
    assert eager / base == pytest.approx(0.749, abs=0.015)
    assert multiplexed / base > 0.90


def test_ratios_where_fewer_are_slow():
    """Slow fraction 2 %; reference .966, .887, 1.064, eager .659."""
    start = synthetic.END * 0.02 / 0.98
    base, *others = np.mean([published(seed, start) for seed in range(5)], axis=0)
    assert np.array(others) / base == pytest.approx([0.966, 0.887, 1.064, 0.659], abs=0.02)


def test_the_generator_has_the_facts_of_the_published_profile():
    """Median 0.644 s, 5 % late, bursts nearly all of one round; order statistics of the reference within 1 %."""
    delays = synthetic.lambda_like(480, 256, seed=1)
    found = bursts.fit(bursts.late(delays, 0.85))  # between its two states; the slow one begins at 1.1 s
    assert np.median(delays) == pytest.approx(0.644, abs=0.003)
    assert np.quantile(delays, 0.99) == pytest.approx(1.45, abs=0.1)
    assert found.slow_ratio == pytest.approx(0.050, abs=0.003) and found.late_mean == pytest.approx(12.8, abs=0.7)
    assert (found.start_ratio, found.end_ratio) == pytest.approx((0.0478, 0.901), abs=0.012)
    assert found.lengths[1] / found.count == pytest.approx(315 / 346, abs=0.02) and found.longest_rounds <= 6
    ranked = np.sort(delays, axis=1) + synthetic.SLOPE_S / 256
    kept = {0: 792.9, 4: 622.4, 13: 480.7, 26: 374.1, 32: 363.0, 64: 335.8}  # s of 480 rounds without the last b
    for backup, wanted in kept.items():
        assert ranked[:, 255 - backup].sum() == pytest.approx(wanted, rel=0.012)


@pytest.mark.parametrize(("slope", "losses", "multiplexed", "mu", "wanted"), [
    (2.2, 22, (2, 3, 62), 0.45, (476.4, 457.6, 799.2)),
    (22.0, 1, (2, 3, 72), 0.3, (791.8, 525.9, 836.3)),
])  # fmt: skip
def test_best_variants_with_a_searched_deadline(slope, losses, multiplexed, mu, wanted):
    """Eager GC, M-SGC with wait-out min and feasible losses, uncoded: seconds of the reference within 2 %."""
    rounds = Rounds.of(synthetic.lambda_like(JOBS + 3, 256, 2), 0.0, Response("additive", slope))
    burst, window, most = multiplexed
    took = (
        gc.simulate(rounds, np.array([losses]), ONE, JOBS).runtime_s[0],
        m_sgc.simulate(rounds, burst, window, np.array([most]), np.array([mu]), JOBS, BEST).runtime_s[0],
        uncoded.simulate(rounds, JOBS).runtime_s[0],
    )
    assert took == pytest.approx(wanted, rel=0.02)


def test_the_response_of_the_generator_is_found():
    """Five loads as in the paper; the slopes of the quantiles are equal, so load is additive."""
    loads = (0, 0.25, 0.5, 0.75, 1)
    answer = Response("additive", 1.12)
    measured = [answer.move(synthetic.lambda_like(40, 256, seed), 0.0, load) for seed, load in enumerate(loads)]
    found = response.fit(loads, measured)
    assert found.kind == "additive" and found.slope_s == pytest.approx(1.12, abs=0.03)
    assert max(found.slopes_s.values()) - min(found.slopes_s.values()) < 0.15
