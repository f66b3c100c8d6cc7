"""Small worlds whose answers can be reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.commands import main
from skewscope.errors import NoData
from skewscope.frames import all_tables, frame
from skewscope.viewing import answers, named

US, MS = 1_000, 1_000_000


def ops(rows, **more):
    """Return `ops` of (rank, stream, op, start, end in ms), launched when `launch` (in ms) says, or never."""
    rank, stream, op, start, end = zip(*rows, strict=True)
    times = {"start_ns": [int(one * MS) for one in start], "end_ns": [int(one * MS) for one in end]}
    given = {"job": "job", "rank": rank, "step": 0, "stream": stream, "op": op, "source": "kineto", **times, **more}
    return frame("ops", given)


def collectives(rows, **more):
    """Return `collectives` of (rank, group, seq, op, start, end in ms, bytes)."""
    rank, group, seq, op, start, end, moved = zip(*rows, strict=True)
    start, end = ([int(one * MS) for one in times] for times in (start, end))
    return frame("collectives", {
        "job": "job", "rank": rank, "group": group, "seq": seq, "op": op, "step": 0, "group_size": -1, "op_class": "",
        "ready_ns": start, "start_ns": start, "end_ns": end, "message_bytes": moved, "blocking": False, "stream": 9,
        "source": "kineto", "state": "completed", **more,
    })  # fmt: skip


def arrivals(waits, op="all_reduce", **more):
    """Return `arrivals` of calls whose members waited `waits` [calls, ranks] ms; transfers take 1 ms."""
    waits = np.asarray(waits, dtype=float)
    calls, ranks = waits.shape
    call = np.repeat(np.arange(calls), ranks)
    last = (waits == 0).ravel()
    return frame("arrivals", {
        "job": "job", "step": call, "rank": np.tile(np.arange(ranks), calls), "group": "0", "group_size": ranks,
        "op_class": "", "seq": call, "op": op, "call": call, "members_count": ranks, "message_bytes": 8 * MS,
        "ready_ns": 1, "end_ns": 1, "late_ns": -waits.ravel() * MS, "wait_ns": waits.ravel() * MS, "transfer_ns": MS,
        "last": last, "by_wait": False, "source": "kineto", **more,
    })  # fmt: skip


def rank_steps(work, stage=-1, **more):
    """Return `rank_steps` and `step_times` of own work [steps, ranks] in ms; each step lasts as its longest rank."""
    work = np.asarray(work, dtype=float) * MS
    steps, ranks = work.shape
    step, longest = np.repeat(np.arange(steps), ranks), np.repeat(work.max(axis=1), ranks)
    own = work.ravel()
    given = {
        "job": "job",
        "step": step,
        "rank": np.tile(np.arange(ranks), steps),
        "node": "",
        "stage": stage,
        "start_ns": 0,
        "end_ns": longest.astype(np.int64),
        "work_ns": own,
        "own_ns": own,
        "compute_ns": own,
        "input_ns": 0.0,
        "gc_ns": 0.0,
        "checkpoint_ns": 0.0,
        "transfer_ns": 0.0,
        "wait_ns": longest - own,
        "idle_ns": 0.0,
        "comm_ns": 0.0,
        "source": "kineto",
        **more,
    }
    times = {"job": "job", "step": np.arange(steps), "start_ns": 0, "duration_ns": work.max(axis=1), "planned": False,
             "ranks_count": ranks, "source": "kineto"}  # fmt: skip
    return {"rank_steps": frame("rank_steps", given), "step_times": frame("step_times", times)}


def test_time_beside_computation_is_counted_once(ask):
    given = {
        "ops": ops([(0, 1, "kernel", 0, 4), (0, 2, "memcpy", 3, 6), (0, 1, "kernel", 9, 10), (1, 1, "kernel", 0, 10)]),
        "collectives": collectives([(0, "0", 0, "all_reduce", 2, 5, 1)]),
    }
    rows = ask("temporal-breakdown", given).tables["ranks"].set_index("rank")
    first = rows.loc[0]
    assert first[["compute_s", "exposed_communication_s", "exposed_copy_s", "idle_s"]].tolist() == pytest.approx(
        [0.005, 0.001, 0.001, 0.003]
    )
    assert first["communication_s"] == pytest.approx(0.003) and rows.loc[1, "compute_percent"] == 100
    together = ask("temporal-breakdown", given).tables["together"]
    parts = together[together["rank"] == 0].set_index("kinds")["time_s"] * 1e3
    # Compute 0 to 4 and 9 to 10, communication 2 to 5, copies 3 to 6.
    assert parts[parts > 1e-9].round(9).to_dict() == {
        "compute": 3, "compute + communication": 1, "communication + copies": 1, "copies": 1,
        "compute + communication + copies": 1,
    }  # fmt: skip
    overlap = ask("overlap", given).tables["ranks"].set_index("rank")
    assert overlap.loc[0, "overlap_percent"] == pytest.approx(100 * 2 / 3)


def test_steps_of_a_breakdown_are_those_that_the_rank_worked_in(ask):
    steps = {"job": "job", "step": [0, 1], "rank": 0, "phase": "step", "start_ns": [0, 10 * MS],
             "end_ns": [10 * MS, 20 * MS], "source": "kineto"}  # fmt: skip
    given = {"ops": ops([(0, 1, "kernel", 2, 4)]), "steps": frame("steps", steps)}
    rows = ask("temporal-breakdown", given).tables["steps"]
    assert rows["step"].tolist() == [0] and rows["busy_percent"].tolist() == pytest.approx([20.0])


def test_perfect_overlap_saves_no_more_than_the_last_rank(ask):
    given = rank_steps([[10, 6]], transfer_ns=[2.0 * MS, 4.0 * MS], hidden_ns=[0.0, 0.0])
    given["rank_steps"]["compute_ns"] = [6.0 * MS, 3.0 * MS]
    given |= {"ops": ops([(0, 1, "kernel", 0, 1)]), "collectives": collectives([(0, "0", 0, "all_reduce", 0, 1, 1)])}
    steps = ask("overlap", given).tables["steps"].iloc[0]
    # Rank 0 could be 2 ms shorter, rank 1 only 3 of its 4 ms: it has no more compute to hide them behind.
    assert steps[["step_s", "perfect_s", "saved_s"]].tolist() == pytest.approx([0.010, 0.008, 0.002])


def test_a_gap_has_one_cause(ask):
    launch = [0, 6 * MS, 7 * MS, 7 * MS, -1]
    rows = [(0, 1, "kernel", 0, 5), (0, 1, "kernel", 8, 9), (0, 1, "kernel", 9.01, 10), (0, 1, "kernel", 12, 13),
            (0, 1, "kernel", 15, 16), (0, 2, "kernel", 10.5, 11.5)]  # fmt: skip
    shown = ask("idle-causes", {"ops": ops(rows, launch_ns=[*launch, 0])})
    row = shown.tables["streams"].iloc[0]
    names = ["idle_s", "host_wait_s", "kernel_wait_s", "other_s", "unknown_s", "other_streams_s"]
    assert row[names].tolist() == pytest.approx([0.00701, 0.003, 0.00001, 0.002, 0.002, 0.001])


def test_work_that_overlaps_on_a_stream_leaves_no_negative_gap(ask):
    given = ops([(0, 1, "kernel", 0, 9), (0, 1, "kernel", 1, 2), (0, 1, "kernel", 10, 11)], launch_ns=0)
    row = ask("idle-causes", {"ops": given}).tables["streams"].iloc[0]
    assert row["idle_s"] == pytest.approx(0.001) and row["other_s"] == pytest.approx(0.001)


def test_a_queue_grows_with_launches_and_shrinks_with_starts(ask):
    given = ops([(0, 1, "kernel", 4, 5), (0, 1, "kernel", 6, 7), (0, 1, "kernel", 8, 9)], launch_ns=[0, MS, 7 * MS])
    row = ask("queue-depth", {"ops": given}, full_count=2).tables["streams"].iloc[0]
    # 1 launch from 0, 2 from 1, 1 from 4, 0 from 6, 1 from 7 to 8 ms.
    assert row[["max_depth_count", "full_s", "empty_s"]].tolist() == pytest.approx([2, 0.003, 0.001])
    assert row["mean_depth_count"] == pytest.approx((1 * 1 + 2 * 3 + 1 * 2 + 0 + 1) / 8)
    assert row["median_depth_count"] == 1


def test_launches_of_a_graph_count_their_call_once(ask):
    given = ops([(0, 1, "kernel", 4, 4.001), (0, 1, "kernel", 6, 7)], launch_ns=0, launch_end_ns=60 * US)
    row = ask("launches", {"ops": given}).tables["ranks"].iloc[0]
    assert row["launches_count"] == 2 and row["launch_total_s"] == pytest.approx(60e-6)
    assert row["slow_calls_count"] == 1 and row["short_kernels_count"] == 0
    unknown = ask("launches", {"ops": ops([(0, 1, "kernel", 4, 5)], launch_ns=0)})
    assert np.isnan(unknown.tables["ranks"]["short_kernels_count"].iloc[0]) and "not recorded" in unknown.notes[0]


def test_kernels_are_compared_between_ranks(ask):
    rows = [(rank, 1, "kernel", 10 * at, 10 * at + (4 if rank == 2 else 2)) for rank in range(3) for at in range(4)]
    shown = ask("kernels", {"ops": ops(rows, name="ampere_sgemm_128x64_nn")})
    row = shown.tables["kernels"].iloc[0]
    assert row["class"] == "matrix product" and row["calls_count"] == 12 and row["total_s"] == pytest.approx(0.032)
    assert row["slowest_rank"] == 2 and row["spread_ratio"] == pytest.approx(2.0)
    assert "on rank 2" in shown.said[1]


def test_copies_are_told_by_direction(ask):
    rows = [(0, 1, "memcpy", 0, 1), (0, 1, "memcpy", 1, 3), (0, 1, "memcpy", 5, 6)]
    given = ops(rows, name=["HtoD", "HtoD", "DtoH"], message_bytes=[4 * MS, 4 * MS, MS])
    rows = ask("memory-bandwidth", {"ops": given}).tables["copies"].set_index("direction")
    assert rows.loc["host to device", "speed_while_busy_bytes_per_s"] == pytest.approx(8 * MS / 0.003)
    assert rows.loc["host to device", "fastest_bytes_per_s"] == pytest.approx(4e9)
    assert rows.loc["device to host", "copies_count"] == 1


def test_bus_bandwidth_is_that_of_nccl_tests(ask):
    shown = ask("bus-bandwidth", {"arrivals": arrivals([[0, 1, 2, 3]] * 3)})
    row = shown.tables["sizes"].iloc[0]
    assert row["algorithm_bytes_per_s"] == pytest.approx(8e9) and row["bus_bytes_per_s"] == pytest.approx(12e9)
    assert row["link"] == "unknown" and any("hosts" in note for note in shown.notes)
    gather = ask("bus-bandwidth", {"arrivals": arrivals([[0, 1, 2, 3]], op="all_gather")})
    assert gather.tables["sizes"]["bus_bytes_per_s"].iloc[0] == pytest.approx(6e9)


def test_links_are_told_from_hosts_and_missing_members_are_noted(ask):
    ranks = frame("ranks", {"job": "job", "rank": [0, 1], "node": ["a", "b"]})
    shown = ask("bus-bandwidth", {"arrivals": arrivals([[0, 1]], group_size=4), "ranks": ranks}, limit_bytes_per_s=24e9)
    row = shown.tables["sizes"].iloc[0]
    assert row["link"] == "inter-node" and row["limit_percent"] == pytest.approx(50.0)
    assert "lower bound" in shown.notes[0]


def test_a_straggler_is_named_with_its_cost(ask):
    waits = [[2, 0, 2.5, 2.2]] * 12
    shown = ask("stragglers", {"arrivals": arrivals(waits)})
    row = shown.tables["ranks"].iloc[0]
    assert row["rank"] == 1 and row["straggler"] and row["last_percent"] == 100
    assert row["alone_s"] == pytest.approx(12 * 0.002) and row["caused_wait_s"] == pytest.approx(12 * 0.0067)
    assert shown.said[0].startswith("Rank 1 reaches 100 % of 12 collectives last")


def test_nobody_is_a_straggler_where_all_take_turns(ask):
    waits = [np.roll([0, 2.0, 2.5, 2.2], turn) for turn in range(12)]
    shown = ask("stragglers", {"arrivals": arrivals(waits)})
    assert not shown.tables["ranks"]["straggler"].any() and shown.said[0].startswith("Nobody is a straggler")


def test_ranks_are_scored_beside_peers_and_beside_their_own_history(ask):
    work = np.full((20, 4), 10.0)
    work[:, 2] = 16.0  # slow beside its peers
    work[10:, 3] = 15.0  # became slow
    rows = (
        ask("stragglers", {"arrivals": arrivals([[0, 1, 1, 1]]), **rank_steps(work)}).tables["ranks"].set_index("rank")
    )
    assert rows.loc[2, "relative_ratio"] == pytest.approx(10 / 16) and rows.loc[2, "individual_ratio"] == 1
    assert rows.loc[3, "individual_ratio"] == pytest.approx(10 / 15) and rows.loc[0, "relative_ratio"] == 1


def test_messages_and_calls_between_stages_make_no_straggler(ask):
    both = arrivals([[0, 2, 2, 2]] * 12)
    stages = rank_steps([[1, 1, 1, 1]], stage=[0, 0, 1, 1])
    shown = ask("stragglers", {"arrivals": both, **stages})
    assert "all there are" in shown.notes[0]
    (answer,) = answers(all_tables({"arrivals": arrivals([[0, 2]] * 9, op="recv")}), named(["stragglers"]))
    assert answer.shown is None


def test_skew_names_the_least_and_the_greatest_rank(ask):
    row = (
        ask("rank-skew", rank_steps([[10, 12, 20], [10, 12, 30]])).tables["skew"].set_index("quantity").loc["own work"]
    )
    assert row[["min_s", "median_s", "max_s"]].tolist() == pytest.approx([0.010, 0.012, 0.025])
    assert (row["min_rank"], row["max_rank"]) == (0, 2)


def test_the_slowest_rank_of_each_step(ask):
    tokens = [100, 200, 300, 400, 500, 600]
    rows = ask("steps", rank_steps([[10, 12, 11], [20, 12, 11]], work_tokens=tokens)).tables["steps"]
    assert rows["slowest_rank"].tolist() == [1, 0] and rows["step_s"].tolist() == pytest.approx([0.012, 0.020])
    assert rows["work_tokens"].tolist() == [600, 1500] and rows["tokens_per_s"].iloc[0] == pytest.approx(50_000)


def test_a_change_is_dated_for_the_job_and_for_the_rank(ask):
    work = np.full((30, 3), 10.0) + np.arange(30)[:, None] % 3 * 0.01
    work[12:, 1] = 14.0
    rows = ask("change-points", rank_steps(work)).tables["changes"]
    assert rows[["what", "rank", "step"]].values.tolist() == [["step time", -1, 12], ["own work", 1, 12]]
    assert rows["after_s"].tolist() == pytest.approx([0.014, 0.014], rel=0.01)


def test_few_steps_decide_no_change():
    (answer,) = answers(all_tables(rank_steps([[10.0, 11.0]] * 5)), named(["change-points"]))
    assert answer.shown is None and "5 steps are too few" in answer.missing


def test_the_bubble_of_a_pipeline(ask):
    cells = [(0, "forward", 0, 0, 1), (0, "backward", 0, 3, 5), (1, "forward", 0, 1, 2), (1, "backward", 0, 2, 3)]
    rank, op, batch, start, end = zip(*cells, strict=True)
    given = ops(list(zip(rank, [0] * 4, op, start, end, strict=True)), stage=rank, microbatch=batch)
    shown = ask("phases", {"ops": given})
    rows = shown.tables["stages"].set_index("stage")
    assert rows["bubble_percent"].tolist() == pytest.approx([40.0, 60.0])
    assert shown.tables["timeline"]["end_s"].max() == pytest.approx(0.005) and "would have 50 %" in shown.said[0]


def test_phases_of_any_name_are_compared(ask):
    times = [(rank, phase, start, end + (6 if rank == 1 and phase == "rollout" else 0)) for rank in range(3)
             for phase, start, end in (("step", 0, 20), ("rollout", 0, 4), ("train", 12, 14))]  # fmt: skip
    rank, phase, start, end = zip(*times, strict=True)
    given = frame("steps", {"job": "job", "step": 0, "rank": rank, "phase": phase, "source": "x",
                            "start_ns": np.array(start) * MS, "end_ns": np.array(end) * MS})  # fmt: skip
    shown = ask("phases", {"steps": given})
    row = shown.tables["phases"].iloc[0]
    assert (row["phase"], row["longest_rank"]) == ("rollout", 1) and row["max_s"] == pytest.approx(0.010)
    assert row["step_percent"] == pytest.approx(20.0)


def test_metrics_tell_the_phases_of_reinforcement_learning(ask, tables, tmp_path):
    assert main(["simulate", "healthy-rl", "--ranks", "8", "--steps", "10", "--out", str(tmp_path / "rl"), "-q"]) == 0
    shown = ask("phases", tables(str(tmp_path / "rl")))
    rows = shown.tables["phases"].set_index("phase")
    assert {"generation, busy", "training, busy", "generation, idle"} <= set(rows.index)
    assert 5 < rows.loc["training, busy", "share_percent"] < 95 and rows.loc["training, busy", "ranks_count"] == 8
    assert "as its metrics tell" in shown.said[0]


def layout(tp=2, dp=3):
    """Return collectives of a job of tp x dp ranks: many all_reduce of neighbours, few reduce_scatter across."""
    rows = []
    for one in range(dp):
        for seq in range(20):
            rows += [(one * tp + rank, f"a{one}", seq, "all_reduce", seq, seq + 1, 10) for rank in range(tp)]
    for one in range(tp):
        rows += [
            (one + tp * rank, f"b{one}", seq, "reduce_scatter", seq, seq + 1, 99)
            for rank in range(dp)
            for seq in (0, 1)
        ]
    return collectives(rows)


def test_parallelism_is_told_from_ranks_and_traffic(ask):
    shown = ask("parallelism", {"collectives": layout()}, declared="dp=3 tp=1")
    rows = shown.tables["dimensions"].set_index("dimension")
    assert (rows.loc["tp", "ranks_count"], rows.loc["dp", "ranks_count"]) == (2, 3)
    assert rows["agrees"].tolist() == [True, False, True, True, True]
    assert "declares tp 1" in shown.said[1]


def test_parallelism_believes_names_and_counts_stages(ask):
    pairs = [(0, "p2p:0-1", 0, "send", 0, 1, 9), (1, "p2p:0-1", 0, "recv", 0, 1, 9), (2, "p2p:2-3", 0, "send", 0, 1, 9)]
    groups = frame("groups", {"job": "job", "group": ["7", "7", "8", "8"], "rank": [0, 2, 1, 3], "group_size": 2,
                              "description": "mesh_expert", "source": "x"})  # fmt: skip
    rows = ask("parallelism", {"collectives": collectives(pairs, peer=[1, 0, 3]), "groups": groups}).tables[
        "dimensions"
    ]
    sizes = dict(zip(rows["dimension"], rows["ranks_count"], strict=True))
    assert sizes == {"dp": 2, "tp": 1, "pp": 2, "ep": 2, "cp": 1}


def test_uneven_exchanges_and_pairs(ask):
    rows = [(0, "0", 0, "all_to_all", 0, 1, 300), (1, "0", 0, "all_to_all", 0, 1, 100)]
    pairs = [(0, "p2p:0-1", 0, "send", 0, 1, 9), (1, "p2p:0-1", 0, "recv", 0, 1, 9), (1, "p2p:1-0", 0, "recv", 0, 1, 5)]
    shown = ask("all-to-all", {"collectives": collectives([*rows, *pairs], peer=[-1, -1, 1, 0, 0])})
    assert shown.tables["calls"]["imbalance_ratio"].tolist() == [1.5]
    columns = ["sender_rank", "receiver_rank", "messages_count", "moved_bytes"]
    assert shown.tables["pairs"][columns].values.tolist() == [[0, 1, 1, 9]]  # each message once, as its sender tells it


def test_a_missing_table_is_told_with_how_to_record_it():
    with pytest.raises(NoData, match="profiler"):
        named(["overlap"])[0].load().show(all_tables({}))
