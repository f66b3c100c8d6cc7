"""The numbers of deep views beside those that other tools give for the same recordings (tests/golden/peers)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "peers"
TRACELENS = "../shared/data/tracelens-kineto/"
HTA = "../shared/data/hta-kineto-tests/"
NAMES = ("h100__Qwen_Qwen1.5-0.5B-Chat__1016005", "mi300__Qwen_Qwen1.5-0.5B-Chat__1016005", "b200__eager_trace")


def golden(view):
    return json.loads((GOLDEN / f"{view}.json").read_text())


def near(wanted, least=0.0):
    return pytest.approx(wanted, rel=0.01, abs=least)


@pytest.mark.parametrize("name", NAMES)
def test_operators_beside_tracelens(ask, tables, name):
    """The kernels of `moe_forward` on the B200 overlap one another: we sum them, TraceLens takes the time of any."""
    rows = ask("operators", tables(f"{TRACELENS}{name}.json.gz", detail=True), rows_count=10_000).tables["by_name"]
    mine = rows.set_index("name")
    compared = 0
    for operator, (calls, direct_us) in golden("operators")["files"][f"{name}.json.gz"].items():
        if operator == "cuLaunchKernelEx":
            continue  # a runtime call below no operator: ours is named for what encloses it
        assert mine["calls_count"][operator] >= calls
        if operator == "vllm::moe_forward":
            assert direct_us * 1e-6 < mine["device_direct_s"][operator] < 1.02e-6 * direct_us
        else:
            assert mine["device_direct_s"][operator] == near(direct_us * 1e-6)
        compared += 1
    assert compared >= 10


@pytest.mark.parametrize("name", NAMES)
def test_roofline_beside_tracelens(ask, tables, name):
    """FLOPs, bytes and TFLOP/s of a call, by operator and sizes.

    Copies are left out of the FLOPs: TraceLens counts one per element, but a copy computes nothing. Its rows of
    attention are of the operator around ours, with copies of which ours has none. It tells calls apart by strides, we
    by types: what is split is left out.
    """
    shown = ask("roofline", tables(f"{TRACELENS}{name}.json.gz", detail=True), rows_count=10_000)
    assert any({"h": "H100 SXM", "m": "MI300X", "b": "B200"}[name[0]] in line for line in shown.said)
    rows = shown.tables["by_shapes"]
    mine: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in rows.to_dict("records"):
        key = "attention" if row["family"] == "attention" else row["name"]
        mine.setdefault((key, "" if key == "attention" else row["shapes"].replace(" ", "")), []).append(row)
    compared = 0
    for operator, shapes, _, calls, gflops, mib, kernel_us, tflops in golden("roofline")["files"][f"{name}.json.gz"]:
        attention = operator.startswith("aten::_scaled_dot_product")
        found = mine["attention", ""] if attention else mine[operator, json.dumps(shapes).replace(" ", "")]
        if len(found) != 1 or found[0]["calls_count"] != calls:
            continue
        (row,) = found
        assert row["moved_bytes"] / calls == near(mib * 2**20, 1.0)
        if operator != "aten::copy_":
            assert row["flops_count"] / calls == near(gflops * 1e9)
        if attention:
            assert 0.95e-6 * kernel_us < row["device_s"] < 1.001e-6 * kernel_us
            continue
        assert row["device_s"] == near(kernel_us * 1e-6)
        if operator != "aten::copy_":
            assert row["rate_tflops_per_s"] == near(gflops * calls / kernel_us * 1e3)
            if kernel_us > 1000:
                assert row["rate_tflops_per_s"] == near(tflops)  # theirs is the mean of the rates of calls
        compared += 1
    assert compared >= 5


def test_kernels_of_operators_beside_hta(ask, tables):
    """Calls and delays of operators that launch kernels only: HTA leaves out copies, fills and those of graphs."""
    ((path, peer),) = golden("operator_kernels")["files"].items()
    rows = ask("operators", tables(HTA + path, detail=True)).tables["by_kernels"]
    compared = 0
    for operator, kernels, calls, host_us, device_us in peer:
        mine = rows[(rows["name"] == operator) & (rows["kernels_count"] == kernels)]
        if len(mine) != 1 or mine["calls_count"].iloc[0] != calls or "Memset" in mine["kernels"].iloc[0]:
            continue
        assert mine["first_launch_delay_s"].iloc[0] == near(host_us * 1e-6, 1e-9)
        assert mine["device_delay_s"].iloc[0] == near(device_us * 1e-6, 1e-9)
        compared += 1
    assert compared >= 6


def test_sequences_below_operators_beside_hta(ask, tables):
    """HTA looks at one iteration, the first."""
    ((path, peer),) = golden("sequences")["files"].items()
    given = tables(HTA + path, detail=True)
    operators = given["operators"]
    first = operators["step"][operators["step"] >= 0].min()
    one = {**given, "operators": operators[(operators["step"] == first).to_numpy()]}
    rows = ask("sequences", one, operator="autograd::engine::evaluate_function", rows_count=10_000).tables[
        "below_operators"
    ]
    found = sorted(
        (
            row["calls_count"],
            row["kernels_count"],
            round(row["device_s"] * 1e6),
            round(row["host_s"] * 1e6),
            row["operator"],
        )
        for row in rows.to_dict("records")
    )
    assert found == sorted((calls, kernels, round(gpu), round(cpu), name) for calls, kernels, gpu, cpu, name in peer)


def test_the_critical_path_beside_hta(ask, tables):
    """HTA's path has no time between outermost operators (our python) and none for the return from a wait."""
    peer = golden("critical_path")
    given = tables(HTA + peer["file"], detail=True)
    shown = ask("critical-path", given, annotation=peer["annotation"], instance=peer["instance"])
    (row,) = shown.tables["by_step"].to_dict("records")
    parts = {name: value * 1e6 for name, value in row.items() if name.endswith("_s")}
    assert parts["host_s"] == near(peer["cpu_bound_us"])
    assert parts["compute_s"] + parts["copy_s"] == near(peer["gpu_compute_bound_us"])
    assert parts["launch_delay_s"] == near(peer["gpu_kernel_launch_overhead_us"])
    assert parts["device_gap_s"] == near(peer["gpu_kernel_kernel_overhead_us"], 1.0)
    assert parts["path_s"] - parts["python_s"] - parts["synchronize_s"] == near(peer["path_us"])


def test_the_critical_path_of_eight_ranks_is_shorter_than_the_sum_of_theirs(ask, tables):
    shown = ask("critical-path", tables("../shared/data/param-dlrm-8rank-kineto", detail=True))
    steps = shown.tables["by_step"].groupby(["path", "rank"])["path_s"].sum()
    assert 0.99 * steps["rank"].min() < steps["job"].sum() < 1.5 * steps["rank"].max()
    assert shown.tables["by_rank"]["share_ratio"].sum() == pytest.approx(1.0)


def test_graphs_of_a_server_that_decodes(ask, tables):
    """SGLang's decode step is one graph launch: all kernels but three of the step are in it."""
    given = tables(f"{TRACELENS}inference__sglang_decode__sglang_Qwen3-8B_decode.json.gz", detail=True)
    by_graph = ask("graph-launches", given).tables["by_graph"]
    work = given["device_work"]
    assert by_graph["launches_count"].sum() >= 1
    assert by_graph["kernels_count"].sum() == (work["graph"] >= 0).sum() > 500
    assert (by_graph["busy_s"] + by_graph["idle_s"]).tolist() == pytest.approx(by_graph["span_s"].tolist())


def test_a_teaching_case_waits_for_every_copy(ask, tables):
    """Every addition is followed by a copy to the host in this loop of 4096: two thirds of the time nothing runs."""
    shown = ask("sync-stalls", tables("../shared/data/gpupuzzlers-kineto", detail=True))
    first = shown.tables["by_caller"].iloc[0]
    assert first["operator"] == "aten::copy_" and first["waits_count"] > 4000
    assert 0.6 < shown.tables["by_rank"]["idle_ratio"].max() < 0.75


def test_memory_of_a_recorded_step(ask, tables):
    """The allocator's own totals are in the file: the peak is their largest, and holders sum up to it."""
    given = tables(f"{TRACELENS}{NAMES[0]}.json.gz", detail=True)
    shown = ask("memory-timeline", given)
    device = shown.tables["devices"].set_index("device").loc["gpu0"]
    rows = given["allocations"]
    assert device["peak_allocated_bytes"] == rows["allocated_bytes"][rows["device"] == "gpu0"].max() == 2_088_508_416
    holders = shown.tables["holders"]
    assert holders[holders["device"] == "gpu0"]["held_bytes"].sum() == device["peak_allocated_bytes"]
