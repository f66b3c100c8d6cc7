"""How Slurm's programs are run: small scripts stand for them, which note how they were called."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.acts import Step
from skewscope.actuators._slurm_programs import POLL_S, SOON, Programs, Unsent
from skewscope.actuators.slurm import Slurm
from skewscope.errors import SkewscopeError

F = SimpleNamespace(**run_path(str(Path(__file__).parent / "slurm" / "_fleets.py")))


@pytest.fixture
def program(tmp_path):
    """Return a function that makes a program; each notes its arguments in a file of its name."""

    def made(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/{name}.calls\n{script}\n')
        path.chmod(0o755)
        return path

    return made


def calls(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(("ending", "asked", "slept"), [(0, 1, 0), (3, 4, 3), (99, 8, 8)])
def test_a_requeued_job_is_brought_forward_once_it_has_ended(tmp_path, program, ending, asked, slept):
    program("scontrol", "")
    program("squeue", f"[ $(wc -l < {tmp_path}/squeue.calls) -le {ending} ] && echo COMPLETING || echo PENDING")
    pauses: list[float] = []
    road = Programs(bin=str(tmp_path), wait_s=8 * POLL_S, sleep=pauses.append)
    assert road.send(road.start_soon("7")) == ""
    assert (len(calls(tmp_path, "squeue")), len(pauses)) == (asked, slept)
    assert calls(tmp_path, "scontrol") == [f"update JobId=7 {SOON}"]


def test_a_start_that_cannot_be_brought_forward_is_no_failure(tmp_path, program):
    program("scontrol", "echo 'Job is no longer pending execution' >&2; exit 1")
    program("squeue", "echo RUNNING")
    road = Programs(bin=str(tmp_path))
    assert "no longer pending" in road.send(road.start_soon("7"))


def test_what_surrounds_us_does_not_reach_the_programs(tmp_path, program, monkeypatch):
    for name in ("SLURM_JOB_ID", "SQUEUE_FORMAT", "SINFO_FORMAT", "SLURM_CONF", "SLURM_JWT"):
        monkeypatch.setenv(name, "ours")
    program("scontrol", f"env > {tmp_path}/env")
    Programs(bin=str(tmp_path)).send(Step("run", ("scontrol", "ping")))
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {name for name, value in told.items() if value == "ours"} == {"SLURM_CONF", "SLURM_JWT"}
    Programs(bin=str(tmp_path), conf="/its").send(Step("run", ("scontrol", "ping")))
    assert "SLURM_CONF=/its\n" in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("script", "complaint", "again"),
    [
        ("echo 'slurm_update error: Invalid user id' >&2; exit 1", "Invalid user id", False),
        ("echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1", "Unable to contact", True),
        ("echo 'slurm_update error: Invalid node state specified' >&2; exit 1", "Invalid node state", True),
        ("exit 3", "exit code 3", False),
        ("exec sleep 60", "no answer within 0.3 s", False),
        ("printf 'bad \"words\"; $(x)\\n' >&2; exit 1", "bad _words_; _(x)", False),
    ],
)
def test_a_program_that_fails_says_why(tmp_path, program, script, complaint, again):
    program("scontrol", script)
    with pytest.raises(Unsent) as failure:
        Programs(bin=str(tmp_path), timeout_s=0.3 if "sleep" in script else 20.0).send(
            Step("run", ("scontrol", "ping"))
        )
    assert complaint in str(failure.value) and failure.value.again is again


def test_a_program_that_cannot_be_run_is_told(tmp_path):
    (tmp_path / "scontrol").write_text("")
    with pytest.raises(SkewscopeError, match="Permission denied|Exec format"):
        Slurm(bin=str(tmp_path)).look()


NEW = {"nodes": [F.node("n3", state=["IDLE", "DRAIN"], reason="skewscope:i1 slow", features=["h100"])], "errors": []}
OLD = {"nodes": [F.node("n3")], "errors": []}
JOBS = {"jobs": [F.job(7, job_state=["RUNNING"])]}


def told_by(program, scontrol: str, sinfo: object, jobs: object = JOBS) -> None:
    program("scontrol", f'case "$*" in *--json) {scontrol};; *reservation) echo "No reservations in the system";; esac')
    program("sinfo", f"echo '{json.dumps(sinfo)}'")
    program("squeue", f"echo '{json.dumps(jobs)}'")


def test_newer_versions_tell_of_nodes_by_scontrol(tmp_path, program):
    told_by(program, f"echo '{json.dumps(NEW)}'", {"sinfo": []})
    fleet = Slurm(bin=str(tmp_path)).look()
    assert (fleet.nodes["n3"].owner, fleet.nodes["n3"].jobs, fleet.jobs["7"].state) == ("skewscope", ("7",), "running")
    assert not calls(tmp_path, "sinfo")


def test_older_versions_tell_of_nodes_by_sinfo(tmp_path, program):
    told_by(program, "echo 'unrecognized option' >&2; exit 1", OLD)
    assert Slurm(bin=str(tmp_path)).look().nodes["n3"].schedulable


@pytest.mark.parametrize(
    ("scontrol", "sinfo", "jobs", "complaint"),
    [
        ("exit 1", {"sinfo": []}, JOBS, "21.08 or newer"),
        ("echo no JSON", OLD, JOBS, ""),
        ("exit 1", OLD, {}, "cannot be read"),
        ("exit 1", OLD | {"errors": [{"error": "Unspecified error"}], "nodes": []}, JOBS, "Unspecified error"),
        ("exit 1", {"nodes": [{"name": "n3"}]}, JOBS, "cannot be read"),
        ("exit 1", OLD, {"jobs": [F.job(7, excluded_nodes="n[1-")]}, ""),
        ("exit 1", OLD, {"jobs": [F.job(7, nodes="n[a-b]")]}, "cannot be read"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", OLD, JOBS, "Unable to contact"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, program, scontrol, sinfo, jobs, complaint):
    told_by(program, scontrol, sinfo, jobs)
    slurm = Slurm(bin=str(tmp_path))
    if not complaint:
        assert slurm.look().nodes
        return
    with pytest.raises(SkewscopeError, match=complaint):
        slurm.look()
