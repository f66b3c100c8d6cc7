"""Traces of single picks: of Megatron-LM, and route logs."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.route_log import RouteLog
from skewscope.sources.router_trace import RouterTrace

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def line(step, layer, picks, **more):
    told = {"step": step, "stage": "pre_dispatch", "block": "decoder", "layer": layer, "rank": 0,
            "num_tokens": len(picks), "topk": 2, "top_indices": picks}  # fmt: skip
    return json.dumps(told | more)


def write(tmp_path, *lines, name="router_trace_rank0.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_ranks_and_microbatches_are_summed(tmp_path):
    for rank in range(2):
        write(tmp_path, line(1, 0, [[0, 1]], rank=rank), line(1, 1, [[2, 3]], rank=rank),
              line(1, 0, [[1, 3 - rank]], rank=rank), line(1, 1, [[3, 0]], rank=rank),
              name=f"router_trace_rank{rank}.jsonl")  # fmt: skip
    tables = gather([tmp_path]).tables
    (loads,) = of_tables(tables)
    assert loads.counts.tolist() == [[[2, 4, 1, 1], [2, 0, 2, 4]]] and loads.phase == "train" and loads.top_k == 2
    rows = tables["expert_pairs"]
    pair = rows[(rows["expert"] == 1) & (rows["next_expert"] == 3)]
    assert pair["routed_tokens"].sum() == 4  # of each rank one in either microbatch
    assert rows["routed_tokens"].sum() == 4 * 4


def test_layers_of_token_prediction_come_behind_the_decoder(tmp_path):
    path = write(tmp_path, line(1, 3, [[0, 1]]), line(1, 4, [[0, 2]]), line(1, 0, [[1, 2]], block="mtp", mtp_idx=0))
    assert of_tables(gather([path]).tables)[0].layers.tolist() == [3, 4, 5]


def test_other_stages_are_told_not_counted(tmp_path):
    reading = RouterTrace().read(write(tmp_path, line(1, 0, [[0, 1]]), line(1, 0, [[0, 1]], stage="post_dispatch")))
    assert reading.batches[0][1]["routed_tokens"].tolist() == [1, 1]
    assert reading.warnings == ["1 lines of other stages than pre_dispatch are left out"]


def test_padding_is_left_out(tmp_path):
    path = write(tmp_path, line(1, 0, [[0, 1], [2, 3]] + [[5, 6]] * 100))
    reading = RouterTrace().read(path)
    assert reading.batches[0][1]["routed_tokens"].tolist() == [1, 1, 1, 1]
    assert "100 of 102 rows of picks stand in runs of 64 or more" in reading.warnings[0]
    assert "(experts 5, 6)" in reading.warnings[0]


def test_torn_lines_cost_themselves_only(tmp_path):
    path = write(tmp_path, line(1, 0, [[0, 1]]), line(1, 1, [[0, 1]], num_tokens=5), line(1, 2, [[0, 1], [2]]),
                 line(2, 0, [[0, 99999999]]), line(2, 0, [[1, 0]])[:-4])  # fmt: skip
    reading = RouterTrace().read(path)
    assert reading.status == "partial" and reading.batches[0][1]["routed_tokens"].tolist() == [1, 1]
    assert reading.error == "4 lines are torn and left out, the first is line 2: 1 rows of picks for 5 tokens"


def test_nothing_whole_is_refused(tmp_path):
    with pytest.raises(Unreadable, match="no whole line of a router trace"):
        RouterTrace().read(write(tmp_path, '{"step": 1}'))
    with pytest.raises(Unreadable, match="not one pick"):
        RouterTrace().read(write(tmp_path, line(1, 0, [[-1, -1]])))


def route(token, layer, ids, request="r1"):
    return json.dumps({"type": "route", "req_id": request, "token_idx": token, "layer": layer, "topk_ids": ids,
                       "topk_weights": [0.1] * len(ids)})  # fmt: skip


def test_route_logs_count_and_pair(tmp_path):
    path = write(tmp_path, json.dumps({"type": "meta", "model_id": "m", "top_k": 2}), route(0, 0, [1, 2]),
                 route(0, 1, [0, 3]), route(1, 0, [1, 3]), route(1, 1, [0, 1]), route(9, 1, [2, 3], "r2"))  # fmt: skip
    recording = gather([path])
    (loads,) = of_tables(recording.tables)
    assert loads.total().tolist() == [[0, 2, 1, 1], [2, 1, 1, 2]] and loads.top_k == 2
    rows = recording.tables["expert_pairs"]
    assert rows["routed_tokens"].sum() == 8  # two tokens are in both layers
    assert rows[(rows["expert"] == 1) & (rows["next_expert"] == 0)]["routed_tokens"].tolist() == [2]
    assert any("routes of m" in warning for warning in recording.warnings)


def test_torn_routes_cost_themselves_only(tmp_path):
    path = write(
        tmp_path, route(0, 0, [1, 2]), route(1, 0, []), route(2, 0, [-4]), route(3, -1, [1]), route(4, 0, [1])[:9]
    )
    reading = RouteLog().read(path)
    assert (reading.status, reading.error) == ("partial", "4 lines are torn and left out, the first is line 2")
    with pytest.raises(Unreadable, match="not one whole line"):
        RouteLog().read(write(tmp_path, '{"type": "meta"}', name="x.jsonl"))


def test_a_real_log_without_its_warm_up(shared):
    """Its author drops the profile run too, and then reports 9,736 picks, these experts and 5.8758 bits."""
    path = shared / "moe-routing-qwen15-moe/moe_routes.jsonl.gz"
    recording = gather([path])
    (loads,) = of_tables(recording.tables)
    total = loads.total()[0]
    assert total.sum() == 9736 and loads.top_k == 4 and len(total) == 60
    assert [(int(at), int(total[at])) for at in np.argsort(-total)[:3]] == [(42, 240), (20, 229), (46, 222)]
    share = total[total > 0] / total.sum()
    assert -(share * np.log2(share)).sum() == pytest.approx(5.8758, abs=5e-5)
    told = "16,384 of 18,818 rows of picks stand in runs of 64 or more that are the same (experts 43, 5, 7, 58)"
    assert any(told in warning for warning in recording.warnings)
    raw = [json.loads(text) for text in gzip.decompress(path.read_bytes()).splitlines()[1:]]
    assert sum(row["topk_ids"] == [43, 5, 7, 58] for row in raw) == 16384


layer_picks = st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=1, max_size=4)


@drawn
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), layer_picks, st.booleans()), min_size=1, max_size=6),
    st.integers(-1, 9), st.booleans(),
)  # fmt: skip
def test_picks_of_a_trace_are_all_counted(tmp_path, told, rank, backwards):
    """Of other stages nothing is; experts up to the highest one are listed, also with no token at all."""
    kept = [(step, layer, picks) for step, layer, picks, other in told if not other]
    lines = [line(step, layer, picks, rank=rank, stage="post" if other else "pre_dispatch", note="\u00fc")
             for step, layer, picks, other in told]  # fmt: skip
    if backwards:
        lines = [json.dumps(dict(reversed(json.loads(one).items()))) for one in lines]
    path = write(tmp_path, *lines)
    if not kept:
        with pytest.raises(Unreadable):
            RouterTrace().read(path)
        return
    reading = RouterTrace().read(path)
    counts = Counter((step, layer, expert) for step, layer, picks in kept for row in picks for expert in row)
    rows = frame(*reading.batches[0])
    counted = rows[["step", "layer", "expert", "routed_tokens"]].itertuples(index=False, name=None)
    found = {tuple(key): tokens for *key, tokens in counted if tokens}
    assert found == counts and reading.rank == rank and set(rows["rank"]) == {rank} and set(rows["phase"]) == {"train"}
    assert len(reading.warnings) == any(other for *_, other in told)


@drawn
@given(
    st.lists(st.tuples(st.integers(0, 3), st.text(max_size=2), st.integers(0, 3),
                       st.lists(st.integers(0, 9), min_size=2, max_size=2)),
             min_size=1, max_size=8, unique_by=lambda route: route[:3]),
)  # fmt: skip
def test_routes_are_all_counted_and_paired_by_their_token(tmp_path, told):
    lines = [json.dumps({"topk_ids": ids, "token_idx": token, "req_id": request, "layer": layer, "type": "route"})
             for layer, request, token, ids in told]  # fmt: skip
    path = write(tmp_path, json.dumps({"type": "meta", "model_id": "m"}), *lines, name="moe_routes.jsonl")
    reading = RouteLog().read(path)
    parts = {name: frame(name, columns) for name, columns in reading.batches}
    loads = parts["expert_loads"][["layer", "expert", "routed_tokens"]].itertuples(index=False, name=None)
    counts = Counter((layer, expert) for layer, _, _, ids in told for expert in ids)
    assert {(layer, expert): tokens for layer, expert, tokens in loads if tokens} == counts
    by_token = {(layer, request, token): ids for layer, request, token, ids in told}
    layers = sorted({layer for layer, *_ in told})
    following = dict(zip(layers, layers[1:], strict=False))
    pairs = Counter(
        (layer, following[layer], one, other) for (layer, request, token), ids in by_token.items()
        for one in ids for other in by_token.get((following.get(layer), request, token), ())
    )  # fmt: skip
    columns = ["layer", "next_layer", "expert", "next_expert", "routed_tokens"]
    rows = parts["expert_pairs"][columns].itertuples(index=False, name=None) if "expert_pairs" in parts else ()
    assert {tuple(key): tokens for *key, tokens in rows} == pairs and reading.events == len(told)
