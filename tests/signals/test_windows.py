from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.frames import concat, frame
from skewscope.signals import peers, persistence, view, windows

BASE_S = 1_700_000_010


def samples(metric, values, *, every_s=10, node="n0", device="gpu0", labels="", rank=-1, start_s=BASE_S):
    t_ns = [int((start_s + every_s * n) * 1e9) for n in range(1, len(values) + 1)]
    return frame(
        "samples",
        {"t_ns": t_ns, "node": node, "device": device, "metric": metric, "labels": labels, "value": values,
         "rank": rank},
    )  # fmt: skip


ENERGY, POWER = "skewscope_gpu_energy_joules_total", "skewscope_gpu_power_watts"


def test_gauges_have_mean_and_extremes_and_counters_grow():
    told = concat("samples", [samples(POWER, [100, 300, 200, 50]), samples(ENERGY, [5, 10, 30, 31])])
    table = windows.windows(told)
    assert table["metric"].astype(str).tolist() == [ENERGY, ENERGY, POWER, POWER]
    power = view.signal({"windows": table}, POWER)
    assert power.values[:, 0].tolist() == [200.0, 50.0] and power.window_s == 30
    assert view.signal({"windows": table}, POWER, take="low").values[0, 0] == 100
    assert view.signal({"windows": table}, POWER, take="high").values[0, 0] == 300
    assert view.signal({"windows": table}, ENERGY, take="increase").values[:, 0].tolist() == [25.0, 1.0]
    assert view.signal({"windows": table}, ENERGY, take="increase").rate().values[0, 0] == pytest.approx(25 / 30)
    assert np.isnan(view.signal({"windows": table}, ENERGY).values).all()


@pytest.mark.parametrize(
    ("values", "growth"),
    [([10, 20, 5], 15), ([4294967290, 4294967295, 4], 5 + 5), ([1e15, 1e15 + 1, 3], 4), ([7, float("nan"), 9], 2)],
)
def test_resets_and_wraps_never_lose_more_than_they_must(values, growth):
    table = windows.windows(samples(ENERGY, values))
    assert table["increase_value"].sum() == growth


def test_samples_out_of_order_or_twice_change_nothing():
    told = samples(ENERGY, [1, 2, 3, 4, 9, 11])
    mixed = concat("samples", [told.iloc[[4, 1, 5]], told.iloc[[0, 3, 2]], told.iloc[[2]]])
    assert windows.windows(mixed).equals(windows.windows(told))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 40))
def test_the_growth_of_a_counter_without_a_reset_is_kept(steps, every_s):
    values = np.cumsum(steps)
    table = windows.windows(samples(ENERGY, values.tolist(), every_s=every_s))
    assert table["increase_value"].sum() == values[-1] - values[0]
    assert table["samples_count"].sum() == len(values)


def test_labels_select_and_what_is_left_is_one_value():
    seconds = "skewscope_gpu_clock_event_seconds_total"
    told = concat(
        "samples",
        [samples(seconds, [0, 1, 2], labels="reason=hw_thermal"),
         samples(seconds, [0, 4, 8], labels="reason=sw_thermal"),
         samples(seconds, [0, 1, 1], labels="reason=hw_thermal", device="gpu1")],
    )  # fmt: skip
    tables = {"windows": windows.windows(told)}
    both = view.signal(tables, seconds, take="increase")
    assert dict(zip(both.device, both.values[0], strict=True)) == {"gpu0": 10.0, "gpu1": 1.0}
    hard = view.signal(tables, seconds, take="increase", reason=("hw_thermal", "hw_power_brake"))
    assert hard.values[0].tolist() == [2.0, 1.0] and hard.subject(1).id == "n0/gpu1"
    assert len(view.signal(tables, seconds, reason="none")) == 0 and len(view.signal(tables, "skewscope_x")) == 0


def test_a_small_signal_is_worked_out_once_and_cannot_be_changed(monkeypatch):
    tables = {"windows": windows.windows(samples(POWER, [100, 300, 200, 50]))}
    once = view.signal(tables, POWER)
    assert view.signal(tables, POWER) is once and view.signal(tables, POWER, take="low") is not once
    with pytest.raises(ValueError, match="read-only"):
        once.values[:] = 0.0
    monkeypatch.setattr(view, "MOST_REMEMBERED_BYTES", 1)
    assert view.signal(tables, POWER, take="high") is not view.signal(tables, POWER, take="high")


def test_an_absent_counter_is_nought_where_its_node_tells_anything():
    errors = "skewscope_rdma_errors_total"
    told = concat(
        "samples",
        [samples(POWER, [1] * 6), samples(errors, [0, 5, 5], device="mlx5_0", labels="error=symbol"),
         samples(POWER, [1] * 3, node="n1"), samples(errors, [0, 1, 2], node="n1", device="mlx5_0")],
    )  # fmt: skip
    found = view.signal({"windows": windows.windows(told)}, errors, take="increase", absent=0.0)
    assert found.values[:, 0].tolist() == [5.0, 0.0]  # n0 speaks in the second window
    assert found.values[0, 1] == 2.0 and np.isnan(found.values[1, 1])  # n1 does not


def test_signals_of_other_subjects_are_brought_into_line():
    told = concat(
        "samples",
        [samples(POWER, [10, 10, 10], device="gpu1"), samples(POWER, [30, 30, 30], device="gpu0"),
         samples("skewscope_gpu_utilization_ratio", [0.5, 0.5, 0.5], device="gpu1"),
         samples("skewscope_host_pressure_ratio", [0.25] * 3, device="", labels="resource=cpu")],
    )  # fmt: skip
    tables = {"windows": windows.windows(told)}
    power = view.signal(tables, POWER)
    busy = power.aligned(view.signal(tables, "skewscope_gpu_utilization_ratio"))
    assert {name: busy[0, n] for n, name in enumerate(power.device)}["gpu1"] == 0.5 and np.isnan(busy).sum() == 1
    host = power.aligned(view.signal(tables, "skewscope_host_pressure_ratio"), by=("node",))
    assert host.tolist() == [[0.25, 0.25]]
    when = power.window(np.array([True]))
    assert when.end_ns - when.start_ns == 30e9


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=9), st.integers(0, 8))
def test_the_median_of_peers_leaves_each_one_out(values, place):
    given_values = np.array([values])
    found = peers.peer_median(given_values, np.zeros(len(values)))
    place %= len(values)
    assert found[0, place] == pytest.approx(np.median(np.delete(given_values[0], place)))


def test_peers_are_of_one_group_and_the_unknown_are_none():
    values = np.array([[1.0, 2.0, np.nan, 4.0, 50.0, 60.0]])
    found = peers.peer_median(values, np.array(["a", "a", "a", "a", "b", "b"]))[0]
    assert found[:2].tolist() == [3.0, 2.5] and np.isnan(found[2]) and np.isnan(found[4:]).all()


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 8))
def test_what_was_held_had_enough_of_the_last_windows(bits, need, of):
    mask = np.array(bits)[:, None]
    found = persistence.held(mask, need, of)[:, 0]
    assert found.tolist() == [sum(bits[max(0, n - of + 1) : n + 1]) >= need for n in range(len(bits))]
    kept = persistence.lasting(mask, need, of)[:, 0]
    assert not (kept & ~mask[:, 0]).any()
