import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.expert_array import ExpertArray

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

COUNTS = np.random.default_rng(3).integers(0, 900, (3, 2, 5))


def loads_of(path):
    (found,) = of_tables(gather([path]).tables)
    return found


def test_one_array_of_counts(tmp_path):
    np.save(tmp_path / "chat.npy", COUNTS)
    loads = loads_of(tmp_path / "chat.npy")
    assert np.array_equal(loads.counts, COUNTS) and loads.job == "chat" and loads.layers.tolist() == [0, 1]
    np.save(tmp_path / "window.npy", COUNTS[0].astype(np.float32))  # weights as EPLB takes them
    assert np.array_equal(loads_of(tmp_path / "window.npy").counts, COUNTS[:1])


def test_arrays_by_columns_are_turned(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(COUNTS))
    assert np.array_equal(loads_of(tmp_path / "x.npy").counts, COUNTS)


@pytest.mark.parametrize("name", ["counts", "weight", "logical_count", "expert_load"])
def test_counts_by_their_names_with_axes(tmp_path, name):
    np.savez_compressed(
        tmp_path / "x.npz", **{name: COUNTS, "steps": [4, 6, 9], "layers": [3, 60], "other": np.ones(2)}
    )
    loads = loads_of(tmp_path / "x.npz")
    assert (
        np.array_equal(loads.counts, COUNTS) and loads.steps.tolist() == [4, 6, 9] and loads.layers.tolist() == [3, 60]
    )


def test_a_note_beside_counts_names_first_layer_and_picks(tmp_path):
    np.savez(tmp_path / "x.npz", counts=COUNTS, meta=np.array('{"topk": 1, "first": 3, "seed": 9}'))
    loads = loads_of(tmp_path / "x.npz")
    assert loads.layers.tolist() == [3, 4] and loads.top_k == 1
    np.savez(tmp_path / "y.npz", counts=COUNTS, meta=np.array("no JSON"))
    assert loads_of(tmp_path / "y.npz").layers.tolist() == [0, 1]


def test_top_one_traces_of_tokens(tmp_path):
    """ExFlow's trace.npy: the expert of each token in each layer."""
    trace = np.random.default_rng(1).integers(0, 8, (3000, 6))
    np.save(tmp_path / "trace.npy", trace)
    tables = gather([tmp_path / "trace.npy"]).tables
    (loads,) = of_tables(tables)
    expected = [np.bincount(trace[:, layer], minlength=8) for layer in range(6)]
    assert np.array_equal(loads.total(), expected) and loads.steps.tolist() == [0, 1, 2]  # runs of 1,024 tokens
    pairs = tables["expert_pairs"]
    first = pairs[(pairs["layer"] == 0) & (pairs["expert"] == 3) & (pairs["next_expert"] == 5)]
    assert first["routed_tokens"].tolist() == [int(((trace[:, 0] == 3) & (trace[:, 1] == 5)).sum())]
    assert pairs.groupby("layer")["routed_tokens"].sum().tolist() == [3000] * 5


def test_top_k_traces_of_tokens(tmp_path):
    random = np.random.default_rng(2)
    trace = np.argsort(random.random((500, 4, 16)), axis=2)[:, :, :3].astype(np.int16)
    np.savez(tmp_path / "x.npz", trace=trace)
    np.save(tmp_path / "request.npy", trace)  # without a name the shape must tell
    for name in ("x.npz", "request.npy"):
        tables = gather([tmp_path / name]).tables
        (loads,) = of_tables(tables)
        assert np.array_equal(loads.total(), [np.bincount(trace[:, layer].ravel(), minlength=16) for layer in range(4)])
        assert loads.top_k == 3 and tables["expert_pairs"]["routed_tokens"].sum() == 500 * 9 * 3


def test_counts_of_eight_experts_are_no_picks(tmp_path):
    counts = np.random.default_rng(2).multinomial(200, np.full(8, 1 / 8), (50, 32))
    np.save(tmp_path / "mixtral.npy", counts)
    assert np.array_equal(loads_of(tmp_path / "mixtral.npy").counts, counts)


def test_padding_of_a_trace_is_left_out_and_told(tmp_path):
    random = np.random.default_rng(2)
    trace = np.argsort(random.random((500, 2, 16)), axis=2)[:, :, :2]
    padded = np.concatenate([np.full((200, 2, 2), [[3, 9], [1, 2]]), trace])
    np.savez(tmp_path / "x.npz", trace=padded)
    recording = gather([tmp_path / "x.npz"])
    assert of_tables(recording.tables)[0].counts.sum() == 500 * 2 * 2
    assert any("200 of 700 rows of picks stand in runs" in warning for warning in recording.warnings)


def test_maps_of_slots_are_placements(tmp_path):
    np.savez(tmp_path / "plan.npz", phy2log=[[0, 1, 1], [2, 0, 1]])
    name, columns = ExpertArray().read(tmp_path / "plan.npz").batches[0]
    assert name == "expert_placements" and frame(name, columns)["expert"].tolist() == [0, 1, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"model": np.ones(3)}, "an archive of model.npy; call the counts counts"),
        ({"counts": np.ones(3)}, "counts want"),
        ({"counts": -np.ones((2, 2))}, "cannot be tokens"), ({"counts": np.full((2, 2), 0.5)}, "shares"),
        ({"counts": np.full((2, 2), np.inf)}, "not finite"), ({"trace": np.ones((4, 2, 2))}, "picks want whole"),
        ({"trace": np.full((4, 2, 2), 10**6)}, "cannot be meant"), ({"counts": np.zeros((0, 2, 2))}, "counts want"),
        ({"phy2log": np.ones(4)}, "map wants"), ({"counts": np.ones((1, 2, 20000))}, "20000 experts cannot be meant"),
        ({"layer": np.array([1]), "expert": np.array([2, 3]), "count": np.array([1])}, "equally many"),
        ({"layer": np.array([1]), "expert": np.array([-2]), "count": np.array([1])}, "cannot be meant"),
    ],
)  # fmt: skip
def test_what_are_no_counts_is_refused(tmp_path, arrays, match):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(Unreadable, match=match):
        ExpertArray().read(tmp_path / "x.npz")


def test_long_recordings_are_summed_in_windows(tmp_path, monkeypatch):
    from skewscope.sources import _expert_rows

    monkeypatch.setattr(_expert_rows, "MOST_ROWS", 40)
    counts = np.random.default_rng(3).integers(0, 900, (10, 2, 5))
    np.savez(tmp_path / "x.npz", counts=counts, steps=np.arange(3, 13))
    recording = gather([tmp_path / "x.npz"])
    (loads,) = of_tables(recording.tables)
    assert loads.steps.tolist() == [0, 4, 8, 12] and np.array_equal(loads.counts[1], counts[1:5].sum(axis=0))
    assert np.array_equal(loads.total(), counts.sum(axis=0))
    assert any("10 steps are summed in windows of 4" in warning for warning in recording.warnings)


def test_vocabulary_tables_of_a_real_model(shared):
    recording = gather([shared / "moe-olmoe/token_expert_arxiv.npz"])
    (loads,) = of_tables(recording.tables)
    assert loads.layers.tolist() == [0, 7, 15] and loads.counts.shape == (1, 3, 64)
    with np.load(shared / "moe-olmoe/token_expert_arxiv.npz") as found:
        assert loads.counts.sum() == found["count"].sum()


def test_a_large_window_is_read_at_once(shared):
    begin = time.process_time()
    loads = loads_of(shared / "moe-synth/dsv3_r1-like.npz")
    spent = time.process_time() - begin
    assert loads.counts.shape == (32, 58, 256) and loads.layers[0] == 3 and loads.top_k == 8
    assert spent < 1.0


def test_real_shapes_of_affinity(shared):
    tables = gather([shared / "moe-synth/mixtral_trace.npz"]).tables
    (loads,) = of_tables(tables)
    assert loads.total().sum(axis=1).tolist() == [16000] * 32
    assert tables["expert_pairs"].groupby("layer")["routed_tokens"].sum().tolist() == [32000] * 31


@drawn
@given(st.data(), st.sampled_from(["u1", "i2", "i8", "u8", "f4", "f8"]), st.booleans(),
       st.sampled_from(["npy", "npz", "packed"]))  # fmt: skip
def test_counts_of_any_type_and_order_come_back(tmp_path, data, kind, turned, form):
    """Layers without any token are left out; of two axes there is one step."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    size = int(np.prod(shape))
    counts = np.array(data.draw(st.lists(st.integers(0, 120), min_size=size, max_size=size)), kind).reshape(shape)
    counts = np.asfortranarray(counts) if turned else counts
    path = tmp_path / f"chat.{'npy' if form == 'npy' else 'npz'}"
    if form == "npy":
        np.save(path, counts)
    else:
        (np.savez if form == "npz" else np.savez_compressed)(path, logical_count=counts, other=np.array("ü"))
    steps = counts.tolist() if counts.ndim == 3 else [counts.tolist()]
    layers = range(len(steps[0]))
    busy = {layer for layer in layers if any(any(rows[layer]) for rows in steps)} or set(layers)
    rows = frame(*ExpertArray().read(path).batches[0])[["step", "layer", "expert", "routed_tokens"]]
    assert list(rows.itertuples(index=False, name=None)) == [
        (step, layer, expert, tokens) for step, rows in enumerate(steps) for layer in layers if layer in busy
        for expert, tokens in enumerate(rows[layer])
    ]  # fmt: skip
