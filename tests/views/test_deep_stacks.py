"""Operators, call stacks, layers, waits of the host: worlds whose numbers can be checked by head (microseconds)."""

from __future__ import annotations

import pytest

OPERATOR, RUNTIME, MODULE, PYTHON, RANGE = "operator", "runtime", "module", "python", "annotation"


def row(rows, **keys):
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, (keys, rows)
    return rows.iloc[0]


def us(value):
    return pytest.approx(value * 1e-6)


@pytest.fixture
def trained(traced):
    """Return a block of two linear layers, forward on thread 0 and backward on thread 1, and its kernels."""
    return traced(
        [
            ("nn.Module: Block_0", MODULE, 0, 100),
            ("nn.Module: Linear_0", MODULE, 5, 40),
            ("aten::linear", OPERATOR, 10, 38, {"sequence": 4}),
            ("aten::addmm", OPERATOR, 12, 36, {"sequence": 4}),
            ("cudaLaunchKernel", RUNTIME, 20, 30),
            ("nn.Module: Linear_1", MODULE, 50, 90),
            ("aten::linear", OPERATOR, 52, 88, {"sequence": 5}),
            ("aten::addmm", OPERATOR, 54, 80, {"sequence": 5}),
            ("cudaLaunchKernel", RUNTIME, 60, 70),
            ("autograd::engine::evaluate_function: AddmmBackward0", OPERATOR, 200, 240, {"sequence": 5, "thread": 1}),
            ("aten::mm", OPERATOR, 210, 230, {"thread": 1}),
            ("cudaLaunchKernel", RUNTIME, 212, 220, {"thread": 1}),
        ],
        [("gemm", 30, 80, 4), ("gemm", 80, 110, 8), ("gemm_back", 230, 290, 11)],
    )


def test_operators_share_time_by_name(ask, trained):
    shown = ask("operators", trained)
    addmm = row(shown.tables["by_name"], name="aten::addmm")
    assert (addmm["calls_count"], addmm["kernels_count"]) == (2, 2)
    assert addmm["host_total_s"] == us(24 + 26) and addmm["host_self_s"] == us(14 + 16)
    assert addmm["device_direct_s"] == us(50 + 30) and addmm["device_share_ratio"] == pytest.approx(80 / 140)
    linear = row(shown.tables["by_name"], name="aten::linear")
    assert linear["device_direct_s"] == 0 and linear["device_below_s"] == us(80)
    kernels = row(shown.tables["by_kernels"], name="aten::addmm")
    assert kernels["calls_count"] == 2 and kernels["first_launch_delay_s"] == us((8 + 6) / 2)
    assert kernels["device_delay_s"] == us((10 + 20) / 2)


def test_a_call_inside_its_own_name_counts_once(ask, traced):
    given = traced(
        [("aten::sum", OPERATOR, 0, 10), ("aten::sum", OPERATOR, 2, 8), ("cudaLaunchKernel", RUNTIME, 3, 5)],
        [("reduce", 6, 16, 2)],
    )
    found = row(ask("operators", given).tables["by_name"], name="aten::sum")
    assert (found["host_total_s"], found["device_below_s"]) == (us(10), us(10))
    assert found["host_self_s"] == us(4 + 4) and found["calls_count"] == 2


def test_operators_name_the_slow_rank(ask, traced):
    calls, work = [], []
    for rank, length in enumerate((10, 10, 25)):
        calls += [("aten::mm", OPERATOR, 0, 9, {"rank": rank}), ("cudaLaunchKernel", RUNTIME, 1, 4, {"rank": rank})]
        work.append(("gemm", 20, 20 + length, len(calls) - 1))
    shown = ask("operators", traced(calls, work))
    found = row(shown.tables["by_name"], name="aten::mm")
    assert found["slowest_rank"] == 2 and found["rank_spread_ratio"] == pytest.approx(2.5)
    assert any("2.50 times the median rank's device time on rank 2" in line for line in shown.said)


def test_backward_work_belongs_to_the_module_of_its_forward_operator(ask, trained):
    shown = ask("call-stacks", trained)
    modules = shown.tables["modules"]
    last = row(modules, name="Linear_1")
    assert last["forward_s"] == us(30) and last["backward_s"] == us(60)
    whole = row(modules, name="Block_0")
    assert whole["device_s"] == us(140) and whole["forward_self_s"] == 0 and whole["share_ratio"] == pytest.approx(1.0)
    stack = row(shown.tables["kernels"], name="gemm_back")
    assert (
        stack["pass"] == "backward" and "Linear_1 > autograd" in stack["stack"] and stack["stack"].endswith("aten::mm")
    )
    tree = shown.tables["tree"]
    root = row(tree, name="nn.Module: Block_0")
    assert root["parent"] == -1 and root["device_s"] == us(140) and root["device_self_s"] == 0
    assert tree[tree["parent"] == root["node"]]["device_s"].sum() == us(140)


def test_operators_of_the_host_alone(ask, trained):
    shown = ask("operators", {**trained, "device_work": trained["device_work"].iloc[:0]})
    top = shown.tables["by_name"].iloc[0]
    assert top["name"] == "aten::addmm" and top["host_self_s"] == us(30) and top["device_direct_s"] == 0
    assert "No device work" in shown.notes[0] and shown.tables["by_kernels"].empty


def test_equal_stacks_are_one_node(ask, traced):
    calls, work = [], []
    for at in (0, 100, 200):
        calls += [("aten::relu", OPERATOR, at, at + 20), ("cudaLaunchKernel", RUNTIME, at + 5, at + 10)]
        work.append(("relu", at + 12, at + 22, len(calls) - 1))
    found = row(ask("call-stacks", traced(calls, work)).tables["tree"], name="aten::relu")
    assert found["calls_count"] == 3 and found["device_s"] == us(30) and found["kernels_count"] == 3


def test_layers_are_the_modules_that_repeat(ask, trained):
    shown = ask("layers", trained)
    found = shown.tables["layers"]
    assert found["layer"].tolist() == ["Linear_0", "Linear_1"]
    assert found["forward_s"].tolist() == [us(50), us(30)] and found["backward_s"].tolist() == [us(0), us(60)]
    assert not shown.notes


def test_layers_without_modules_are_inferred_from_the_operators(ask, traced):
    calls, work = [], []
    for at, name in enumerate(["embed", *["norm", "mm", "act", "mm2"] * 3, "head"]):
        calls += [(f"aten::{name}", OPERATOR, 100 * at, 100 * at + 50),
                  ("cudaLaunchKernel", RUNTIME, 100 * at + 10, 100 * at + 20)]  # fmt: skip
        work.append((name, 100 * at + 20, 100 * at + 40, len(calls) - 1))
    shown = ask("layers", traced(calls, work))
    assert shown.tables["layers"]["layer"].tolist() == ["block 0", "block 1", "block 2"]
    assert shown.tables["layers"]["device_s"].tolist() == [us(80)] * 3
    assert "inferred" in shown.notes[0] and "4 operators" in shown.notes[0]


def test_a_wait_costs_the_device_what_is_empty_behind_it(ask, traced):
    given = traced(
        [
            ("cudaLaunchKernel", RUNTIME, 0, 5),
            ("train.py(12): step", PYTHON, 10, 90),
            ("<built-in method item>", PYTHON, 11, 89),
            ("aten::item", OPERATOR, 12, 88),
            ("cudaStreamSynchronize", RUNTIME, 20, 62),
            ("cudaLaunchKernel", RUNTIME, 100, 105),
        ],
        [("long", 10, 60, 0), ("next", 110, 130, 5)],
    )
    shown = ask("sync-stalls", given)
    found = shown.tables["by_caller"].iloc[0]
    assert (found["call"], found["operator"], found["frame"]) == (
        "cudaStreamSynchronize",
        "aten::item",
        "train.py(12): step",
    )
    assert found["host_wait_s"] == us(40) and found["host_call_s"] == us(42) and found["device_idle_s"] == us(50)


def test_a_copy_that_is_done_when_its_call_returns_is_a_wait(ask, traced):
    given = traced(
        [("cudaLaunchKernel", RUNTIME, 0, 5), ("cudaMemcpyAsync", RUNTIME, 10, 70),
         ("cudaMemcpyAsync", RUNTIME, 80, 82)],
        [("k", 6, 50, 0), ("DtoH (Device -> Pageable)", 50, 65, 1, {"kind": "memcpy"}),
         ("HtoD (Pinned -> Device)", 90, 99, 2, {"kind": "memcpy"})],
    )  # fmt: skip
    found = ask("sync-stalls", given).tables["stalls"]
    assert len(found) == 1 and found["host_wait_s"].iloc[0] == us(55) and found["device_idle_s"].iloc[0] == us(25)
