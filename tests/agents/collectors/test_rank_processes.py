from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skewscope.catalogue import load, room
from skewscope.contracts import Place

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

RANK0 = ("train", "0", "0")
STATUS = (
    "VmRSS:\t 1000 kB\nVmLck:\t 64 kB\nVmPin:\t 16 kB\nCpus_allowed_list:\t0-3\n"
    "voluntary_ctxt_switches:\t50\nnonvoluntary_ctxt_switches:\t5\n"
)


@pytest.fixture
def host(tmp_path):
    host = fake.FakeHost(tmp_path)
    host.boot()
    host.gpus([0, 1], [2, 3])
    return host


def _look(host, collector, seconds=1.0):
    host.clocks.pass_s(seconds)
    return fake.values(collector)


def test_what_is_told_of_a_rank(host):
    host.process(42, ticks=250, status=STATUS)
    host.rank(42)
    found = fake.values(host.collector("rank-processes"))
    assert found["rank_cpu_seconds_total"] == {RANK0: 2.5}
    assert found["rank_major_faults_total"] == {RANK0: 7} and found["rank_threads"] == {RANK0: 1}
    assert found["rank_context_switches_total"] == {(*RANK0, "voluntary"): 50, (*RANK0, "involuntary"): 5}
    assert found["rank_resident_memory_bytes"] == {RANK0: 1_024_000}
    assert found["rank_locked_memory_bytes"] == {RANK0: 65_536}
    assert found["rank_pinned_memory_bytes"] == {RANK0: 16_384}
    assert found["rank_uninterruptible"] == {RANK0: 0} and found["rank_run_delay_seconds_total"] == {RANK0: 0}
    assert found["rank_numa_local"] == {RANK0: 0.5}
    assert "rank_cpu_throttled_seconds_total" not in found


def test_nothing_while_there_are_no_ranks(host):
    assert fake.values(host.collector("rank-processes")) == {}


@pytest.mark.parametrize(("allowed", "share"), [("0-1", 1.0), ("2,3", 0.0), ("0,2-4", 0.25), ("rubbish", None)])
def test_share_of_near_cpus(host, allowed, share):
    host.process(42, status=f"Cpus_allowed_list:\t{allowed}\n")
    host.rank(42)
    found = fake.values(host.collector("rank-processes"))
    assert found.get("rank_numa_local", {}).get(RANK0) == share


def test_unknown_gpu_leaves_nearness_out(host):
    host.process(42, status=STATUS)
    host.rank(42, gpu="7")
    assert "rank_numa_local" not in fake.values(host.collector("rank-processes"))


def test_run_delay_adds_up_over_threads_that_come_and_go(host):
    host.process(42, delays_ns={42: 9_000_000_000, 43: 5_000_000_000})
    host.rank(42)
    collector = host.collector("rank-processes")
    delay = "rank_run_delay_seconds_total"
    assert fake.values(collector)[delay] == {RANK0: 0}  # what was before is history
    host.process(42, delays_ns={42: 9_500_000_000, 43: 6_000_000_000})
    assert _look(host, collector)[delay] == {RANK0: 1.5}
    host.process(42, delays_ns={42: 9_500_000_000, 44: 2_000_000_000})  # 43 ended, 44 is new
    for _ in range(3):
        found = _look(host, collector)
    assert found[delay] == {RANK0: 3.5}


def test_run_delay_of_many_threads_is_whole_after_a_round_and_hot_ones_are_read_each_look(host):
    run_delay = load("agents.collectors._proc_threads").RunDelay
    threads = {100 + number: 0 for number in range(40)}
    folder = host.process(100, delays_ns=threads)
    delay = run_delay(str(folder / "task"), 100)
    for _ in range(14):
        delay.look(3)
    threads |= {120: 7_000, 130: 3_000}
    for thread, delay_ns in threads.items():
        fake.write(folder / f"task/{thread}/schedstat", f"1000 {delay_ns} 3\n")
    for _ in range(20):  # a round is 13 looks
        delay.look(3)
    assert delay.total_ns == 10_000
    fake.write(folder / "task/120/schedstat", "1000 8000 3\n")
    assert delay.look(3) == 11_000
    delay.close()


def test_run_delay_is_unknown_where_the_kernel_does_not_count(host):
    folder = host.process(42)
    fake.write(folder / "task/42/schedstat", "0 0 0\n")
    host.rank(42)
    found = fake.values(host.collector("rank-processes"))
    assert "rank_run_delay_seconds_total" not in found and "rank_cpu_seconds_total" in found


def test_standing_still_takes_two_looks(host):
    host.process(42, state="D")
    host.rank(42)
    collector = host.collector("rank-processes")
    assert fake.values(collector)["rank_uninterruptible"] == {RANK0: 0}
    assert _look(host, collector)["rank_uninterruptible"] == {RANK0: 1}
    fake.write(host.proc / "42/stat", (host.proc / "42/stat").read_text().replace(") D ", ") S "))
    assert _look(host, collector)["rank_uninterruptible"] == {RANK0: 0}


@pytest.mark.parametrize(("ranks", "looks"), [(4, 1), (8, 2), (64, 4)])
def test_many_ranks_are_looked_at_in_turns(host, ranks, looks):
    for rank in range(ranks):
        host.process(100 + rank, ticks=100)
        host.rank(100 + rank, rank=rank)
    collector = host.collector("rank-processes")
    assert set(fake.values(collector)["rank_cpu_seconds_total"].values()) == {1.0}
    for rank in range(ranks):
        host.process(100 + rank, ticks=200)
    for look in range(1, looks + 1):
        seen = list(_look(host, collector)["rank_cpu_seconds_total"].values())
        assert seen.count(2.0) == ranks * look // looks and len(seen) == ranks


def test_a_rank_that_ends_leaves_at_once_and_others_stay(host):
    host.process(42)
    host.process(43)
    host.rank(42)
    host.rank(43, rank=1, gpu="1")
    collector = host.collector("rank-processes")
    assert len(fake.values(collector)["rank_threads"]) == 2
    host.end(42)
    assert _look(host, collector)["rank_threads"].keys() == {("train", "1", "1")}
    host.board["ranks"] = []
    assert _look(host, collector) == {}


def test_a_zombie_is_no_rank(host):
    host.process(42, state="Z")
    host.rank(42)
    assert fake.values(host.collector("rank-processes")) == {}


def test_a_number_given_anew_is_not_the_rank(host):
    host.process(42, began_s=100)
    host.rank(42, start_s=fake.BTIME_S + 500)
    collector = host.collector("rank-processes")
    assert "rank_threads" in fake.values(collector)
    host.end(42)
    host.process(42, name="sshd", began_s=900)
    for _ in range(12):
        assert _look(host, collector) == {}


def test_another_process_behind_an_open_file_is_noticed(host):
    host.process(42, began_s=100)
    host.rank(42)
    collector = host.collector("rank-processes")
    fake.values(collector)
    host.process(42, began_s=200)  # same file, another beginning
    assert _look(host, collector) == {}


def test_a_restarted_rank_is_followed(host):
    host.process(42)
    host.process(77, ticks=900, began_s=700)
    host.rank(42)
    collector = host.collector("rank-processes")
    fake.values(collector)
    host.rank(77, start_s=fake.BTIME_S + 800)
    assert _look(host, collector)["rank_cpu_seconds_total"] == {RANK0: 9.0}


def test_of_two_entries_of_a_rank_the_newer_counts(host):
    host.process(42)
    host.process(77, ticks=900)
    host.rank(42)
    older = host.board["ranks"]
    host.rank(77, start_s=fake.BTIME_S + 800)
    host.board["ranks"] = [*host.board["ranks"], *older]
    assert fake.values(host.collector("rank-processes"))["rank_cpu_seconds_total"] == {RANK0: 9.0}


def test_a_rank_in_a_container_is_found_by_its_gpu(host):
    host.process(1, name="systemd", began_s=1)
    host.process(4242, ticks=300, own_number=1)
    host.process(4300, ticks=500, own_number=2)
    host.board["gpu-processes"] = {"GPU-0": [[4300, 1, "compute"], [4242, 1, "compute"]]}
    host.rank(1)
    assert fake.values(host.collector("rank-processes"))["rank_cpu_seconds_total"] == {RANK0: 3.0}


def test_a_number_of_nobody_on_the_gpu_is_left_out(host):
    host.process(1, name="systemd", began_s=1)
    host.process(4300, own_number=2)
    host.board["gpu-processes"] = {"GPU-0": [[4300, 1, "compute"]]}
    host.rank(1)
    assert fake.values(host.collector("rank-processes")) == {}


def test_numbers_that_this_namespace_does_not_show_say_nothing(host):
    host.process(42)
    host.board["gpu-processes"] = {"GPU-0": [[90_042, 1, "compute"]]}
    host.rank(42)
    assert fake.values(host.collector("rank-processes"))["rank_threads"] == {RANK0: 1}


@pytest.mark.parametrize(
    ("mounted", "cgroup", "counter"),
    [("", "/", "throttled_usec 1500000"), ("cpu,cpuacct", "4:cpu,cpuacct:", "throttled_time 1500000000")],
)
def test_time_held_up_by_a_quota_of_the_container_or_its_pod(host, mounted, cgroup, counter):
    path = "/kubepods/pod1/box"
    groups = host.sys / "fs/cgroup" / mounted
    fake.write(groups / "cpu.stat", "usage_usec 5\n")  # the root has no quota
    fake.write(groups / "kubepods/pod1/cpu.stat", f"nr_periods 5\nnr_throttled 5\n{counter}\n")
    fake.write(groups / "kubepods/pod1/box/cpu.stat", "nr_periods 5\nnr_throttled 0\nthrottled_usec 0\n")
    host.process(42, cgroup=cgroup.rstrip("/") + path if mounted else path)
    host.rank(42)
    collector = host.collector("rank-processes")
    assert fake.values(collector)["rank_cpu_throttled_seconds_total"] == {RANK0: 1.5}


def test_damaged_files_of_one_rank_hide_no_other(host):
    folder = host.process(42)
    host.process(43)
    host.rank(42)
    host.rank(43, rank=1, gpu="1")
    fake.write(folder / "status", b"\xff\x00 garbage")
    fake.write(folder / "task/42/schedstat", "x y z\n")
    fake.write(folder / "cgroup", b"\xff::")
    collector = host.collector("rank-processes")
    assert len(fake.values(collector)["rank_threads"]) == 2
    fake.write(folder / "stat", "42 (python) S" + " x" * 48)
    assert _look(host, collector)["rank_threads"].keys() == {("train", "1", "1")}


def test_watched_names(host):
    host.options["watch.names"] = "dataloader-process-of-many, ,nothing"
    host.process(42, name="dataloader-process-of-many", state="D")
    host.process(43, name="bash")
    collector = host.collector("rank-processes")
    name = ("dataloader-process-of-many",)
    first = fake.values(collector)
    assert first["watched_processes"] == {name: 1, ("nothing",): 0}
    assert first["watched_uninterruptible"][name] == 0
    assert _look(host, collector)["watched_uninterruptible"][name] == 0  # not looked at again yet
    assert _look(host, collector, 5)["watched_uninterruptible"][name] == 1
    host.process(43, name="dataloader-process-of-many")  # it took the name after it was seen
    assert _look(host, collector, 16)["watched_processes"][name] == 2
    host.end(42)
    found = _look(host, collector, 5)
    assert found["watched_processes"][name] == 1 and found["watched_uninterruptible"][name] == 0


def test_many_watched_processes_are_bounded(host):
    host.options["watch.names"] = "python"
    for pid in range(1000, 1300):
        host.process(pid)
    collector = host.collector("rank-processes")
    for _ in range(4):
        found = _look(host, collector, 5)
    assert found["watched_processes"] == {("python",): 64}


@pytest.fixture
def spinners():
    """Return two real processes with two threads each that fight for one CPU."""
    code = (
        "import os, threading\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()\n"
        "print('up', flush=True)\n"
        "while True: pass\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    for process in started:
        process.stdout.readline()
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_real_processes_that_fight_for_a_cpu(spinners):
    board = {
        "ranks": [
            {"job_id": "train", "rank": n, "pid": spinner.pid, "gpu": "", "start_ns": time.time_ns()}
            for n, spinner in enumerate(spinners)
        ]
    }
    collector = room("agents.collectors", "rank-processes").kind()(Place(board=board))
    waited = ("rank_run_delay_seconds_total", ("train", "0", ""))
    used = ("rank_cpu_seconds_total", ("train", "0", ""))
    deadline_s = time.monotonic() + 20
    found = fake.values(collector)
    while found[waited[0]][waited[1]] < 0.05 or found[used[0]][used[1]] == 0:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)
        found = fake.values(collector)
    assert found["rank_threads"][waited[1]] == 2
    assert ("train", "0", "", "involuntary") in found["rank_context_switches_total"]
    spinners[0].kill()
    spinners[0].wait()
    assert fake.values(collector)["rank_threads"].keys() == {("train", "1", "")}


def test_descriptors_stay_few_and_go_with_the_ranks(spinners):
    def opened():
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    board = {"ranks": [{"job_id": "j", "rank": 0, "pid": spinners[0].pid, "gpu": "", "start_ns": time.time_ns()}]}
    collector = room("agents.collectors", "rank-processes").kind()(Place(board=board))
    for _ in range(5):
        fake.values(collector)
    assert before < opened() <= before + 8
    board["ranks"] = []
    fake.values(collector)
    assert opened() == before


@pytest.mark.parametrize(("uid", "told"), [(1000, 1), (1001, 0), (None, 1)])
def test_a_process_of_another_user_than_the_rings_is_not_the_rank(host, uid, told):
    host.process(42, status=f"Uid:\t1000\t1000\t1000\t1000\n{STATUS}")
    host.rank(42)
    host.board["ranks"][0]["uid"] = uid
    assert len(fake.values(host.collector("rank-processes")).get("rank_threads", ())) == told
