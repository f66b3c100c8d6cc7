from __future__ import annotations

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.optimize import backup

DRAWS = run_path(str(Path(__file__).with_name("_draws.py")))
ROUNDS, lambda_like = DRAWS["ROUNDS"], DRAWS["lambda_like"]

PUBLISHED = {0: (792.9, 792.9), 4: (622.4, 632.2), 13: (480.7, 506.4), 26: (374.1, 416.4), 32: (363.0, 414.8),
             64: (335.8, 447.8)}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return backup.static(lambda_like())


def test_the_profile_is_the_published_one():
    least, median, late, most = np.quantile(lambda_like(), (0, 0.5, 0.99, 1))
    assert (least, median, late, most) == pytest.approx((0.542, 0.644, 1.45, 2.25), rel=0.025)


@pytest.mark.parametrize("backups", PUBLISHED)
def test_times_are_the_published_ones(made, backups):
    seconds, per_kept = PUBLISHED[backups]
    assert made.round_s[backups] * ROUNDS == pytest.approx(seconds, rel=0.025)
    assert made.per_kept_s[backups] * ROUNDS == pytest.approx(per_kept, rel=0.025)


def test_the_optimum_is_at_twice_the_mean_number_of_late_workers(made):
    assert 24 <= made.best <= 36  # 12.2 late workers in the mean round


def test_the_kth_of_exponential_times():
    times = np.random.default_rng(0).exponential(1.0, (200_000, 6))
    measured = backup.arrivals_s(times).mean(axis=0)
    assert measured == pytest.approx([backup.exponential_arrival(k, 6) for k in range(1, 7)], rel=0.01)


def test_static_equals_counting_by_hand():
    draw = np.random.default_rng(3)
    times, comm = draw.random((20, 5)), draw.random(20)
    made = backup.static(times, comm)
    for dropped in range(5):
        rounds = [sorted(row)[5 - dropped - 1] + more for row, more in zip(times.tolist(), comm.tolist(), strict=True)]
        assert made.round_s[dropped] == pytest.approx(sum(rounds) / 20)
        assert made.per_kept_s[dropped] == pytest.approx(sum(rounds) / 20 * 5 / (5 - dropped))
        assert backup.per_kept_s(times, comm, dropped).mean() == pytest.approx(made.per_kept_s[dropped])


def test_who_is_dropped():
    times = np.array([[3.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
    assert backup.dropped_share(times, 2).tolist() == [1.0, 0.5, 0.5]
    assert backup.dropped_share(times, 0).tolist() == [0.0, 0.0, 0.0]
