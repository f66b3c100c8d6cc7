import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.expert_counts_json import ExpertCountsJson

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROWS = [[5, 6, 1], [4, 4, 4]]


@pytest.mark.parametrize(
    ("document", "layers", "top_k", "steps"),
    [
        ({"logical_count": ROWS}, [0, 1], 0, 1), ({"logical_count": [ROWS, ROWS]}, [0, 1], 0, 2),
        ({"layers": {"3": {"total_tokens": 6, "expert_frequency": ROWS[0]}, "4": {"expert_frequency": ROWS[1]}}},
         [3, 4], 2, 1),
        ({"load_history": [{"logical_expert_load": ROWS}] * 3, "model": "x"}, [0, 1], 0, 3),
    ],
    ids=["sglang", "sglang steps", "reap", "history"],
)  # fmt: skip
def test_documents_of_counts(tmp_path, document, layers, top_k, steps):
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(document))
    assert ExpertCountsJson().sniff(path.read_bytes(), path.name) == 0.9
    (loads,) = of_tables(gather([path]).tables)
    assert loads.counts.tolist() == [ROWS] * steps and loads.layers.tolist() == layers
    assert loads.top_k == top_k and loads.job == "chat"


def test_tokens_that_do_not_fit_the_picks_are_told(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"layers": {"0": {"total_tokens": 7, "expert_frequency": [5, 6, 1]}}}))
    assert any("1.71 picks a token" in warning for warning in ExpertCountsJson().read(path).warnings)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"logical_count": [[1, 2], [3', "damaged"), ('{"logical_count": [[1, 2], [3]]}', "no even table"),
        ('{"logical_count": [["a"]]}', "counts want numbers"), ('{"layers": {"x": {}}}', "damaged"),
        ('{"layers": {"0": {"expert_frequency": [0.5, 0.5]}}}', "shares"), ("{}", "counts want"),
        ('{"logical_count": [[1e999]]}', "not finite|damaged"),
    ],
)  # fmt: skip
def test_what_are_no_counts_is_refused(tmp_path, text, match):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(Unreadable, match=match):
        ExpertCountsJson().read(tmp_path / "x.json")


tables = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(
            st.lists(st.integers(0, 10**6), min_size=shape[2], max_size=shape[2]), min_size=shape[1], max_size=shape[1]
        ), min_size=shape[0], max_size=shape[0],
    )
)  # fmt: skip


@drawn
@given(tables, st.sampled_from(["steps", "history", "reap"]))
def test_counts_come_back_but_for_layers_without_any(tmp_path, counts, form):
    document = {
        "steps": {"x": None, "logical_count": counts}, "history": {"load_history": [
            {"logical_expert_load": rows, "t": 1} for rows in counts]},
        "reap": {"layers": {str(7 * at): {"expert_frequency": row} for at, row in enumerate(counts[0])}},
    }[form]  # fmt: skip
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(document))
    counts, spread = (counts[:1], 7) if form == "reap" else (counts, 1)
    told = {layer for rows in counts for layer, row in enumerate(rows) if any(row)} or set(range(len(counts[0])))
    want = sorted(
        (step, layer * spread, expert, tokens) for step, rows in enumerate(counts) for layer, row in enumerate(rows)
        for expert, tokens in enumerate(row) if layer in told
    )  # fmt: skip
    found = frame(*ExpertCountsJson().read(path).batches[0])[["step", "layer", "expert", "routed_tokens"]]
    assert sorted(found.itertuples(index=False, name=None)) == want
