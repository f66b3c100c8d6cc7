"""The figures of another tool on the same real pair of traces: A100 against V100, 6 steps each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skewscope.attribution import attribute
from skewscope.comparison import calls, operators, work
from skewscope.comparison.run import Run
from skewscope.sources import gather

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "../shared/data/hta-kineto-tests"
PEER = json.loads((ROOT / "tests/golden/peers/compare.json").read_text())
COPIES = {"Memcpy DtoD (Device -> Device)": "DtoD", "Memcpy DtoH (Device -> Pageable)": "DtoH",
          "Memcpy HtoD (Pinned -> Device)": "HtoD"}  # fmt: skip

pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="the shared traces are not here")


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    made = []
    for name in PEER["inputs"]:
        recording = gather([TRACES / name], workers=1, detail=True)
        tables = {**recording.tables, **attribute(recording.tables).tables}
        made.append(Run(name, {"inputs": [], "job": {"ranks": 1}, "findings": []}, tables))
    return made


@pytest.fixture(scope="module")
def told(runs: list[Run]) -> list[dict]:
    return [one for one in work.compared(*runs, exact=True) if one["kind"] not in ("cpu", "data")]


def whole(record: dict) -> list[float]:
    """Calls and microseconds of all steps, as the peer counts."""
    return [record["calls_before"] * PEER["steps"][0], record["calls_after"] * PEER["steps"][1],
            record["before_s"] * 1e6 * PEER["steps"][0], record["after_s"] * 1e6 * PEER["steps"][1]]  # fmt: skip


def test_all_device_work_together(told):
    sums = [sum(column) for column in zip(*map(whole, told), strict=True)]
    assert sums[:2] == pytest.approx(PEER["device_totals"][:2], abs=1e-6)
    assert sums[2:] == pytest.approx(PEER["device_totals"][2:], rel=0.001)


def test_every_kernel_and_copy(told):
    ours = {one["name"]: whole(one) for one in told}
    compared = 0
    for name, numbers in PEER["device"].items():
        if name.startswith(("nccl", "Memset")):  # ours are told by operation, the peer's by kernel: see below
            continue
        assert ours[COPIES.get(name, name)] == pytest.approx(numbers, rel=0.01), name
        compared += 1
    assert compared > 80


def test_collectives(told):
    by_op = {one["name"]: whole(one) for one in told if one["kind"] == "communication"}
    for op, part in (("all_reduce", "AllReduce"), ("send_recv", "SendRecv")):
        theirs = [numbers for name, numbers in PEER["device"].items() if part in name]
        assert by_op[op] == pytest.approx([sum(column) for column in zip(*theirs, strict=True)], rel=0.01)


def test_which_names_came_and_went(told):
    kernels = [one for one in told if one["kind"] != "communication"]
    count = {state: sum(one["state"] == state for one in kernels) for state in ("added", "removed")}
    theirs = PEER["device_changes"]
    nccl = [numbers for name, numbers in PEER["device"].items() if name.startswith("nccl")]
    came, went = sum(not one[0] for one in nccl), sum(not one[1] for one in nccl)
    assert count == {"added": theirs["added"] - came, "removed": theirs["deleted"] - went}


def test_operators(runs):
    """The peer sums what the steps hold by time on the host; so do we, by each operator's own span."""
    ours = {one["name"]: one for one in operators.compared(*runs)}
    for name, numbers in PEER["operators"].items():
        one = ours[name]
        told = [one["calls_before"] * 6, one["calls_after"] * 6, one["host_before_s"] * 6e6, one["host_after_s"] * 6e6]
        assert told == pytest.approx(numbers, rel=0.01), name


def test_transfers_of_one_rank_hold_its_waiting(runs):
    assert calls.summary(runs[0], runs[0].calls)["all_reduce"]["calls"] == 3
