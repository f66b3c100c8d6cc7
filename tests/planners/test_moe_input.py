"""What the planner of experts reads: loads of every engine, and the placement that runs now."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skewscope.catalogue import rooms
from skewscope.errors import Unreadable, UsageError
from skewscope.moe.loads import of_array
from skewscope.moe.placement import Placement, start_layout
from skewscope.planners import _moe_input, _moe_made

TINY = Path(__file__).parents[2] / "sample_data" / "moe-tiny"
EXPORTS = {room.id.removeprefix("exports-"): room.module for room in rooms("moe") if room.id.startswith("exports-")}


@pytest.fixture
def loads():
    return of_array(np.arange(1, 13).reshape(1, 2, 6), layers=[3, 4])


@pytest.fixture
def placed():
    return Placement(np.array([[5, 0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 4, 5, 5, 2]]), 4, 6, 2)


def running(path, loads, tables=None):
    return _moe_input.running(str(path) if path else None, tables or {}, loads, 4, 2, 8)


ENGINES = ("counts.npz", "expert_counts.csv", "trtllm_expert_statistic", "vllm_eplb_load_stats.jsonl",
           "expert_distribution_recorder_1700000000.0.pt")  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_the_same_total(name):
    found, _ = _moe_input.read_loads([str(TINY / name)])
    truth = np.load(TINY / "counts.npz", allow_pickle=False)["counts"].sum(0)
    assert np.array_equal(found.total(), truth)


def test_what_holds_no_loads_is_named():
    with pytest.raises(Unreadable, match="vllm_server.log: holds no loads of experts"):
        _moe_input.read_loads([str(TINY / "vllm_server.log")])
    with pytest.raises(Unreadable, match="of phase 'decode'"):
        _moe_input.read_loads([str(TINY / "counts.npz")], phase="decode")


def test_of_several_loads_one_must_be_chosen(tmp_path):
    counts = np.arange(1, 25).reshape(2, 2, 6)
    for name, times in (("chat", 1), ("code", 2)):
        np.save(tmp_path / f"{name}.npy", counts * times)
    with pytest.raises(UsageError, match="'chat'.*'code'.*choose one with --job and --phase"):
        _moe_input.read_loads([str(tmp_path)])
    assert _moe_input.read_loads([str(tmp_path)], "code")[0].total().sum() == 2 * counts.sum()


def test_only_steps_since_the_workload_changed_are_planned_for():
    chance = np.random.default_rng(0)
    first, second = (chance.dirichlet(np.ones(64)) for _ in range(2))
    counts = np.stack([chance.multinomial(20_000, first if step < 12 else second)[None] for step in range(24)])
    found = _moe_input.recent(of_array(counts, steps=np.arange(100, 124)))
    assert found.steps.tolist() == list(range(112, 124)) and np.array_equal(found.counts, counts[12:])
    assert found.warnings[-1].startswith("the workload became another one at step 112 ")
    steady = of_array(counts[:12])
    assert _moe_input.recent(steady) is steady


def test_pairs_of_neighbouring_layers(loads, tmp_path):
    trace = np.array([[[0], [3]], [[0], [3]], [[5], [0]]] * 600)  # tokens, layers, k
    np.save(tmp_path / "trace.npy", trace)
    found = _moe_input.read_pairs(str(tmp_path / "trace.npy"), of_array(np.ones((1, 2, 6), int)))
    assert found.shape == (1, 6, 6) and (found[0, 0, 3], found[0, 5, 0], found.sum()) == (1200, 600, 1800)
    np.save(tmp_path / "pairs.npy", found)
    assert np.array_equal(_moe_input.read_pairs(str(tmp_path / "pairs.npy"), of_array(np.ones((1, 2, 6), int))), found)
    with pytest.raises(UsageError, match="fit the loads, not"):
        _moe_input.read_pairs(str(tmp_path / "pairs.npy"), of_array(np.ones((1, 3, 6), int)))
    with pytest.raises(Unreadable, match="no pairs of experts of neighbouring layers"):
        _moe_input.read_pairs(str(TINY / "counts.npz"), loads)


def test_further_workloads_are_all_others_of_the_same_model(tmp_path):
    counts = np.arange(1, 25).reshape(2, 2, 6)
    for name, array in (("chat", counts), ("code", 2 * counts), ("other", counts[:, :1])):
        np.save(tmp_path / f"{name}.npy", array)
    first, _ = _moe_input.read_loads([str(tmp_path / "chat.npy")])
    assert [one.job for one in _moe_input.read_workloads([str(tmp_path)], first)] == ["code"]
    with pytest.raises(UsageError, match="other.npy: 1 layers of 6 experts, but 2 of 6 in the loads"):
        _moe_input.read_workloads([str(tmp_path / "other.npy")], first)
    with pytest.raises(UsageError, match="holds nothing but the loads that are planned for already"):
        _moe_input.read_workloads([str(tmp_path / "chat.npy")], first)


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_every_map_that_is_written_can_be_given_back(name, loads, placed, tmp_path):
    suffix = {"eplb": ".npz", "tensorrt-llm": ".yaml"}.get(name, ".json")
    path = tmp_path / f"map{suffix}"
    path.write_bytes(import_module(EXPORTS[name]).export(placed, loads.layers))
    found, known = running(path, loads)
    assert np.array_equal(found.slots, placed.slots) and found.nodes == 2 and known == f"read from {path}"


def test_a_plan_of_ours_and_arrays_can_be_given_back(loads, placed, tmp_path):
    plan = {"schema": "skewscope.plan.moe/1", "plan": {"layers": [4, 3], "phy2log": placed.slots[::-1].tolist()}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    np.save(tmp_path / "map.npy", placed.slots)
    np.savez(tmp_path / "map.npz", physical_to_logical_map=placed.slots)
    for name in ("plan.json", "map.npy", "map.npz"):
        assert np.array_equal(running(tmp_path / name, loads)[0].slots, placed.slots), name


def test_a_placement_that_does_not_fit_is_refused(loads, placed, tmp_path):
    np.save(tmp_path / "one.npy", placed.slots[:1])
    np.save(tmp_path / "high.npy", placed.slots + 1)
    np.save(tmp_path / "shares.npy", placed.slots / 2)
    np.savez(tmp_path / "other.npz", counts=placed.slots)
    (tmp_path / "text.json").write_text("{}")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    for name, error, said in (
        ("one.npy", UsageError, "places 1 layers, the loads have 2"),
        ("high.npy", UsageError, "outside experts 0 to 5"),
        ("shares.npy", Unreadable, "no map"), ("other.npz", Unreadable, "holds counts, not phy2log"),
        ("text.json", Unreadable, "text.json"), ("broken.npy", Unreadable, "broken.npy"),
        ("nothing.npy", UsageError, "no such file"),
    ):  # fmt: skip
        with pytest.raises(error, match=said):
            running(tmp_path / name, loads)


def test_the_last_recorded_map_is_taken_else_the_start_layout(loads, placed):
    layer, slot = (part.ravel() for part in np.indices(placed.slots.shape))
    old = pd.DataFrame({"job": "job", "step": 0, "layer": layer + 3, "slot": slot, "expert": 0, "rank": slot // 2})
    new = old.assign(step=5, expert=placed.slots.ravel())
    found, known = running(None, loads, {"expert_placements": pd.concat([new, old])})
    assert np.array_equal(found.slots, placed.slots) and known == "as recorded"
    start = start_layout(6, 8, 4, 2, 2).slots
    found, known = running(None, loads, {"expert_placements": old})
    assert np.array_equal(found.slots, start) and "start layout assumed, since the recording is no placement" in known
    assert running(None, loads)[1] == _moe_made.START
