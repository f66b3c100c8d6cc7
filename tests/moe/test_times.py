"""Time models and bytes of the all-to-all, against figures worked out by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe import times, traffic
from skewscope.moe.placement import Placement, start_layout

H200, V3 = times.HARDWARE["h200"], times.SHAPES["deepseek-v3"]


def test_deepseek_v3_on_h200_by_hand():
    clock = times.Clock(V3, H200)
    assert V3.expert_bytes(1) == pytest.approx(44.0e6, rel=0.002) and V3.token_flops == pytest.approx(88.1e6, rel=0.001)
    assert clock.stream_s == pytest.approx(9.2e-6, rel=0.01)
    assert times.break_even_tokens(H200) == pytest.approx(206, abs=0.5)
    assert times.break_even_tokens(times.HARDWARE["h100"]) == pytest.approx(295, abs=0.5)
    # bf16 doubles the bytes and halves the speed: the same break-even.
    assert times.break_even_tokens(H200, 2.0) == pytest.approx(206, abs=0.5)


def test_an_expert_is_bound_by_memory_below_break_even_and_by_compute_above():
    clock = times.Clock(V3, H200)
    spent = clock.expert_s(np.array([0, 1, 100, 206, 412]))
    assert spent[0] == 0 and spent[1] == spent[2] == clock.stream_s
    assert spent[4] == pytest.approx(2 * spent[3], rel=0.01) and spent[3] == pytest.approx(clock.stream_s, rel=0.01)
    assert clock.is_memory_bound(np.array([0, 5, 9])) and not clock.is_memory_bound(np.array([0, 500, 900]))


def test_gpu_time_sums_experts_and_a_step_waits_for_the_longest():
    clock = times.Clock(V3, H200)
    placed = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4)
    spent = clock.gpu_s(np.array([[412, 0, 1, 1]]), placed)
    assert spent.tolist() == [[pytest.approx(412 * clock.token_s), pytest.approx(2 * clock.stream_s)]]
    assert times.imbalance_s(spent) == pytest.approx(float(spent.max() - spent.mean()))
    assert times.gain_s(np.array([[3.0, 1.0]]), np.array([[2.0, 2.0]])) == 1.0
    assert times.pay_back_steps(10.0, 0.5) == 20 and times.pay_back_steps(1.0, 0.0) == float("inf")


def test_models_are_known_by_their_shape():
    assert times.shape_of(60, 384).name == "kimi-k2" and times.shape_of(32, 8, 2).name == "mixtral-8x7b"
    assert times.shape_of(32, 8, 4) is None and times.shape_of(5, 5) is None
    assert times.hardware_of("NVIDIA H200") == H200 and times.hardware_of("GeForce") is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda: times.shape("gpt"),
        lambda: times.hardware("tpu"),
        lambda: times.Clock(V3, H200, sustained_ratio=0),
        lambda: times.speed_up(2, 1, 1),
    ],
)
def test_what_cannot_be_meant_is_told(ask):
    with pytest.raises(UsageError):
        ask()


def test_a_matrix_of_traffic_keeps_its_sums():
    loads = np.array([10.0, 30.0, 20.0, 20.0])
    sent = traffic.gpu_matrix(loads, 2.0)
    assert np.diag(sent).tolist() == [0] * 4
    assert sent.sum(0).tolist() == pytest.approx((loads * 2 * 3 / 4).tolist())
    nodes = traffic.node_matrix(sent, 2)
    assert nodes.tolist() == [[0.0, pytest.approx(40.0)], [pytest.approx(40.0), 0.0]]
    rows, columns = traffic.skew(sent)
    assert rows == pytest.approx(70 / 60) and columns == pytest.approx(1.5)
    with pytest.raises(UsageError, match="evenly"):
        traffic.node_matrix(sent, 3)


def test_nodes_touched_is_what_drawn_tokens_touch():
    rng = np.random.default_rng(4)
    q = rng.uniform(0.05, 0.5, size=8)
    placed = start_layout(8, 8, 4, layers=1, nodes=2)
    tokens = 20000
    picked = rng.random((tokens, 8)) < q
    by_node = picked.reshape(tokens, 2, 4).any(-1).sum(-1).mean()
    assert traffic.nodes_touched(picked.sum(0)[None], placed, tokens)[0] == pytest.approx(by_node, abs=0.02)


def test_an_expert_on_two_nodes_touches_one():
    placed = Placement(np.array([[0, 0]]), gpus=2, experts=1, nodes=2)
    # Each token picks expert 0 at one of two nodes with equal chance: half a node here, half a node there.
    assert traffic.nodes_touched(np.array([[100]]), placed, 100)[0] == pytest.approx(1.0, abs=1e-6)


def test_a_trace_tells_exactly_and_copies_per_node_save_bytes(shared):
    trace = np.load(shared / "moe-synth/mixtral_trace.npz")["trace"]
    placed = start_layout(8, 8, 4, layers=32, nodes=2)
    gpus, nodes = traffic.touched_of_trace(trace, placed)
    where = trace[:, 5] // 2
    assert gpus[5] == pytest.approx(np.mean([len(set(row)) for row in where.tolist()]))
    assert nodes[5] == pytest.approx(np.mean([len(set(row)) for row in (where // 2).tolist()]))
    counts = np.array([np.bincount(trace[:, layer].ravel(), minlength=8) for layer in range(32)])
    once = traffic.dispatch_bytes(counts, placed, len(trace), 4096)
    each = traffic.dispatch_bytes(counts, placed, len(trace), 4096, per_node=False)
    assert each[0] == len(trace) * 2 * 4096 * traffic.FP8_BYTES and (once < each).all()
