from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict

import pytest

from skewscope.catalogue import load, room
from skewscope.contracts import Place
from skewscope.errors import NoData, Unreadable, UsageError

report = load("agents.collectors._ras_report")

TEXT = """NCCL version 2.27.3 compiled with CUDA 12.9
CUDA runtime version 12090, driver version 12090

Job summary
===========

  Nodes  Processes         GPUs  Processes     GPUs
(total)   per node  per process    (total)  (total)
      4          8            1         32       32

Communicators... (0.00s)
=============

Group     Comms     Nodes     Ranks     Ranks     Ranks    Status  Errors
    #  in group  per comm  per node  per comm  in group
    0         8         4         1         4        32   RUNNING      OK
    1         2         4       1-8        32        32   RUNNING  INCOMPLETE
    2         1         4         8        32        32   RUNNING  MISMATCH

Errors
======
"""


def rank(number, calls, **status):
    return {"rank": number, "host": "10.0.0.1", "pid": 100 + number, "cuda_dev": number, "nvml_dev": number,
            "status": {"init_state": 0, "async_error": 0} | status,
            "collective_counts": {"Broadcast": 1, "AllReduce": calls, "ReduceScatter": 0}}  # fmt: skip


def communicator(ranks, missing=()):
    return {"hash": "0x1", "size": len(ranks) + len(missing), "ranks_count": len(ranks),
            "missing_ranks_count": len(missing), "ranks": ranks, "missing_ranks": list(missing)}  # fmt: skip


def document(*communicators):
    return json.dumps({"nccl_version": "2.28.7", "communicators_count": len(communicators),
                       "communicators": list(communicators)})  # fmt: skip


class Server(threading.Thread):
    """Speaks the protocol of RAS for a number of connections."""

    def __init__(self, answer: str, *, knows_json: bool = True, stalls: bool = False) -> None:
        super().__init__(daemon=True)
        self.answer, self.knows_json, self.stalls = answer, knows_json, stalls
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.let_go = threading.Event()
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rw", newline="\n") as file:
                try:
                    self.serve(file)
                except OSError:
                    pass

    def serve(self, file) -> None:
        for line in file:
            self.asked.append(line.strip())
            if line.startswith("CLIENT PROTOCOL"):
                file.write("SERVER PROTOCOL 2\n")
            elif line.startswith("SET FORMAT") and not self.knows_json:
                file.write("ERROR: Unknown command SET FORMAT json\n")
            elif "STATUS" in line:
                if self.stalls:
                    self.let_go.wait(10)
                file.write(self.answer)
                file.flush()
                return
            else:
                file.write("OK\n")
            file.flush()

    def stop(self) -> None:
        self.let_go.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(*arguments, **more):
        servers.append(Server(*arguments, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


class Node:
    def __init__(self, address: str = "", **options: str) -> None:
        self.now_s = 100.0
        options = ({"ras.address": address} if address else {}) | options
        self.place = Place(options=options, clock_s=lambda: self.now_s)
        self.collector = room("agents.collectors", "ras").kind()(self.place)

    def look(self):
        """Look twice: the first asks, the second has the answer."""
        for _ in range(2):
            try:
                self.collector.collect()
            except NoData:
                pass
            self.collector.wait(5)
        found = defaultdict(dict)
        for name, labels, value in self.collector.collect():
            found[name.removeprefix("skewscope_ras_")][labels] = value
        return found


def test_it_asks_nobody_unless_told():
    with pytest.raises(NoData, match="not set"):
        Node().collector.collect()
    with pytest.raises(UsageError, match="host:port"):
        Node("127.0.0.1:none").collector.collect()


def test_a_rank_behind_and_a_missing_one_are_told(serve):
    whole = communicator([rank(number, 40) for number in range(2)])
    uneven = communicator([rank(number, 90 if number == 2 else 100) for number in range(4)])
    gone = [{"rank": 1, "status": {"unresponsive": True, "considered_dead": False}},
            {"rank": 2, "status": {"unresponsive": True, "considered_dead": True}}, {"rank": 3}]  # fmt: skip
    server = serve(document(whole, communicator([rank(0, 7)], gone), uneven))
    node = Node(server.address)
    node.place.board["ranks"] = [{"job_id": "llm", "rank": 0, "pid": 100}, {"job_id": "other", "rank": 0, "pid": 5}]
    found = node.look()
    assert found["communicators"] == {
        ("llm", "healthy"): 1, ("llm", "mismatch"): 1, ("llm", "incomplete"): 1
    }  # fmt: skip
    assert found["ranks"] == {("llm", "missing"): 1, ("llm", "unresponsive"): 1, ("llm", "dead"): 1}
    assert found["count_spread"]["llm", "all_reduce"] == 10
    assert found["behind_calls"] == {("llm", "all_reduce", "2"): 10}
    assert server.asked[-1] == "VERBOSE STATUS" and "SET FORMAT json" in server.asked


def test_the_text_of_older_ones_is_read(serve):
    found = Node(serve(TEXT, knows_json=False).address, **{"ras.job": "old"}).look()
    assert found["communicators"] == {("old", "healthy"): 8, ("old", "mismatch"): 1, ("old", "incomplete"): 2}
    assert not found["count_spread"]


def test_it_asks_every_30_seconds_and_old_answers_expire(serve):
    server = serve(document(communicator([rank(0, 1)])))
    node = Node(server.address)
    node.look()
    for _ in range(3):
        node.now_s += 9
        node.look()
    assert server.asked.count("VERBOSE STATUS") == 1
    node.now_s += 9
    node.look()
    assert server.asked.count("VERBOSE STATUS") == 2


def test_nobody_waits_for_one_that_does_not_answer(serve, monkeypatch):
    monkeypatch.setattr(load("agents.collectors.ras"), "DEADLINE_S", 0.2)
    server = serve("", stalls=True)
    node = Node(server.address)
    with pytest.raises(NoData, match="not answered yet"):
        node.collector.collect()
    node.collector.wait(5)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            node.collector.collect()


def test_no_job_is_no_fault(serve):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    node = Node(address)
    with pytest.raises(NoData):
        node.look()


@pytest.mark.parametrize("answer", ["", "220 mail.example ESMTP\n", '{"a": 1}', '{"communicators": [', "{" * 50_000])
def test_what_is_no_report_is_a_fault(serve, answer):
    with pytest.raises(Unreadable):
        Node(serve(answer).address).look()


def test_a_report_without_end_is_cut(serve, monkeypatch):
    monkeypatch.setattr(report, "LARGEST_BYTES", 1000)
    with pytest.raises(Unreadable, match="larger"):
        Node(serve("x" * 5000).address).look()


def test_odd_fields_are_left_out(serve):
    odd = {"size": "8", "ranks": [1, {"rank": None, "collective_counts": {"AllReduce": "x"}}], "missing_ranks": "no"}
    found = Node(serve(document(odd)).address).look()
    assert found["communicators"]["", "healthy"] == 1
