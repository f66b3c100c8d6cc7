import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.trtllm_statistic import TrtllmStatistic

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

NAMES = {"int64": "I64", "int32": "I32", "float32": "F32", "uint8": "U8"}


def safetensors(path, arrays, **header):
    """Write arrays as the format's page describes it."""
    told, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        content = array.tobytes()
        told[name] = {"dtype": NAMES[str(array.dtype)], "shape": list(array.shape),
                      "data_offsets": [len(body), len(body) + len(content)]}  # fmt: skip
        body += content
    text = json.dumps(told | header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def folder(path, ranks=2, experts=4, **more):
    """Write a folder: iterations 100 and 101 of layers 3 and 4; rank r counts r + 1 times what rank 0 does."""
    path.mkdir(exist_ok=True)
    for rank in range(ranks):
        safetensors(path / f"rank{rank}.safetensors", {
            f"{100 + at}_{layer}": (np.arange(experts) + layer + at) * (rank + 1) for at in (0, 1) for layer in (3, 4)
        })  # fmt: skip
    (path / "meta_info.json").write_text(json.dumps({"num_experts": experts, "num_experts_per_token": 2} | more))
    return path


EXPECTED = np.array([[[3, 4, 5, 6], [4, 5, 6, 7]], [[4, 5, 6, 7], [5, 6, 7, 8]]])  # of rank 0, by hand


def test_ranks_of_a_folder_are_summed(tmp_path):
    recording = gather([folder(tmp_path / "run", ranks=3)])
    (loads,) = of_tables(recording.tables)
    assert np.array_equal(loads.counts, EXPECTED * 6) and loads.top_k == 2
    assert loads.steps.tolist() == [100, 101] and loads.layers.tolist() == [3, 4]
    assert len(recording.tables["expert_loads"]) == 16 and [item.status for item in recording.inputs] == ["ok"] * 4


def test_identical_ranks_count_once(tmp_path):
    run = folder(tmp_path / "run", ranks=1)
    (run / "rank1.safetensors").write_bytes((run / "rank0.safetensors").read_bytes())
    recording = gather([run])
    assert np.array_equal(of_tables(recording.tables)[0].counts, EXPECTED)
    assert any("all 2 ranks' files hold identical counts" in warning for warning in recording.warnings)


def test_picks_are_counted_and_not_twice(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    picks = {"7_3": np.array([[0, 2], [2, 3], [2, 0]]), "7_4": np.array([[1, 3], [1, 0], [-1, -1]])}
    safetensors(run / "rank0_raw.safetensors", picks)
    (loads,) = of_tables(gather([run]).tables)
    assert loads.counts.tolist() == [[[2, 0, 3, 1], [1, 2, 0, 1]]] and loads.top_k == 2
    safetensors(run / "rank0.safetensors", {"7_3": np.array([2, 0, 3, 1]), "7_4": np.array([1, 2, 0, 1])})
    recording = gather([run])
    assert of_tables(recording.tables)[0].counts.tolist() == [[[2, 0, 3, 1], [1, 2, 0, 1]]]
    (refused,) = [item for item in recording.inputs if item.status == "unreadable"]
    assert "rank0.safetensors counts: not used" in refused.error


def test_pairs_within_a_layer_are_not_counts(tmp_path):
    path = safetensors(tmp_path / "cooccurrence_rank0.safetensors", {"7_3": np.ones((80, 80), dtype=np.int32)})
    reading = TrtllmStatistic().read(path)
    assert not reading.batches and "not used" in reading.error


def test_a_description_of_another_model_is_told(tmp_path):
    recording = gather([folder(tmp_path / "run", num_experts=2)])
    assert any("of 4 experts, meta_info.json tells 2" in warning for warning in recording.warnings)


def test_an_array_that_lies_outside_costs_itself_only(tmp_path):
    path = folder(tmp_path / "run", ranks=1) / "rank0.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    reading = TrtllmStatistic().read(path)
    assert reading.status == "partial" and reading.error.startswith("101_4, 1 of the iterations' layers")
    tokens = reading.batches[0][1]["routed_tokens"].reshape(3, 4)
    assert np.array_equal(tokens[:2], EXPECTED[0]) and tokens[2].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("arrays", "header", "match"),
    [
        ({"weight": np.ones(4)[:0].astype(np.float32)}, {}, "no array called ITERATION_LAYER"),
        ({}, {"1_2": {"dtype": "I64", "shape": [1 << 60], "data_offsets": [0, 8]}}, "no array called"),
        ({}, {"1_2": {"dtype": "I64", "shape": [-1], "data_offsets": [0, -8]}}, "no array called"),
        ({}, {"1_2": 5}, "no array called"),
        ({"1_2": np.array([-4, 3])}, {}, "cannot be tokens"),
        ({"1_2": np.ones((2, 2, 2), dtype=np.int64)}, {}, "neither counts"),
        ({f"{10**9 * at}_{at}": np.arange(9000) for at in range(1, 200)}, {}, "cannot be meant"),
    ],
)  # fmt: skip
def test_what_is_no_statistic_is_refused(tmp_path, arrays, header, match):
    with pytest.raises(Unreadable, match=match):
        TrtllmStatistic().read(safetensors(tmp_path / "rank0.safetensors", arrays, **header))


def test_weights_of_a_model_are_not_claimed(tmp_path):
    path = safetensors(tmp_path / "model.safetensors", {"layers.0.weight": np.ones(4, dtype=np.float32)})
    assert TrtllmStatistic().sniff(path.read_bytes(), path.name) == 0
    config = b'{"num_experts": 64, "num_experts_per_tok": 8}'  # of a model, not of a statistic
    assert TrtllmStatistic().sniff(config, "config.json") == 0


counts_of_rank = st.tuples(st.integers(1, 5), st.booleans()).flatmap(
    lambda shape: st.dictionaries(
        st.tuples(st.integers(0, 99), st.integers(0, 20)),
        st.lists(st.integers(0, 10**6 if not shape[1] else 7), min_size=shape[0], max_size=shape[0]),
        min_size=1, max_size=5,
    ).map(lambda arrays: (arrays, shape[1]))
)  # fmt: skip


@drawn
@given(counts_of_rank, st.integers(0, 63))
def test_counts_and_picks_come_back(tmp_path, told, rank):
    """Raw picks [tokens, 1] count up to the highest expert of all; layers without any token are left out."""
    arrays, raw = told
    header, body = {}, b""
    for (step, layer), numbers in arrays.items():
        data = np.array(numbers, dtype=np.int64)
        shape = [len(numbers), 1] if raw else [len(numbers)]
        header[f"{step}_{layer}"] = {
            "dtype": "I64", "shape": shape, "data_offsets": [len(body), len(body) + data.nbytes]
        }  # fmt: skip
        body += data.tobytes()
    head = json.dumps(header).encode()
    path = tmp_path / f"rank{rank}.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + body)
    reading = TrtllmStatistic().read(path)
    width = max(max(numbers) for numbers in arrays.values()) + 1 if raw else 0
    counts = {key: np.bincount(numbers, minlength=width).tolist() if raw else numbers
              for key, numbers in arrays.items()}  # fmt: skip
    busy = {layer for (_, layer), row in counts.items() if any(row)} or {layer for _, layer in counts}
    rows = frame(*reading.batches[0])[["step", "layer", "expert", "routed_tokens"]]
    assert sorted(rows.itertuples(index=False, name=None)) == sorted(
        (*key, expert, tokens) for key, row in counts.items() for expert, tokens in enumerate(row) if key[1] in busy
    )
    assert reading.rank == rank
    grid = len({step for step, _ in arrays}) * len({layer for _, layer in arrays})
    assert reading.status == ("ok" if grid == len(arrays) else "partial")
