"""Intervals between checkpoints and failure statistics, against published values, closed forms and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma

from skewscope.errors import UsageError
from skewscope.optimize import checkpoint, failures
from skewscope.optimize.checkpoint import Asked

LLAMA_3_MTTF_S = 11_135.0
# unplanned interruptions by cause, as published: 148 + 72 + 54 + ... = 419
CAUSES = {"faulty GPU": 148, "HBM3": 72, "software": 54, "network": 35, "host maintenance": 32, "SRAM": 19,
          "GPU system processor": 17, "NIC": 7, "watchdog": 7, "SDC": 6, "thermal": 6, "SSD": 3, "power": 3,
          "five of two": 10}  # fmt: skip


@pytest.mark.parametrize(("hours", "daly", "exact"), [(24, 117, 116.69), (6, 57, 56.71), (0.25, 9.1, 9.17)])
def test_dalys_own_values_and_the_exact_root(hours, daly, exact):
    mttf_min = hours * 60
    assert checkpoint.daly_s(5, mttf_min) == pytest.approx(daly, abs=0.5 if hours > 1 else 0.05)
    root = checkpoint.exact_s(5, mttf_min)
    assert root == pytest.approx(exact, abs=0.005)
    assert (root / mttf_min - 1) * np.exp((root + 5) / mttf_min) + 1 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("save", "restart", "tau", "effective"), [(30, 600, 798, 0.880), (60, 600, 1116, 0.853), (5, 300, 330, 0.9445)]
)
def test_a_run_of_the_size_of_llama_3(save, restart, tau, effective):
    found = checkpoint.exact_s(save, LLAMA_3_MTTF_S)
    assert found == pytest.approx(tau, abs=1)
    assert checkpoint.ettr(found, save, LLAMA_3_MTTF_S, restart) == pytest.approx(effective, abs=6e-4)
    low = checkpoint.first_order_ettr(found, save, LLAMA_3_MTTF_S, restart)
    assert 0.0005 < checkpoint.ettr(found, save, LLAMA_3_MTTF_S, restart) - low < 0.012


def test_three_formulas_beside_each_other():
    assert checkpoint.young_s(30, LLAMA_3_MTTF_S) == pytest.approx(817, abs=0.5)
    assert checkpoint.daly_s(30, LLAMA_3_MTTF_S) == pytest.approx(797, abs=0.6)
    assert checkpoint.daly_s(3.0, 1.0) == 1.0


def test_the_root_is_the_best_of_a_grid_whatever_the_restart():
    draw = np.random.default_rng(0)
    for save, mttf, restart in draw.uniform((1, 600, 0), (300, 1e5, 3600), (20, 3)):
        best = checkpoint.exact_s(save, mttf)
        at = checkpoint.ettr(best, save, mttf, restart)
        assert all(checkpoint.ettr(best * factor, save, mttf, restart) < at for factor in (0.9, 0.99, 1.01, 1.1))


def simulated_ettr(tau, save, mttf, restart, runs=200_000, seed=1):
    """Return useful over all seconds of segments of `tau`, repeated until one ends without a failure."""
    draw = np.random.default_rng(seed)
    spent = np.zeros(runs)
    todo = np.ones(runs, dtype=bool)
    while todo.any():
        fails = draw.exponential(mttf, runs)
        done = fails > tau + save
        spent += np.where(todo, np.where(done, tau + save, fails), 0.0)
        failed = todo & ~done
        again = failed.copy()  # a restart may fail too
        while again.any():
            fails = draw.exponential(mttf, runs)
            whole = fails > restart
            spent += np.where(again, np.where(whole, restart, fails), 0.0)
            again &= ~whole
        todo = failed
    return tau / spent.mean()


@pytest.mark.parametrize(("save", "restart", "tau"), [(30, 600, 798), (60, 600, 1116), (5, 300, 330)])
def test_simulated_runs_agree(save, restart, tau):
    simulated = simulated_ettr(tau, save, LLAMA_3_MTTF_S, restart)
    assert checkpoint.ettr(tau, save, LLAMA_3_MTTF_S, restart) == pytest.approx(simulated, abs=1e-3)


def test_the_period_of_a_vendor_and_the_example_that_leaves_a_term_out():
    assert checkpoint.period_of_nvidia_s(10, 6000, 600) == pytest.approx(10 + np.sqrt(2 * 6600 * 10 + 100))
    assert np.sqrt(2 * 6600 * 10) == pytest.approx(363, abs=0.5)


def test_whole_steps_are_the_better_neighbour_and_no_shorter_than_a_save_drains():
    asked = Asked(30, LLAMA_3_MTTF_S, step_s=500.0)
    assert asked.best_s() == max((500.0, 1000.0), key=asked.ettr)
    assert Asked(5, LLAMA_3_MTTF_S, drain_s=900.0, step_s=200.0).best_s() == 1000.0
    slow = Asked(5, LLAMA_3_MTTF_S, drain_s=100.0)
    assert slow.ettr(800) < Asked(5, LLAMA_3_MTTF_S).ettr(800)


def test_published_rates():
    assert checkpoint.LLAMA_3_PER_GPU_DAY == pytest.approx(4.736e-4, rel=1e-4)
    assert failures.mttf(419, 54 * 86400).mean_s == pytest.approx(11_135, abs=1)
    assert failures.job_mttf_s(6.5, 16384) / 3600 == pytest.approx(0.225, abs=5e-4)
    assert sum(CAUSES.values()) == 419
    found = failures.shares(CAUSES)
    assert found["faulty GPU"] == pytest.approx(0.353, abs=5e-4)  # printed as 30.1 %
    family = ("faulty GPU", "HBM3", "SRAM", "GPU system processor", "SDC", "thermal")
    assert sum(found[one] for one in family) == pytest.approx(0.640, abs=5e-4)  # printed as 58.7 %


def test_the_interval_of_the_mean_holds_the_truth_nine_times_in_ten():
    draw = np.random.default_rng(3)
    counts = draw.poisson(5.0, 2000)
    held = [made.low_s <= 20.0 <= made.high_s for made in (failures.mttf(int(one), 100.0) for one in counts)]
    assert np.mean(held) >= 0.9
    made = failures.mttf(5, 100.0)
    assert made.high_s == pytest.approx(100 / gamma.ppf(0.05, 5)) and made.low_s < made.mean_s < made.high_s
    assert failures.mttf(0, 90.0).low_s == 30.0


def test_spares_keep_the_job_whole():
    draw = np.random.default_rng(4)
    away = draw.poisson(2048 * 3.789e-3 * 2, 100_000)
    count = failures.spares(2048, 3.789, 2 * 86400)
    assert np.mean(away <= count) >= 0.99 > np.mean(away <= count - 1)


def test_churn_of_workers_that_never_return_and_that_do():
    assert failures.churn(10, 3600.0, 36.0).lost_ratio == pytest.approx(0.1)
    both = failures.churn(10, 3600.0, 36.0, 3600.0)
    assert both.lost_ratio == pytest.approx(0.1)  # half are there, and each change comes twice
    with pytest.raises(UsageError, match="churn wants"):
        failures.churn(0, 1.0, 1.0)


def test_what_cannot_be_is_refused():
    for call in (lambda: checkpoint.exact_s(0, 1), lambda: failures.mttf(-1, 10), lambda: failures.mttf(1, 0),
                 lambda: failures.shares({"a": 0}), lambda: failures.spares(0, 1, 1)):  # fmt: skip
        with pytest.raises(UsageError):
            call()
