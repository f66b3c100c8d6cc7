"""Jobs of a real Slurm are kept off a node, and started anew elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.actuators.slurm import Slurm

HERE = Path(__file__).parent / "slurm"
C = SimpleNamespace(**run_path(str(HERE / "_cluster.py")))
F = SimpleNamespace(**run_path(str(HERE / "_fleets.py")))
HOSTILE = "llm\"; scontrol update NodeName=ALL State=DOWN\n$(reboot) -J 'x' ünï"


@pytest.fixture(scope="module")
def cluster():
    yield from C.running()


@pytest.fixture
def slurm(cluster):
    yield Slurm(conf=str(cluster.conf))
    cluster.run("scancel", "--user", cluster.user)
    assert {one["reason"] for one in cluster.nodes()} == {""}


def running(cluster, slurm, *options: str) -> tuple[str, str]:
    """Return a job of two nodes that runs, and the first of its nodes."""
    number = cluster.submit('for try in $(seq 600); do sleep 0.1; done; echo "$SLURM_JOB_NODELIST"', "-N2", *options)
    cluster.wait_for(number, "RUNNING")
    return number, slurm.look().jobs[number].nodes[0]


def test_a_waiting_job_is_kept_off_a_node_and_let_there_again(cluster, slurm):
    number = cluster.submit("true", "--hold", "--exclude=n[7-8]", f"--job-name={HOSTILE}")
    command = slurm.command(F.request("exclude", job=HOSTILE), slurm.look())
    assert [slurm.apply(command, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    assert cluster.job(number)["ExcNodeList"] == "n[7-8],n3"
    record = F.record(command)
    assert slurm.holds(record, slurm.look())
    back = slurm.undo(record, slurm.look())
    assert [slurm.apply(back, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    assert cluster.job(number)["ExcNodeList"] == "n[7-8]"


def test_a_running_job_goes_elsewhere_without_the_wait(cluster, slurm):
    number, node = running(cluster, slurm)
    command = slurm.command(F.request("exclude", node, job=number, params={"requeue": True}), slurm.look())
    assert [step.words[1] for step in command.steps] == ["requeue", "update", "update"]
    begin_s = time.monotonic()
    assert slurm.apply(command, dry_run=False).result == "done"
    cluster.wait_for(number, "RUNNING")
    assert time.monotonic() - begin_s < C.CREDENTIAL_S * 0.8
    fleet = slurm.look()
    assert node not in fleet.jobs[number].nodes and fleet.jobs[number].native["restarts"] == 1
    assert slurm.apply(command, dry_run=False).result == "nothing"
    assert cluster.job(number)["Restarts"] == "1"
    record = F.record(command)
    assert slurm.holds(record, fleet)
    assert "only while it waits" in slurm.undo(record, fleet).refused
    cluster.run("scancel", number)
    C.until(lambda: slurm.look().jobs[number].state == "over")
    assert slurm.undo(record, slurm.look()).nothing


@pytest.mark.parametrize("sent", [1, 2])
def test_a_job_is_never_left_held(cluster, slurm, sent):
    """Cut short after each step, the job waits for its time, not for us."""
    number, node = running(cluster, slurm)
    command = slurm.command(F.request("exclude", node, job=number, params={"requeue": True}), slurm.look())
    assert slurm.apply(replace(command, steps=command.steps[:sent]), dry_run=False).result == "done"
    job = C.until(lambda: job if (job := cluster.job(number))["JobState"] == "PENDING" else None)
    assert job["Reason"] in ("None", "BeginTime") and int(job["Priority"]) > 0
    assert slurm.holds(F.record(command), slurm.look()) is (sent == 2)


def test_a_job_is_started_anew(cluster, slurm):
    number, node = running(cluster, slurm, f"--job-name={HOSTILE}")
    command = slurm.command(F.request("requeue", node, job=HOSTILE), slurm.look())
    assert [slurm.apply(command, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    job = cluster.job(number)
    left_s = (datetime.fromisoformat(job["EligibleTime"]) - datetime.now()).total_seconds()
    assert job["Restarts"] == "1" and left_s < C.CREDENTIAL_S / 2
    assert slurm.holds(F.record(command), slurm.look())


def test_a_job_that_slurm_does_not_let_restart_is_refused(cluster, slurm):
    number, node = running(cluster, slurm, "--no-requeue")
    fleet = slurm.look()
    for request in (F.request("requeue", node, job=number),
                    F.request("exclude", node, job=number, params={"requeue": True})):  # fmt: skip
        command = slurm.command(request, fleet)
        assert command.refused and slurm.apply(command, dry_run=False).result == "refused"


@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("setpriv"), reason="takes root and setpriv to be somebody else"
)
def test_without_rights_it_fails_and_nothing_changes(cluster, slurm, tmp_path):
    tmp_path.chmod(0o755)
    for program in ("scontrol", "sinfo", "squeue"):
        path = tmp_path / program
        real = shutil.which(program, path=C.PATH)
        path.write_text(f'#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {real} "$@"\n')
        path.chmod(0o755)
    nobody = replace(slurm, bin=str(tmp_path))
    command = nobody.command(F.request("drain"), nobody.look())
    outcome = nobody.apply(command, dry_run=False)
    assert (outcome.result, "Invalid user id" in outcome.detail) == ("failed", True)
