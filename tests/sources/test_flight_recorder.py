"""Flight recorder dumps: real ones in three forms, cut ones, and pickles that mean harm."""

import gzip
import json
import pickle
import time
from pathlib import Path

import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources._plain_pickle import load
from skewscope.sources.flight_recorder import FlightRecorder

DATA = Path(__file__).parents[2] / "../shared/data"
FORMS = {
    "gloo-raw": "missing_trace_{}",
    "gloo-raw-json": "missing_{}.json",
    "nccl-shaped": "trace_{}",
}


def entry(seq, **more):
    return {
        "record_id": seq - 1,
        "process_group": ["0", "default_pg"],
        "collective_seq_id": seq,
        "p2p_seq_id": 0,
        "is_p2p": False,
        "profiling_name": "nccl:all_reduce",
        "time_created_ns": 1_000_000 * seq,
        "input_sizes": [[4, 2]],
        "input_dtypes": ["BFloat16"],
        "output_sizes": [[8]],
        "output_dtypes": ["BFloat16"],
        "state": "completed",
        "retired": True,
        "time_discovered_started_ns": 1_000_000 * seq + 10,
        "time_discovered_completed_ns": 1_000_000 * seq + 20,
    } | more


def calls_of(path):
    reading = FlightRecorder().read(path)
    return reading, frame(*reading.batches[0])


def written(tmp_path, entries, name="trace_rank_1.json", **top):
    path = tmp_path / name
    path.write_text(json.dumps({"comm_lib_version": "2.21", "entries": entries, "version": "2.10"} | top))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_the_missing_rank_has_one_call_less_in_every_form(form):
    folder = DATA / "local-flight-recorder/missing" / form
    if not folder.exists():
        pytest.skip("no shared data")
    for rank in range(4):
        path = folder / FORMS[form].format(rank)
        reading, calls = calls_of(path)
        assert FlightRecorder().sniff(path.read_bytes()[:4096], path.name) > 0.9
        assert (reading.rank, reading.status, reading.events) == (rank, "ok", 69 if rank == 1 else 70)
        assert (calls["state"] == "completed").sum() == 69
        world = calls[calls["group"] == "0"]
        assert world["seq"].max() == (46 if rank == 1 else 47)
        assert set(world["op"]) == {"all_reduce", "broadcast"}
        assert world["message_bytes"].iloc[0] == 4096


def test_pickle_and_json_of_one_buffer_are_the_same_recording():
    folder = DATA / "real-jobs/hang"
    if not folder.exists():
        pytest.skip("no shared data")
    (one, plain), (two, stacked) = (calls_of(folder / name) for name in ("fr_rank2.json.gz", "nccl_trace_rank_2"))
    assert one.fingerprint == two.fingerprint
    assert plain.drop(columns="stack").equals(stacked.drop(columns="stack"))
    last = stacked.iloc[-1]
    assert (last["state"], last["group"], last["seq"]) == ("scheduled", "4", 122)
    assert last["stack"].startswith("/srv/training/job/train.py:318 forward < ")


def test_members_come_from_pg_config_and_the_empty_entry_is_worthless(tmp_path):
    told = {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1]"}, "": {"name": "", "desc": "", "ranks": "[9]"}}
    reading = FlightRecorder().read(written(tmp_path, [entry(1)], pg_config=told))
    groups = frame(*reading.batches[1])
    assert groups["rank"].tolist() == [0, 1]
    assert set(groups["group"]) == {"0"}
    assert reading.world_size == 2


def test_members_beyond_64_bits_are_damage(tmp_path):
    told = {"0": {"name": "0", "desc": "default_pg", "ranks": "[9223372036854775808, 1]"}}
    with pytest.raises(Unreadable, match="64 bits"):
        FlightRecorder().read(written(tmp_path, [entry(1)], name="trace_rank_1.json", pg_config=told))


def test_states_of_nccl_and_discovered_times(tmp_path):
    entries = [
        entry(1),
        entry(2, state="started", retired=False),
        entry(3, state="started", retired=True),
        entry(4, profiling_name="gloo:all_reduce", state="scheduled", retired=True),
    ]
    _, calls = calls_of(written(tmp_path, entries))
    assert calls["state"].tolist() == ["completed", "started", "timed-out", "completed"]
    assert calls["start_ns"].tolist() == [1_000_010, 2_000_010, -1, 4_000_010]
    assert calls["end_ns"].tolist() == [1_000_020, -1, -1, 4_000_020]
    assert calls["message_bytes"].tolist() == [16] * 4


def test_channels_count_from_the_beginning_and_a_wrapped_buffer_joins_nobody(tmp_path):
    names = ("nccl:send 0->1", "nccl:recv 0<-1", "nccl:send 0->1")
    entries = [
        entry(seq, profiling_name=name, is_p2p=True, process_group=["7", "pp"]) for seq, name in enumerate(names, 1)
    ]
    told = {"7": {"name": "7", "desc": "pp", "ranks": "[4, 6]"}}
    _, calls = calls_of(written(tmp_path, entries, name="x_rank_4.json", pg_config=told))
    assert calls["group"].tolist() == ["p2p:4-6", "p2p:6-4", "p2p:4-6"]
    assert calls["seq"].tolist() == [0, 0, 1]
    assert calls["op"].tolist() == ["send", "recv", "send"]
    assert calls["peer"].tolist() == [6, 6, 6]
    for item in entries:
        item["record_id"] += 500
    _, calls = calls_of(written(tmp_path, entries, name="x_rank_4.json", pg_config=told))
    assert set(calls["op_class"]) == {"p2p@4"}
    assert calls["seq"].is_unique


def test_operations_of_one_coalesced_call_keep_unique_keys(tmp_path):
    entries = [entry(1), entry(1), entry(1, profiling_name="nccl:coalesced"), entry(2)]
    _, calls = calls_of(written(tmp_path, entries))
    assert not calls.duplicated(["group", "op_class", "seq"]).any()
    assert calls["op_class"].tolist() == ["", "part1", "part2", ""]


def test_a_cut_dump_keeps_its_whole_entries(tmp_path):
    path = written(tmp_path, [entry(seq) for seq in range(1, 11)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 5])
    reading, calls = calls_of(path)
    assert reading.status == "partial"
    assert calls["seq"].tolist() == [1, 2, 3, 4, 5]
    packed = tmp_path / "fr_rank_2.json.gz"
    packed.write_bytes(gzip.compress(whole)[:-60])
    assert FlightRecorder().read(packed).status == "partial"


def test_one_bad_entry_does_not_cost_the_others(tmp_path):
    reading, calls = calls_of(written(tmp_path, [entry(1), entry(2, time_created_ns="soon"), entry(3)]))
    assert reading.status == "partial"
    assert calls["seq"].tolist() == [1, 3]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"entries": 3}', "{" * 100_000, '{"entries": [{"a', "\x00\xff"])
def test_what_is_no_dump_is_unreadable(tmp_path, text):
    path = tmp_path / "trace_rank_0.json"
    path.write_text(text)
    if text == "{}":
        assert FlightRecorder().read(path).events == 0
        return
    with pytest.raises(Unreadable):
        FlightRecorder().read(path)


class Harm:
    def __reduce__(self):
        return print, ("harm",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Harm(), protocol=2),
        pickle.dumps({"entries": [Harm()]}),
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02U\x03abcQ.",  # persistent id
        b"\x80\x02\x82\x01.",  # extension
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes longer than any machine
        b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.",  # 64 GiB of bytearray
        b"\x80\x02" + b"(" * 5_000_000,
        b"\x80\x02]q\x00",
        b"\x80",
    ],
    ids=range(11),
)
def test_pickles_that_mean_harm_are_refused_cheaply(content, tmp_path, capsys):
    path = tmp_path / "nccl_trace_rank_0"
    path.write_bytes(content)
    begin = time.process_time()
    with pytest.raises(Unreadable):
        FlightRecorder().read(path)
    assert time.process_time() - begin < 5
    assert capsys.readouterr().out == ""


def test_nested_sharing_does_not_unfold(tmp_path):
    tower = [[1]]
    for _ in range(60):
        tower = [tower, tower]
    path = tmp_path / "nccl_trace_rank_0"
    path.write_bytes(pickle.dumps({"entries": [entry(1, input_sizes=tower)], "frames": tower}, protocol=2))
    with pytest.raises(Unreadable):
        FlightRecorder().read(path)


def test_plain_data_passes():
    assert load(pickle.dumps([None, True, 1.5, ("a", {"b": 2})], protocol=2)) == [None, True, 1.5, ("a", {"b": 2})]
