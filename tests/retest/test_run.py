"""The benchmarks themselves: this machine's processors, GPUs of a fake torch, and three ranks over Gloo."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.errors import SkewscopeError, UsageError
from skewscope.retest import _processor, document, ranks, run
from skewscope.retest.judge import verdict
from skewscope.retest.rounds import Rounds

Gpus = run_path(str(Path(__file__).with_name("_fake_torch.py")))["Gpus"]
SHORT = 0.06


@pytest.mark.parametrize("torch", [run.loaded(), None], ids=["torch", "numpy"])
def test_processors_are_measured(torch):
    (made,) = run.measure(run.Plan("n1", SHORT, clock_ns=lambda: 7), torch)
    assert made.time_ns == 7 and made.backend.startswith("torch" if torch else "numpy") and not made.failures
    assert [one.name for one in made.measures] == ["gemm", "copy", "loopback"]
    assert all(len(one.values) >= 7 and min(one.values) > 1e6 for one in made.measures)
    assert document.found(document.line(made)) == [made]


def test_speeds_are_the_work_over_the_time():
    ticks = count()
    rounds = Rounds(least=5, most=5, clock_s=lambda: float(next(ticks)))  # each round takes one second
    gemm, copy, loopback = _processor.measured(None, rounds, 64)
    assert gemm.work == "float32 64" and gemm.values == (2.0 * 64**3,) * 5
    assert copy.values == (2.0 * _processor.COPY_BYTES,) * 5 and loopback.values == (_processor.SENT_BYTES,) * 5


def test_all_gpus_are_measured_each_by_its_own_clock():
    (made,) = run.measure(run.Plan("n1", SHORT), Gpus([1e12, 1e12, 5e11, 1e12]))
    assert made.hardware == "H100 x4" and made.backend == "torch 2.13.0 CUDA 13.0"
    names = ("gemm", "copy", "to_device", "from_device", "link")
    assert [one.name for one in made.measures] == [name for name in names for _ in range(4)]
    assert {one.device for one in made.measures[:4]} == {"gpu0", "gpu1", "gpu2", "gpu3"}
    assert [one.device for one in made.measures[-4:]] == ["gpu0->gpu1", "gpu1->gpu2", "gpu2->gpu3", "gpu3->gpu0"]
    gemm = {one.device: one.values[0] for one in made.measures if one.name == "gemm"}
    assert gemm["gpu2"] == pytest.approx(5e11) and gemm["gpu0"] == pytest.approx(1e12)


def test_a_slow_gpu_fails_its_node_beside_the_three_others():
    (made,) = run.measure(run.Plan("n1", SHORT), Gpus([1e12, 1e12, 5e11, 1e12]))
    judged = verdict(made, ())
    assert judged.verdict == "fail" and all("gpu2" in one for one in judged.why)


def test_one_gpu_has_no_links():
    (made,) = run.measure(run.Plan("n1", SHORT), Gpus([1e12]))
    assert "link" not in {one.name for one in made.measures}


def test_a_gpu_that_falls_off_is_told():
    (made,) = run.measure(run.Plan("n1", SHORT), Gpus([1e12], fails="CUDA error: device\nlost"))
    assert made.failures == ("the benchmarks failed: CUDA error: device lost",) and not made.measures


def test_gpus_can_be_left_alone(tmp_path):
    (tmp_path / "nvidia0").touch()
    (made,) = run.measure(run.Plan("n1", SHORT, cpu=True, devices=tmp_path), None)
    assert made.hardware == _processor.hardware() and not made.failures


@pytest.mark.parametrize("name", ["nvidia3", "kfd"])
def test_gpus_that_were_not_measured_are_no_pass(name, tmp_path):
    (tmp_path / name).touch()
    (made,) = run.measure(run.Plan("n1", SHORT, devices=tmp_path), None)
    peers = [replace(made, node=f"peer{at}", failures=()) for at in range(4)]
    judged = verdict(made, peers)
    assert judged.verdict in ("fail", "unsure") and "were not measured" in made.failures[0]


@pytest.mark.parametrize(
    ("told", "rank", "address"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "h",
          "MASTER_PORT": "5"}, 1, "h:5"),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0",
          "SLURM_STEP_NODELIST": "n[5-8]"}, 3, f"n5:{ranks.PORT}"),
    ],
)  # fmt: skip
def test_the_place_is_that_of_torchrun_or_srun(told, rank, address):
    where = ranks.place(told)
    assert (where.rank, where.address) == (rank, address)


@pytest.mark.parametrize(
    ("told", "said"),
    [({}, "MASTER_ADDR is not set"), ({"MASTER_ADDR": "h"}, "RANK is not set"),
     ({"MASTER_ADDR": "h", "RANK": "-1", "WORLD_SIZE": "2"}, "RANK is not set")],
)  # fmt: skip
def test_no_launcher_is_told(told, said):
    with pytest.raises(UsageError, match=said):
        ranks.place(told)


def test_together_needs_torch():
    with pytest.raises(UsageError, match="needs torch"):
        run.measure(run.Plan("n1", together=True), None)


def test_ranks_that_do_not_come_are_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    alone = ranks.Company(run.loaded(), ranks.Place(0, 2, 0, 1, f"127.0.0.1:{port}"), within_s=1.0)
    with pytest.raises(SkewscopeError, match="not all ranks met"), alone:
        pass


def test_three_nodes_judge_each_other():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "skewscope", "retest", "--together", "--seconds", str(SHORT), "--json", "-"]
    launched = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*words, f"--node=n{rank}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=os.environ | launched | {"RANK": str(rank)})
        for rank in range(3)
    ]  # fmt: skip
    ended = [one.communicate(timeout=120) for one in started]
    told = [json.loads(one) for one in ended[0][0].splitlines()]
    assert [one["node"] for one in told] == ["n0", "n1", "n2"], ended
    assert not any(said for said, _ in ended[1:])
    for one in told:
        assert [each["name"] for each in one["measures"]] == ["gemm", "copy", "loopback", "pair", "all_reduce"]
        assert len(one["measures"][3]["values"]) == 2 * 7
        assert one["verdict"] in ("pass", "fail", "unsure") and one["why"]
