"""Rooms about single adapters: prices, windows, what each threshold decides, and many ports with one cause."""

import dataclasses

import numpy as np
import pytest

from skewscope.catalogue import room
from skewscope.detectors import _ports
from skewscope.detectors._live_worlds import EPOCH_NS, WINDOW_S
from skewscope.detectors._port_worlds import fleet, port, rail
from skewscope.frames import all_tables

LIVE = (
    "nic-link-down",
    "nic-link-flap",
    "nic-phy-degraded",
    "nic-driver-fault",
    "fabric-congestion",
    "pfc-storm",
    "ib-credit-starvation",
    "rdma-retransmit",
    "rdma-retry-exhausted",
    "rail-imbalance",
    "ecmp-collision",
)
DAMAGED = (_ports.ERRORS, 900.0, "error=receive")
VALUES = ["mean_value", "low_value", "high_value", "last_value", "increase_value"]


def found(name, tables, **changes):
    return list(dataclasses.replace(room("detectors", name).load(), **changes).detect(tables))


def subjects(name, tables, **changes):
    return {one.subject.id for one in found(name, tables, **changes)}


def world(name, which):
    return next(one for one in room("detectors", name).load().cases() if one.name == which)


def end_of(window):
    return EPOCH_NS + int((window + 1) * WINDOW_S * 1e9)


@pytest.mark.parametrize("name", LIVE)
def test_unknown_values_are_silent(name):
    for case in room("detectors", name).load().cases():
        windows = case.tables["windows"].copy()
        windows[VALUES] = np.nan
        assert found(name, all_tables({"windows": windows})) == [], case.name


@pytest.mark.parametrize("name", LIVE)
def test_hosts_without_adapters_are_silent(name):
    made = fleet()
    made._rows = {key: row for key, row in made._rows.items() if not key[3].startswith("mlx5")}
    assert found(name, made.slow_transfer(0.2).tables()) == []


@pytest.mark.parametrize("name", LIVE)
def test_a_job_that_is_slow_for_another_reason_is_not_the_network(name):
    assert found(name, fleet().late(3, 0.2).tables()) == []


@pytest.mark.parametrize(
    ("name", "metric", "value", "labels"),
    [
        ("nic-link-down", _ports.RATE, 25e9, ""),
        ("nic-phy-degraded", *DAMAGED),
        ("nic-link-flap", _ports.LINK_EVENTS, 1.0, "event=downed"),
    ],
)
def test_the_price_is_what_the_step_became_longer(name, metric, value, labels):
    made = port(fleet(), metric, value, labels, node="n2", device="mlx5_1").slow_transfer(0.08)
    (one,) = found(name, made.tables())
    assert one.subject.id == "n2/mlx5_1"
    assert one.role == "culprit"
    assert one.lost_s == pytest.approx(0.08, rel=0.15)
    assert one.lost_share == pytest.approx(0.08 / 0.58, rel=0.15)
    assert one.window.end_ns == end_of(19)
    assert abs(one.window.start_ns - end_of(9)) <= 2 * WINDOW_S * 1e9


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        ("nic-link-down", "near-miss", {"down_windows_count": 1}),
        ("nic-link-down", "rate-near-miss", {"rate_ratio": 0.85}),
        ("nic-link-flap", "near-miss", {"flaps_count": 2}),
        ("nic-phy-degraded", "near-miss", {"symbols_count": 60.0}),
        ("nic-phy-degraded", "peers-near-miss", {"peers_ratio": 5.0}),
        ("nic-phy-degraded", "damaged-near-miss", {"damaged_per_s": 5.0}),
        ("nic-phy-degraded", "retrains-rarely", {"recovered_count": 2.5}),
        ("nic-phy-degraded", "burst", {"hard_windows_count": 1}),
        ("nic-driver-fault", "near-miss", {"health_count": 1.5}),
    ],
)
def test_a_lower_threshold_makes_a_near_miss_a_finding(name, which, changes):
    assert found(name, world(name, which).tables) == []
    assert len(found(name, world(name, which).tables, **changes)) == 1


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        ("nic-link-down", "down", {"down_windows_count": 11}),
        ("nic-link-down", "half-rate", {"rate_ratio": 0.4}),
        ("nic-link-down", "half-rate", {"slow_windows_count": 21}),
        ("nic-link-flap", "flaps", {"flaps_count": 6}),
        ("nic-link-flap", "flaps", {"within_s": 150.0}),
        ("nic-phy-degraded", "symbols", {"symbols_count": 240.0}),
        ("nic-phy-degraded", "beside-noise", {"peers_ratio": 20.0}),
        ("nic-phy-degraded", "symbols", {"windows_count": 11}),
        ("nic-phy-degraded", "damaged", {"damaged_per_s": 20.0}),
        ("nic-phy-degraded", "retrains", {"recovered_count": 10.0}),
        ("nic-phy-degraded", "damaged", {"hard_windows_count": 11, "of_hard_windows_count": 20}),
        ("nic-driver-fault", "firmware", {"firmware_count": 2.0}),
        ("nic-driver-fault", "health", {"health_count": 6.0}),
    ],
)
def test_a_higher_threshold_silences_a_finding(name, which, changes):
    assert len(found(name, world(name, which).tables)) == 1
    assert found(name, world(name, which).tables, **changes) == []


def test_a_port_that_never_was_up_is_down_if_its_namesakes_are_up():
    made = port(fleet(), _ports.UP, 0.0, "layer=physical", since=0)
    assert subjects("nic-link-down", made.tables()) == {"n1/mlx5_0"}
    assert subjects("nic-link-down", made.tables(), namesakes_up_ratio=1.1) == set()


def test_a_flap_is_told_with_the_time_of_the_first_and_the_last():
    (one,) = found("nic-link-flap", world("nic-link-flap", "flaps").tables)
    assert (one.window.start_ns, one.window.end_ns) == (end_of(5), end_of(12))
    assert one.severity == "S2"


def test_a_port_falls_with_its_driver_only_at_the_same_time():
    made = fleet().put(
        "skewscope_kernel_messages_total", 1.0, labels="category=nic_health", nodes=["n1"], since=2, until=3
    )
    tables = port(made, _ports.UP, 0.0, "layer=physical", since=8).tables()
    assert subjects("nic-driver-fault", tables) == set()
    assert subjects("nic-driver-fault", tables, near_windows_count=8) == {"n1/mlx5_0"}


def test_all_ports_of_a_host_are_the_host():
    made = fleet(nics=4)
    made.put(DAMAGED[0], DAMAGED[1], labels=DAMAGED[2], nodes=["n3"], devices=made.nics, since=10)
    assert subjects("nic-phy-degraded", made.tables()) == {"n3"}


def test_all_rails_of_many_hosts_are_the_fabric():
    made = fleet(nics=4)
    made.put(DAMAGED[0], DAMAGED[1], labels=DAMAGED[2], devices=made.nics, since=10)
    assert subjects("nic-phy-degraded", made.tables()) == {"fabric"}


def test_in_a_large_fleet_ports_that_begin_together_are_one_switch():
    together, apart = fleet(nodes=40), fleet(nodes=40)
    for turn, node in enumerate(("n3", "n11", "n20", "n31")):
        port(together, *DAMAGED, node=node, since=10)
        port(apart, *DAMAGED, node=node, since=4 + 4 * turn)
    assert subjects("nic-phy-degraded", together.tables()) == {"rail/mlx5_0"}
    assert subjects("nic-phy-degraded", apart.tables()) == {f"{node}/mlx5_0" for node in ("n3", "n11", "n20", "n31")}


def test_what_was_there_from_the_start_has_no_common_onset():
    made = fleet(nodes=40)
    for node in ("n3", "n11", "n20", "n31"):
        port(made, *DAMAGED, node=node, since=0)
    assert len(found("nic-phy-degraded", made.tables())) == 4


def test_one_switch_costs_once():
    made = rail(fleet(), *DAMAGED).slow_transfer(0.1)
    (one,) = found("nic-phy-degraded", made.tables())
    assert one.subject.kind == "rack"
    assert one.lost_s == pytest.approx(0.1, rel=0.15)
