"""Rooms about paths between adapters: prices, who is blamed, what each threshold decides."""

import dataclasses

import numpy as np
import pytest

from skewscope.catalogue import room
from skewscope.detectors import _ports
from skewscope.detectors._live_worlds import EPOCH_NS, WINDOW_S
from skewscope.detectors._port_worlds import BYTES, PACKETS, fleet, port, rail
from skewscope.frames import all_tables

HANDLED, PAUSING = "event=cnp_handled", "priority=3,direction=transmit"
PAUSED = "priority=3,direction=receive"


def found(name, tables, **changes):
    return list(dataclasses.replace(room("detectors", name).load(), **changes).detect(tables))


def subjects(name, tables, **changes):
    return {one.subject.id for one in found(name, tables, **changes)}


def world(name, which):
    return next(one for one in room("detectors", name).load().cases() if one.name == which)


@pytest.mark.parametrize(
    ("name", "metric", "value", "labels"),
    [
        ("fabric-congestion", _ports.CONGESTED, 0.03 * PACKETS, HANDLED),
        ("pfc-storm", _ports.PAUSED, 6.0, PAUSING),
        ("ib-credit-starvation", _ports.WAITED, 5e9, ""),
        ("rdma-retransmit", _ports.RETRANSMITTED, 1e-5 * PACKETS, "cause=packet_sequence"),
        ("rdma-retry-exhausted", _ports.GIVEN_UP, 2.0, "cause=transport"),
        ("rail-imbalance", _ports.SENT, 0.3 * BYTES, ""),
    ],
)
def test_the_price_is_what_the_step_became_longer(name, metric, value, labels):
    made = port(fleet(), metric, value, labels, node="n2", device="mlx5_1").slow_transfer(0.08)
    (one,) = found(name, made.tables())
    assert one.subject.id == "n2/mlx5_1"
    assert one.role == "culprit"
    assert one.lost_s == pytest.approx(0.08, rel=0.15)
    assert one.lost_share == pytest.approx(0.08 / 0.58, rel=0.15)
    begin = EPOCH_NS + int(10 * WINDOW_S * 1e9)
    assert (one.window.start_ns, one.window.end_ns) == (begin, begin + int(10 * WINDOW_S * 1e9))


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        ("fabric-congestion", "near-miss", {"notified_ratio": 0.005}),
        ("fabric-congestion", "idle", {"least_packets_per_s": 1.0}),
        ("pfc-storm", "near-miss", {"pausing_ratio": 0.005}),
        ("pfc-storm", "burst", {"windows_count": 2}),
        ("ib-credit-starvation", "near-miss", {"waited_ratio": 0.045}),
        ("ib-credit-starvation", "peers-near-miss", {"peers_waited_ratio": 0.04}),
        ("ib-credit-starvation", "busy-port", {"per_byte_ratio": 0.5}),
        ("rdma-retransmit", "near-miss", {"lost_ratio": 0.5e-6}),
        ("rdma-retransmit", "idle-port", {"fewest_per_s": 0.1}),
        ("rdma-retransmit", "timeouts-near-miss", {"timeouts_per_s": 0.5}),
        ("rdma-retransmit", "burst", {"windows_count": 1}),
        ("rail-imbalance", "near-miss", {"shift_ratio": 1.125}),
        ("rail-imbalance", "burst", {"windows_count": 2}),
        ("ecmp-collision", "near-miss", {"bandwidth_ratio": 0.85}),
        ("ecmp-collision", "more-bytes", {"bytes_ratio": 2.2}),
        ("ecmp-collision", "late-rank", {"late_ratio": 0.5}),
    ],
)
def test_a_looser_threshold_makes_a_near_miss_a_finding(name, which, changes):
    assert found(name, world(name, which).tables) == []
    assert len(found(name, world(name, which).tables, **changes)) == 1


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        ("fabric-congestion", "crowded", {"notified_ratio": 0.03}),
        ("fabric-congestion", "restarts", {"restarts_per_s": 20.0}),
        ("fabric-congestion", "crowded", {"windows_count": 12, "of_windows_count": 20}),
        ("pfc-storm", "storm", {"pausing_ratio": 0.4, "paused_ratio": 0.4}),
        ("pfc-storm", "frames", {"paused_per_s": 40_000.0}),
        ("ib-credit-starvation", "waits", {"waited_ratio": 0.4}),
        ("ib-credit-starvation", "waits", {"tick_bytes": 32.0}),
        ("rdma-retransmit", "losses", {"lost_ratio": 2e-6}),
        ("rdma-retransmit", "timeouts", {"timeouts_per_s": 2.0}),
        ("rdma-retransmit", "damage", {"damaged_per_s": 0.2}),
        ("rdma-retry-exhausted", "one-port", {"given_up_count": 2.0}),
        ("rail-imbalance", "fell", {"shift_ratio": 2.0}),
        ("rail-imbalance", "unused", {"least_bytes_per_s": 1e12}),
        ("ecmp-collision", "collides", {"bandwidth_ratio": 0.5}),
        ("ecmp-collision", "collides", {"least_s": 0.01}),
        ("ecmp-collision", "collides", {"slow_share_ratio": 0.2}),
        ("ecmp-collision", "all-slower", {"windows_count": 20, "of_windows_count": 20}),
    ],
)
def test_a_stricter_threshold_silences_a_finding(name, which, changes):
    assert len(found(name, world(name, which).tables)) == 1
    assert [one for one in found(name, world(name, which).tables, **changes) if one.role == "culprit"] == []


def test_congestion_that_costs_nothing_is_context():
    made = port(fleet(), _ports.CONGESTED, 0.03 * PACKETS, HANDLED)
    (one,) = found("fabric-congestion", made.tables())
    assert (one.role, one.severity, one.lost_s) == ("context", "S4", 0.0)
    made.slow_transfer(0.03)
    assert found("fabric-congestion", made.tables())[0].role == "culprit"
    assert found("fabric-congestion", made.tables(), lost_share_ratio=0.1)[0].role == "context"


def test_two_ends_of_a_crowded_path_are_one_finding():
    made = port(fleet(), _ports.CONGESTED, 0.03 * PACKETS, HANDLED)
    port(made, _ports.CONGESTED, 0.03 * PACKETS, HANDLED, node="n2")
    assert subjects("fabric-congestion", made.tables()) == {"rail/mlx5_0"}
    assert subjects("fabric-congestion", made.tables(), hosts_count=3) == {"n1/mlx5_0", "n2/mlx5_0"}


def test_victims_of_a_storm_are_counted_not_blamed():
    (one,) = found("pfc-storm", world("pfc-storm", "storm").tables)
    assert one.subject.id == "n1/mlx5_0"
    assert one.severity == "S2"
    evidence = {line.signal: line.value for line in one.evidence}
    assert evidence["ports_paused"] == 6
    assert evidence["their_time_paused"] == pytest.approx(0.2)
    assert evidence["windows_stalled"] == 1.0


def test_a_storm_event_needs_no_persistence():
    made = port(fleet(), _ports.NIC_ERRORS, 1.0, "error=pause_storm", until=11)
    assert subjects("pfc-storm", made.tables()) == {"n1/mlx5_0"}


def test_without_a_sender_victims_are_no_culprits():
    made = fleet()
    port(made, _ports.PAUSED, 6.0, PAUSED, node="n3")
    (one,) = found("pfc-storm", made.tables())
    assert (one.role, one.subject.id) == ("victim", "n3/mlx5_0")
    rail(made, _ports.PAUSED, 6.0, PAUSED, device="mlx5_0")
    (one,) = found("pfc-storm", made.tables())
    assert (one.role, one.subject.id) == ("context", "rail/mlx5_0")


def test_the_stall_must_be_long_to_prove():
    tables = world("pfc-storm", "proven-of-two").tables
    assert subjects("pfc-storm", tables) == {"n3/mlx5_0"}
    assert subjects("pfc-storm", tables, stalled_ratio=0.9) == {"n1/mlx5_0"}
    receiver = world("ib-credit-starvation", "receiver").tables
    assert subjects("ib-credit-starvation", receiver, stalled_ratio=0.9) == {"n1/mlx5_0"}


def test_in_a_small_fleet_a_port_is_compared_with_its_own_past():
    made = fleet(nodes=2)
    made.put(_ports.WAITED, 1e6, devices=made.nics)
    port(made, _ports.WAITED, 5e9)
    assert subjects("ib-credit-starvation", made.tables()) == {"n1/mlx5_0"}
    port(made, _ports.WAITED, 5e9, since=0)
    assert subjects("ib-credit-starvation", made.tables()) == set()


def test_reordering_alone_is_not_loss():
    made = rail(fleet(), _ports.RETRANSMITTED, 0.01 * PACKETS, "cause=out_of_sequence").slow_transfer(0.1)
    assert found("rdma-retransmit", made.tables()) == []


@pytest.mark.parametrize(("majority", "voted"), [(2.0, "n1/mlx5_0"), (5.0, "n4")])
def test_ports_vote_for_the_end_that_failed(majority, voted):
    tables = world("rdma-retry-exhausted", "voted").tables
    assert subjects("rdma-retry-exhausted", tables, majority_ratio=majority) == {voted}


def test_troubles_far_apart_are_two():
    made = port(fleet(), _ports.GIVEN_UP, 1.0, "cause=transport", since=2, until=3)
    port(made, _ports.GIVEN_UP, 1.0, "cause=rnr", node="n4", since=16, until=17)
    assert subjects("rdma-retry-exhausted", made.tables()) == {"n1/mlx5_0", "n4/mlx5_0"}
    assert len(found("rdma-retry-exhausted", made.tables(), apart_s=600.0)) == 1


def test_a_silent_host_needs_enough_voters():
    tables = world("rdma-retry-exhausted", "silent-host").tables
    assert subjects("rdma-retry-exhausted", tables) == {"n3"}
    assert subjects("rdma-retry-exhausted", tables, voters_count=5) == {"rail/mlx5_0"}


def test_an_unused_port_is_seen_with_two_hosts():
    made = port(fleet(nodes=2, nics=4), _ports.SENT, 0.0, since=0)
    assert subjects("rail-imbalance", made.tables()) == {"n1/mlx5_0"}
    assert subjects("rail-imbalance", made.tables(), unused_ratio=0.0) == set()


def test_a_port_that_never_was_used_is_priced_by_its_calls():
    made = port(fleet(nics=4), _ports.SENT, 0.0, since=0)
    (free,) = found("rail-imbalance", made.tables())
    assert free.lost_s == 0.0
    made.put(SHORTEST, 0.01, labels=CALL, devices=made.gpus)
    made.put(SHORTEST, 0.02, labels=CALL, nodes=["n1"], devices=["gpu0"])
    made.put("skewscope_collectives_total", 600.0, labels=CALL, devices=made.gpus)  # 60 steps in a window
    (one,) = found("rail-imbalance", made.tables())
    assert one.lost_s == pytest.approx(0.1, rel=0.15)
    assert (one.lost_share, one.severity) == (pytest.approx(0.2, rel=0.15), "S2")


def test_a_rail_of_less_traffic_is_not_judged():
    made = port(fleet(nics=4), _ports.SENT, 0.3 * BYTES, since=0)
    for node in ("n0", "n2", "n3", "n4"):
        port(made, _ports.SENT, 0.2 * BYTES, node=node, since=0)
    port(made, _ports.SENT, 0.05 * BYTES, since=10)
    assert subjects("rail-imbalance", made.tables()) == set()
    assert subjects("rail-imbalance", made.tables(), rail_ratio=0.1) == {"n1/mlx5_0"}


def test_the_past_of_a_rail_is_its_beginning():
    made = port(fleet(nics=4), _ports.SENT, 0.7 * BYTES, since=3)
    assert subjects("rail-imbalance", made.tables(), before_windows_count=3) == {"n1/mlx5_0"}
    assert subjects("rail-imbalance", made.tables(), before_windows_count=20) == set()


def test_a_collision_names_the_rail_and_its_price():
    made = _slow_rail().slow_transfer(0.04)
    (one,) = found("ecmp-collision", made.tables())
    assert (one.subject.id, one.role) == ("rail/gpu1", "culprit")
    assert one.lost_s == pytest.approx(0.04, rel=0.15)


def test_a_collision_from_the_start_is_priced_by_its_calls():
    made = _slow_rail(since=0).put("skewscope_collectives_total", 240.0, labels=CALL, devices=["gpu1"])
    (one,) = found("ecmp-collision", made.tables())  # 60 steps in a window
    assert one.lost_s == pytest.approx(4 * 0.007, rel=0.15)
    assert one.lost_share == pytest.approx(4 * 0.007 / 0.5, rel=0.15)


def test_load_that_comes_and_goes_is_no_collision():
    made = _slow_rail()
    for window in range(10, 20, 2):
        made.put(SHORTEST, 0.03, labels=CALL, devices=["gpu1"], since=window, until=window + 1)
    assert found("ecmp-collision", made.tables()) == []
    assert len(found("ecmp-collision", made.tables(), steady_ratio=0.5)) == 1


def test_a_slow_gpu_link_is_no_collision():
    tables = world("ecmp-collision", "narrow-pcie").tables
    wide = tables["windows"].copy()
    width = wide["metric"] == "skewscope_gpu_pcie_link_width_lanes"
    wide.loc[width, ["mean_value", "low_value", "high_value", "last_value"]] = 16.0
    assert found("ecmp-collision", tables) == []
    assert subjects("ecmp-collision", all_tables({"windows": wide})) == {"rail/gpu1"}


def test_low_quantiles_leave_out_the_unknown():
    values = np.array([[np.nan, np.nan], [2.0, np.nan], [1.0, np.nan]])
    assert np.array_equal(_ports.low_quantile(values, 0.5), [1.0, np.nan], equal_nan=True)


SHORTEST, CALL = "skewscope_collective_min_seconds", "op=all_reduce,group=dp"


def _slow_rail(since=10):
    made = fleet()
    made.put(SHORTEST, 0.01, labels=CALL, devices=made.gpus)
    return made.put(SHORTEST, 0.017, labels=CALL, devices=["gpu1"], since=since)
