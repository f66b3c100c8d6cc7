"""SGLang's dumps. The files are written by PyTorch itself, or by hand where they are hostile."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources._gather_read import read_one
from skewscope.sources._torch_file import TorchFile
from skewscope.sources.sglang_recorder import SglangRecorder

torch = pytest.importorskip("torch")


def save(path, value):
    torch.save(value, path)
    return path


def by_hand(path, pickled, parts=()):
    """Write an archive as PyTorch does, with any pickle and storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, content in parts:
            archive.writestr(f"x/data/{name}", content)
    return path


def passes(rank, counts, table, *, first=0, **more):
    """Return a dump of per_pass: counts [T, L, P]."""
    records = [
        {"forward_pass_id": first + at, "rank": rank, "gatherer_key": "primary",
         "global_physical_count": torch.tensor(one, dtype=torch.int32), **more}
        for at, one in enumerate(counts)
    ]  # fmt: skip
    return {"records": records, "last_physical_to_logical_map": torch.tensor(table)}


TABLE = [[0, 1, 2, 0], [2, 1, 0, 1]]  # 2 layers of 3 experts in 4 slots
COUNTS = np.array([[[5, 2, 3, 4], [1, 2, 3, 4]], [[1, 1, 1, 1], [2, 0, 2, 0]]])
FOLDED = np.array([[[9, 2, 3], [3, 6, 1]], [[2, 1, 1], [2, 0, 2]]])  # by hand


def test_a_ring_of_counts_has_no_order_and_no_empty_places(tmp_path):
    counts = np.zeros((6, 5, 4), dtype=np.int32)
    counts[[4, 1], 3:] = 7  # layers 0..2 are dense, places 0, 2, 3 and 5 were never filled
    path = save(tmp_path / "expert_distribution_recorder_1.5.pt", {
        "rank": 0, "logical_count": torch.tensor(counts), "average_utilization_rate_over_window": 0.61,
    })  # fmt: skip
    recording = gather([path])
    (loads,) = of_tables(recording.tables)
    assert loads.counts.tolist() == [[[7] * 4] * 2] * 2 and loads.steps.tolist() == [1, 4]
    assert loads.layers.tolist() == [3, 4] and not loads.ordered
    assert any("3 of 5 layers have no tokens: dense layers" in warning for warning in recording.warnings)
    report = recording.tables["balance_reports"].iloc[0]
    assert (report["definition"], report["balance_ratio"], report["layer"]) == ("sglang", 0.61, -1)


def test_two_rings_are_steps_of_their_own(tmp_path):
    for at in (1, 2):
        save(tmp_path / f"expert_distribution_recorder_{at}.5.pt", {
            "rank": 0, "logical_count": torch.full((3, 2, 4), at, dtype=torch.int32)})  # fmt: skip
    (loads,) = of_tables(gather([tmp_path]).tables)
    assert loads.steps.tolist() == [0, 1, 2, 3, 4, 5] and loads.counts[:, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]


def test_slots_are_folded_and_ranks_summed(tmp_path):
    for rank in range(3):
        save(
            tmp_path / f"expert_distribution_recorder_1.5_{rank}.pt", passes(rank, COUNTS * (rank + 1), TABLE, first=7)
        )
    recording = gather([tmp_path])
    (loads,) = of_tables(recording.tables)
    assert np.array_equal(loads.counts, FOLDED * 6) and loads.steps.tolist() == [7, 8] and loads.ordered
    rows = recording.tables["expert_loads"]
    assert set(rows["rank"]) == {-1} and len(rows) == 16 and set(rows["slot"]) == {0, 1, 2, 3}
    assert recording.tables["expert_placements"]["expert"].tolist() == [0, 1, 2, 0, 2, 1, 0, 1]
    assert any("folded with the map at the recording's end" in warning for warning in recording.warnings)


def test_ranks_that_were_summed_already_count_once(tmp_path):
    for rank in range(3):
        save(tmp_path / f"expert_distribution_recorder_1.5_{rank}.pt", passes(rank, COUNTS, TABLE))
    recording = gather([tmp_path])
    assert np.array_equal(of_tables(recording.tables)[0].counts, FOLDED)
    assert any("all 3 ranks' files hold identical counts" in warning for warning in recording.warnings)


def test_a_rank_with_fewer_passes_costs_those_passes_only(tmp_path):
    save(tmp_path / "expert_distribution_recorder_1.5_0.pt", passes(0, COUNTS, TABLE))
    save(tmp_path / "expert_distribution_recorder_1.5_1.pt", passes(1, COUNTS[:1] * 3, TABLE))
    (loads,) = of_tables(gather([tmp_path]).tables)
    assert loads.steps.tolist() == [0] and np.array_equal(loads.counts, FOLDED[:1] * 4)
    assert "1 of 2 steps are held by some of the 2 ranks only: left out" in loads.warnings


def test_passes_of_prefill_and_decode_are_apart(tmp_path):
    value = passes(0, COUNTS, TABLE)
    value["records"][0]["forward_mode"], value["records"][1]["forward_mode"] = 1, 2
    found = of_tables(gather([save(tmp_path / "r_0.pt", value)]).tables)
    assert [(one.phase, one.steps.tolist(), one.counts.tolist()) for one in found] == [
        ("decode", [1], FOLDED[1:].tolist()), ("prefill", [0], FOLDED[:1].tolist())
    ]  # fmt: skip


def test_single_tokens_are_counted_where_nobody_counted_them(tmp_path):
    ids = torch.tensor(
        [[[0, 1], [3, 0], [-1, -1]], [[2, 1], [2, 3], [-1, -1]]]
    )  # 2 layers, 3 tokens of which 1 is none
    record = {"forward_pass_id": 4, "rank": 0, "gatherer_key": "primary", "input_ids": [5, 6, 0], "forward_mode": 1,
              "extend_seq_lens": [2], "topk_ids_of_layer": ids, "misc_objects": []}  # fmt: skip
    path = save(tmp_path / "r_0.pt", {"records": [record], "last_physical_to_logical_map": torch.tensor(TABLE)})
    (loads,) = of_tables(gather([path]).tables)
    assert loads.counts.tolist() == [[[3, 1, 0], [2, 2, 0]]] and loads.phase == "prefill"


def test_halves_of_a_pass_are_summed(tmp_path):
    value = passes(0, COUNTS, TABLE)
    for at, record in enumerate(value["records"]):
        record |= {"forward_pass_id": 3, "gatherer_key": f"child_{'ab'[at]}"}
    (loads,) = of_tables(gather([save(tmp_path / "r_0.pt", value)]).tables)
    assert np.array_equal(loads.counts, FOLDED.sum(axis=0, keepdims=True)) and loads.steps.tolist() == [3]


def test_maps_for_the_start_are_placements(tmp_path):
    reading = SglangRecorder().read(save(tmp_path / "map.pt", {"physical_to_logical_map": torch.tensor(TABLE)}))
    rows = frame(*reading.batches[0])
    assert reading.batches[0][0] == "expert_placements" and rows["layer"].tolist() == [0] * 4 + [1] * 4
    assert rows["expert"].tolist() == [0, 1, 2, 0, 2, 1, 0, 1] and set(rows["step"]) == {0}


def test_views_are_read_as_pytorch_means_them(tmp_path):
    base = torch.arange(24, dtype=torch.int64).reshape(4, 6)
    file = TorchFile(save(tmp_path / "x.pt", {
        "slice": base[1:3, 2:], "turned": base.T, "wide": torch.tensor([[1], [2]]).expand(2, 3), "none": base[:0],
        "small": torch.tensor([1, 2], dtype=torch.int16), "float": torch.tensor([0.5]),
    }).read_bytes())  # fmt: skip
    found = {name: file.array(tensor) for name, tensor in file.value.items()}
    assert np.array_equal(found["slice"], base.numpy()[1:3, 2:]) and np.array_equal(found["turned"], base.numpy().T)
    assert found["wide"].tolist() == [[1, 1, 1], [2, 2, 2]] and found["none"].shape == (0, 6)
    assert found["small"].tolist() == [1, 2] and found["float"].tolist() == [0.5]


def test_a_broken_record_costs_itself_only(tmp_path):
    value = passes(0, COUNTS, TABLE)
    value["records"].append({"forward_pass_id": 9, "global_physical_count": torch.tensor([1, 2])})
    value["records"].append({"rank": 0})
    reading = SglangRecorder().read(save(tmp_path / "r_0.pt", value))
    assert reading.status == "partial" and reading.error.startswith("2 of 4 records left out: counts of one pass want")
    assert len(np.unique(reading.batches[0][1]["step"])) == 2


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"model": {"weight": 1}}, "without logical_count, records or a map"), ([1, 2], "dictionary of a recorder"),
        ({"records": [{"rank": 0}]}, "none of 1 records can be read: a record without forward_pass_id"),
        ({"logical_count": "many"}, "where an array of numbers is wanted"),
        ({"logical_count": torch.tensor([[-1, 2]])}, "cannot be tokens"),
        ({"logical_count": torch.tensor([[[0.5, 0.25]]])}, "shares of tokens"),
        ({"logical_count": torch.ones(3)}, "counts want numbers"),
        ({"logical_count": torch.ones(2, 2, dtype=torch.bfloat16)}, "bfloat16"),
        (passes(0, COUNTS, [[0, 1], [1, 0]]), r"map of slots is \(2, 2\)"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(tmp_path, value, match):
    with pytest.raises(Unreadable, match=match):
        SglangRecorder().read(save(tmp_path / "x.pt", value))


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


class Tensor:
    """Pickles as PyTorch's tensors do, with any sizes."""

    def __init__(self, shape, strides, offset=0, size=4, kind="IntStorage", name="0"):
        self.given = shape, strides, offset, size, kind, name


class Writer(pickle.Pickler):
    def persistent_id(self, one):
        return one[1:] if isinstance(one, tuple) and one and one[0] == "persistent" else None

    def reducer_override(self, one):
        if not isinstance(one, Tensor):
            return NotImplemented
        shape, strides, offset, size, kind, name = one.given
        storage = ("persistent", "storage", getattr(torch, kind, kind), name, "cpu", size)
        return torch._utils._rebuild_tensor_v2, (storage, offset, shape, strides, False, {})


def pickled(value):
    place = io.BytesIO()
    Writer(place, protocol=2).dump(value)
    return place.getvalue()


def test_the_hand_made_archive_is_one(tmp_path):
    part = np.array([1, 2, 3, 4], dtype="<i4").tobytes()
    path = by_hand(tmp_path / "x.pt", pickled({"logical_count": Tensor((2, 2), (2, 1))}), [("0", part)])
    assert TorchFile(path.read_bytes()).array(TorchFile(path.read_bytes()).value["logical_count"]).tolist() == [
        [1, 2],
        [3, 4],
    ]


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (Tensor((2, 2), (2, 1), offset=1), "reaches number 4"), (Tensor((2, 2), (2, 1), size=5), "16 of 20 bytes"),
        (Tensor((2, 2), (-2, 1)), "sizes that cannot be"), (Tensor((2, 1 << 40), (0, 0)), "elements reaches"),
        (Tensor((2, 2), (2,)), "do not fit"), (Tensor((2, 2), (2, 1), name="1"), "lacks its part"),
        (Tensor((2, 2), (2, 1), name="../0"), "without type, name or count"),
        (Tensor((1,) * 9, (1,) * 9), "do not fit"), (Tensor((2, 2), (2, 1), kind="O"), "without type, name"),
    ],
)  # fmt: skip
def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path, tensor, match):
    path = by_hand(tmp_path / "x.pt", pickled({"logical_count": tensor}), [("0", bytes(16))])
    with pytest.raises(Unreadable, match=match):
        SglangRecorder().read(path)


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    path = by_hand(tmp_path / "x.pt", pickle.dumps({"logical_count": Evil()}))
    with pytest.raises(Unreadable, match="asks for builtins.print"):
        SglangRecorder().read(path)
    assert "it ran" not in capsys.readouterr().out


def test_a_pickle_cannot_change_what_was_checked(tmp_path):
    """BUILD sets fields of an object; sizes that were held against the storage must stay as they were."""
    part = np.arange(4, dtype="<i4").tobytes()
    sound = pickled({"logical_count": Tensor((2, 2), (2, 1))})
    state = b"}X\x05\x00\x00\x00shape(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftsb"  # {"shape": (2**31 - 1, ...)} and BUILD
    place = sound.rindex(b"R") + 1
    path = by_hand(tmp_path / "x.pt", sound[:place] + state + sound[place:], [("0", part)])
    with pytest.raises(Unreadable, match="hostile or damaged pickle"):
        SglangRecorder().read(path)


def test_old_and_other_files_of_pytorch_say_so(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"logical_count": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    refused = read_one(path).reading
    assert refused.status == "unreadable" and refused.error
    other = by_hand(tmp_path / "other.pt", b"")
    assert SglangRecorder().sniff(other.read_bytes(), other.name) == 0.3
