"""One dump: what is read of it, and how little a hostile one costs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest

from skewscope.catalogue import load
from skewscope.errors import Unreadable

dump = load("agents.collectors._flight_dump")
flight_json = load("agents.collectors._flight_json")
ME = os.getuid()
needs_root = pytest.mark.skipif(ME != 0, reason="only root can give files to other users")


def written(last: int, finished: int, *, op="gloo:all_reduce", size=1024, group=("0", "default_pg")):
    return {
        "entries": [
            {"collective_seq_id": seq, "process_group": group, "profiling_name": op, "input_sizes": [[size]],
             "state": "completed" if seq <= finished else "started", "retired": seq <= finished, "is_p2p": False}
            for seq in range(1, last + 1)
        ],
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1, 2, 3]"}},
    }  # fmt: skip


@needs_root
def test_what_is_read_is_the_file_of_that_user(tmp_path):
    path = tmp_path / "dump"
    path.write_text(json.dumps(written(1, 1)))
    assert dump.read(str(path), 0)
    with pytest.raises(Unreadable, match="user 1234"):
        dump.read(str(path), 1234)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93.",  # STACK_GLOBAL
        b"\x80\x04cos\nmkdir\n.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # BYTEARRAY8 of a terabyte
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00.",  # BINUNICODE8 of a terabyte
        b"\x80\x04}r\xff\xff\xff\x7f.",  # memo position two thousand million
        b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b".",
        b"\x80\x04]q\x00" + b"(h\x00h\x00l" * 60 + b".",
        b"\x80",
        b"[" * 100_000,
        b'{"entries": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"entries": [{"a": "[[["}, ' + b"[" * 20 + b"]" * 20 + b"]}",
        b'{"entries": [1, ' + b"[]," * (flight_json.MOST_CONTAINERS + 1) + b"1]}",
        b'{"entries": [' + b"0," * flight_json.MOST_VALUES + b"0]}",
        b'{"entries": [' + b"[" + b"0," * flight_json.VALUE_BYTES + b"0]]}",
        b'{"entries": [' + b" " * 3 * flight_json.VALUE_BYTES + b"]}",
        b'{"entries": []} {',
        b'{"entries": {}}',
        b"{}",
        b'{"entries"',
        b'{"entries": [{}',
    ],
)
def test_hostile_bytes_are_refused_and_cost_little(tmp_path, content):
    path = tmp_path / "dump"
    path.write_bytes(content)
    with pytest.raises(Unreadable):
        dump.read(str(path), ME)


def test_brackets_in_texts_are_no_nesting(tmp_path):
    path = tmp_path / "dump"
    entry = written(1, 1)["entries"][0] | {"thread_name": '\\"[[[' * 50, "profiling_name": "nccl:[" * 3}
    path.write_text(json.dumps({"entries": [entry] * 3, "version": "}}}\\"}, indent=3))
    assert dump.read(str(path), ME)["0"].last_seq == 1


@pytest.mark.parametrize("how", [json.dumps, pickle.dumps])
def test_a_dump_of_20_000_calls_is_read(tmp_path, how):
    path = tmp_path / "dump"
    content = how({**written(20_000, 19_999), "version": "2.10"})
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = dump.read(str(path), ME)["0"]
    assert (found.last_seq, found.completed_seq, list(found.members)) == (20_000, 19_999, [0, 1, 2, 3])
    assert max(found.called) == 20_000 and len(found.called) <= dump.MOST_COMPARED


def test_what_a_dump_leaves_behind_is_bounded(tmp_path):
    path = tmp_path / "dump"
    ranks = str(list(range(60_000)))
    entries = [
        entry for group in range(40) for entry in written(600, 600, group=(str(group), "mesh_dp"))["entries"]
    ]  # fmt: skip
    path.write_text(json.dumps({"entries": entries, "pg_config": {str(group): {"ranks": ranks} for group in range(2)}}))
    places = dump.read(str(path), ME)
    assert len(places) == dump.MOST_GROUPS
    assert sum(len(place.called) for place in places.values()) <= dump.MOST_CALLS
    assert sum(len(place.members) for place in places.values()) == dump.MOST_MEMBERS


@pytest.mark.parametrize("seq", [10**30, -1, 0, "7", None, 1.5])
def test_a_number_that_is_none_is_left_out(tmp_path, seq):
    path = tmp_path / "dump"
    path.write_text(json.dumps({"entries": [written(1, 1)["entries"][0] | {"collective_seq_id": seq}]}))
    assert dump.read(str(path), ME)["0"].last_seq == 0


READ = """
import os, sys
from skewscope.catalogue import load
from skewscope.errors import Unreadable
dump = load("agents.collectors._flight_dump")
load("agents.collectors._flight_json"), load("agents.collectors._plain_pickle")
def peak_mib():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) >> 10
before = peak_mib()
try:
    dump.read(sys.argv[1], os.getuid())
except Unreadable:
    pass
print(peak_mib() - before)
"""
LARGEST = dump.LARGEST_BYTES


@pytest.mark.parametrize(
    "begin, unit",
    [
        (b"", b"["),
        (b"", b'{"a":['),
        (b'{"entries": [', b"[],"),
        (b'{"entries": [', b'{"a":0},'),
        (b'{"version": [', b"1000,"),
        ('{"version": "\U0001f600'.encode(), b"a"),
        (b'{"entries": [', b'"\\ud83d\\ude00aaaaaaaaaaaaaaaaaaaa",'),
        (b"\x80\x04", b"]"),
        (b"\x80\x04", b"}K\x01K\x02s"),
        (b"\x80\x04N", b"\x94"),
        (b"\x80\x04X\x00\x00\x00\x01" + "\U0001f600".encode(), b"a"),
    ],
)
def test_32_mib_of_anything_take_little_memory(tmp_path, begin, unit):
    path = tmp_path / "dump"
    path.write_bytes((begin + unit * (LARGEST // len(unit)))[:LARGEST])
    taken = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    assert int(taken.stdout) < 140, "MiB"


def test_lists_that_unfold_without_end_stay_folded(tmp_path, monkeypatch):
    monkeypatch.setattr(load("agents.collectors._plain_pickle"), "DEEPEST", 100)
    nested = [1]
    for _ in range(60):
        nested = [nested, nested]
    path = tmp_path / "dump"
    entry = written(1, 1)["entries"][0] | {"input_sizes": nested, "profiling_name": nested, "process_group": nested}
    path.write_bytes(pickle.dumps({"entries": [entry], "pg_config": {"": {"ranks": nested}}}))
    assert dump.read(str(path), ME)[""].last_seq == 1
