"""What a report says of experts: the document fits its schema, the page names the rungs, nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from skewscope.analysis import analyze
from skewscope.frames import concat, frame
from skewscope.recording import Recording
from skewscope.reports import json_schema, moe_section
from skewscope.reports.document import document
from skewscope.reports.terminal import page


def loads(shares, phase="", steps=32, picks=20000, seed=1):
    rng = np.random.default_rng(seed)
    counts = np.array([[rng.multinomial(picks, share / np.sum(share)) for share in shares] for _ in range(steps)])
    step, layer, expert = np.meshgrid(*(np.arange(size) for size in counts.shape), indexing="ij")
    return frame("expert_loads", {
        "job": "job", "step": step.ravel(), "layer": layer.ravel() + 3, "expert": expert.ravel(), "rank": -1,
        "routed_tokens": counts.ravel(), "phase": phase,
    })  # fmt: skip


def analysed(*parts, parallelism=None, **more):
    tables = {"expert_loads": concat("expert_loads", parts), **more}
    return analyze(Recording(tables, (), world_size=8 if parallelism else -1, parallelism=parallelism or {}))


HOT, EVEN = np.array([8.0] + [1.0] * 15), np.ones(16)


def shown(made):
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(page(made))
    return " ".join(console.export_text().split())


def test_the_document_fits_its_schema_and_tells_the_ladder():
    made = document(analysed(loads([HOT, EVEN]), parallelism={"ep": 4}))
    jsonschema.validate(made, json_schema.report())
    (entry,) = made["moe"]
    assert (entry["layers"], entry["experts"], entry["gpus"], entry["slots"]) == (2, 16, 4, 16)
    ladder = entry["ladder"]
    assert [one["layer"] for one in ladder["worst"]] == [3, 4] and ladder["worst"][0]["binding"] == "replication"
    assert ladder["mean"]["now"] == pytest.approx((23 / 4 / 11 + 0.99) / 2, abs=0.01)
    assert ladder["mean"]["group_bound"] is None
    assert set(entry["definitions"]) == {"skewscope", "vllm", "sglang", "trtllm_imbalance", "ascend_mean",
                                         "ascend_max", "slots"}  # fmt: skip
    assert entry["definitions"]["vllm"] == pytest.approx(10000 / (20000 * 11 / 23 + 5100), abs=0.01)
    assert entry["hottest"][0] == {"layer": 3, "expert": 0, "max_over_mean": pytest.approx(16 * 8 / 23, abs=0.05)}
    assert json.loads(json.dumps(made)) == made


def test_the_page_names_the_rungs_and_what_binds():
    text = shown(document(analysed(loads([HOT, EVEN]), parallelism={"ep": 4})))
    for said in ("Experts (2 layers, 16 experts, 32 steps)", "noise ceiling", "plan, on later windows", "what binds",
                 "vLLM 0.6", "blocks of experts over 4 expert-parallel ranks are assumed"):  # fmt: skip
        assert said in text, said


def test_phases_stand_apart():
    other = np.roll(HOT, 5)
    made = document(analysed(loads([HOT] * 2, "prefill"), loads([other] * 2, "decode", seed=2), parallelism={"ep": 4}))
    assert [one["phase"] for one in made["moe"]] == ["decode", "prefill"]
    assert made["moe"][0]["phases_apart_bits"] > 0.05
    assert any(rule["rule"] == "workloads" for rule in made["moe"][0]["advice"])


def test_an_even_router_is_told_as_such_in_the_verdict():
    for more in ({}, {"parallelism": {"ep": 4}}):
        made = document(analysed(loads([EVEN] * 4), **more))
        assert made["findings"] == [] and "noise ceiling reached" in made["summary"]["verdict"]
        assert [rule["rule"] for rule in made["moe"][0]["advice"]] == ["noise"]


def test_what_the_engine_said_stands_beside_it():
    said = frame("balance_reports", {
        "job": "job", "step": [1, 2], "layer": -1, "definition": "vllm", "balance_ratio": [0.5, 0.7],
    })  # fmt: skip
    made = document(analysed(loads([HOT]), parallelism={"ep": 4}, balance_reports=said))
    assert made["moe"][0]["reported"] == {"vllm": pytest.approx(0.6)}
    assert "vllm 0.600" in shown(made)


def test_each_definition_gives_what_its_engine_printed(analyzed):
    """The sample's logs were written by each engine's own formula, from the counts recorded beside them."""
    (entry,) = analyzed(Path(__file__).parents[2] / "sample_data/moe-tiny")["moe"]
    assert entry["basis"] == "the recorded map of experts" and entry["slots"] == 20
    for engine in ("vllm", "sglang"):
        assert entry["definitions"][engine] == pytest.approx(entry["reported"][engine], abs=0.001), engine
    assert entry["definitions"]["vllm"] != pytest.approx(entry["definitions"]["sglang"], abs=0.005)


def test_without_gpus_there_is_no_ladder():
    (entry,) = document(analysed(loads([HOT])))["moe"]
    assert entry["ladder"] is None and entry["definitions"] is None and entry["gpus"] is None
    assert "job.json" in entry["basis"]


def test_without_loads_there_is_nothing(make_world):
    world = make_world()
    assert "moe" not in document(world) and moe_section.section(world.tables) == []


def test_loads_beyond_sense_are_told_and_not_raised():
    rows = frame("expert_loads", {
        "job": "job", "step": np.arange(400), "layer": 0, "expert": 2**31 - 1, "rank": 0, "routed_tokens": 5,
    })  # fmt: skip
    (entry,) = document(analysed(rows))["moe"]
    assert "cannot be meant" in entry["warnings"][0]
    assert "cannot be meant" in shown(document(analysed(rows)))
