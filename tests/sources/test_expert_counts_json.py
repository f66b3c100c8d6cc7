import json

import pytest

from skewscope.errors import Unreadable
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.expert_counts_json import ExpertCountsJson

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
