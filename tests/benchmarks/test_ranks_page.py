"""The Ranks page at 10,000 ranks x 1,000 steps: time, size and memory, beside a heatmap of lists.

The table holds only the columns that the page reads, as float32 where it can: a server that keeps less of a recording
than all of it is what the page is made for.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd
import pytest

from skewscope.catalogue import load, rooms
from skewscope.frames import all_tables

pytest.importorskip("plotly")
pytestmark = pytest.mark.benchmark
RANKS, STEPS, SLOW = 10_000, 1_000, 7_001
MOST_BYTES, MOST_ZOOM_S = 1_000_000, 0.5


def table():
    rng = np.random.default_rng(1)
    own = rng.normal(1e9, 5e6, (STEPS, RANKS)).astype("f4")
    own[300:, SLOW] += 3e8
    rank = np.tile(np.arange(RANKS, dtype=np.int32), STEPS)
    node = pd.Categorical.from_codes(rank // 8, [f"n{at:04d}" for at in range(RANKS // 8)])
    return pd.DataFrame({
        "job": pd.Categorical.from_codes(np.zeros(RANKS * STEPS, dtype=np.int8), ["job"]),
        "step": np.repeat(np.arange(STEPS, dtype=np.int32), RANKS), "rank": rank, "node": node,
        "stage": np.full(RANKS * STEPS, -1, dtype=np.int16), "work_ns": own.ravel(),
    }, copy=False)  # fmt: skip


def took(make):
    began = time.perf_counter()
    made = make()
    return made, time.perf_counter() - began


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_ranks_page_at_full_size():
    import plotly.graph_objects as go

    view = load("dashboards._view").View(id="big", tables={**all_tables({}), "rank_steps": table()})
    nothing = load("dashboards._selection").Selection()
    page = next(room for room in rooms("dashboards.pages") if room.id == "ranks").load()
    held = peak_mb()
    blocks, first_s = took(lambda: page.blocks(view, nothing))
    blocks, again_s = took(lambda: page.blocks(view, nothing))
    text, json_s = took(blocks[0].figure.to_json)
    zoomed, zoom_s = took(lambda: page.zoomed(view, nothing, 200, 420, 6_900, 7_100).to_json())
    lasting = peak_mb()
    assert f"Rank {SLOW}: " in blocks[0].verdict and len(text) < MOST_BYTES and zoom_s < MOST_ZOOM_S

    matrix = view.tables["rank_steps"]["work_ns"].to_numpy().reshape(STEPS, RANKS).T / 1e6
    naive, naive_s = took(lambda: go.Figure(go.Heatmap(z=matrix.tolist())).to_json())
    assert len(naive) > 20 * len(text)
    print(f"\n{RANKS:,} ranks x {STEPS:,} steps: first {first_s:.2f} s, again {again_s:.2f} s, JSON in {json_s:.2f} s")
    print(f"JSON {len(text) / 1e6:.2f} MB; zoom {zoom_s:.3f} s, {len(zoomed) / 1e6:.2f} MB")
    print(f"peak {lasting:.0f} MB, the table alone {held:.0f} MB")
    print(f"list of lists: {naive_s:.1f} s, {len(naive) / 1e6:.0f} MB, peak {peak_mb():.0f} MB")
