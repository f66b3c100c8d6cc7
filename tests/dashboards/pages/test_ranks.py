import numpy as np
import pytest

from skewscope.catalogue import load
from skewscope.frames import all_tables, frame


def big(ranks=2_000, steps=600, slow=1_234):
    rng = np.random.default_rng(2)
    step, rank = (part.ravel() for part in np.meshgrid(np.arange(steps), np.arange(ranks), indexing="ij"))
    own = rng.normal(1e9, 2e6, ranks * steps) + np.where((rank == slow) & (step >= 400), 3e8, 0)
    rest = dict.fromkeys(("compute_ns", "input_ns", "gc_ns", "checkpoint_ns", "idle_ns", "comm_ns", "transfer_ns"), 0.0)
    rows = {"job": "job", "step": step, "rank": rank, "node": [f"n{at // 8:03d}" for at in rank], "start_ns": 0,
            "end_ns": 10**9, "work_ns": own, "own_ns": own, "wait_ns": 0.0, "stage": rank % 4}  # fmt: skip
    return load("dashboards._view").View(id="big", tables=all_tables({"rank_steps": frame("rank_steps", rows | rest)}))


@pytest.fixture(scope="module")
def many():
    return big()


@pytest.fixture
def ranks(page):
    return page("ranks")


def decoded(figure):
    """Return the cells of a heatmap of codes."""
    return np.asarray(figure.data[0].z)


@pytest.mark.parametrize(("view", "rank", "host"), [
    ("compute-slow", 5, "node2"), ("spool-slow-rank", 2, "node1"), ("gpu-hw-slowdown", 52, "n006"),
])  # fmt: skip
def test_the_slow_rank_is_named_marked_and_linked(block, view, rank, host):
    one = block("ranks", "ranks", view)
    assert one.verdict.startswith(f"Rank {rank}: ")
    assert [mark.text for mark in one.figure.layout.annotations] == [f"rank {rank}"]
    assert one.rows[0][0].href.startswith("/why?") and f"rank={rank}" in one.rows[0][0].href
    assert one.rows[0][1].text == host and one.links[0].href == f"/why?rank={rank}"


def test_one_slow_rank_among_thousands_survives_pooling(ranks, many, chosen):
    one = ranks.blocks(many, chosen(""))[0]
    assert one.verdict.startswith("Rank 1234: ")
    cells = decoded(one.figure)
    assert cells.shape == (500, 600) and cells.dtype == np.int8
    row = 1234 // 4
    others = np.delete(cells, row, axis=0).astype(int)
    assert cells[row, 400:].min() > 10 * np.abs(others).max()
    assert len(one.figure.to_json()) < 600_000


def test_zooming_pools_the_range_in_view_anew(ranks, many, chosen):
    figure = ranks.zoomed(many, chosen(""), 380.2, 419.8, 1249.7, 1220.1)
    assert tuple(figure.layout.xaxis.range) == (379.5, 420.5)
    assert tuple(figure.layout.yaxis.range) == (1250.5, 1219.5)
    exact = np.asarray(figure.data[0].z)
    assert exact.shape == (31, 41) and exact.dtype == np.float32
    assert exact[1234 - 1220, -1] == pytest.approx(300, abs=12) and figure.data[0].colorbar.title.text == "ms"
    endless = ranks.zoomed(many, chosen(""), -np.inf, np.inf, 5, 5)
    assert np.asarray(endless.data[0].z).shape[0] == 1


@pytest.mark.parametrize(("order", "first"), [("", "rank 0 on n000"), ("score", "rank 1234 on n154"),
                                              ("stage", "rank 0 on n000")])  # fmt: skip
def test_rows_can_be_ordered(ranks, many, chosen, order, first):
    figure = ranks.zoomed(many, chosen(f"?order={order}"), 0, 5, 0, 3)
    names = list(figure.layout.yaxis.labelalias.values())
    assert names[0] == first
    if order == "stage":
        assert names[1] == "rank 4 on n000"


def test_a_host_alone_shows_its_ranks_and_the_way_back(ranks, many, chosen):
    one = ranks.blocks(many, chosen("?node=n154"))[0]
    assert np.asarray(one.figure.data[0].z).shape[0] == 8
    assert any(link.href == "/ranks" for link in one.links)
    assert "no rank ran on host nowhere" in ranks.blocks(many, chosen("?node=nowhere"))[0].verdict


def test_selected_steps_are_judged_alone(ranks, many, chosen):
    one = ranks.blocks(many, chosen("?begin=0&end=300"))[0]
    assert one.verdict.startswith("No rank stands out") or not one.verdict.startswith("Rank 1234")
    assert tuple(one.figure.layout.xaxis.range) == (-0.5, 300.5)


def test_a_selected_rank_is_placed_among_the_others(block):
    one = block("ranks", "ranks", "compute-slow", "?rank=1")
    assert one.verdict.startswith("Rank 1: ") and "place 2 of 8. Rank 5: " in one.verdict
    assert {mark.text for mark in one.figure.layout.annotations} == {"rank 1", "rank 5"}


def test_quantities_can_be_switched(block):
    one = block("ranks", "ranks", "compute-slow", "?show=late")
    assert one.title.startswith("Lateness at collectives") and one.verdict.startswith("Rank 5: ")
    assert {control.field for control in one.controls} == {"show", "order"}
    assert dict(one.controls[0].options)["input"] == "Phase: waiting for input"
    live = block("ranks", "ranks", "gpu-hw-slowdown", "?show=live-late")
    assert live.verdict.startswith("Rank 52: ") and live.figure.layout.xaxis.title.text == "end of the window (UTC)"


def test_alone_in_its_stage_nobody_is_blamed(block):
    one = block("ranks", "ranks", "pipeline-imbalance")
    assert one.title.startswith("Waiting for others") and not one.links


def test_matrices_are_made_once(many):
    maps = load("dashboards._rank_maps")
    kind = maps.kinds(many)[0]
    assert maps.rank_map(many, kind) is maps.rank_map(many, kind)


def test_gaps_stay_unknown():
    maps = load("dashboards._rank_maps")
    few = big(4, 3, 2)
    rows = few.tables["rank_steps"]
    cut = load("dashboards._view").View(id="gaps", tables={**few.tables, "rank_steps": rows.drop(index=5)})
    values = maps.rank_map(cut, maps.ALL[0]).values
    assert np.isnan(values[1, 1]) and np.isfinite(values).sum() == 11


def test_ranks_are_seen_and_ordered_by_temperature_and_clock(block, views):
    hot, slow = (block("ranks", "ranks", "gpu-hw-slowdown", f"?show={name}") for name in ("hot", "clock"))
    shown = dict(next(one for one in hot.controls if one.field == "show").options)
    assert shown["hot"] == "GPU: hotter than peers" and shown["clock"] == "GPU: clock below peers"
    windows = views["gpu-hw-slowdown"].tables["windows"]
    clocks = windows[(windows["metric"] == "skewscope_gpu_clock_hertz") & (windows["labels"] == "domain=sm")]
    ran = clocks[clocks["node"].isin(views["gpu-hw-slowdown"].tables["ranks"]["node"].unique())]
    lowest = ran.groupby(["node", "device"], observed=True)["mean_value"].median().idxmin()
    assert lowest == ("n006", "gpu4")  # of rank 52, the fifth of its host
    assert slow.verdict.startswith("Rank 52: ") and slow.rows[0][1].text == "n006"
    assert slow.rows[0][4].endswith("Hz") and hot.rows[0][4].endswith(" C")
    ordered = block("ranks", "ranks", "gpu-hw-slowdown", "?order=clock")
    names = list(ordered.figure.layout.yaxis.ticktext)
    assert names[0] == "rank 52 on n006"
    assert dict(next(one for one in ordered.controls if one.field == "order").options)["hot"] == "hottest GPU first"


def test_recordings_without_gpus_offer_no_temperature(block):
    one = block("ranks", "ranks", "compute-slow", "?show=hot&order=hot")
    assert "hot" not in {value for control in one.controls for value, _ in control.options}
    assert one.verdict.startswith("Rank 5: ")


def test_gpus_are_known_by_the_table_of_ranks_too():
    devices, view_of = load("dashboards._rank_devices"), load("dashboards._view").View
    told = frame("ranks", {"job": "j", "rank": [0, 1, 2], "node": ["a", "a", ""], "gpu": [3, -1, 0]})
    assert devices.gpus(view_of(tables=all_tables({"ranks": told}))).to_dict("records") == [
        {"job": "j", "rank": 0, "node": "a", "device": "gpu3"}
    ]
