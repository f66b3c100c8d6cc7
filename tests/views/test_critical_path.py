"""The critical path: small graphs followed by head (microseconds), and beside a slow search for the longest path."""

from __future__ import annotations

import random

import numpy as np
import pytest

from skewscope.frames import frame
from skewscope.views import _calls, _device_rows, _path_graph, _path_walk

OPERATOR, RUNTIME, RANGE = "operator", "runtime", "annotation"
KINDS = [f"{kind}_s" for kind in _path_walk.KINDS]


def parts(shown, path="rank"):
    rows = shown.tables["by_step"]
    sums = rows[rows["path"] == path][["path_s", *KINDS]].sum()
    return {name.removesuffix("_s"): round(value * 1e6, 6) for name, value in sums.items() if value}


def test_the_path_goes_through_launches_the_stream_and_the_wait(ask, traced):
    """Launch at 10, kernel 15 to 40, the next one queued behind it to 90, and the host waits for that until 92."""
    given = traced(
        [("aten::mm", OPERATOR, 0, 14), ("cudaLaunchKernel", RUNTIME, 10, 12), ("aten::add", OPERATOR, 20, 30),
         ("cudaLaunchKernel", RUNTIME, 22, 25), ("cudaDeviceSynchronize", RUNTIME, 50, 92),
         ("cudaFree", RUNTIME, 95, 99)],
        [("gemm", 15, 40, 1), ("add", 42, 90, 3)],
    )  # fmt: skip
    shown = ask("critical-path", given)
    assert parts(shown) == {
        "path": 89, "launch_delay": 5, "compute": 25 + 48, "device_gap": 2, "synchronize": 2, "python": 3, "host": 4,
    }  # fmt: skip
    names = shown.tables["by_name"].set_index(["kind", "name"])["path_s"]
    assert names["compute", "add"] == pytest.approx(48e-6) and names["host", "cudaFree"] == pytest.approx(4e-6)


def test_a_host_that_is_slow_is_on_the_path_and_its_kernels_are_not(ask, traced):
    given = traced(
        [("aten::mm", OPERATOR, 0, 40), ("cudaLaunchKernel", RUNTIME, 30, 35), ("load", RANGE, 45, 195),
         ("aten::mm", OPERATOR, 200, 240), ("cudaLaunchKernel", RUNTIME, 230, 235)],
        [("gemm", 40, 60, 1), ("gemm", 240, 260, 4)],
    )  # fmt: skip
    found = parts(ask("critical-path", given))
    assert found == {"path": 230, "host": 5 + 5 + 30, "python": 160, "launch_delay": 10, "compute": 20}


def test_an_event_of_another_stream_is_waited_for(ask, traced):
    other = {"stream": 20}
    given = traced(
        [
            ("cudaLaunchKernel", RUNTIME, 0, 2),
            ("cudaStreamWaitEvent", RUNTIME, 4, 5),
            ("cudaLaunchKernel", RUNTIME, 6, 8),
        ],
        [("copy", 3, 50, 0, other), ("Stream Wait Event", 5, 6, 1, {"kind": "wait"}), ("use", 51, 60, 2)],
    )
    assert parts(ask("critical-path", given)) == {"path": 60, "launch_delay": 3, "compute": 47 + 9, "device_gap": 1}


def test_the_backward_thread_is_entered_and_left_through_pauses(ask, traced):
    back = {"thread": 1}
    given = traced(
        [("aten::mm", OPERATOR, 0, 100), ("cudaLaunchKernel", RUNTIME, 90, 95),
         ("aten::mm", OPERATOR, 120, 900, back), ("cudaLaunchKernel", RUNTIME, 880, 890, back),
         ("aten::add", OPERATOR, 950, 1000), ("cudaLaunchKernel", RUNTIME, 980, 990)],
        [("fwd", 96, 100, 1), ("bwd", 892, 894, 3), ("opt", 995, 1010, 5)],
    )  # fmt: skip
    shown = ask("critical-path", given)
    pieces = shown.tables["pieces"]
    assert parts(shown)["path"] == 920
    assert pieces[pieces["name"] == "aten::mm"]["path_s"].sum() == pytest.approx((5 - 5 + 760) * 1e-6, abs=6e-6)
    assert pieces["stream"].tolist()[-1] == 7 and 1 in pieces["stream"].tolist()


def two_ranks(traced, ahead=0):
    """Return tables in which rank 1 arrives at a collective 100 later; its clock is `ahead`, which `clocks` tell."""
    calls, work, members, arrived = [], [], [], []
    for rank, late in enumerate((0, 100)):
        who, off = {"rank": rank}, ahead * rank
        calls += [("aten::mm", OPERATOR, off, off + 10 + late, who),
                  ("cudaLaunchKernel", RUNTIME, off + 5 + late, off + 8 + late, who)]  # fmt: skip
        work.append(("nccl", off + 20 + late, off + 150, len(calls) - 1, {"kind": "communication"}))
        calls.append(("cudaLaunchKernel", RUNTIME, off + 110, off + 112, who))
        work.append(("after", off + 150, off + 200 - 20 * rank, len(calls) - 1))
        key = {"job": "job", "rank": rank, "group": "0", "seq": 0, "op": "all_reduce", "op_class": ""}
        members.append({**key, "start_ns": (off + 20 + late) * 1000, "end_ns": (off + 150) * 1000, "blocking": False})
        arrived.append({**key, "call": 0, "members_count": 2, "late_ns": 0.0, "wait_ns": 0.0, "transfer_ns": 0.0,
                        "last": rank == 1, "by_wait": False})  # fmt: skip
    tables = traced(calls, work)
    for name, rows in (("collectives", members), ("arrivals", arrived)):
        tables[name] = frame(name, {key: [row[key] for row in rows] for key in rows[0]})
    tables["ranks"] = frame("ranks", {"job": "job", "rank": [0, 1], "node": ["a", "b"]})
    told = {
        "offset_ns": [0.0, ahead * 1000.0],
        "drift_ppm": 0.0,
        "uncertainty_ns": 1.0,
        "pairs_count": 1,
        "aligned": True,
    }
    tables["clocks"] = frame("clocks", {"job": "job", "node": ["a", "b"], **told})
    return tables


@pytest.mark.parametrize("ahead", [0, 5000])
def test_ranks_are_joined_where_the_last_one_arrives(ask, traced, ahead):
    """The path of the job runs on the late rank 1 until the collective, then ends on rank 0, whatever clocks say."""
    shown = ask("critical-path", two_ranks(traced, ahead))
    assert parts(shown, "job") == {
        "path": 195, "host": 100, "launch_delay": 15, "communication": 30, "compute": 50,
    }  # fmt: skip
    by_rank = shown.tables["by_rank"].set_index("rank")["path_s"] * 1e6
    assert by_rank[1] == pytest.approx(115) and by_rank[0] == pytest.approx(80)
    assert any("1 collectives that waited" in line for line in shown.said)


def test_a_path_is_cut_into_steps(ask, traced):
    given = traced(
        [("cudaLaunchKernel", RUNTIME, 0, 2), ("cudaLaunchKernel", RUNTIME, 50, 52)],
        [("a", 2, 70, 0), ("b", 70, 90, 1)],
    )
    given["steps"] = frame("steps", {"job": "job", "step": [7, 8], "rank": 0, "phase": "step", "start_ns": [0, 60_000],
                                     "end_ns": [60_000, 90_000]})  # fmt: skip
    rows = ask("critical-path", given).tables["by_step"]
    assert rows["step"].tolist() == [7, 8] and rows["path_s"].tolist() == pytest.approx([60e-6, 30e-6])


def test_what_overlaps_on_a_stream_or_a_thread_does_not_end_the_path(ask, traced):
    """A driver call inside a runtime call, and a kernel that begins before the one ahead has ended."""
    given = traced(
        [("cudaFree", RUNTIME, 0, 10), ("cudaLaunchKernel", RUNTIME, 20, 40), ("cuLaunchKernel", RUNTIME, 25, 35),
         ("cudaLaunchKernel", RUNTIME, 45, 50)],
        [("a", 42, 80, 2), ("b", 75, 100, 3)],
    )  # fmt: skip
    found = parts(ask("critical-path", given))
    assert found == {"path": 100, "host": 10 + 5, "python": 10, "launch_delay": 17, "compute": 33 + 25}


def test_a_range_can_be_asked_for(ask, traced):
    calls = [("forward", RANGE, 0, 50), ("cudaFree", RUNTIME, 10, 40), ("forward", RANGE, 60, 90),
             ("cudaLaunchKernel", RUNTIME, 65, 70)]  # fmt: skip
    found = ask("critical-path", traced(calls, [("k", 75, 100, 3)]), annotation="forward", instance=1)
    assert parts(found) == {"path": 40, "python": 5, "launch_delay": 10, "compute": 25}


def random_trace(seed):
    """Return calls and work of one host thread and three streams that obey launches, streams and waits."""
    dice = random.Random(seed)
    calls, work, free, now = [], [], {}, 0
    for _ in range(40):
        now += dice.randint(1, 30)
        length = dice.randint(2, 9)
        if dice.random() < 0.15 and work:
            now = max(now + length, max(free.values()) + dice.randint(0, 3))
            calls.append(("cudaDeviceSynchronize", RUNTIME, now - length, now))
            continue
        calls.append(("cudaLaunchKernel", RUNTIME, now, now + length))
        stream = dice.choice((7, 20, 21))
        start = max(now + dice.randint(length, 15), free.get(stream, 0) + dice.randint(0, 2))
        free[stream] = start + dice.randint(1, 60)
        work.append((f"k{len(work)}", start, free[stream], len(calls) - 1, {"stream": stream}))
        now += length
    return calls, work


@pytest.mark.parametrize("seed", range(5))
def test_no_path_is_longer(traced, seed):
    """Relax all edges from launch to work, along streams and threads and to waits, until nothing grows any more."""
    calls, work = random_trace(seed)
    given = traced(calls, work)
    forest, rows = _calls.calls(given["operators"]), _device_rows.work(given)
    graph = _path_graph.graph(forest, rows, rows.iloc[:0])
    last = int(np.argmax(graph.time))
    path = _path_walk.walk(graph, last, int(graph.time.min()))
    found = int((path.end - path.start).sum())
    time, count = graph.time.tolist(), graph.calls
    edges = [(2 * i, 2 * i + 1) for i in range(len(time) // 2)] + [(2 * i + 1, 2 * i + 2) for i in range(count - 1)]
    streams = rows["stream"].tolist()
    edges += [(2 * (count + i) + 1, 2 * (count + i) + 2) for i in range(len(rows) - 1) if streams[i] == streams[i + 1]]
    edges += [(2 * call, 2 * (count + i)) for i, call in enumerate(rows["correlation"].tolist())]
    syncs = [i for i, call in enumerate(calls) if "Synchronize" in call[0]]
    edges += [(2 * (count + i) + 1, 2 * call + 1) for call in syncs for i in range(len(rows))]
    longest = [0] * len(time)
    for _ in time:
        for source, target in edges:
            if time[source] <= time[target]:
                longest[target] = max(longest[target], longest[source] + time[target] - time[source])
    assert found == longest[last] > 0
    assert set(zip(path.source[:-1].tolist(), path.node[:-1].tolist(), strict=True)) <= set(edges)
