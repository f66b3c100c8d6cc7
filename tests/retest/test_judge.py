from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.retest._student import below, quantile
from skewscope.retest.judge import Limits, judge, verdict

MADE = run_path(str(Path(__file__).with_name("_results.py")))
healthy, measure, peers = MADE["healthy"], MADE["measure"], MADE["peers"]
RUNS = 120


def shares(speed, count, devices=1):
    """Return how often a node of a true speed passes, fails, stays unsure."""
    told = [
        verdict(healthy("me", seed, speed=speed, exact=True, devices=devices), peers(count, seed, devices=devices))
        for seed in range(RUNS)
    ]
    told = [one.verdict for one in told]
    return {name: told.count(name) / RUNS for name in ("pass", "fail", "unsure")}


@pytest.mark.parametrize("count", [3, 8])
def test_a_node_at_the_limit_rarely_passes_or_fails(count):
    at_limit = shares(Limits().least_ratio, count)
    assert at_limit["pass"] <= 0.1 and at_limit["fail"] <= 0.1


@pytest.mark.parametrize("count", [4, 8])
def test_healthy_passes_and_slow_fails(count):
    assert shares(1.0, count)["pass"] > 0.9
    slow = shares(0.8, count)
    assert slow["fail"] > 0.97 and not slow["pass"]


def test_with_eight_gpus_too():
    assert shares(1.0, 8, devices=8)["pass"] > 0.8
    assert not shares(0.9, 8, devices=8)["pass"]


def test_one_slow_device_of_eight_fails_the_node():
    mine = healthy("me", devices=8)
    slow = replace(mine, measures=(*mine.measures[:7], measure(0.7, "gpu7")))
    judged = verdict(slow, peers(6, devices=8))
    assert judged.verdict == "fail" and len(judged.why) == 1 and "gemm of gpu7 is 0." in judged.why[0]


def test_one_slow_device_is_seen_without_peers_but_nothing_passes_so():
    mine = healthy("me", devices=8)
    assert verdict(mine, ()).verdict == "unsure"
    slow = replace(mine, measures=(*mine.measures[:7], measure(0.7, "gpu7")))
    judged = verdict(slow, ())
    assert judged.verdict == "fail" and "devices of its node" in judged.why[0]


@pytest.mark.parametrize(
    ("result", "others", "said"),
    [
        (healthy("me"), peers(2), "2 peers did the same work, 3 are wanted"),
        (healthy("me", rounds=4), peers(6), "4 rounds, 5 are wanted"),
        (healthy("me"), [replace(one, hardware="A100 x8") for one in peers(6)], "0 peers"),
        (healthy("me"), [replace(one, backend="torch 1") for one in peers(6)], "0 peers"),
        (healthy("me"), [replace(one, verdict="fail") for one in peers(6)], "0 peers"),
        (healthy("me", failures=("gpu3 fell off",)), peers(6), "gpu3 fell off"),
        (replace(healthy("me"), measures=()), peers(6), "nothing was measured"),
    ],
)  # fmt: skip
def test_what_was_not_shown_is_unsure(result, others, said):
    judged = verdict(result, others)
    assert judged.verdict == "unsure" and said in "; ".join(judged.why)


def test_own_former_results_count_only_where_they_passed():
    mine, two = healthy("me"), peers(2)
    before = replace(healthy("me", 5), time_ns=50)
    assert verdict(mine, [*two, before]).verdict == "unsure"
    assert verdict(mine, [*two, replace(before, verdict="pass")]).verdict == "pass"
    assert verdict(mine, [*two, replace(before, verdict="pass", time_ns=mine.time_ns)]).verdict == "unsure"


def test_slow_peers_excuse_nobody():
    others = [*peers(6), healthy("slow1", speed=0.5), healthy("slow2", speed=0.5)]
    assert verdict(healthy("me", speed=0.8), others).verdict == "fail"
    assert judge(healthy("me"), others)[0].peers == 6


def test_the_newest_result_of_a_peer_counts():
    old = [replace(healthy(f"peer{at}", speed=2.0), time_ns=1) for at in range(6)]
    assert verdict(healthy("me"), [*old, *peers(6)]).verdict == "pass"
    assert verdict(healthy("me"), [*peers(6), *old]).verdict == "pass"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 3.0), st.floats(1e-3, 1e15))
def test_the_scale_of_speeds_does_not_matter(seed, speed, scale):
    def scaled(result):
        return replace(result, measures=tuple(
            replace(one, values=tuple(value * scale for value in one.values)) for one in result.measures
        ))  # fmt: skip

    mine, others = healthy("me", seed, speed=speed), peers(5, seed)
    assert verdict(mine, others).verdict == verdict(scaled(mine), [scaled(one) for one in others]).verdict


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 1.5), st.floats(0.5, 1.0))
def test_slower_is_never_judged_better(seed, speed, less):
    order = ("fail", "unsure", "pass")
    fast, slow = (verdict(healthy("me", seed, speed=one), peers(5, seed)).verdict for one in (speed, speed * less))
    assert order.index(slow) <= order.index(fast)


@given(st.integers(1, 60), st.floats(0.5, 0.999))
def test_a_quantile_is_where_its_share_lies_below(degrees, share):
    assert below(quantile(share, degrees), degrees) == pytest.approx(share, abs=1e-6)


def test_quantiles_agree_with_tables():
    assert [round(quantile(0.975, degrees), 3) for degrees in (1, 2, 5, 30)] == [12.706, 4.303, 2.571, 2.042]
