"""What operators cost at least: formulas with sizes small enough to multiply by head."""

from __future__ import annotations

import pytest

from skewscope.frames import frame
from skewscope.views._arguments import Arguments, arguments
from skewscope.views._costs import COSTS, cost, costs

HALF, FLOAT, LONG = "c10::Half", "float", "long int"


def priced(name, shapes, dtype=FLOAT, values=()):
    dtypes = dtype if isinstance(dtype, list) else [dtype] * len(shapes)
    return cost(name, Arguments(list(shapes), dtypes, list(values)))


@pytest.mark.parametrize(("name", "shapes", "flops", "moved"), [
    ("aten::mm", [[2, 3], [3, 5]], 60, 4 * (6 + 15 + 10)),
    ("aten::addmm", [[5], [2, 3], [3, 5]], 70, 4 * (5 + 6 + 15 + 10)),
    ("aten::bmm", [[7, 2, 3], [7, 3, 5]], 420, 4 * 7 * 31),
    ("aten::baddbmm", [[7, 2, 5], [7, 2, 3], [7, 3, 5]], 490, 4 * 7 * 41),
    ("aten::linear", [[4, 2, 3], [5, 3], [5]], 2 * 8 * 15 + 40, 4 * (24 + 15 + 40 + 5)),
    ("aten::matmul", [[7, 2, 3], [3, 5]], 420, 4 * (42 + 15 + 70)),
    ("aten::_grouped_mm", [[10, 3], [4, 3, 5], [4]], 2 * 10 * 15, 4 * (30 + 60 + 50)),
    ("primus_turbo::grouped_gemm", [[10, 3], [4, 5, 3]], 2 * 10 * 15, 4 * (30 + 60 + 50)),
])  # fmt: skip
def test_products_take_two_operations_per_element_and_inner_size(name, shapes, flops, moved):
    found = priced(name, shapes)
    assert (found.flops, found.moved_bytes, found.unit) == (flops, moved, "matrix")


def test_scaled_products_write_the_type_that_is_asked_for():
    fp8 = "c10::Float8_e4m3fn"
    found = priced("aten::_scaled_mm", [[2, 3], [3, 5], [], [], [], [], []], fp8, ["", "", "", "", "", "", "15"])
    assert (found.flops, found.moved_bytes) == (60, 6 + 15 + 20)


@pytest.mark.parametrize(("shapes", "stride", "padding", "out"), [
    ([[1, 2, 8], [4, 2, 3]], "[1]", "[1]", 4 * 8), ([[1, 2, 8, 8], [4, 2, 3, 3]], "[1, 1]", "[0, 0]", 4 * 36),
    ([[1, 2, 9, 9], [4, 2, 3, 3]], "[2, 2]", "[0, 0]", 4 * 16),
    ([[2, 2, 4, 4, 4], [4, 2, 1, 1, 1]], "[1]", "[0]", 2 * 4 * 64),
])  # fmt: skip
def test_convolutions_are_a_product_per_output(shapes, stride, padding, out):
    inner = 1
    for size in shapes[1][1:]:
        inner *= size
    found = priced("aten::convolution", [*shapes, []], values=["", "", "", stride, padding, "[1]", "False", "[0]", "1"])
    assert found.flops == 2 * out * inner
    other = priced("aten::cudnn_convolution", shapes, values=["", "", padding, stride, "[1]", "1"])
    assert other.flops == found.flops and other.moved_bytes == found.moved_bytes


def test_a_transposed_convolution_is_a_product_per_input():
    values = ["", "", "", "[2]", "[0]", "[1]", "True", "[0]", "1"]
    assert priced("aten::convolution", [[1, 4, 8], [4, 2, 3], []], values=values).flops == 2 * 32 * 6


@pytest.mark.parametrize(("mask", "times"), [("[True, True, False]", 2), ("[False, True, False]", 1)])
def test_gradients_of_a_convolution_cost_it_once_each(mask, times):
    values = ["", "", "", "", "[1, 1]", "[0, 0]", "[1, 1]", "False", "[0, 0]", "1", mask]
    found = priced("aten::convolution_backward", [[1, 4, 6, 6], [1, 2, 8, 8], [4, 2, 3, 3], []], values=values)
    assert found.flops == times * 2 * 144 * 18


BHSD, BSHD = [2, 4, 8, 16], [2, 8, 4, 16]
ONE = 2 * 4 * 8 * 8 * 16  # batch, heads, queries, keys, width: one product takes twice that


@pytest.mark.parametrize(("name", "shape", "first", "causal", "products"), [
    ("aten::_scaled_dot_product_flash_attention", BHSD, 0, 4, 2),
    ("aten::_scaled_dot_product_efficient_attention", BHSD, 0, 6, 2),
    ("aten::_scaled_dot_product_cudnn_attention", BHSD, 0, 6, 2),
    ("aten::_flash_attention_forward", BSHD, 0, 8, 2), ("flash_attn::_flash_attn_forward", BSHD, 0, 5, 2),
    ("aten::_scaled_dot_product_flash_attention_backward", BHSD, 1, 11, 5),
    ("flash_attn::_flash_attn_backward", BSHD, 1, 11, 5),
])  # fmt: skip
def test_attention_is_two_products_forward_and_five_backward(name, shape, first, causal, products):
    shapes = [shape] * (first + 3)
    open_ones, masked = [""] * 15, [""] * 15
    masked[causal] = "True"
    found, half = (priced(name, shapes, HALF, values) for values in (open_ones, masked))
    assert found.flops == products * 2 * ONE and half.flops == found.flops / 2
    assert found.moved_bytes == (4 if first == 0 else 7) * 2 * 1024


def test_a_causal_mask_of_fewer_queries_than_keys_keeps_what_is_under_the_diagonal():
    shapes = [[1, 1, 2, 4], [1, 1, 8, 4], [1, 1, 8, 4]]
    found = priced("aten::_scaled_dot_product_flash_attention", shapes, HALF, ["", "", "", "0.", "True"])
    assert found.flops == 4 * 4 * 3  # 3 of 16 scores


@pytest.mark.parametrize(("name", "shapes", "dtypes", "values", "moved"), [
    ("aten::add", [[4, 8], [8], []], FLOAT, (), 4 * (32 + 8 + 32)), ("aten::relu_", [[8]], HALF, (), 32),
    ("aten::copy_", [[8], [8], []], [FLOAT, HALF, ""], (), 48), ("aten::fill_", [[8], []], FLOAT, (), 32),
    ("aten::sum", [[4, 8]], FLOAT, ("", "[1]"), 4 * 36), ("aten::mean", [[4, 8]], FLOAT, ("", "[-2]"), 4 * 40),
    ("aten::sum", [[4, 8]], FLOAT, (), 4 * 33), ("aten::_softmax", [[4, 8]], FLOAT, (), 4 * 64),
    ("aten::_softmax_backward_data", [[4, 8], [4, 8]], FLOAT, (), 4 * 96),
    ("aten::native_layer_norm", [[4, 8], [], [8], [8]], FLOAT, (), 4 * (64 + 16)),
    ("aten::embedding", [[100, 8], [3]], [FLOAT, LONG], (), 4 * 48 + 24),
    ("aten::embedding_dense_backward", [[3, 8], [3]], [FLOAT, LONG], ("", "", "100"), 4 * (24 + 800) + 24),
    ("aten::_foreach_add_", [[[4], [6]], [[4], [6]]], [[FLOAT, FLOAT], [FLOAT, FLOAT]], (), 4 * 30),
    ("aten::_fused_adamw_", [[[10]]] * 4, [[FLOAT]] * 4, (), 4 * (40 + 30)),
    ("aten::cat", [[[4], [6]], []], [[HALF, HALF], ""], (), 40),
    ("_C::fused_add_rms_norm", [[4, 8], [4, 8], [8], []], HALF, (), 2 * (64 + 64 + 8)),
    ("triton_poi_fused_add_0", [[8], [8], [8], []], [FLOAT, FLOAT, FLOAT, ""], (), 96),
])  # fmt: skip
def test_what_mostly_moves_costs_each_byte_once(name, shapes, dtypes, values, moved):
    found = priced(name, shapes, dtypes, values)
    assert found.moved_bytes == moved and found.unit == "vector"


def test_types_that_are_not_recorded_leave_the_bytes_unknown():
    assert priced("aten::cat", [[[4], [6]], []], ["TensorList", ""]).moved_bytes is None
    assert priced("aten::mm", [[2, 3], [3, 5]], ["", ""]).moved_bytes is None


@pytest.mark.parametrize("shapes", [[], [[]], [[2, 3]], [[2, 3], [4, 5]], [[[2]], [[3]]], [[0], [0]], [["x"]]])
def test_strange_arguments_have_no_cost_and_do_no_harm(shapes):
    for name in COSTS:
        priced(name, shapes)
    assert priced("aten::mm", shapes) is None and priced("aten::unheard_of", shapes) is None


@pytest.mark.parametrize("text", ["[[2, 3], [3, 5]]", "[[2,3],[3,5]]", "((2, 3), (3, 5))"])
def test_sizes_are_read_however_they_are_written(text):
    assert arguments(text, "['float', 'float']", "").count(1) == 15


@pytest.mark.parametrize("text", ["", "nonsense", "[[2, 3", "__import__('os')", "{}"])
def test_texts_that_are_no_lists_are_nothing(text):
    assert arguments(text, text, text) == Arguments([], [], [])


def test_equal_calls_are_priced_once():
    rows = frame("operators", {
        "job": "job", "rank": 0, "call": [0, 1, 2], "parent": -1, "thread": 0, "kind": "operator",
        "start_ns": 0, "end_ns": 1,
        "name": ["aten::relu", "aten::item", "aten::relu"], "shapes": "[[8]]", "dtypes": '["float"]',
    })  # fmt: skip
    found, number = costs(rows)
    assert len(found) == 1 and found["moved_bytes"].tolist() == [64] and number.tolist() == [0, 1, 0]
