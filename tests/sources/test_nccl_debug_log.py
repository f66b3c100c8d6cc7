from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.analysis import analyze
from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.nccl_debug_log import NcclDebugLog

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROOMS = ("coll-missing-rank", "coll-hang", "coll-desync", "coll-late-rank", "nic-link-down",
         "rdma-retry-exhausted", "nic-driver-fault")  # fmt: skip


class Job:
    """Writes the log of a job: two hosts with half of the ranks each, one communicator and perhaps pairs of ranks."""

    def __init__(self, ranks=4, prefix="", commid=True):
        self.ranks, self.prefix, self.lines = ranks, prefix, {rank: [] for rank in range(ranks)}
        for rank in range(ranks):
            known = " commId 0xabc123" if commid else ""
            told = f"comm 0x{rank + 16:x} rank {rank} nranks {ranks} cudaDev {rank % 2} busId {rank}000{known}"
            if commid:
                self.say(rank, f"NCCL INFO [Rank {rank}] ncclCommInitRank {told} - Init START")
            peer = (rank + 1) % ranks
            way = "via P2P/CUMEM" if rank % 2 == 0 else "[send] via NET/IB/3/GDRDMA"
            for channel in range(2):
                self.say(rank, f"NCCL INFO Channel {channel:02d}/0 : {rank}[{rank % 2}] -> {peer}[{peer % 2}] {way}")
            self.say(rank, f"NCCL INFO {told} - Init COMPLETE")

    def head(self, rank):
        return f"{self.prefix.format(rank=rank)}node{rank // 2}.x:{100 + rank}:{900 + rank} [{rank % 2}] "

    def say(self, rank, text):
        self.lines[rank].append(self.head(rank) + text)

    def call(self, rank, number, name="AllReduce", count=1024, kind=7, root=0, comm=None, size=None):
        self.say(
            rank,
            f"NCCL INFO {name}: opCount {number:x} sendbuff 0x7f recvbuff 0x7f count {count} datatype {kind} op 0 "
            f"root {root} comm 0x{comm or rank + 16:x} [nranks={size or self.ranks}] stream 0x55",
        )

    def calls(self, upto):
        for rank in range(self.ranks):
            for number in range(upto[rank] if isinstance(upto, dict) else upto):
                self.call(rank, number)

    def end(self):
        for rank in range(self.ranks):
            self.say(
                rank,
                f"NCCL INFO comm 0x{rank + 16:x} rank {rank} nranks {self.ranks} cudaDev 0 busId 1 - Destroy COMPLETE",
            )

    def watchdog(self, rank, seq, op="ALLREDUCE"):
        at = f"[rank{rank}]:[E626 06:24:44.903881913 ProcessGroupNCCL.cpp:616]"
        self.lines[rank] += [
            f"{at} [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={seq}, OpType={op}, "
            "NumelIn=9801523, NumelOut=9801523, Timeout(ms)=600000) ran for 600020 milliseconds before timing out.",
            f"[rank{rank}]:[E626 06:24:44.906457629 ProcessGroupNCCL.cpp:1785] "
            f"[PG ID 0 PG GUID 0(default_pg) Rank {rank}] "
            f"Exception (either an error or timeout) detected by watchdog at work: {seq}, last enqueued NCCL work: "
            f"{seq + 2}, last completed NCCL work: {seq - 1}.",
        ]

    def one_file(self, folder):
        path = folder / "job.log"
        rows = [
            line for lines in zip(*(self.lines[rank] for rank in range(self.ranks)), strict=False) for line in lines
        ]
        longest = min(map(len, self.lines.values()))
        path.write_text("\n".join(rows + [line for lines in self.lines.values() for line in lines[longest:]]) + "\n")
        return path

    def files(self, folder):
        for rank, lines in self.lines.items():
            (folder / f"nccl.node{rank // 2}.{100 + rank}.log").write_text(
                "training starts\n" + "\n".join(lines) + "\n"
            )
        return folder


def tables(path):
    reading = NcclDebugLog().read(path)
    made = {}
    for table, columns in reading.batches:
        made.setdefault(table, []).append(frame(table, columns))
    return reading, {name: parts[0] for name, parts in made.items()}


@pytest.mark.parametrize("prefix", ["", "[1,{rank}]<stdout>:", "{rank}: ", "(RayTrainWorker pid=615, ip=10.72.7.6) "])
def test_calls_of_all_ranks_in_one_file(tmp_path, prefix):
    job = Job(prefix=prefix)
    job.calls(12)
    path = job.one_file(tmp_path)
    assert NcclDebugLog().sniff(path.read_bytes()[:65536], "x") > 0.9
    reading, made = tables(path)
    rows = made["collectives"]
    assert reading.world_size == 4 and len(rows) == 48
    assert rows.groupby("rank")["seq"].apply(list).tolist() == [list(range(12))] * 4
    assert set(rows["group"]) == {"abc123"} and set(rows["op"]) == {"all_reduce"} and set(rows["dtype"]) == {"float32"}
    assert (
        set(rows["message_bytes"]) == {4096} and set(rows["state"]) == {"completed"} and set(rows["ready_ns"]) == {-1}
    )
    assert made["ranks"][["rank", "node", "gpu"]].values.tolist() == [
        [0, "node0.x", 0], [1, "node0.x", 1], [2, "node1.x", 0], [3, "node1.x", 1],
    ]  # fmt: skip
    links = made["links"][["src", "dst", "medium"]].values.tolist()
    assert ["node0.x/gpu0", "node0.x/gpu1", "p2p"] in links and ["node0.x/gpu1", "node1.x/gpu0", "infiniband"] in links
    told = made["events"].set_index("device")["message"]
    assert told["rank0"] == "channels: 2 P2P/CUMEM" and told["rank1"] == "channels: 2 NET/IB/GDRDMA"


def test_one_file_a_process_gives_the_same_rows(tmp_path):
    (tmp_path / "one").mkdir(), (tmp_path / "many").mkdir()
    job = Job()
    job.calls({0: 9, 1: 7, 2: 9, 3: 9})
    job.say(0, "NCCL INFO comm 0x10 rank 0 nranks 4 cudaDev 0 busId 1 - Abort COMPLETE")
    one = gather([job.one_file(tmp_path / "one")], workers=1)
    many = gather([job.files(tmp_path / "many")], workers=1)
    assert all(item.status == "ok" for item in many.inputs) and many.world_size == 4
    columns = ["rank", "group", "seq", "op", "message_bytes", "state"]
    calls = [made.tables["collectives"].astype({"group": str, "op": str, "state": str}) for made in (one, many)]
    rows = [made.sort_values(["rank", "seq"])[columns] for made in calls]
    assert rows[0].values.tolist() == rows[1].values.tolist()
    open_rows = rows[1][rows[1]["state"] == "scheduled"]
    assert set(open_rows["seq"]) == {7, 8} and set(open_rows["rank"]) == {0, 2, 3}
    assert len(many.tables["links"]) == len(one.tables["links"]) == 4


def findings(path):
    return {
        (found.condition, found.subject.id, found.role)
        for found in analyze(gather([path], workers=1), only=ROOMS).findings
    }


def test_a_rank_that_stopped_is_named_where_a_watchdog_fired(tmp_path):
    job = Job()
    job.calls({0: 40, 1: 40, 2: 37, 3: 40})
    for rank in (0, 1, 3):
        job.watchdog(rank, 37)
    assert ("coll-missing-rank", "job/rank2", "culprit") in findings(job.one_file(tmp_path))


def test_a_few_calls_ahead_are_nothing_in_a_log_that_was_cut(tmp_path):
    job = Job()
    job.calls({0: 40, 1: 40, 2: 37, 3: 40})
    path = job.one_file(tmp_path)
    assert not [found for found in findings(path) if found[0].startswith("coll")]
    rows = tables(path)[1]["collectives"]
    assert set(rows.loc[rows["seq"] >= 37, "state"]) == {""} and set(rows.loc[rows["seq"] < 37, "state"]) == {
        "completed"
    }


def test_ranks_that_call_something_else_are_named(tmp_path):
    job = Job(ranks=8)
    for rank in range(8):
        for number in range(10):
            other = rank == 5 and number == 6
            job.call(rank, number, "AllGather" if other else "AllReduce", 512 if other else 1024)
    job.end()
    found = findings(job.one_file(tmp_path))
    assert ("coll-desync", "job/rank5", "culprit") in found


def test_a_watchdog_alone_tells_the_call_and_that_a_rank_is_missing(tmp_path):
    job = Job()
    job.lines = {rank: [] for rank in range(4)}
    for rank in (0, 1, 2):
        job.watchdog(rank, 808)
    path = job.one_file(tmp_path)
    path.write_text("\n".join(line for lines in job.lines.values() for line in lines))
    reading, made = tables(path)
    rows = made["collectives"]
    assert rows[["rank", "group", "seq", "op", "state"]].values.tolist() == [
        [rank, "0", 808, "all_reduce", "timed-out"] for rank in range(3)
    ]
    assert set(made["events"]["event"]) == {"watchdog"}
    assert (made["events"]["t_ns"].to_numpy() - rows["ready_ns"].to_numpy() == 600_020_000_000).all()


def test_a_watchdog_tells_process_groups_apart(tmp_path):
    at = "[rank{}]:[E1206 18:44:12.715298746 ProcessGroupNCCL.cpp:607] "
    lines = []
    for rank, group, seq in ((0, "1", 7753), (0, "9", 12), (1, "9", 12)):
        lines.append(
            f"{at.format(rank)}[Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={seq}, "
            "OpType=_REDUCE_SCATTER_BASE, NumelIn=5, Timeout(ms)=600000) ran for 600061 milliseconds before timing out."
        )
        lines.append(
            f"{at.format(rank)}[PG {group} Rank {rank}] Exception (either an error or timeout) detected by watchdog at "
            f"work: {seq}, last enqueued NCCL work: 7755, last completed NCCL work: 7752."
        )
    path = tmp_path / "x.log"
    path.write_text("epoch 1\n" * 20 + "\n".join(lines) + "\n")
    assert NcclDebugLog().sniff(path.read_bytes(), "") == 0.6
    rows = tables(path)[1]["collectives"].sort_values(["rank", "seq"])
    assert rows[["rank", "group", "seq", "op"]].values.tolist() == [
        [0, "9", 12, "reduce_scatter"], [0, "1", 7753, "reduce_scatter"], [1, "9", 12, "reduce_scatter"],
    ]  # fmt: skip


def test_splits_have_local_ranks_and_global_rows(tmp_path):
    job = Job(commid=True)
    for rank in range(4):
        job.say(
            rank,
            f"NCCL INFO ncclCommSplit comm 0x{rank + 64:x} rank {rank // 2} nranks 2 cudaDev {rank % 2} nvmlDev 0 "
            f"busId 1 parent 0x{rank + 16:x} splitCount 1 color {rank % 2} key 0 - Init COMPLETE",
        )
        job.call(rank, 0, "ReduceScatter", 10, 9, comm=rank + 64, size=2)
    rows = tables(job.one_file(tmp_path))[1]["collectives"]
    assert rows[["rank", "group", "message_bytes", "group_size"]].sort_values("rank").values.tolist() == [
        [0, "abc123/1.0", 40, 2], [1, "abc123/1.1", 40, 2], [2, "abc123/1.0", 40, 2], [3, "abc123/1.1", 40, 2],
    ]  # fmt: skip


def test_messages_are_channels_and_grouped_calls_are_in_order(tmp_path):
    job = Job()
    for rank in range(4):
        for number in range(3):
            job.call(rank, number, "AllReduce", 8)
            job.call(rank, number, "AllGather", 8)
        for peer in range(4):
            job.call(rank, 9, "Send", 5, 6, root=peer)
            job.call(rank, 9, "Recv", 5, 6, root=peer)
    rows = tables(job.one_file(tmp_path))[1]["collectives"]
    grouped = rows[rows["op_class"] == ""]
    assert grouped.groupby("seq")["op"].agg(lambda ops: set(ops)).tolist() == [{"all_reduce"}, {"all_gather"}] * 3
    channel = rows[rows["group"] == "p2p:1-2"].sort_values("rank")
    assert channel[["rank", "op", "peer", "seq", "message_bytes"]].values.tolist() == [
        [1, "send", 2, 0, 10],
        [2, "recv", 1, 0, 10],
    ]
    assert "p2p:1-1" not in set(rows["group"]) and not rows.duplicated(["group", "op_class", "seq", "rank"]).any()


@pytest.mark.parametrize(
    ("text", "event", "device", "code"),
    [
        ("[4] ib_plugin.c:1615 NCCL WARN NET/IB : Got completion from peer 10.2.3.4<54862> with status=12 opcode=0 "
         "len=0 vendor err 129 (Recv) localGid ::1 remoteGids::2", "rdma-retry-exhausted", "", 12),
        ("[4] p2p.cc:688 (ncclIbTest) NCCL WARN NET/IB: Got completion from peer 10.2.3.4<5> with "
         "status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) vendor_err=129  hca mlx5_3",
         "rdma-retry-exhausted", "mlx5_3", 12),
        ("[0] transport/net_ib.cc:93 NCCL WARN NET/IB : Got async event : port error", "link-down", "", -1),
        ("[0] common.cc:179 (f) NCCL WARN NET/IB : mlx5_0:1 Got non-fatal async event: port error(10)",
         "link-down", "mlx5_0", -1),
        ("[0] common.cc:123 (f) NCCL WARN NET/IB : mlx5_0:2 async fatal event: device fatal",
         "nic-fatal", "mlx5_0/2", -1),
        ("[1] misc/socket.cc:540 NCCL WARN Net : Call to recv from 10.0.0.1<4> failed : Connection reset by peer",
         "nccl-connection", "", -1),
        ("[1] init.cc:1 NCCL WARN Cuda failure 'out of memory'", "nccl-cuda-error", "", -1),
        ("[1] proxy.cc:9 NCCL WARN [Proxy Service 3] Failed to execute operation Setup from rank 3",
         "nccl-warning", "", -1),
    ],
)  # fmt: skip
def test_warnings_are_events(tmp_path, text, event, device, code):
    path = tmp_path / "x.log"
    path.write_text(f"[2025-06-26 06:24:44] n7:3468:3905 {text}\n" * 3)
    row = tables(path)[1]["events"].iloc[0]
    assert (row["event"], row["node"], row["device"], row["code"]) == (event, "n7", device, code)
    assert row["t_ns"] == 1750919084 * 10**9 and row["message"].endswith("(3 times)")


def test_failures_of_the_network_reach_their_rooms(tmp_path):
    path = tmp_path / "x.log"
    gone = "{}:{}:9 [4] p2p.cc:1 NCCL WARN NET/IB : Got completion from peer 10.2.3.4<5> with status=12 opcode=0\n"
    made = "{}:{}:9 [0] NCCL INFO comm 0x{} rank {} nranks 8 cudaDev 0 busId 1 commId 0xab - Init COMPLETE\n"
    text = "".join(made.format(f"n{rank // 4}", rank, rank + 1, rank) for rank in range(8))
    text += "".join(gone.format(f"n{rank // 4}", rank) for rank in (0, 4, 5, 6, 7))
    path.write_text(text + "n3:1:2 [0] common.cc:123 (f) NCCL WARN NET/IB : mlx5_0:2 async fatal event: device fatal\n")
    found = findings(path)
    assert ("rdma-retry-exhausted", "n1", "culprit") in found and (
        "nic-driver-fault",
        "n3/mlx5_0/2",
        "culprit",
    ) in found


def test_a_port_that_came_back_is_up(tmp_path):
    path = tmp_path / "x.log"
    say = "n7:1:2 [0] common.cc:179 (f) NCCL WARN NET/IB : mlx5_0:1 Got non-fatal async event: port {}\n"
    path.write_text(say.format("error(10)") * 2 + say.format("active(9)"))
    assert tables(path)[1]["events"]["event"].tolist() == ["link-down", "link-up"]
    assert ("nic-link-down", "n7/mlx5_0", "culprit") not in findings(path)
    path.write_text(path.read_text() + say.format("error(10)"))
    assert ("nic-link-down", "n7/mlx5_0", "culprit") in findings(path)


def test_times_of_calls_need_parts_of_a_second(tmp_path):
    path = tmp_path / "x.log"
    job = Job(ranks=2)
    job.calls(2)
    text = job.one_file(tmp_path).read_text()
    for stamp, known in (("2025-06-26 06:24:44", False), ("2025-06-26 06:24:44.125000", True)):
        path.write_text("".join(f"[{stamp}] {line}\n" for line in text.splitlines()))
        reading, made = tables(path)
        assert set(made["collectives"]["ready_ns"]) == {1750919084125000000 if known else -1}
        assert any("whole seconds" in warning for warning in reading.warnings) is not known


def test_the_tuner_tells_algorithm_and_protocol(tmp_path):
    job = Job(ranks=2)
    job.call(0, 0)
    job.say(0, "NCCL INFO AllReduce: 4096 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..1}")
    job.call(0, 1)
    rows = tables(job.one_file(tmp_path))[1]["collectives"]
    assert rows[["algo", "proto"]].values.tolist() == [["ring", "ll"], ["", ""]]


def test_communicators_made_before_the_log_begins(tmp_path):
    path = tmp_path / "x.log"
    job = Job()
    job.calls(3)
    path.write_text("\n".join(line for lines in job.lines.values() for line in lines if "opCount" in line))
    with pytest.raises(Unreadable, match="INIT"):
        NcclDebugLog().read(path)
    path.write_text(
        "\n".join(
            f"[1,{rank}]<stdout>:{line}" for rank, lines in job.lines.items() for line in lines if "opCount" in line
        )
    )
    rows = tables(path)[1]["collectives"]
    assert sorted(set(rows["rank"])) == [0, 1, 2, 3] and set(rows["group"]) == {"4-ranks-1"}


def test_what_is_no_log_of_nccl_is_unreadable(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("hello\nn1:1:1 [0] NCCL INFO NCCL version 2.27.5+cuda12.9\n")
    with pytest.raises(Unreadable, match="SUBSYS"):
        NcclDebugLog().read(path)
    path.write_text("hello\n")
    assert NcclDebugLog().sniff(b"hello\n", "nccl.log") == 0
    with pytest.raises(Unreadable, match="NCCL_DEBUG"):
        NcclDebugLog().read(path)


def test_a_torn_line_costs_itself_alone(tmp_path):
    job = Job()
    job.calls(5)
    path = job.one_file(tmp_path)
    rng = np.random.default_rng(1)
    raw = path.read_bytes()
    path.write_bytes(raw[:-37] + bytes(rng.integers(0, 256, 200, dtype=np.uint8)))
    assert len(tables(path)[1]["collectives"]) == 19


def test_the_format_is_found(tmp_path):
    job = Job()
    job.calls(2)
    assert {item.format for item in gather([job.files(Path(tmp_path))], workers=1).inputs} == {"nccl-debug-log"}


CALLS = st.tuples(st.sampled_from(["AllReduce", "AllGather"]), st.integers(1, 10**9), st.sampled_from([(7, 4), (9, 2)]))


@drawn
@given(st.lists(CALLS, min_size=1, max_size=5), st.integers(2, 4), st.randoms(use_true_random=False),
       st.sampled_from(["\n", "\r\n"]))  # fmt: skip
def test_calls_come_back_however_the_ranks_lines_are_mixed(tmp_path, calls, ranks, chance, line_end):
    job = Job(ranks=ranks)
    for number, (name, count, (kind, _)) in enumerate(calls):
        for rank in range(ranks):
            job.call(rank, number, name, count, kind)
    waiting = {rank: list(lines) for rank, lines in job.lines.items()}
    mixed = []
    while left := [rank for rank, lines in waiting.items() if lines]:
        mixed.append(waiting[chance.choice(left)].pop(0))
    path = tmp_path / "job.log"
    path.write_bytes("".join(line + line_end for line in mixed).encode())
    reading, made = tables(path)
    rows = made["collectives"][["rank", "op", "message_bytes", "state"]].itertuples(index=False, name=None)
    op = {"AllReduce": "all_reduce", "AllGather": "all_gather"}
    assert sorted(rows) == sorted((rank, op[name], count * size, "completed")
                                  for rank in range(ranks) for name, count, (_, size) in calls)  # fmt: skip
    seqs = made["collectives"].groupby("rank", observed=True)["seq"].apply(list)
    assert all(len(set(one)) == len(one) or len({name for name, *_ in calls}) > 1 for one in seqs)
    assert reading.world_size == ranks and sorted(made["ranks"]["rank"]) == list(range(ranks))
