"""The vectorised simulators give what the schemes give when they are played out by hand and by sets."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from skewscope.coding import fractional, gc, m_sgc, sr_sgc, uncoded
from skewscope.coding.response import Response
from skewscope.coding.rounds import Rounds, Rules

_spec = importlib.util.spec_from_file_location("explicit", Path(__file__).with_name("_explicit.py"))
explicit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(explicit)

RULES = [Rules(wait_out, accept) for wait_out in ("all", "min") for accept in ("model", "feasible")]
FREE = Response("additive", 0.0)


def delays(seed, rounds, workers, share=0.25):
    """Draw delays on a grid of tenths, so that ties and times exactly at the deadline happen."""
    draw = np.random.default_rng(seed)
    slow = draw.random((rounds, workers)) < share
    return np.round(np.where(slow, 2.0 + draw.exponential(1.0, slow.shape), 1.0 + 0.6 * draw.random(slow.shape)), 1)


def check(made, rounds, column, table):
    """Fail unless a column of the runs equals [(duration, late set)]."""
    assert made.seconds[:, column].tolist() == pytest.approx([duration for duration, _ in table], abs=1e-9)
    shown = [set(np.flatnonzero(row).tolist()) for row in rounds.late(made.late[:, column])]
    assert shown == [late for _, late in table]


def test_gradient_coding_by_hand():
    """Kappa 1, deadline 2: round 0 gives up one worker, round 1 has two late ones where s is 1."""
    rounds = Rounds.of([[1.0, 2.0, 5.0], [1.0, 3.0, 4.0], [1.0, 1.5, 1.9]], 0.5, FREE)
    one = np.array([1])
    took = [
        gc.simulate(rounds, one, np.array([1.0]), 3, rules).seconds[:, 0].tolist()
        for rules in (Rules("all", "model"), Rules("min", "model"), gc.EAGER)
    ]
    assert took == [[2.0, 4.0, 1.9], [2.0, 3.0, 1.9], [2.0, 3.0, 1.5]]


def test_load_moves_every_deadline():
    """Slope 4 s over a load of 2/3 - 1/3: everybody takes 4/3 s more, so 2.2 s no longer misses twice the fastest."""
    rounds = Rounds.of([[1.0, 1.1, 2.2]], 1 / 3, Response("additive", 4.0))
    made = gc.simulate(rounds, np.array([1]), np.array([1.0]), 1, Rules())
    assert made.late[0, 0] == 0 and made.seconds[0, 0] == pytest.approx(2.2 + 4 / 3)


def test_selective_repetition_by_hand():
    """n=3, B=1, W=2, lambda=2, so s=1: two late in round 0 mean that worker 1 repeats job 0 in round 1."""
    rounds = Rounds.of([[1.0, 3.0, 4.0], [1.0, 1.2, 1.1], [1.0, 1.0, 1.0]], 2 / 3, FREE)
    made = sr_sgc.simulate(rounds, 1, np.array([2]), np.array([2]), np.array([1.0]), 2, Rules("all", "model"))
    # round 0: accepted, 2 s. Round 1: nobody late, 1.2 s; job 1 lacks worker 1 only. Round 2: nobody owes, skipped.
    assert made.seconds[:, 0].tolist() == [2.0, 1.2, 0.0] and made.lost_jobs[0] == 0


def test_multiplexed_by_hand():
    """n=3, B=1, W=2, lambda=1: the late worker of round 0 must be waited for in round 1, as it repeats its chunk."""
    rounds = Rounds.of([[1.0, 1.0, 5.0], [1.0, 1.0, 3.0], [1.0, 4.0, 1.0], [1.0, 1.0, 1.0]], 2 / 6, FREE)
    asked = (rounds, 1, 2, np.array([1]), np.array([1.0]), 3)
    assert m_sgc.simulate(*asked, Rules("min", "model")).seconds[:, 0].tolist() == [2.0, 3.0, 2.0, 1.0]
    # job 0 is complete after round 1, so worker 1 may be late in round 2; it repeats in round 3
    assert m_sgc.simulate(*asked, Rules("min", "feasible")).late[:, 0].tolist() == [1, 0, 1, 0]


def test_uncoded_waits_for_the_last():
    rounds = Rounds.of([[1.0, 2.0], [3.0, 1.0]], 0.5, FREE)
    assert uncoded.simulate(rounds, 3).seconds[:, 0].tolist() == [2.0, 3.0, 2.0]


@pytest.mark.parametrize("seed", range(4))
def test_gradient_coding_agrees_with_the_explicit_run(seed):
    table = delays(seed, 12, 7, 0.35)
    response = Response("multiplicative", fixed_s=0.3) if seed % 2 else Response("additive", 1.5)
    rounds = Rounds.of(table, 1 / 7, response)
    asked = list(itertools.product(range(7), (0.1, 0.5, 1.0)))
    losses, mus = (np.array(column) for column in zip(*asked, strict=True))
    for rules in RULES:
        made = gc.simulate(rounds, losses, mus, 12, rules)
        for column, (spare, mu) in enumerate(asked):
            shift, factor = response.line(1 / 7, (spare + 1) / 7)
            played = explicit.gc(table.tolist(), lambda one, a=shift, b=factor: a + b * one, spare, mu, rules.wait_out)
            check(made, rounds, column, played)


@pytest.mark.parametrize("seed", range(3))
def test_eager_is_never_later_than_min_and_min_than_all(seed):
    rounds = Rounds.of(delays(seed, 200, 30), 1 / 30, Response("additive", 2.0))
    losses, mus = np.tile(np.arange(30), 3), np.repeat([0.2, 0.6, 1.0], 30)
    every, least = (gc.simulate(rounds, losses, mus, 200, Rules(one, "model")) for one in ("all", "min"))
    eager = gc.simulate(rounds, losses, mus, 200)
    assert (eager.seconds <= least.seconds).all() and (least.seconds <= every.seconds).all()
    assert (eager.seconds < least.seconds).any() and (least.seconds < every.seconds).any()


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: f"{rules.wait_out}-{rules.accept}")
@pytest.mark.parametrize("seed", range(3))
def test_selective_repetition_agrees_with_the_explicit_run(rules, seed):
    table, jobs = delays(seed, 11, 6, 0.3), 14  # longer than the recording, which begins again
    response = Response("additive", 0.7)
    rounds = Rounds.of(table, 1 / 6, response)
    for burst in (1, 2, 3):
        asked = list(itertools.product((1, 2), range(7), (0.3, 1.0)))
        spans, most, mus = (np.array(column) for column in zip(*asked, strict=True))
        kept = sr_sgc.losses(burst, spans * burst + 1, most) < 6
        made = sr_sgc.simulate(rounds, burst, spans * burst + 1, most, mus, jobs, rules)
        for column in np.flatnonzero(kept):
            scheme = sr_sgc.SrSgc(6, burst, int(spans[column]) * burst + 1, int(most[column]))
            shift, factor = response.line(1 / 6, scheme.load)
            played, wrong = explicit.sr_sgc(
                table.tolist(), lambda one, a=shift, b=factor: a + b * one, burst, scheme.window_rounds,
                scheme.late_workers, mus[column], jobs, rules.wait_out, rules.accept,
            )  # fmt: skip
            check(made, rounds, column, played)
            assert (made.lost_jobs[column] > 0) == bool(wrong) and not wrong


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: f"{rules.wait_out}-{rules.accept}")
@pytest.mark.parametrize("seed", range(2))
def test_multiplexed_agrees_with_the_explicit_run(rules, seed):
    table, jobs = delays(seed + 10, 11, 5, 0.3), 13
    response = Response("additive", 0.7)
    rounds = Rounds.of(table, 1 / 5, response)
    for burst, window in ((1, 2), (1, 4), (2, 3), (3, 5)):
        asked = list(itertools.product(range(6), (0.3, 1.0)))
        most, mus = (np.array(column) for column in zip(*asked, strict=True))
        made = m_sgc.simulate(rounds, burst, window, most, mus, jobs, rules)
        for column in range(len(asked)):
            shift, factor = response.line(1 / 5, m_sgc.MSgc(5, burst, window, int(most[column])).load)
            played, wrong = explicit.m_sgc(
                table.tolist(), lambda one, a=shift, b=factor: a + b * one, burst, window, int(most[column]),
                mus[column], jobs, rules.wait_out, rules.accept,
            )  # fmt: skip
            check(made, rounds, column, played)
            assert (made.lost_jobs[column] > 0) == bool(wrong) and not wrong


def test_repetition_ends_when_every_group_has_returned():
    table = delays(5, 40, 11)
    rounds = Rounds.of(table, 1 / 11, Response("additive", 1.0))
    losses = np.array([0, 1, 2, 4])
    made = fractional.simulate(rounds, losses, 40)
    for column, spare in enumerate(losses):
        groups = 11 // (spare + 1)
        wanted = [max(min(row[worker] for worker in range(11) if worker % groups == group) for group in range(groups))
                  for row in table.tolist()]  # fmt: skip
        assert made.seconds[:, column] == pytest.approx(np.array(wanted) + 1 / groups - 1 / 11)
        strict = gc.simulate(rounds, np.array([spare]), np.ones(1), 40).seconds[:, 0] - (spare + 1) / 11
        assert (made.seconds[:, column] - 1 / groups <= strict + 1e-9).all()


def test_many_candidates_at_once_give_what_each_gives_alone():
    rounds = Rounds.of(delays(3, 20, 9), 1 / 9, Response("additive", 1.0))
    most, mus = np.tile(np.arange(10), 40), np.repeat(np.linspace(0.05, 1, 40), 10)
    for rules in RULES:
        together = m_sgc.simulate(rounds, 2, 4, most, mus, 20, rules).runtime_s
        alone = [m_sgc.simulate(rounds, 2, 4, most[one : one + 1], mus[one : one + 1], 20, rules).runtime_s[0]
                 for one in range(0, 400, 37)]  # fmt: skip
        assert together[::37] == pytest.approx(alone)
