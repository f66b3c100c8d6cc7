from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skewscope import catalogue
from skewscope.errors import NoData

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_root import Clock, build, memory, told  # noqa: E402

TcpQueues = catalogue.room("agents.collectors", "tcp-queues").kind()
QUEUED, LONGEST = "skewscope_tcp_send_queue_bytes", "skewscope_tcp_send_queue_max_bytes"
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(state: str, queue: int, received: int = 0) -> str:
    return f"   0: 0100007F:1F90 0200007F:A0B1 {state} {queue:08X}:{received:08X} 00:00000000 00000000  0  0 5 1 0 20\n"


@pytest.fixture
def root() -> Iterator[object]:
    with memory() as folder:
        yield build(folder, hcas=0, gpus=0)


def test_queues_of_all_connections_are_summed(root):
    root.write("proc/net/tcp", HEAD + line("01", 300) + line("01", 0, 9) + line("0A", 700) + line("08", 50))
    root.write("proc/net/tcp6", HEAD + line("01", 4000))
    found = told(TcpQueues(root.place()))
    assert found == {QUEUED: {(): 4350}, LONGEST: {(): 4000}}


def test_nothing_waits(root):
    root.write("proc/net/tcp", HEAD + line("01", 0) + "   1: 0100007F:1F90 02")
    assert told(TcpQueues(root.place())) == {QUEUED: {(): 0}, LONGEST: {(): 0}}


def test_a_line_that_was_cut_is_left_out(root):
    root.write("proc/net/tcp", HEAD + line("01", 7) + "   1: 0100007F:1F90 0200007F:A0B1 01 00Z00001\n")
    assert told(TcpQueues(root.place()))[QUEUED] == {(): 7}


def test_a_long_list_is_read_seldom(root):
    clock = Clock()
    queues = TcpQueues(root.place(clock_s=clock))
    for size, after_s, shown in ((5, 0, 5), (6, 9.0, 5), (7, 1.5, 7)):
        clock.wait(after_s)
        root.write("proc/net/tcp", HEAD + line("01", size))
        assert told(queues)[QUEUED] == {(): shown}


def test_no_list_is_no_data(root):
    with pytest.raises(NoData):
        list(TcpQueues(root.place()).collect())
