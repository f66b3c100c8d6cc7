"""What is in the archive's folder is used only where nobody else can have put it there."""

from __future__ import annotations

import importlib.util
import os
import tracemalloc
import zlib
from pathlib import Path

import pytest

from skewscope import spool
from skewscope.catalogue import load

archive = load("agents.collectors._archive")
folders = load("agents.collectors._archive_folder")

_spec = importlib.util.spec_from_file_location("archive_node", Path(__file__).parents[1] / "archive_node.py")
archive_node = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(archive_node)
Node, numbers, first, put = (getattr(archive_node, name) for name in ("Node", "numbers", "first", "put"))


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def writer(node):
    made = spool.RingWriter(node.spool, job="llm", rank=0, world_size=2, capacity=1024)
    yield made
    made.close()


@pytest.mark.parametrize("how", ["others may write", "of another user", "a link"])
def test_a_folder_that_others_can_reach_is_not_used(node, writer, tmp_path, how, caplog):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if how == "a link":
        node.archive.symlink_to(elsewhere)
    else:
        node.archive.mkdir()
        node.archive.chmod(0o777 if how == "others may write" else 0o755)
    if how == "of another user":
        if os.geteuid():
            pytest.skip("only root can give files to other users")
        os.chown(node.archive, 1234, -1)
    put(writer, 5, ended_ns=int((node.now_s + 1) * 1e9))
    node.look(0.1)
    found = node.look()
    assert found["skewscope_archive_errors_total"][()] == 1 and sum(found["skewscope_collectives_total"].values()) == 5
    node.look()
    assert not list(node.archive.iterdir()) and not list(elsewhere.iterdir())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and str(node.archive) in told[0], "once, with what to do"
    if how == "a link":
        node.archive.unlink()
    else:
        os.chown(node.archive, os.geteuid(), -1)
        node.archive.chmod(0o755)
    for _ in range(3):
        node.look()
    assert node.numbers() == [1, 2, 3, 4, 5]


def test_a_pipe_or_a_foreign_file_is_neither_waited_for_nor_written_to(node, writer, tmp_path):
    node.archive.mkdir()
    os.mkfifo(node.archive / f"llm-r0-{os.getpid()}.900-1.ring.gz")
    (tmp_path / "victim").write_bytes(b"as it was")
    (node.archive / f"llm-r0-{os.getpid()}.800-2.ring.gz").symlink_to(tmp_path / "victim")
    folder = folders.ArchiveFolder(str(node.archive))
    for name in os.listdir(node.archive):
        with pytest.raises(OSError):
            folder.append(name, b"more")
        with pytest.raises(OSError):
            folder.read(name)
    if os.geteuid() == 0:
        (node.archive / "foreign").touch()
        os.chown(node.archive / "foreign", 1234, -1)
        with pytest.raises(PermissionError, match="no regular file of the agent's user"):
            folder.append("foreign", b"more")
        (node.archive / "foreign").unlink()
    put(writer, 5)
    node.look(0.1)
    found = node.look()
    assert found["skewscope_archive_errors_total"][()] == 0
    written = [path for path in node.archive.iterdir() if path.is_file() and not path.is_symlink()]
    assert [numbers(path) for path in written] == [[1, 2, 3, 4, 5]]
    assert (tmp_path / "victim").read_bytes() == b"as it was"


def test_a_segment_that_unfolds_without_end_costs_little(node, writer, tmp_path):
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as file:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        for _ in range(64):
            file.write(squeeze.compress(bytes(1 << 20)))
        file.write(squeeze.flush())
    assert bomb.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with bomb.open("rb") as file:
            assert archive.last_record(file) == (b"", 0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
