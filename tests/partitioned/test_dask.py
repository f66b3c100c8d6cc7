"""A real scheduler and two real workers give the very report that one process gives."""

import json
import subprocess
import sys

import pytest

from skewscope.commands import main
from skewscope.partitioned import _layout

ONLY = "coll-late-rank,comm-exposed,tp-straggler"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start `dask scheduler` and two `dask worker`, and return the scheduler's address."""
    distributed = pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("dask")
    about = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    started = [
        subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                          "--scheduler-file", str(about)], **quiet)
    ]  # fmt: skip
    try:
        for _ in range(2):
            words = ["worker", "--scheduler-file", str(about), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            started.append(subprocess.Popen([*dask, *words], **quiet))
        with distributed.Client(scheduler_file=str(about), timeout=120) as client:
            client.wait_for_workers(2, timeout=120)
            yield client.scheduler.address
    finally:
        for process in reversed(started):  # they hold nothing that an orderly end would save
            process.kill()
        for process in started:
            process.wait(timeout=60)


def test_two_workers_give_the_identical_report(job, cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(_layout, "LIMIT_ROWS", 100)
    monkeypatch.setattr(_layout, "PART_ROWS", 4200)
    words = ["analyze", str(job[0]), "-q", "--only", ONLY, "--json"]
    assert main([*words, str(tmp_path / "local.json"), "--workers", "1"]) == 0
    assert main([*words, str(tmp_path / "dask.json"), "--dask", cluster]) == 0
    local, far = ((tmp_path / name).read_bytes() for name in ("local.json", "dask.json"))
    assert local == far and json.loads(far)["findings"]
