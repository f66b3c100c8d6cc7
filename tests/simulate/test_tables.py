import time

import numpy as np
import pandas as pd
import pytest

from skewscope import frames
from skewscope.signals.identity import identify
from skewscope.signals.windows import is_counter, windows
from skewscope.simulate import simulate
from skewscope.simulate.scenario import parse

KEY = ["metric", "labels", "node", "device", "rank", "t_ns"]
BUDGET_S = 60.0


def small(seed=3, confounders=True, missed=0.003, faults=(), **job):
    content = {
        "jobs": [{"ranks": 16, "steps": 150, **job}], "faults": list(faults),
        "noise": {"confounders": confounders, "missed_scrapes_ratio": missed},
    }  # fmt: skip
    return simulate(parse(content, "small"), seed)


def plain(table):
    return table.astype({name: object for name in table if table[name].dtype == "category"})


def test_same_scenario_and_seed_same_tables():
    fault = {"condition": "pfc-storm"}
    one, other = small(faults=[fault]), small(faults=[fault])
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, other.tables[name])
    assert one.truth == other.truth
    moved = small(seed=4, faults=[fault]).tables["windows"]
    assert not moved["last_value"].equals(one.tables["windows"]["last_value"])


def test_tables_keep_to_their_declarations():
    for name, table in small().tables.items():
        pd.testing.assert_frame_equal(frames.check(name, table), table)


def test_windows_are_sorted_and_whole():
    table = plain(small().tables["windows"])
    pd.testing.assert_frame_equal(table, table.sort_values([*KEY[:4], "rank", "t_ns"]).reset_index(drop=True))
    assert not table.duplicated(KEY).any()
    assert (table["t_ns"] % 30_000_000_000 == 0).all() and set(table["samples_count"]) <= {1, 2}
    counters = table["metric"].map(is_counter)
    assert table.loc[counters, "increase_value"].notna().all() and (table.loc[counters, "increase_value"] >= 0).all()
    assert table.loc[counters, "mean_value"].isna().all() and table.loc[~counters, "increase_value"].isna().all()
    gauges = table[~counters]
    assert (gauges["low_value"] <= gauges["mean_value"] + 1e-9).all()
    assert (gauges["mean_value"] <= gauges["high_value"] + 1e-9).all()


def test_raw_counters_only_grow_unless_the_agent_began_anew():
    made = small(confounders=False)
    table = made.tables["windows"]
    counters = table[table["increase_value"].notna().to_numpy()]
    series = counters.groupby(KEY[:5], observed=True, sort=False)["last_value"]
    assert (series.diff().fillna(0.0) >= 0).all()


def test_windows_are_what_single_samples_would_give():
    made = small(confounders=False, missed=0.05, faults=[{"condition": "rdma-retransmit"}])
    given, expected = plain(made.tables["windows"]), plain(windows(made.samples()))
    both = expected.merge(given, on=KEY, how="outer", suffixes=("", "_given"), indicator=True)
    left = both[(both["_merge"] == "left_only").to_numpy()]
    assert not (both["_merge"] == "right_only").any()
    assert (left["increase_value"] == 0).all()  # counters that never grew are left out
    same = both[(both["_merge"] == "both").to_numpy()]
    for name in ("mean_value", "low_value", "high_value", "last_value", "increase_value", "samples_count"):
        assert np.allclose(same[name], same[f"{name}_given"], rtol=1e-9, atol=1e-6, equal_nan=True), name


def test_a_node_that_is_silent_has_no_rows_in_that_window():
    made = small()
    (window, node), *_ = made.world.restarts
    table = made.tables["windows"]
    at = made.world.scenario.start_ns + (window + 1) * 30_000_000_000
    there = table[(table["t_ns"] == at).to_numpy()]["node"].unique().tolist()
    assert made.world.fleet.nodes[node] not in there and len(there) == len(made.world.fleet.nodes) - 1


def test_rank_totals_agree_with_the_steps():
    made = small(confounders=False, missed=0.0)
    table, run = made.tables["windows"], made.runs[0]
    mine = table[((table["metric"] == "skewscope_step_seconds_total") & (table["rank"] == 3)).to_numpy()]
    assert mine["last_value"].max() == pytest.approx(run.seconds.sum())
    spent = table[((table["metric"] == "skewscope_phase_seconds_total") & (table["rank"] == 3)).to_numpy()]
    assert spent.groupby("labels", observed=True)["last_value"].max().sum() == pytest.approx(run.seconds.sum())


def test_device_names_are_those_that_identity_gives():
    made = small()
    table = made.tables["windows"]
    devices = {str(name) for name in table["device"].cat.categories}
    assert identify("skewscope_gpu_power_watts", {"gpu": "3", "uuid": "x", "kind": "average"})[0] in devices
    assert identify("skewscope_rdma_transmit_bytes_total", {"device": "mlx5_7", "port": "1"})[0] in devices


def test_a_large_fleet_is_quick():
    begin = time.process_time()
    made = simulate(parse({"jobs": [{"ranks": 1024, "steps": 1000}]}, "large"), 1)
    rows = made.tables["windows"]
    assert time.process_time() - begin < BUDGET_S
    assert rows["rank"].nunique() == 1025 and made.runs[0].steps == 1000 and "rank_steps" not in made.tables
