from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from skewscope.contracts import Place
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

MOUNT = """device {server} mounted on {point} with fstype {kind} statvers=1.1
\topts:\trw,vers=4.2,rsize=1048576
\tage:\t{age}
\tcaps:\tcaps=0xfffbc0bf,wtmult=512
\tsec:\tflavor=1,pseudoflavor=1
\tevents:\t{events} 2 3 4
\tbytes:\t11 12 13 14 1000 2000 17 18
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\txprt:\ttcp 875 1 2 0 62 900 900 0 900 0 2 0 0
\txprt:\ttcp 876 1 3 0 62 900 900 0 900 0 2 0 0
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 0 0 0
\t        READ: 10 13 1 1000 2000 5 2000 2500 0
\t       WRITE: 4 4 0 1000 2000 5 100 200 0
\t      COMMIT: 1 1 0 1000 2000 5 50 50 0
\t     GETATTR: 20 20 0 1000 2000 5 40 60 0
"""


def _mount(server="store:/data", point="/data", kind="nfs4", age=5, events=1):
    return MOUNT.format(server=server, point=point, kind=kind, age=age, events=events)


def _found(tmp_path, text):
    host = fake.FakeHost(tmp_path)
    fake.write(host.proc / "self/mountstats", "device proc mounted on /proc with fstype proc\n" + text)
    return fake.values(host.collector("nfs"))


def test_calls_times_and_retransmissions(tmp_path):
    found = _found(tmp_path, _mount())
    assert found["nfs_operations_total"] == {
        ("/data", "metadata"): 21, ("/data", "read"): 10, ("/data", "write"): 5,
    }  # fmt: skip
    assert found["nfs_round_trip_seconds_total"]["/data", "read"] == 2.0
    assert found["nfs_execution_seconds_total"]["/data", "write"] == 0.25
    assert found["nfs_retransmissions_total"] == {("/data",): 3}
    assert found["nfs_timeouts_total"] == {("/data",): 1}
    assert found["nfs_connects_total"] == {("/data",): 5}
    assert found["nfs_bytes_total"] == {("/data", "read"): 1000, ("/data", "write"): 2000}


def test_one_file_system_mounted_twice_counts_once(tmp_path):
    found = _found(tmp_path, _mount() + _mount(point="/again") + _mount("store:/home", "/home", events=9))
    assert found["nfs_timeouts_total"] == {("/data",): 1, ("/home",): 1}
    assert found["nfs_connects_total"] == {("/data",): 5, ("/home",): 5}


def test_connections_are_those_of_transports_that_connect(tmp_path):
    text = _mount().replace("tcp 875 1 2 0 62", "udp 875 1 900 900 0").replace("tcp 876", "rdma 876")
    assert _found(tmp_path, text)["nfs_connects_total"] == {("/data",): 3}


def test_other_file_systems_are_not_nfs(tmp_path):
    with pytest.raises(NoData, match="no NFS"):
        _found(tmp_path, _mount(kind="lustre"))
    with pytest.raises(NoData, match="no NFS"):
        fake.FakeHost(tmp_path / "empty").collector("nfs").collect()


def test_labels_stay_few_and_short(tmp_path):
    long = "/long/" + "x" * 300
    text = _mount(point=long) + "".join(_mount(f"s:/{n}", f"/m{n}", events=n + 10) for n in range(40))
    found = _found(tmp_path, text)["nfs_timeouts_total"]
    assert len(found) == 33 and found["other",] == 9
    assert max(len(point) for (point,) in found) == 64


def test_escaped_mount_points_and_damaged_lines(tmp_path):
    text = _mount(point="/my\\040data").replace("READ: 10 13 1", "READ: 10 x 1").replace("bytes:\t11", "bytes:\ty")
    found = _found(tmp_path, text.replace("tcp 876", "tcp"))
    assert found["nfs_operations_total"] == {("/my data", "metadata"): 21, ("/my data", "write"): 5}
    assert found["nfs_bytes_total"]["/my data", "read"] == 1000


def test_this_host_is_never_asked_through_a_mount():
    from skewscope.catalogue import room

    try:
        fake.values(room("agents.collectors", "nfs").kind()(Place()))
    except NoData as nothing:
        assert "no NFS" in str(nothing)
