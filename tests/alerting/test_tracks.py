"""How a room's worlds become series, and series the notation of promtool."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.alerting.timeline import notation
from skewscope.alerting.tracks import XID_STAMP, XIDS, Track, labels_of, tracks
from skewscope.catalogue import room

TIMES = np.arange(0.0, 300.0, 15.0)


def spelled(text):
    """Return the samples that promtool reads from a notation, NaN where there is none."""
    found = []
    for part in text.split():
        if part.startswith(("_", "stale")):
            found += [np.nan] * (1 + (int(part[2:]) - 1 if part.startswith("_x") else 0))
            continue
        head, _, count = part.partition("x")
        first, sign, step = head, "", "0"
        for place in range(1, len(head)):
            if head[place] in "+-" and head[place - 1] != "e":
                first, sign, step = head[:place], head[place], head[place + 1 :]
                break
        grow = float(f"{sign}{step}")
        found += [float(first) + grow * number for number in range(int(count or 0) + 1)]
    return np.array(found)


@pytest.mark.parametrize("seed", range(5))
def test_the_notation_tells_the_samples(seed):
    random = np.random.default_rng(seed)
    values = np.repeat(random.normal(0, 1e3, 12), random.integers(1, 6, 12))
    values = np.concatenate((values, np.cumsum(random.choice([0.5, 7.25], 30))))
    values[random.random(len(values)) < 0.2] = np.nan
    np.testing.assert_allclose(spelled(notation(values)), values, rtol=1e-8)


def test_a_gauge_goes_the_way_to_its_fault_in_shares():
    one = Track("skewscope_gpu_power_watts", {}, 100.0, np.array([200.0]), False)
    assert set(one.values(TIMES, 60, 120, 0.5)[4:8]) == {150.0}
    assert set(one.values(TIMES, 60, 120)[4:8]) == {200.0}
    assert set(one.values(TIMES, 60, 120)[8:]) == {100.0}


def test_a_counter_grows_evenly_and_never_falls():
    one = Track("skewscope_rdma_transmit_bytes_total", {}, 30.0, np.array([300.0]), False)
    grown = np.diff(one.values(TIMES, 60, 120))
    assert grown[:4].tolist() == [15.0] * 4 and grown[4:8].tolist() == [150.0] * 4 and grown[8:].tolist() == [15.0] * 11


def test_a_time_is_told_by_its_age():
    one = Track("skewscope_watch_last_cycle_timestamp_seconds", {}, 15.0, np.array([130.0]), False)
    told = TIMES - one.values(TIMES, 60, 120)
    assert set(told[:4]) == {15.0} and set(told[4:8]) == {130.0}


def test_xids_are_counted_and_dated_from_the_first_on():
    worlds = {world.name: world for world in room("detectors", "gpu-app-fault").load().cases()}
    shown = tracks(worlds["again"].tables, worlds["quiet"].tables, (XIDS, XID_STAMP), again=True)
    counts, stamps = (one.values(TIMES, 60, 300) for one in shown)
    assert np.isnan(counts[:4]).all() and counts[-1] >= 2
    assert np.nanmax(stamps) <= TIMES[-1] and (TIMES[~np.isnan(stamps)] >= stamps[~np.isnan(stamps)]).all()


@pytest.mark.parametrize(
    ("key", "labels"),
    [
        (("skewscope_rdma_errors_total", "error=symbol", "n1", "mlx5_0/2", "", -1),
         {"device": "mlx5_0", "port": "2", "error": "symbol", "instance": "n1:9709"}),
        (("skewscope_steps_total", "", "n0", "gpu3", "llm", 3), {"job_id": "llm", "rank": "3", "gpu": "3"}),
        (("skewscope_gpu_power_watts", "kind=average", "n0", "gpu1", "", -1), {"gpu": "1", "uuid": "GPU-n0-1"}),
    ],
)  # fmt: skip
def test_series_carry_the_labels_of_the_agent(key, labels):
    told = labels_of(key, "instance")
    assert labels.items() <= told.items() and "node" not in told
    assert labels_of(key, "node")["node"] == key[2]
