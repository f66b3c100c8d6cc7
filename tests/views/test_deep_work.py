"""Sequences, memory, graphs, short kernels and the roofline: worlds whose numbers can be checked by head."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import strategies

from skewscope.errors import NoData
from skewscope.frames import frame
from skewscope.stats import sequences
from skewscope.views._peaks import _listed, peaks
from skewscope.views.sequences import Sequences

OPERATOR, RUNTIME = "operator", "runtime"


def us(value):
    return pytest.approx(value * 1e-6)


def repeated(names, traced, length=5, gap=1):
    """Return tables of kernels of `length` with `gap` between them, each launched by a call of its own operator."""
    calls, work = [], []
    for at, name in enumerate(names):
        calls += [(f"aten::{name}", OPERATOR, 2 * at, 2 * at + 2), ("cudaLaunchKernel", RUNTIME, 2 * at, 2 * at + 1)]
        start = 1000 + at * (length + gap)
        work.append((name, start, start + length, len(calls) - 1))
    return traced(calls, work)


def test_the_costliest_repeated_sequence_comes_first(ask, traced):
    shown = ask("sequences", repeated("xabcabcyabcz", traced))
    top = shown.tables["sequences"].iloc[0]
    assert top["sequence"] == "a > b > c" and (top["times_count"], top["kernels_count"]) == (3, 3)
    assert top["device_s"] == us(45) and top["gap_s"] == us(6) and top["short_ratio"] == 1.0
    assert shown.tables["fusing"]["sequence"].iloc[0] == "a > b > c"
    assert "comes 3 times" in shown.said[0]


def test_occurrences_that_overlap_count_once(ask, traced):
    found = ask("sequences", repeated("aaaaa", traced)).tables["sequences"]
    pair = found[found["sequence"] == "a > a"]
    assert pair.empty or pair["times_count"].iloc[0] == 2


def test_sequences_do_not_cross_streams(ask, traced):
    given = repeated("abab", traced)
    given["device_work"]["stream"] = [1, 2, 3, 4]
    assert ask("sequences", given).said[0] == "No sequence of kernels repeats."


def test_kernels_below_an_operator_are_one_sequence(ask, traced):
    calls, work = [], []
    for at in (0, 100):
        calls += [("aten::linear", OPERATOR, at, at + 30), ("aten::addmm", OPERATOR, at + 1, at + 29),
                  ("cudaMemsetAsync", RUNTIME, at + 2, at + 4),
                  ("cudaLaunchKernel", RUNTIME, at + 5, at + 8)]  # fmt: skip
        work += [
            ("Memset", at + 10, at + 11, len(calls) - 2, {"kind": "memset"}),
            ("gemm", at + 12, at + 20, len(calls) - 1),
        ]
    found = ask("sequences", traced(calls, work), operator="linear").tables["below_operators"].iloc[0]
    assert found["operator"] == "aten::linear" and found["sequence"] == "Memset > gemm"
    assert (found["calls_count"], found["kernels_count"]) == (2, 2)
    assert found["device_s"] == us(18) and found["host_s"] == us(60)


@examples(strategies.lists(strategies.integers(0, 2), min_size=2, max_size=40))
def test_repeated_grams_are_those_that_a_slow_search_finds(codes):
    code = np.array(codes)
    every_gram = sequences.repeated(code, np.zeros(len(code), int))
    found = {(grams.length, tuple(code[row : row + grams.length])) for grams in every_gram for row in grams.first}
    every = {}
    for length in range(2, 18):
        for row in range(len(codes) - length + 1):
            every.setdefault(tuple(codes[row : row + length]), []).append(row)
    wanted = set()
    for gram, rows in every.items():
        longer = [len(other) for name, other in every.items() if len(name) == len(gram) + 1
                  and gram in (name[1:], name[:-1])]  # fmt: skip
        if len(gram) <= 16 and len(rows) >= 2 and len(rows) not in longer:
            wanted.add((len(gram), gram))
    assert found == wanted


def memory(rows, **more):
    names = ("t_ns", "device", "size_bytes", "address", "call", "step")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    return frame("allocations", {"job": "job", "rank": 0, **columns, **more})


def test_memory_is_held_at_the_peak_by_what_was_not_given_back(ask, traced):
    given = traced([("aten::a", OPERATOR, 0, 10), ("aten::b", OPERATOR, 20, 30)])
    given["allocations"] = memory(
        [(1000, "gpu0", 100, 1, 0, 1), (2000, "gpu0", 50, 2, 0, 1), (3000, "gpu0", -50, 2, 0, 1),
         (4000, "gpu0", 70, 2, 1, 1)],
        allocated_bytes=[1100, 1150, 1100, 1170], reserved_bytes=[2000] * 4,
    )  # fmt: skip
    shown = ask("memory-timeline", given)
    device = shown.tables["devices"].iloc[0]
    assert (device["peak_allocated_bytes"], device["largest_free_bytes"]) == (1170, 900)
    assert device["free_at_peak_ratio"] == pytest.approx(830 / 2000)
    held = shown.tables["holders"].set_index("operator")["held_bytes"]
    assert held.to_dict() == {"before the recording": 1000, "aten::a": 100, "aten::b": 70}
    largest = shown.tables["largest"]
    assert largest["size_bytes"].tolist() == [100, 70, 50] and largest["lived_s"].iloc[2] == us(1)


def test_a_leak_is_the_growth_of_the_lowest_use_per_step(ask, traced):
    rows = []
    for step in range(5):
        at = 10_000 * step
        rows += [
            (at, "gpu0", 500, 1, -1, step),
            (at + 100, "gpu0", -500, 1, -1, step),
            (at + 200, "gpu0", 30, 10 + step, -1, step),
        ]
    shown = ask("memory-timeline", {"allocations": memory(rows)})
    assert shown.tables["devices"]["leak_per_step_bytes"].iloc[0] == 30
    assert any("grows by" in line for line in shown.said) and "Reserved memory is not recorded" in shown.notes[0]


def test_launches_of_a_graph_are_told_apart(ask, traced):
    graph = {"graph": 3}
    given = traced(
        [
            ("cudaGraphLaunch", RUNTIME, 0, 10),
            ("cudaGraphLaunch", RUNTIME, 100, 110),
            ("cudaLaunchKernel", RUNTIME, 300, 305),
        ],
        [
            ("a", 20, 30, 0, graph),
            ("b", 34, 40, 0, graph),
            ("a", 120, 130, 1, graph),
            ("b", 130, 140, 1, graph),
            ("c", 310, 320, 2),
        ],
    )
    found = ask("graph-launches", given).tables
    assert found["launches"]["kernels_count"].tolist() == [2, 2]
    assert found["launches"]["idle_s"].tolist() == pytest.approx([4e-6, 0.0])
    assert found["by_graph"]["idle_ratio"].iloc[0] == pytest.approx(4 / 40)
    assert found["by_graph"]["launch_delay_s"].iloc[0] == us(20)


def test_what_launches_cost_is_the_gap_before_late_kernels(ask, traced):
    given = traced(
        [
            ("cudaLaunchKernel", RUNTIME, 0, 6),
            ("cudaLaunchKernel", RUNTIME, 30, 36),
            ("cudaLaunchKernel", RUNTIME, 37, 43),
        ],
        [("a", 10, 15, 0), ("b", 40, 60, 1), ("c", 62, 66, 2)],
    )
    found = ask("short-kernels", given).tables["by_rank"].iloc[0]
    assert (found["kernels_count"], found["short_count"], found["below_launch_count"]) == (3, 2, 2)
    assert found["launch_bound_count"] == 1 and found["launch_gap_s"] == us(25) and found["queued_gap_s"] == us(2)


GEMM = {"shapes": "[[1000, 1000], [1000, 1000]]", "dtypes": "['c10::BFloat16', 'c10::BFloat16']"}
ADD = {"shapes": "[[1000000], [1000000], []]", "dtypes": "['float', 'float', 'Scalar']"}
TINY = {"shapes": "[[10], [10], []]", "dtypes": "['float', 'float', 'Scalar']"}


def rated(traced):
    calls, work = [], []
    for at, (name, more, length) in enumerate((("mm", GEMM, 10), ("add", ADD, 12), ("mul", TINY, 2))):
        calls += [
            (f"aten::{name}", OPERATOR, 50 * at, 50 * at + 9, more),
            ("cudaLaunchKernel", RUNTIME, 50 * at, 50 * at + 2),
        ]
        work.append((name, 50 * at + 5, 50 * at + 5 + length, len(calls) - 1))
    return traced(calls, work)


def test_operators_are_bound_by_what_they_use_most(ask, traced):
    """2 GFLOP in 10 us are 200 TFLOP/s of 312; 12 MB in 12 us are 1 TB/s of 2.04; ten elements are overhead."""
    rows = ask("roofline", rated(traced), device="NVIDIA A100-SXM4-80GB").tables["by_operator"].set_index("name")
    assert rows["bound"].to_dict() == {"aten::mm": "compute", "aten::add": "memory", "aten::mul": "overhead"}
    assert rows["rate_tflops_per_s"]["aten::mm"] == pytest.approx(200)
    assert rows["compute_of_peak_ratio"]["aten::mm"] == pytest.approx(200 / 312)
    assert rows["rate_bytes_per_s"]["aten::add"] == pytest.approx(1e12)
    assert rows["memory_of_peak_ratio"]["aten::add"] == pytest.approx(1 / 2.039)
    assert rows["savable_s"]["aten::mm"] == pytest.approx(10e-6 - 2e9 / 312e12)


def test_device_time_of_unknown_cost_is_a_family_of_its_own(ask, traced):
    given = rated(traced)
    given["operators"]["name"] = ["custom::op" if name == "aten::add" else name for name in given["operators"]["name"]]
    given["operators"] = frame("operators", {name: given["operators"][name] for name in given["operators"].columns})
    shown = ask("roofline", given, device="NVIDIA A100-SXM4-80GB")
    last = shown.tables["by_family"].iloc[-1]
    assert last["family"] == "unknown cost" and last["device_s"] == us(12)
    assert last["device_share_ratio"] == pytest.approx(0.5) and "50% of the device time" in shown.notes[0]


def test_without_a_known_device_rates_are_relative(ask, traced):
    shown = ask("roofline", rated(traced))
    rows = shown.tables["by_operator"].set_index("name")
    assert rows["compute_of_best_ratio"]["aten::mm"] == 1.0 and rows["memory_of_best_ratio"]["aten::add"] == 1.0
    assert set(rows["bound"]) == {"unknown"} and "does not name its GPU" in shown.notes[-1]


def test_without_shapes_there_is_no_roofline(traced):
    from skewscope.views.roofline import Roofline

    given = traced([("aten::mm", OPERATOR, 0, 9), ("cudaLaunchKernel", RUNTIME, 1, 3)], [("gemm", 5, 9, 1)])
    with pytest.raises(NoData, match="record_shapes=True"):
        Roofline().show(given)


def test_without_calls_sequences_are_still_told(traced):
    given = {**repeated("abab", traced)}
    given["operators"] = given["operators"].iloc[:0]
    assert "below_operators" not in Sequences().show(given).tables


@pytest.mark.parametrize(("device", "name"), [
    ("NVIDIA H100 80GB HBM3", "H100 SXM"), ("NVIDIA H100 PCIe", "H100 PCIe"), ("NVIDIA H200", "H200"),
    ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"), ("NVIDIA A100-PG509-200", "A100 40GB"), ("NVIDIA A10", "A10"),
    ("NVIDIA B200", "B200"), ("Tesla V100-SXM2-16GB", "V100 SXM2"), ("Tesla T4", "T4"), ("NVIDIA L4", "L4"),
    ("NVIDIA L40S", "L40S"), ("AMD Instinct MI300X VF", "MI300X"),
    ("AMD Instinct MI250X", "MI250X, one of its two dies"),
])  # fmt: skip
def test_devices_are_known_by_the_name_the_driver_gives(device, name):
    found = peaks(device)
    assert found is not None and found.name == name


def test_peaks_are_plausible_and_have_sources():
    for _, peak in _listed():
        assert peak.source and 1e11 < peak.memory_bytes_per_s < 1e13
        rates = [peak.flops_per_s[kind] for kind in ("fp32", "tf32", "fp16", "fp8") if kind in peak.flops_per_s]
        assert rates == sorted(rates) and 5e12 < rates[0] and rates[-1] < 1e16
    assert peaks("NVIDIA A100G") is None and peaks("") is None
