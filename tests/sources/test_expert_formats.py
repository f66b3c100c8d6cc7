"""One load in every engine's format gives one truth; damaged files give a reason, never a traceback or wrong counts."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope import commands
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources._gather_read import read_one

TINY = Path(__file__).parents[2] / "sample_data/moe-tiny"
STAT = "expert_distribution_recorder_1700000000.0.pt"
PASSES = ("expert_distribution_recorder_1700000001.0_0.pt", "expert_distribution_recorder_1700000001.0_1.pt")
SAME = (("counts.npz",), ("expert_counts.csv",), (STAT,), PASSES, ("trtllm_expert_statistic",),
        ("vllm_eplb_load_stats.jsonl",))  # fmt: skip
FILES = sorted(path.relative_to(TINY).as_posix() for path in TINY.rglob("*") if path.is_file() and path.suffix != ".md")


@pytest.fixture(scope="module")
def truth():
    with np.load(TINY / "counts.npz", allow_pickle=False) as found:
        return found["counts"]


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0])
def test_every_format_gives_the_same_counts(names, truth):
    recording = gather([TINY / name for name in names])
    (loads,) = of_tables(recording.tables)
    assert np.array_equal(loads.counts, truth)
    assert loads.ordered == (names != (STAT,)) and loads.layers.tolist() == [0, 1, 2, 3]
    assert all(item.status == "ok" for item in recording.inputs)


def test_picks_per_token_are_known_where_the_file_tells_them():
    told = {
        name: of_tables(gather([TINY / name]).tables)[0].top_k
        for name in ("counts.npz", "trtllm_expert_statistic", STAT)
    }
    assert told == {"counts.npz": 2, "trtllm_expert_statistic": 2, STAT: 0}


def test_the_router_trace_counts_its_picks():
    expected = np.zeros((2, 4, 16), dtype=int)
    pairs = np.zeros((3, 16, 16), dtype=int)
    before = None
    for line in (TINY / "router_trace_rank0.jsonl").read_text().splitlines():
        told = json.loads(line)
        for row in told["top_indices"]:
            for expert in row:
                expected[told["step"], told["layer"], expert] += 1
        if told["layer"]:
            for one, other in zip(before, told["top_indices"], strict=True):
                for left in one:
                    for right in other:
                        pairs[told["layer"] - 1, left, right] += 1
        before = told["top_indices"]
    tables = gather([TINY / "router_trace_rank0.jsonl"]).tables
    (loads,) = of_tables(tables)
    assert np.array_equal(loads.counts, expected) and loads.phase == "train" and loads.top_k == 2
    found = np.zeros_like(pairs)
    rows = tables["expert_pairs"]
    np.add.at(found, (rows["layer"], rows["expert"], rows["next_expert"]), rows["routed_tokens"])
    assert np.array_equal(found, pairs) and (rows["next_layer"] == rows["layer"] + 1).all()


def test_logs_tell_their_own_balance(truth):
    reports = gather([TINY / "vllm_server.log"]).tables["balance_reports"]
    slots = truth / np.array([2] * 4 + [1] * 12)  # experts 0..3 have a second slot
    gpus = np.concatenate([slots, slots[:, :, :4]], axis=2).reshape(12, 4, 4, 5).sum(axis=3)
    ratio = gpus.mean(axis=2).sum(axis=1) / gpus.max(axis=2).sum(axis=1)
    assert np.abs(reports["balance_ratio"] - ratio).max() < 0.005 and set(reports["definition"]) == {"vllm"}
    assert reports["step"].tolist() == list(range(12)) and (np.diff(reports["t_ns"]) == 10**9).all()
    other = gather([TINY / "sglang_server.log"]).tables["balance_reports"]
    mean = (gpus.mean(axis=2) / gpus.max(axis=2)).mean(axis=1)
    assert np.abs(other["balance_ratio"] - mean).max() < 0.005 and set(other["definition"]) == {"sglang"}


def test_one_folder_of_all_formats_counts_once(truth):
    recording = gather([TINY])
    (loads,) = of_tables(recording.tables)
    assert loads.job == "moe-tiny" and np.array_equal(loads.counts, truth) and loads.source == "eplb-load-stats"
    assert "7 recordings tell of the same job: eplb-load-stats is taken" in loads.warnings[0]


def test_tables_that_convert_wrote_say_the_same(tmp_path, truth, capsys):
    for names in SAME:
        out = tmp_path / names[0]
        paths = [str(TINY / name) for name in names]
        assert commands.main(["convert", *paths, "--out", str(out), "--quiet"]) == 0
        (loads,) = of_tables(gather([out]).tables)
        assert np.array_equal(loads.counts, truth) and loads.ordered == (names != (STAT,))


def test_tables_as_csv_are_read_too(tmp_path, truth):
    made = gather([TINY / "counts.npz"]).tables["expert_loads"]
    made[["job", "step", "layer", "expert", "rank", "routed_tokens"]].to_csv(tmp_path / "expert_loads.csv", index=False)
    (loads,) = of_tables(gather([tmp_path]).tables)
    assert np.array_equal(loads.counts, truth)


@pytest.mark.parametrize("name", [*(names[0] for names in SAME), "vllm_server.log", "router_trace_rank0.jsonl"])
def test_analyze_takes_each(name, tmp_path, capsys):
    assert commands.main(["analyze", str(TINY / name), "--json", str(tmp_path / "report.json"), "--quiet"]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["schema"].startswith("skewscope.report/")


def totals(draft):
    """Return {(layer, expert): tokens} of a reading, and whether all of it was counts below nothing."""
    found = {}
    for table, columns in draft.reading.batches:
        if table == "expert_loads":
            tokens = np.asarray(columns["routed_tokens"])
            assert (tokens >= 0).all()
            layer, expert = (np.broadcast_to(columns[name], tokens.shape) for name in ("layer", "expert"))
            for at, who, count in zip(layer.tolist(), expert.tolist(), tokens.tolist(), strict=True):
                found[at, who] = found.get((at, who), 0) + count
    return found


def checked(draft):
    """Hold a reading of damaged bytes against what every reading owes."""
    reading = draft.reading
    assert reading.status in ("ok", "partial", "unreadable")
    for word in ("Traceback", "KeyError", "IndexError", "TypeError", "AttributeError", "MemoryError", "OverflowError"):
        assert word not in reading.error, reading.error
    if reading.status != "ok":
        assert reading.error
    totals(draft)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(data=st.data())
def test_flipped_bytes_never_surprise(name, data, tmp_path):
    content = bytearray((TINY / name).read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / Path(name).name
    path.write_bytes(content)
    checked(read_one(path))


@pytest.mark.parametrize("name", FILES)
def test_cut_files_are_partial_or_refused(name, tmp_path):
    """A file cut anywhere gives a reason, or at most the whole rows that it still has, which are true."""
    content = (TINY / name).read_bytes()
    whole = totals(read_one(TINY / name))
    path = tmp_path / Path(name).name
    for part in range(1, 20):
        path.write_bytes(content[: len(content) * part // 20])
        draft = read_one(path)
        checked(draft)
        for key, count in totals(draft).items():
            assert count <= whole.get(key, 0)


@pytest.mark.parametrize("name", [STAT, PASSES[0], "trtllm_expert_statistic/rank0.safetensors", "counts.npz"])
def test_binary_files_without_their_end_say_so(name, tmp_path):
    path = tmp_path / Path(name).name
    path.write_bytes((TINY / name).read_bytes()[:-700])
    reading = read_one(path).reading
    assert reading.status in ("partial", "unreadable")
    assert "cut or damaged" in reading.error or "missing or damaged" in reading.error


def test_swollen_archives_are_refused_before_they_take_memory(tmp_path):
    """100 MB of zeros pack to 100 KB; an array that states more than its part holds is refused unread."""
    header = b"\x93NUMPY\x01\x00v\x00" + (
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999, 99999, 999), }".ljust(117) + b"\n"
    )
    with zipfile.ZipFile(tmp_path / "counts.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("counts.npy", header + bytes(1000))
    reading = read_one(tmp_path / "counts.npz").reading
    assert reading.status == "unreadable" and "states (99999, 99999, 999)" in reading.error


def test_arrays_of_objects_are_refused(tmp_path):
    place = io.BytesIO()
    np.save(place, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "x.npy").write_bytes(place.getvalue())
    assert "can hold code" in read_one(tmp_path / "x.npy").reading.error


def test_neighbouring_runs_do_not_mix(tmp_path, truth):
    """Files of other workloads side by side are jobs of their own."""
    shutil.copy(TINY / "counts.npz", tmp_path / "code.npz")
    np.savez(tmp_path / "chat.npz", counts=truth * 3)
    found = {loads.job: loads.counts for loads in of_tables(gather([tmp_path]).tables)}
    assert np.array_equal(found["code"], truth) and np.array_equal(found["chat"], truth * 3)
