"""Rooms about full ports and mixed adapters: prices, thresholds that matter, silence elsewhere."""

import dataclasses

import pytest

from skewscope.catalogue import load, room
from skewscope.frames import all_tables, concat
from skewscope.simulate import simulate
from skewscope.simulate.scenario import parse

ports, worlds = load("detectors._ports"), load("detectors._port_worlds")
mixed, full = load("detectors.nic_mixed_kinds"), load("detectors.nic_saturation")
ONE = "n1/mlx5_0"


def found(name, tables, **changes):
    return list(dataclasses.replace(room("detectors", name).load(), **changes).detect(tables))


def world(name, which):
    return next(one for one in room("detectors", name).load().cases() if one.name == which).tables


def one(name, made, **changes):
    (found_one,) = found(name, made.tables(), **changes)
    return found_one


def filled(ratio=0.95, **more):
    return worlds.port(worlds.fleet(), ports.SENT, ratio * 50e9 * 30.0, **more)


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        ("nic-saturation", "near-miss", {"full_ratio": 0.88}),
        ("nic-saturation", "look-alike-rail", {"moved_ratio": 0.0}),
        ("nic-saturation", "checkpoint", {"held_count": 1}),
        ("nic-mixed-kinds", "near-miss", {"rate_ratio": 0.75}),
        ("nic-mixed-kinds", "groups-are-fast", {"bandwidth_ratio": 0.73}),
    ],
)
def test_a_looser_threshold_makes_a_near_miss_a_finding(name, which, changes):
    assert found(name, world(name, which)) == []
    assert len(found(name, world(name, which), **changes)) == 1


@pytest.mark.parametrize(
    ("name", "which", "changes"),
    [
        ("nic-saturation", "full", {"full_ratio": 0.96}),
        ("nic-saturation", "full", {"held_count": 11, "of_count": 12}),
        ("nic-mixed-kinds", "one-host", {"rate_ratio": 0.49}),
        ("nic-mixed-kinds", "one-host", {"bandwidth_ratio": 0.39}),
        ("nic-mixed-kinds", "one-host", {"held_count": 21, "of_count": 21}),
    ],
)
def test_a_stricter_threshold_silences_a_finding(name, which, changes):
    assert len(found(name, world(name, which))) == 1
    assert found(name, world(name, which), **changes) == []


def test_a_full_port_costs_what_transfers_became_longer():
    told = one("nic-saturation", filled().slow_transfer(0.08))
    assert (told.subject.id, told.role, told.severity) == (ONE, "culprit", "S3")
    assert told.lost_s == pytest.approx(0.08, rel=0.1) and told.lost_share == pytest.approx(0.08 / 0.58, rel=0.1)
    load_ratio, rate = told.evidence
    assert (load_ratio.value, rate.value) == (pytest.approx(0.95), 50e9)


def test_what_costs_next_to_nothing_is_context():
    cheap = filled().slow_transfer(0.006)
    assert one("nic-saturation", cheap).role == "context"
    assert one("nic-saturation", cheap, cost_ratio=0.01).role == "culprit"
    assert one("nic-saturation", filled()).severity == "S4"


def test_a_full_port_without_a_job_or_from_the_start_is_a_culprit_all_at_once_are_not():
    idle = found("nic-saturation", filled().tables(job=False))
    assert [(each.role, each.severity, each.lost_s) for each in idle] == [("culprit", "S3", 0.0)]
    assert one("nic-saturation", filled(since=0)).role == "culprit"
    every = worlds.fleet()
    every.put(ports.SENT, 0.95 * 50e9 * 30.0, devices=every.nics, since=0)
    told = one("nic-saturation", every)
    assert (told.subject.id, told.role) == ("llm", "context")


def test_a_port_that_takes_the_bytes_of_another_is_told_elsewhere():
    half = worlds.port(filled(), ports.SENT, 0.3 * worlds.BYTES, device="mlx5_1")
    assert one("nic-saturation", half).subject.id == ONE
    gone = worlds.port(filled(), ports.SENT, 0.2 * worlds.BYTES, device="mlx5_1")
    assert found("nic-saturation", gone.tables()) == []


def spanning(rates, **more):
    return mixed._spanning(rates, **more)


def test_mixed_kinds_cost_what_the_faster_rate_would_save():
    told = one("nic-mixed-kinds", spanning({"n1": 25e9}))
    assert (told.subject.id, told.role, told.severity) == ("n1", "culprit", "S4")
    assert told.lost_s == pytest.approx(24 * 0.002 * 0.5, rel=1e-6) and told.lost_share == pytest.approx(
        0.048, abs=1e-3
    )
    quarter = one("nic-mixed-kinds", spanning({"n1": 12.5e9}))
    assert quarter.lost_s == pytest.approx(24 * 0.002 * 0.75, rel=1e-6)
    assert one("nic-mixed-kinds", spanning({"n1": 25e9}), cost_ratio=0.05).role == "context"
    assert one("nic-mixed-kinds", spanning({"n1": 25e9}), cost_ratio=0.047).role == "culprit"


def test_ports_whose_board_nobody_tells_are_no_other_kind():
    made = worlds.fleet()
    made.put(ports.RATE, 25e9, nodes=["n1"], devices=made.nics).put(mixed.BANDWIDTH, 20e9, labels=mixed.LABELS)
    assert found("nic-mixed-kinds", made.tables()) == []


def test_another_link_layer_counts_where_groups_of_one_kind_are_faster():
    def layers(rare, moved):
        made = spanning({}, moved=moved)
        for node in rare:
            text = "netdev=ib0,link_layer=InfiniBand,firmware=28.42.1000,board=MT_0000000838"
            usual = "netdev=eth0,link_layer=Ethernet,firmware=28.42.1000,board=MT_0000000838"
            made._rows = {key: row for key, row in made._rows.items() if key[1:3] != (usual, node)}
            made.put(ports.INFO, 1.0, labels=text, nodes=[node], devices=made.nics)
        return made

    rows = layers(["n1"], 20e9).tables()["windows"]
    assert found("nic-mixed-kinds", all_tables({"windows": rows})) == [], "with no group to compare with"
    pure = spanning({}, moved=40e9).tables()["windows"].astype({"node": object, "job": object})
    pure["node"], pure["job"] = pure["node"].str.replace("n", "m"), pure["job"].replace("llm", "other")
    both = all_tables({"windows": concat("windows", [rows, pure]).sort_values("metric", kind="stable")})
    (told,) = found("nic-mixed-kinds", both)
    assert told.subject.id == "n1" and told.lost_s == pytest.approx(24 * 0.002 * 0.5, rel=1e-6)
    assert found("nic-mixed-kinds", both, bandwidth_ratio=0.49) == []


def test_another_board_with_its_own_rate_is_no_link_that_is_down():
    assert found("nic-link-down", spanning({"n1": 25e9}).tables()) == []
    same = found("nic-link-down", spanning({"n1": 25e9}, board="MT_0000000838").tables())
    assert [each.subject.id for each in same] == ["n1"]


def test_a_full_port_in_the_simulator_carries_its_line_and_the_mixed_host_tells_another_board():
    made = simulate(parse({"jobs": [{"ranks": 32, "steps": 200}], "faults": [
        {"condition": "nic-saturation", "shape": "steady", "target": "n001/mlx5_2"},
        {"condition": "nic-mixed-kinds", "target": "n003"},
    ]}, "two"), 3)  # fmt: skip
    shown = made.tables["windows"]
    late = (shown["t_ns"] > made.truth["faults"][0]["onset_ns"] + 60 * 10**9).to_numpy()
    here = ((shown["node"] == "n001") & (shown["device"] == "mlx5_2")).to_numpy()
    loads = [shown[here & late & (shown["metric"] == metric).to_numpy()]["increase_value"].to_numpy() / 1.5e12
             for metric in (ports.SENT, ports.RECEIVED)]  # fmt: skip
    assert max(one.min() for one in loads) > 0.9 and max(one.max() for one in loads) < 1.0
    kinds = ports.kinds(made.tables)
    assert {kinds[node, "mlx5_0"][1] for node in ("n001", "n003")} == {"MT_0000000838", "MT_0000000223"}
    assert len(kinds) == len(made.world.fleet.nodes) * 8
