"""Placements as engines' files: what an engine reads from them is the placement that went in."""

import io
import json
from importlib import import_module

import numpy as np
import pytest
import yaml

from skewscope.catalogue import rooms
from skewscope.errors import UsageError
from skewscope.moe.placement import Placement, start_layout

FORMATS = {room.id.removeprefix("exports-"): room.module for room in rooms("moe") if room.id.startswith("exports-")}
LAYERS = [1, 2, 4]  # of a model whose layers 0 and 3 are dense
GPUS, EXPERTS, SLOTS = 4, 10, 16


def read_eplb(data):
    return np.load(io.BytesIO(data), allow_pickle=False)["phy2log"]


def read_vllm(data):
    (record,) = (json.loads(line) for line in data.decode().splitlines())
    assert (record["record_type"], record["version"]) == ("eplb_initial_mapping", 1)
    assert record["num_slots"] - record["num_redundant_experts"] == EXPERTS
    return [record["initial_global_assignments"][str(layer)] for layer in range(len(LAYERS))]


def read_sglang(data):
    (key, rows) = next(iter(json.loads(data).items()))
    assert key == "physical_to_logical_map" and len(rows) == LAYERS[-1] + 1
    for row in rows:
        assert set(row) == set(range(EXPERTS)) and len(row) == SLOTS  # dense rows must be valid maps too
    return [rows[layer] for layer in LAYERS]


def read_tensorrt_llm(data):
    read = yaml.safe_load(data)
    assert list(read) == ["num_slots", "initial_global_assignments", "layer_updates_per_iter"]
    assert read["num_slots"] == SLOTS and read["layer_updates_per_iter"] == 0
    return [read["initial_global_assignments"][layer] for layer in LAYERS]


def read_vllm_ascend(data):
    read = json.loads(data)
    rows = []
    for layer, one in enumerate(read["layer_list"]):
        assert one["layer_id"] == layer and one["device_count"] == len(one["device_list"]) == GPUS
        assert [device["device_id"] for device in one["device_list"]] == list(range(GPUS))
        rows.append([expert for device in one["device_list"] for expert in device["device_expert"]])
    assert read["moe_layer_count"] == len(rows)
    return rows


READERS = {"eplb": read_eplb, "vllm": read_vllm, "sglang": read_sglang, "tensorrt-llm": read_tensorrt_llm,
           "vllm-ascend": read_vllm_ascend}  # fmt: skip


@pytest.fixture
def placed():
    chance = np.random.default_rng(7)
    slots = [chance.permutation(np.concatenate([np.arange(EXPERTS), chance.integers(0, EXPERTS, SLOTS - EXPERTS)]))
             for _ in LAYERS]  # fmt: skip
    return Placement(np.array(slots), GPUS, EXPERTS, nodes=2)


def test_every_format_has_a_reader_here():
    assert set(FORMATS) == set(READERS)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_goes_in_comes_out(name, placed):
    module = import_module(FORMATS[name])
    assert np.array_equal(READERS[name](module.export(placed, LAYERS)), placed.slots)
    assert module.export(placed, LAYERS) == module.export(placed, np.array(LAYERS))
    assert "\n" in module.__doc__.strip(), "the page must say how the engine is given the file"


def test_eplb_arrays_agree_with_each_other(placed):
    arrays = np.load(io.BytesIO(import_module(FORMATS["eplb"]).export(placed, LAYERS)), allow_pickle=False)
    phy2log, log2phy, logcnt = arrays["phy2log"], arrays["log2phy"], arrays["logcnt"]
    assert log2phy.shape == (len(LAYERS), EXPERTS, logcnt.max()) and arrays["layers"].tolist() == LAYERS
    for layer in range(len(LAYERS)):
        for expert in range(EXPERTS):
            slots = [slot for slot in log2phy[layer, expert].tolist() if slot >= 0]
            assert slots == np.flatnonzero(phy2log[layer] == expert).tolist()
            assert len(slots) == logcnt[layer, expert]


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize(
    ("slots", "gpus", "said"),
    [([[0, 0, 1, 1]], 2, "no slot holds"), ([[0, 1, 2, 7]], 2, "outside"), ([[0, 1, 2, 0]], 3, "do not spread")],
)
def test_what_no_engine_could_run_is_refused(name, slots, gpus, said):
    with pytest.raises(UsageError, match=f"cannot be run: .*{said}"):
        import_module(FORMATS[name]).export(Placement(np.array(slots), gpus, 3), [0])


def test_two_replicas_on_a_gpu_are_no_fault_and_layers_must_fit():
    export = import_module(FORMATS["sglang"]).export
    twice = Placement(np.array([[0, 0, 1, 2]]), 2, 3)
    assert json.loads(export(twice, [0])) == {"physical_to_logical_map": [[0, 0, 1, 2]]}
    with pytest.raises(UsageError, match="2 layers are named for a placement of 1"):
        export(start_layout(3, 4, 2, 1), [0, 1])
