"""Real training jobs under `skewscope run`, judged from nothing but the rings that they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GENERATOR = Path(__file__).parent / "jobs/run.py"
COMMAND = [sys.executable, "-c", "from skewscope.commands import main; raise SystemExit(main())"]
TRAIN = """
import sys, time, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

dist.init_process_group("gloo")
rank = dist.get_rank()
model = DistributedDataParallel(nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for batch in DataLoader(torch.randn(150, 64), batch_size=10):
    time.sleep(0.12 if rank == int(sys.argv[1]) else 0.06)
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    dist.all_reduce(loss.detach())
dist.destroy_process_group()
"""


def under_run(spool: Path, *words: object, job: str = "night-run") -> None:
    """Run a command under `skewscope run`."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "SKEWSCOPE"))}
    command = [*COMMAND, "run", "--spool", spool, "--job", job, "--", *words]
    done = subprocess.run(
        [str(word) for word in command], env={**settings, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "skewscope" not in done.stderr, done.stderr[-3000:]


@pytest.mark.parametrize(("kind", "truth"), [("compute-slow", {2: "coll-late-rank"}), ("healthy", {})])
def test_a_job_without_a_change_to_its_code_is_judged_right(kind, truth, analyzed, named, starved, tried):
    pytest.importorskip("torch")

    def check(folder):
        flags = ["--world", 4, "--culprit", 2, "--amount", 1.6, "--steps", 14, "--wait", 20, "--out", folder / "job",
                 "--truth", folder / "truth.json"]  # fmt: skip
        under_run(folder / "rings", sys.executable, GENERATOR, "--kind", kind, *flags)
        report = analyzed(folder / "rings")
        told = json.loads((folder / "truth.json").read_text())
        right = truth if kind != "healthy" else dict.fromkeys(starved(report, told), "coll-late-rank")
        assert [one["status"] for one in report["inputs"]] == ["ok"] * 4
        assert report["job"]["ranks"] == 4 and 12 <= report["job"]["steps"] <= 14
        found = named(report)
        assert set(found) == set(right) and all(right[rank] in found[rank] for rank in right)
        for one in report["findings"]:
            if kind == "compute-slow" and one["role"] == "culprit":  # 56 ms of device time a step, 0.6 of it added
                print(f"{one['cost']['seconds_per_step'] * 1e3:.1f} ms per step, of 67.2")
                assert one["cost"]["seconds_per_step"] == pytest.approx(0.0672, rel=0.5)

    tried(check)


def test_torchrun_hands_it_on_to_its_ranks(analyzed, named, tried):
    pytest.importorskip("torch")

    def check(folder):
        (folder / "train.py").write_text(TRAIN)
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 3]
        under_run(folder / "rings", *start, folder / "train.py", 1)
        assert len(list((folder / "rings").glob("night-run-r*.ring"))) == 3
        found = named(analyzed(folder / "rings"))
        assert {rank: "coll-late-rank" in why for rank, why in found.items()} == {1: True}

    tried(check)


def test_a_rank_that_stops_is_named(analyzed, named, tried):
    pytest.importorskip("torch")

    def check(folder):
        flags = ["--world", 4, "--culprit", 1, "--from-step", 4, "--steps", 10, "--wait", 20, "--out", folder / "job"]
        under_run(folder / "rings", sys.executable, GENERATOR, "--kind", "hang", *flags)
        assert named(analyzed(folder / "rings")) == {1: {"coll-missing-rank"}}

    tried(check)
