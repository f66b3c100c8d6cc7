"""Rooms about inference engines: prices in seconds of requests, pools, thresholds that matter, silence elsewhere."""

import dataclasses
from functools import cache
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.catalogue import load, room

T = run_path(str(Path(__file__).with_name("_thresholds.py")))

worlds, serving = load("detectors._serving_worlds"), load("detectors._serving")
Pool = worlds.Pool
N0, HERE = ["n0"], "n0/127.0.0.1:8000"
RUNNING, WAITING, USED = "requests_running", "requests_waiting", "kv_cache_usage_ratio"
FINISHED, PREEMPTED, TOKEN_S = "requests_finished_total", "preemptions_total", "inter_token_latency_seconds"
TRANSFER_S, FIRST_S = "kv_transfer_seconds_sum", "time_to_first_token_seconds_sum"
WAVES = np.array([1.0, 3.0, 2.0, 4.0])


def detector(name):
    return room("detectors", name).load()


def find(name, pool):
    return list(detector(name).detect(pool.told()))


def one(name, pool):
    (found,) = find(name, pool)
    return found


def burst(waiting=60.0, finished=140.0, nodes=(), **more):
    return Pool().serve(WAITING, waiting, nodes=nodes, **more).serve(FINISHED, finished, nodes=nodes, **more)


def starved(waiting=60.0, running=30.0, engine=0.0, **more):
    pool = Pool().serve("gateway_requests_waiting", 0.0, engine="gateway", nodes=N0, since=0)
    pool.serve("gateway_requests_waiting", waiting, engine="gateway", nodes=N0, **more)
    return pool.serve(RUNNING, running, **more).serve(WAITING, engine, **more)


def hot(waiting=100.0, running=60.0, finished=200.0, **more):
    pool = Pool().serve(WAITING, waiting, nodes=N0, **more).serve(RUNNING, running, nodes=N0, **more)
    return pool.serve(FINISHED, finished, nodes=N0, **more)


def falls(emptiest=26.0, waiting=20.0, **more):
    pool = Pool().serve(WAITING, waiting, nodes=N0)
    return pool.serve(RUNNING, np.array([40.0, emptiest]), nodes=N0, **more)


def pressed(used=0.95, put_back=6.0, **more):
    return Pool().serve(USED, used, nodes=N0, **more).serve(PREEMPTED, put_back, nodes=N0, **more)


def stalls(times=6.0, waves=WAVES, **more):
    pool = Pool()
    bounds = {"0.025": 0.1, "0.035": 0.9, "0.06": 0.995, f"{0.03 * times:g}": 1.0, "+Inf": 1.0}
    for bound, share in bounds.items():
        pool.serve(f"{TOKEN_S}_bucket", 31_200.0 * share, bound=bound, since=0)
    pool.serve(f"{TOKEN_S}_bucket", 31_200.0 * 0.97, bound="0.06", nodes=N0, **more)
    pool.serve("prompt_tokens_total", 108e3 * WAVES, nodes=N0, **more)
    return pool.serve(f"{TOKEN_S}_sum", 936.0 + 100.0 * waves, nodes=N0, **more)


def sent(each_s=2.0, first_s=2.1, size=288e6, **more):
    pool = Pool(kv_transfer_seconds_sum=1.2, kv_transfer_seconds_count=120.0, kv_transfer_bytes_count=120.0,
                kv_transfer_bytes_sum=120 * 288e6)  # fmt: skip
    pool.serve(TRANSFER_S, 120.0 * each_s, nodes=N0, **more).serve(FIRST_S, 120.0 * first_s, nodes=N0, **more)
    return pool.serve("kv_transfer_bytes_sum", 120.0 * size, nodes=N0, **more)


OF_POOLS = {"srv-admission-backlog": burst, "srv-ingress-starvation": starved}
OF_REPLICAS = {
    "srv-flow-skew": hot, "srv-early-stop-skew": falls, "kv-pressure": pressed, "kv-transfer-slow": sent,
    "srv-prefill-decode-interference": stalls, "srv-preempt-thrash": lambda **more: pressed(0.5, 30.0, **more),
}  # fmt: skip
MAKE = {**OF_POOLS, **OF_REPLICAS}


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("name", OF_REPLICAS)
def test_the_price_is_what_a_request_of_the_replica_takes_longer(name, share):
    found = one(name, MAKE[name]().slower(share, nodes=N0))
    assert (found.role, found.subject.kind, found.subject.id) == ("culprit", "replica", HERE)
    assert found.lost_share == pytest.approx(share, rel=0.15)
    assert found.lost_s == pytest.approx(8.0 / (1.0 - share) * share, rel=0.15)
    assert found.severity == ("S2" if share >= 0.2 else "S3") and found.subject.node == "n0"


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("name", OF_POOLS)
def test_of_a_pool_it_is_what_all_requests_of_the_model_take_longer(name, share):
    found = one(name, MAKE[name]().slower(share))
    assert (found.role, found.subject.kind, found.subject.id) == ("culprit", "job", "chat")
    assert found.lost_share == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize("name", MAKE)
def test_what_costs_nothing_is_context_and_a_passing_moment_nothing(name):
    found = one(name, MAKE[name]())
    assert (found.role, found.lost_s) == ("context", 0.0)
    assert found.window.end_ns == worlds.Pool().told()["windows"]["t_ns"].max()
    first = found.window.start_ns - (found.window.end_ns - 20 * 30 * 10**9)
    assert first in (300 * 10**9, 330 * 10**9), "from the tenth window on, or the first in which a batch fell"
    assert find(name, MAKE[name](until=11).serve(PREEMPTED, 0.0)) == []


def test_the_time_at_the_gateway_is_part_of_the_price():
    pool = starved().serve("gateway_queue_seconds_count", 480.0, engine="gateway", nodes=N0, since=0)
    found = one("srv-ingress-starvation", pool.serve("gateway_queue_seconds_sum", 960.0, engine="gateway", nodes=N0))
    assert (found.role, found.lost_s) == ("culprit", pytest.approx(2.0))
    assert found.lost_share == pytest.approx(0.2)


def test_where_no_engine_tells_latencies_the_finding_stands_without_a_price():
    pool = pressed()
    tables = pool.told()
    rows = tables["windows"]
    tables["windows"] = rows[~rows["metric"].astype(str).str.startswith("skewscope_serving_request_seconds").to_numpy()]
    (found,) = detector("kv-pressure").detect(tables)
    assert (found.role, found.lost_s, found.confidence) == ("culprit", 0.0, 0.7)


def test_without_a_time_before_the_other_replicas_say_what_is_usual():
    found = one("kv-pressure", pressed(since=0).slower(0.25, nodes=N0, since=0))
    assert found.lost_share == pytest.approx(0.25)
    assert one("kv-pressure", pressed(since=3).slower(0.25, nodes=N0, since=3)).lost_share == pytest.approx(0.25)
    every = Pool().serve(USED, 0.95, since=0).serve(PREEMPTED, 6.0, since=0).slower(0.25, since=0)
    assert (one("kv-pressure", every).subject.id, one("kv-pressure", every).lost_s) == ("chat", 0.0)


@pytest.mark.parametrize("name", OF_REPLICAS)
def test_three_of_eight_replicas_are_told_one_by_one(name):
    if name in ("srv-flow-skew", "srv-prefill-decode-interference", "kv-transfer-slow", "srv-early-stop-skew"):
        return
    pool = Pool(8)
    for node in ("n1", "n4", "n6"):
        pool.serve(USED, 0.95, nodes=[node]).serve(PREEMPTED, 40.0, nodes=[node])
    assert sorted(found.subject.id.partition("/")[0] for found in find(name, pool)) == ["n1", "n4", "n6"]
    pool.serve(USED, 0.95, nodes=["n7"]).serve(PREEMPTED, 40.0, nodes=["n7"])
    assert one(name, pool).subject.id == "chat"


def test_two_engines_of_one_host_are_two_replicas():
    pool = pressed()
    for metric, value in {USED: 0.5, PREEMPTED: 0.0, FINISHED: 120.0}.items():
        labels = "engine=vllm,model=chat,replica=127.0.0.1:8001"
        pool.put(f"skewscope_serving_{metric}", value, labels=labels, nodes=N0)
    assert one("kv-pressure", pool).subject.id == HERE


def test_a_silent_window_is_no_evidence():
    tables = burst().told()
    rows = tables["windows"]
    gone = (rows["node"] == "n0").to_numpy() & (rows["t_ns"] == rows["t_ns"].unique()[12]).to_numpy()
    tables["windows"] = rows[~gone]
    for name in MAKE:
        assert {found.subject.id for found in detector(name).detect(tables)} <= {"chat"}


def states(room_detector, cases):
    return [
        sorted((found.subject.id, found.role, found.severity, found.window) for found in room_detector.detect(world))
        for world in cases
    ]


MORE = {  # worlds beside those of the room, for thresholds that need one
    "srv-admission-backlog": lambda: [
        burst(nodes=["n0"]), burst(until=11), burst(12.0, 120.0), burst(30.0, 70.0), burst().slower(0.02),
        burst(nodes=["n0", "n1", "n2"]), burst(np.array([60.0, 0.0, 0.0])), burst(np.array([60.0, 0.0])),
    ],
    "srv-ingress-starvation": lambda: [
        starved(1.5), starved(running=35.0), starved(running=26.0), starved(engine=2.0), starved(engine=6.0),
        starved().slower(0.02), starved().slower(0.05), starved(np.array([60.0, 0.0, 0.0])),
        starved(np.array([60.0, 0.0])),
    ],
    "srv-flow-skew": lambda: [
        hot(20.0, 40.0), hot(200.0, 100.0),
        hot(finished=150.0).serve(FINISHED, 160.0, nodes=N0, since=0, until=10),
        hot(finished=130.0), hot(finished=100.0, waiting=60.0), hot(5.0, 150.0),
        hot().slower(0.02, nodes=N0), hot().slower(0.05, nodes=N0), hot(np.array([100.0, 0.0, 0.0])),
        hot().serve(WAITING, 5.0, nodes=["n1"]), hot(np.array([100.0, 0.0])),
    ],
    "srv-early-stop-skew": lambda: [
        falls(36.0), falls(15.0), falls().slower(0.02, nodes=N0), falls().slower(0.05, nodes=N0), falls(until=12),
        Pool().serve(WAITING, 9.0, nodes=N0).serve(RUNNING, np.array([40.0, 20.0, 20.0, 20.0, 20.0]), nodes=N0),
    ],
    "kv-pressure": lambda: [
        pressed(0.6), pressed().slower(0.02, nodes=N0), pressed().slower(0.05, nodes=N0),
        pressed(0.95, np.array([6.0, 0.0, 0.0])), pressed(0.95, np.array([6.0, 0.0])), pressed(until=11),
    ],
    "srv-preempt-thrash": lambda: [
        pressed(0.5, 20.0), pressed(0.5, 30.0).slower(0.02, nodes=N0), pressed(0.5, 30.0).slower(0.05, nodes=N0),
        pressed(0.5, np.array([40.0, 0.0, 0.0])), pressed(0.5, np.array([40.0, 0.0])),
    ],
    "srv-prefill-decode-interference": lambda: [
        stalls(2.5), stalls(4.0), stalls(waves=np.array([1.0, 2.0, 3.0, 1.0])), stalls().slower(0.02, nodes=N0),
        stalls().slower(0.05, nodes=N0), stalls(until=12), stalls(since=17), stalls(until=11),
    ],
    "kv-transfer-slow": lambda: [
        sent(0.015, 0.1), sent(0.03, 0.1), sent(0.018, 0.2), sent(0.03, 0.4), sent().slower(0.02, nodes=N0),
        sent().slower(0.05, nodes=N0), sent(until=11), sent(until=12),
        sent(np.array([2.0, 0.01, 0.01]), 2.1), sent(np.array([2.0, 0.01]), 2.1),
    ],
}  # fmt: skip


@cache
def judged(name):
    """Return the worlds of a room."""
    return [world.tables for world in detector(name).cases()] + [pool.told() for pool in MORE[name]()]


@pytest.mark.parametrize(("name", "field"), [
    (name, field.name) for name in MAKE for field in dataclasses.fields(detector(name))
])  # fmt: skip
def test_every_threshold_matters(name, field):
    assert T["matters"](detector(name), field, judged(name), states), f"{name}.{field} may be anything"


def test_what_comes_to_a_replica_is_what_it_finishes_and_what_its_queue_grows_by():
    growing = np.arange(1.0, 11.0)
    more = one("srv-flow-skew", hot(60.0 * growing, 60.0, finished=120.0).slower(0.3, nodes=N0))
    assert more.subject.id == HERE, "it finishes what others do, and its queue grows"
    slow = hot(20.0 * growing, 60.0, finished=90.0).slower(0.3, nodes=N0)
    assert find("srv-flow-skew", slow) == [], "it gets no more than others, and is slow"


def test_other_reasons_to_wait_are_no_backlog_and_no_skew():
    for other in ({PREEMPTED: 60.0}, {PREEMPTED: 6.0, USED: 0.95}, {RUNNING: np.array([60.0, 30.0])}):
        backlog, skewed = burst(), hot()
        for metric, value in other.items():
            backlog.serve(metric, value)
            skewed.serve(metric, value, nodes=N0)
        assert find("srv-admission-backlog", backlog) == [] and find("srv-flow-skew", skewed) == []


def test_a_slow_transfer_is_no_slower_than_the_fastest_usual():
    before_slow = sent(0.021, 0.5, since=0)
    assert one("kv-transfer-slow", before_slow).subject.id == HERE, "its peers say what is usual"
    every = sent(0.021, 0.5)
    for node in ("n1", "n2", "n3"):
        every.serve(TRANSFER_S, 120 * 0.021, nodes=[node])
    assert one("kv-transfer-slow", every).subject.id == "chat", "its own past says what is usual"


def test_correlation_leaves_out_what_is_unknown_in_either():
    of_rooms = load("detectors.srv_prefill_decode_interference")
    rising = np.arange(6.0)[:, None]
    gone, there = np.where(rising == 3.0, np.nan, rising), np.where(rising == 1.0, np.nan, rising)
    assert of_rooms.correlation(there, gone, 6)[-1, 0] == pytest.approx(1.0)
    unknown = np.where(rising < 4.0, np.nan, rising)
    assert np.isnan(of_rooms.correlation(rising, unknown, 6)).all(), "two of six windows say nothing"


def test_the_summary_of_a_starved_pool_says_what_was_usual_where_that_is_known():
    assert "where 160 is usual" in one("srv-ingress-starvation", starved()).summary
    always = starved(since=0).serve(RUNNING, 0.0, nodes=N0, since=0)
    assert "some of which run none" in one("srv-ingress-starvation", always).summary


def told_of_two_models():
    pool = starved().serve("gateway_queue_seconds_count", 480.0, engine="gateway", nodes=N0, since=0)
    pool.serve("gateway_queue_seconds_sum", 960.0, engine="gateway", nodes=N0)
    for metric in (RUNNING, FINISHED, "request_seconds_sum", "request_seconds_count"):
        own = {"labels": "engine=sglang,model=code,replica=b:1", "nodes": ["n1", "n2"]}
        pool.put(f"skewscope_serving_{metric}", worlds.USUAL[metric], **own)
    labels = "engine=gateway,model=code,replica=b:9"
    pool.put("skewscope_serving_gateway_requests_waiting", 0.0, labels=labels, nodes=["n3"])
    return pool


def test_each_model_has_its_own_pool_and_gateway():
    pool = told_of_two_models()
    told = serving.engines(pool.told())
    assert {model: len(columns) for model, columns in told.pools()} == {"chat": 4, "code": 2}, "a gateway is no replica"
    assert serving.gate_s(told, "chat")[10:].tolist() == [2.0] * 10 and not serving.gate_s(told, "code").any()
    assert np.nanmax(serving.gate_waiting(told, "code")) == 0.0
    found = one("srv-ingress-starvation", pool)
    assert found.subject.id == "chat" and "its 4 replicas" in found.summary


def test_ranks_of_one_replica_are_one_number():
    pool = Pool()
    labels = "engine=vllm,model=chat,replica=127.0.0.1:8000,rank=1"
    pool.put("skewscope_serving_requests_running", 30.0, labels=labels, nodes=N0)
    told = serving.engines(pool.told())
    assert len(told) == 4
    shown = [told.gauge(serving.RUNNING, take)[0, 0] for take in ("low", "mean", "high")]
    assert shown == [30.0, 40.0, 40.0]


def test_the_summary_says_the_price_where_there_is_one():
    assert "longer" not in one("kv-pressure", pressed()).summary
    assert one("kv-pressure", pressed().slower(0.2, nodes=N0)).summary.endswith("a request takes 2.00 s (20%) longer")


def test_quantiles_of_cumulative_counts():
    bounds = np.array([0.1, 0.2, 0.4, np.inf])
    counts = np.array([[[50.0, 90.0, 0.0, 100.0], [0.0, 0.0, 0.0, 0.0]]])
    assert serving.quantile(bounds, counts, 0.5)[0, 0] == pytest.approx(0.1)
    assert serving.quantile(bounds, counts, 0.7)[0, 0] == pytest.approx(0.15)
    assert serving.quantile(bounds, counts, 0.99)[0, 0] == pytest.approx(0.4), "above the last finite bound"
    assert np.isnan(serving.quantile(bounds, counts, 0.5)[0, 1])


def test_a_batch_is_falling_only_beside_a_queue_that_stays():
    told = serving.engines(falls(20.0).told())
    mask = serving.is_falling(told, 1.5)
    assert mask[10:, 0].tolist() == [False, True] * 5 and not mask[:, 1:].any()
    waiting = Pool().serve(RUNNING, np.array([40.0, 20.0])).serve(WAITING, np.array([5.0, 0.0]))
    assert not serving.is_falling(serving.engines(waiting.told()), 1.5).any()
