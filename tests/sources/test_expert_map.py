import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.expert_map import ExpertMap

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROWS = [[0, 1, 2, 0], [2, 1, 0, 1]]


def ascend(rows, ranks=2):
    size = len(rows[0]) // ranks
    return {"moe_layer_count": len(rows), "layer_list": [
        {"layer_id": 3 + at, "device_count": ranks, "device_list": [
            {"device_id": rank, "device_expert": row[rank * size : (rank + 1) * size]} for rank in range(ranks)[::-1]
        ]} for at, row in enumerate(rows)
    ]}  # fmt: skip


YAML = "initial_global_assignments:\n  3: [0, 1, 2, 0]\n  4: [2, 1, 0, 1]\nnum_slots: 4\nlayer_updates_per_iter: 0\n"
BLOCKS = "num_slots: 4\ninitial_global_assignments:\n  3:\n  - 0\n  - 1\n  - 2\n  - 0\n  4: [2, 1, 0, 1]\n"
VLLM = {"record_type": "eplb_initial_mapping", "version": 1, "num_redundant_experts": 1, "num_slots": 4,
        "initial_global_assignments": {"3": ROWS[0], "4": ROWS[1]}}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "layers", "rank"),
    [
        (json.dumps({"physical_to_logical_map": ROWS}), [0, 1], -1), (YAML, [3, 4], -1), (BLOCKS, [3, 4], -1),
        (json.dumps(VLLM, indent=1), [3, 4], -1), (json.dumps(ascend(ROWS)), [3, 4], 1),
    ],
    ids=["sglang", "tensorrt-llm", "tensorrt-llm in blocks", "vllm", "ascend"],
)  # fmt: skip
def test_every_engines_map_is_the_same_placement(tmp_path, text, layers, rank):
    path = tmp_path / "map.any"
    path.write_text(text)
    assert ExpertMap().sniff(text.encode(), path.name) == 0.9
    rows = frame(*ExpertMap().read(path).batches[0])
    assert rows["expert"].tolist() == ROWS[0] + ROWS[1] and rows["slot"].tolist() == [0, 1, 2, 3] * 2
    assert rows["layer"].tolist() == [layers[0]] * 4 + [layers[1]] * 4 and rows["rank"].iloc[3] == rank
    assert set(rows["step"]) == {0}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (json.dumps({"physical_to_logical_map": [[0, 1], [0]]}), "1 or 2 slots"), (YAML[:50], "damaged map"),
        (YAML.replace("num_slots: 4", "num_slots: 8"), "num_slots is 8, the layers have 4"),
        (json.dumps(ascend(ROWS)).replace("[0, 1]", "[0]"), "1 or 2 experts"),
        (json.dumps({"physical_to_logical_map": [[0, -5]]}), "cannot be meant"),
        (json.dumps({"physical_to_logical_map": [[0, 10**30]]}), "damaged map|beyond all sense"),
        (json.dumps({"physical_to_logical_map": []}), "no slots"),
        ("initial_global_assignments: !!python/object/apply:os.system ['false']\n", "damaged map"),
        ("initial_global_assignments:\n  a: &a [1]\n  b: *a\n", "damaged map"),
        ("initial_global_assignments:\n  -3: [1]\n", "below 0"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused(tmp_path, text, match):
    (tmp_path / "map").write_text(text)
    with pytest.raises(Unreadable, match=match):
        ExpertMap().read(tmp_path / "map")


@pytest.mark.parametrize("text", [b"world_size: 8\ndp_size: 2\n", b'{"record_type": "eplb_load_stats", "p2l_map": []}',
                                  b"\0initial_global_assignments:", b'{"layer_list": []}'])  # fmt: skip
def test_other_documents_are_not_claimed(text):
    assert ExpertMap().sniff(text, "x.yaml") == 0


maps = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 500), min_size=shape[1] * shape[2], max_size=shape[1] * shape[2]),
        min_size=shape[0], max_size=shape[0],
    ).map(lambda rows: (rows, shape[2]))
)  # fmt: skip


@drawn
@given(maps, st.sampled_from(["sglang", "vllm", "ascend", "yaml", "blocks"]))
def test_each_slot_comes_back_from_every_form(tmp_path, drawn_map, form):
    table, ranks = drawn_map
    first = 0 if form == "sglang" else 3
    named = {first + at: row for at, row in enumerate(table)}
    text = {
        "sglang": lambda: json.dumps({"note": "ü", "physical_to_logical_map": table}),
        "vllm": lambda: json.dumps({"initial_global_assignments": dict(sorted(named.items(), reverse=True))}),
        "ascend": lambda: json.dumps(ascend(table, ranks)),
        "yaml": lambda: yaml.safe_dump({"initial_global_assignments": named}, default_flow_style=None),
        "blocks": lambda: yaml.safe_dump({"initial_global_assignments": named}, default_flow_style=False),
    }[form]()
    path = tmp_path / "map.any"
    path.write_text(text)
    size = len(table[0]) // ranks
    want = [(first + layer, slot, expert, slot // size if form == "ascend" else -1)
            for layer, row in enumerate(table) for slot, expert in enumerate(row)]  # fmt: skip
    found = frame(*ExpertMap().read(path).batches[0])[["layer", "slot", "expert", "rank"]]
    assert list(found.itertuples(index=False, name=None)) == want
