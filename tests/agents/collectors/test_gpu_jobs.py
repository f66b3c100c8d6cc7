from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from skewscope.catalogue import load
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

GPU0, GPU1 = ("0", "GPU-0"), ("1", "GPU-1")
UID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
BOX = "c0ffee" + "0123456789" * 5 + "01234567"
assert len(BOX) == 64
STEP = "/system.slice/slurmstepd.scope/job_{}/step_0/user/task_0"
POD_GROUP = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"

owner = load("agents.collectors._cgroup").owner


@pytest.fixture
def host(tmp_path):
    host = fake.FakeHost(tmp_path)
    host.boot()
    host.gpus([0], [1])
    host.board["gpu-processes"] = {"GPU-0": [], "GPU-1": []}
    return host


def _on_gpu(host, gpu, pid, used_bytes=1000, **process):
    host.process(pid, **process)
    host.board["gpu-processes"][f"GPU-{gpu}"].append([pid, used_bytes, "compute"])


@pytest.mark.parametrize(
    ("text", "source", "job_id"),
    [
        ("4:memory:/slurm/uid_1000/job_123/step_0/task_0", "slurm", "123"),
        ("4:memory:/slurm_node7/uid_1000/job_123/step_batch", "slurm", "123"),
        ("0::" + STEP.format(123), "slurm", "123"),
        ("0::/system.slice/node7_slurmstepd.scope/job_123/step_extern/user", "slurm", "123"),
        ("0::/system.slice/slurmstepd.scope/s5K1KKYAYG5D00/step_0/user", "slurm", "s5K1KKYAYG5D00"),
        ("0::/system.slice/slurmstepd.scope/system", "", ""),
        ("0::/system.slice/slurmd.service", "", ""),
        (f"0::{POD_GROUP}/cri-containerd-{BOX}.scope", "kubernetes", UID),
        (f"0::/kubepods/besteffort/pod{UID}/{BOX}", "kubernetes", UID),
        (f"0::/kubelet.slice/kubelet-kubepods-pod{UID.replace('-', '_')}.slice/crio-{BOX}.scope", "kubernetes", UID),
        (f"0::/system.slice/containerd.service/kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{BOX}",
         "kubernetes", UID),
        ("3:cpu:/\n0::/kubepods/pod" + UID.replace("-", "") + f"/{BOX}", "kubernetes", UID.replace("-", "")),
        ("0::/user.slice/user-1000.slice/session-3.scope", "", ""),
        ("0::/home/job_5/x", "", ""),
        ("", "", ""),
        ("garbage", "", ""),
    ],
)  # fmt: skip
def test_job_of_a_control_group(text, source, job_id):
    found = owner(text)
    assert (found.source, found.job_id) == (source, job_id)
    assert found.container == ("c0ffee012345" if BOX in text else "")
    assert found.pod == (job_id if source == "kubernetes" else "")


def test_a_registered_rank_names_the_job_best(host):
    _on_gpu(host, 0, 42, cgroup=STEP.format(9))
    host.rank(42, job="llama")
    found = fake.values(host.collector("gpu-jobs"))
    assert found["gpu_job_info"] == {(*GPU0, "llama", "hook", "", "", "", ""): 1}
    assert found["gpu_job_memory_bytes"] == {(*GPU0, "llama"): 1000}
    assert found["gpu_allocated"] == {GPU0: 1, GPU1: 0}
    assert found["gpu_foreign_processes"] == {GPU0: 0}


def test_control_groups_name_it_otherwise(host):
    _on_gpu(host, 0, 42, cgroup=STEP.format(9))
    _on_gpu(host, 1, 43, cgroup=f"{POD_GROUP}/cri-containerd-{BOX}.scope")
    assert fake.values(host.collector("gpu-jobs"))["gpu_job_info"] == {
        (*GPU0, "9", "slurm", "", "", "", ""): 1,
        (*GPU1, UID, "kubernetes", "", "", UID, "c0ffee012345"): 1,
    }


def test_foreign_processes_are_those_of_no_or_another_job(host):
    _on_gpu(host, 0, 42, cgroup=STEP.format(9))
    _on_gpu(host, 0, 43, cgroup="/system.slice/slurmstepd.scope/job_9/step_1")
    _on_gpu(host, 0, 44, cgroup="/user.slice/user-1000.slice/session-3.scope", used_bytes=10)
    _on_gpu(host, 0, 45, cgroup=STEP.format(10), used_bytes=20)
    _on_gpu(host, 0, 46, cgroup="/system.slice/mps.service", name="nvidia-cuda-mps-server", used_bytes=30)
    host.board["gpu-processes"]["GPU-0"].append([47, 5, "compute"])  # it ended just now
    found = fake.values(host.collector("gpu-jobs"))
    assert found["gpu_foreign_processes"] == {GPU0: 2}
    assert found["gpu_job_memory_bytes"] == {(*GPU0, "9"): 2000, (*GPU0, ""): 45, (*GPU0, "10"): 20}


def test_foreign_to_a_registered_job_without_a_scheduler(host):
    session = "/user.slice/user-1000.slice/session-{}.scope"
    for pid, number in ((42, 3), (43, 3), (44, 5), (45, 3)):
        _on_gpu(host, 0, pid, cgroup=session.format(number))
    host.rank(42)
    host.rank(45, rank=1, gpu="1", job="other")
    assert fake.values(host.collector("gpu-jobs"))["gpu_foreign_processes"][GPU0] == 2  # 44, and 45 of another job


def test_without_any_job_nobody_is_foreign_and_nobody_is_named(host):
    _on_gpu(host, 0, 42, cgroup="/user.slice/user-1000.slice/session-3.scope")
    _on_gpu(host, 0, 43, cgroup="/user.slice/user-1001.slice/session-4.scope")
    found = fake.values(host.collector("gpu-jobs"))
    assert "gpu_foreign_processes" not in found
    assert found["gpu_job_info"] == {(*GPU0, "", "", "", "", "", ""): 1}


def test_ranks_of_other_gpus_are_no_strangers(host):
    for rank, pid in enumerate((42, 43)):
        _on_gpu(host, rank, pid, cgroup=STEP.format(9))
        host.rank(pid, rank=rank, gpu=str(rank))
    host.board["gpu-processes"]["GPU-0"].append([43, 300, "compute"])
    found = fake.values(host.collector("gpu-jobs"))
    assert found["gpu_foreign_processes"] == {GPU0: 0, GPU1: 0}
    assert found["gpu_job_memory_bytes"] == {(*GPU0, "train"): 1300, (*GPU1, "train"): 1000}


def test_a_rank_without_a_gpu_of_its_own_is_known_by_its_process(host):
    _on_gpu(host, 0, 42)
    host.rank(42, gpu="")
    assert (*GPU0, "train", "hook", "", "", "", "") in fake.values(host.collector("gpu-jobs"))["gpu_job_info"]


def test_a_rank_that_proc_does_not_show_still_owns_its_gpu(host):
    host.board["gpu-processes"]["GPU-0"].append([90_042, 7, "compute"])
    host.rank(42)
    found = fake.values(host.collector("gpu-jobs"))
    assert found["gpu_allocated"] == {GPU0: 1, GPU1: 0} and "gpu_foreign_processes" not in found
    assert (*GPU0, "train", "hook", "", "", "", "") in found["gpu_job_info"]


def test_what_the_driver_does_not_tell_is_not_free(host):
    del host.board["gpu-processes"]["GPU-1"]
    assert fake.values(host.collector("gpu-jobs"))["gpu_allocated"] == {GPU0: 0}


def test_unknown_memory_is_left_out(host):
    _on_gpu(host, 0, 42, used_bytes=None, cgroup=STEP.format(9))
    assert "gpu_job_memory_bytes" not in fake.values(host.collector("gpu-jobs"))


def test_a_crowd_of_jobs_keeps_its_labels_few(host):
    for pid in range(100, 140):
        _on_gpu(host, 0, pid, cgroup=STEP.format(pid))
    found = fake.values(host.collector("gpu-jobs"))["gpu_job_memory_bytes"]
    assert len(found) == 17 and sum(found.values()) == 40_000


def test_idle_time_of_allocated_gpus_only(host):
    _on_gpu(host, 0, 42, cgroup=STEP.format(9))
    host.board["gpu-activity"] = {"GPU-0": 0.0, "GPU-1": 0.0}
    collector = host.collector("gpu-jobs")
    idle = "gpu_allocated_idle_seconds_total"
    assert fake.values(collector)[idle] == {GPU0: 0, GPU1: 0}
    host.clocks.pass_s(15)
    assert fake.values(collector)[idle] == {GPU0: 15, GPU1: 0}
    host.board["gpu-activity"] = {"GPU-0": 0.02}
    host.clocks.pass_s(15)
    assert fake.values(collector)[idle] == {GPU0: 15}  # busy; of the other nothing is known
    host.board["gpu-activity"] = {"GPU-0": 0.0}
    host.clocks.pass_s(10_000)
    assert fake.values(collector)[idle] == {GPU0: 75}  # nobody looked for most of it


@pytest.mark.parametrize(("option", "idle_s"), [("0.5", 15), ("", 0), ("much", 0)])
def test_the_idle_limit_can_be_set(host, option, idle_s):
    host.options["jobs.idle-ratio"] = option
    _on_gpu(host, 0, 42)
    host.board["gpu-activity"] = {"GPU-0": 0.3}
    collector = host.collector("gpu-jobs")
    fake.values(collector)
    host.clocks.pass_s(15)
    assert fake.values(collector)["gpu_allocated_idle_seconds_total"] == {GPU0: idle_s}


def test_users_are_shown_on_request_alone_and_environments_never_read(host):
    _on_gpu(host, 0, 42, cgroup=STEP.format(9))
    os.mkfifo(host.proc / "42/environ")  # reading it would never end
    host.options["jobs.user"] = "on"
    uid = str((host.proc / "42").stat().st_uid)
    assert fake.values(host.collector("gpu-jobs"))["gpu_job_info"] == {(*GPU0, "9", "slurm", uid, "", "", ""): 1}


def test_no_gpu_is_no_data_once_the_driver_had_time_to_tell(host):
    host.board.clear()
    collector = host.collector("gpu-jobs")
    for _ in range(3):
        assert fake.values(collector) == {}
    with pytest.raises(NoData, match="no GPU"):
        collector.collect()


@pytest.mark.parametrize(("uid", "source"), [(1000, "hook"), (1001, "slurm")])
def test_a_ring_cannot_claim_the_process_of_another_user(host, uid, source):
    _on_gpu(host, 0, 42, cgroup=STEP.format(9), status="Uid:\t1000\t1000\t1000\t1000\n")
    host.rank(42, job="llama")
    host.board["ranks"][0]["uid"] = uid
    (labels,) = fake.values(host.collector("gpu-jobs"))["gpu_job_info"]
    assert labels[3] == source
