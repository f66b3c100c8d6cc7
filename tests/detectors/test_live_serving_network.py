"""Rooms about the network of engines and about attention ranks: prices, thresholds that matter, silence elsewhere."""

import dataclasses

import numpy as np
import pytest

from skewscope.catalogue import load, room

network, worlds = load("detectors._serving_network"), load("detectors._serving_network_worlds")
loss, backlog = load("detectors.srv_ingress_loss"), load("detectors.srv_egress_backlog")
jitter, attention = load("detectors.srv_egress_jitter"), load("detectors.srv_dp_attention_imbalance")
NetPool = worlds.NetPool
INGRESS, BACKLOG, JITTER, ATTENTION = (
    "srv-ingress-loss", "srv-egress-backlog", "srv-egress-jitter", "srv-dp-attention-imbalance",
)  # fmt: skip
AWAY = "direction=transmit"
REQUEST_S = 8.0  # of the worlds' requests, in the engine


def found(name, pool, **changes):
    return list(dataclasses.replace(room("detectors", name).load(), **changes).detect(pool.told()))


def one(name, pool, **changes):
    (told,) = found(name, pool, **changes)
    return told


def world(name, which):
    return next(each for each in room("detectors", name).load().cases() if each.name == which).tables


def looked(name, which, **changes):
    return list(dataclasses.replace(room("detectors", name).load(), **changes).detect(world(name, which)))


def lossy(share=0.004, later=0.5, **more):
    return NetPool().lose(loss.TWICE, share, **more).later(later, **more)


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        (INGRESS, "near-miss", {"lost_ratio": 0.0008}),
        (INGRESS, "idle", {"segments_per_s": 10.0}),
        (INGRESS, "look-alike-egress", {"own_drops_ratio": 0.005}),
        (INGRESS, "one-window", {"held_count": 1}),
        (BACKLOG, "near-miss", {"waiting_s": 0.45}),
        (BACKLOG, "few-bytes", {"queue_bytes": 5e4}),
        (BACKLOG, "everybody", {"usual_ratio": 1.9}),
        (BACKLOG, "look-alike-client", {"client_ratio": 0.81}),
        (BACKLOG, "look-alike-engine", {"token_ratio": 1.3}),
        (BACKLOG, "one-window", {"held_count": 1}),
        (JITTER, "near-miss", {"late_ratio": 1.2}),
        (JITTER, "look-alike-engine", {"late_ratio": 0.99}),
        (JITTER, "one-window", {"held_count": 1}),
        (ATTENTION, "near-miss", {"balance_ratio": 0.81, "chance_z": 2.0}),
        (ATTENTION, "few-requests", {"chance_z": 0.5}),
        (ATTENTION, "one-window", {"held_count": 1}),
        (ATTENTION, "a-while", {"long_count": 4}),
    ],
)
def test_a_looser_threshold_makes_a_near_miss_a_finding(name, which, changes):
    assert looked(name, which) == []
    assert len(looked(name, which, **changes)) >= 1


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        (INGRESS, "received-twice", {"lost_ratio": 0.005}),
        (INGRESS, "received-twice", {"segments_per_s": 6000.0}),
        (INGRESS, "received-twice", {"held_count": 11, "of_count": 11}),
        (BACKLOG, "waits", {"waiting_s": 2.1}),
        (BACKLOG, "waits", {"queue_bytes": 7e5}),
        (BACKLOG, "waits", {"usual_ratio": 70.0}),
        (BACKLOG, "waits", {"client_ratio": 0.1}),
        (BACKLOG, "waits", {"token_ratio": 0.99}),
        (BACKLOG, "short", {"header_bytes": 50.0}),
        (BACKLOG, "waits", {"held_count": 11, "of_count": 11}),
        (JITTER, "drops", {"late_ratio": 20.0}),
        (JITTER, "drops", {"quantile_ratio": 0.5}),
        (JITTER, "drops", {"held_count": 11, "of_count": 11}),
        (ATTENTION, "uneven", {"balance_ratio": 0.5}),
        (ATTENTION, "uneven", {"chance_z": 20.0}),
        (ATTENTION, "little", {"chance_z": 8.0}),
    ],
)
def test_a_stricter_threshold_silences_a_finding(name, which, changes):
    assert len(looked(name, which)) == 1
    assert looked(name, which, **changes) == []


def test_without_its_own_drops_jitter_is_the_gateways():
    assert [each.subject.id for each in looked(JITTER, "drops", lost_ratio=0.005)] == ["chat"]


@pytest.mark.parametrize("name", [INGRESS, JITTER, ATTENTION])
def test_what_costs_little_is_context(name):
    make = {
        INGRESS: lambda: lossy(later=0.2),
        JITTER: lambda: jitter._fitful(late_s=0.0005),
        ATTENTION: lambda: attention._split(1.8, lost=0.02),
    }[name]
    told = one(name, make())
    assert (told.role, told.severity) == ("context", "S4")
    assert 0 < told.lost_share < 0.03
    assert one(name, make(), cost_ratio=0.9 * told.lost_share).role == "culprit"
    assert one(name, make(), cost_ratio=1.1 * told.lost_share).role == "context"


def test_lost_segments_cost_what_first_tokens_come_later():
    told = one(INGRESS, lossy())
    assert (told.subject.id, told.role, told.severity) == ("n1", "culprit", "S3")
    assert told.lost_s == pytest.approx(0.5, rel=1e-6) and told.lost_share == pytest.approx(0.5 / 8.5, rel=1e-3)
    assert {each.signal: each.value for each in told.evidence}["segments_received_twice"] == pytest.approx(0.004)
    unpriced = one(INGRESS, NetPool(gateway=False).lose(loss.TWICE, 0.004))
    assert (unpriced.role, unpriced.confidence, unpriced.lost_s) == ("culprit", 0.7, 0.0)


@pytest.mark.parametrize("cause", loss.CAUSES)
def test_every_cause_of_drops_counts_and_those_of_the_interface_too(cause):
    assert one(INGRESS, NetPool().lose(loss.DROPPED, 0.004, f"cause={cause}")).subject.id == "n1"
    assert found(INGRESS, NetPool().lose(loss.DROPPED, 0.004, "cause=accept_queue_full")) == []
    assert one(INGRESS, NetPool().lose(network.PORT_DROPS, 0.004, "direction=receive")).subject.id == "n1"


def test_a_queue_costs_what_it_makes_tokens_wait():
    told = one(BACKLOG, backlog._waiting(backlog.SLOW_BYTES))
    assert told.lost_s == pytest.approx(2.0 - 0.03, rel=1e-6)
    assert told.lost_share == pytest.approx(told.lost_s / (REQUEST_S + told.lost_s), rel=0.02)
    assert (told.subject.id, told.role) == ("n1", "culprit")
    assert one(BACKLOG, backlog._waiting(backlog.SLOW_BYTES), cost_ratio=0.3).role == "context"


def test_fitful_tokens_cost_what_all_of_a_request_take_longer():
    told = one(JITTER, jitter._fitful())
    assert told.lost_s == pytest.approx(260 * jitter.LATE_S, rel=1e-6)
    assert told.lost_share == pytest.approx(told.lost_s / (REQUEST_S + told.lost_s), rel=0.02)
    whole = one(JITTER, NetPool().jitters(jitter.FITFUL, jitter.LATE_S))
    assert whole.subject.id == "chat" and whole.lost_s == pytest.approx(260 * jitter.LATE_S / 4, rel=1e-6)


def test_a_small_part_of_the_tokens_is_looked_at_where_they_are_late():
    few = (0.3, 0.977, 0.994, 0.994, 1.0, 1.0)  # 0.6 % of all, and so 2.4 % of one replica's
    assert found(JITTER, NetPool().jitters(few, 0.01)) == []
    assert one(JITTER, NetPool().jitters(few, 0.01).lose(network.PORT_DROPS, 0.004, AWAY)).subject.id == "n1"


def test_uneven_ranks_cost_what_requests_take_longer():
    told = one(ATTENTION, attention._split(1.8, lost=0.25))
    assert told.lost_share == pytest.approx(0.25, rel=1e-6) and told.role == "culprit"
    assert told.evidence[0].value == pytest.approx(1 / 1.8, rel=0.05)
    assert "127.0.0.1:8000/2" in told.summary


def test_ranks_that_take_turns_are_even():
    pool = attention._split()
    for metric in (attention.READ, attention.MADE):
        for rank, part in ((1, np.array([1.5, 0.5])), (2, np.array([0.5, 1.5]))):
            labels = f"engine=vllm,model=chat,replica=127.0.0.1:8000/{rank}"
            usual = 108e3 / 4 if metric == attention.READ else 31_200.0 / 4
            pool.put(metric, np.resize(part * usual, 10), labels=labels, nodes=["n1"], since=10)
    assert found(ATTENTION, pool) == []


def test_hosts_of_two_replicas_are_struck_as_one():
    pool = lossy()
    for metric, value in worlds.USUAL.items():
        pool.put(f"skewscope_serving_{metric}", value, labels="engine=vllm,model=chat,replica=127.0.0.1:8001",
                 nodes=["n1"])  # fmt: skip
    told = one(INGRESS, pool)
    assert told.subject.id == "n1" and told.lost_s > 0
