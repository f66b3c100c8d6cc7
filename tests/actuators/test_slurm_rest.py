"""The Slurm actuator over slurmrestd: a small one of v0.0.39, and the real one of 22.05, which is too old."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.actuators.slurm import Slurm
from skewscope.errors import SkewscopeError, UsageError

HERE = Path(__file__).parent / "slurm"
C = SimpleNamespace(**run_path(str(HERE / "_cluster.py")))
F = SimpleNamespace(**run_path(str(HERE / "_fleets.py")))
R = SimpleNamespace(**run_path(str(HERE / "_rest_server.py")))


@pytest.fixture
def served():
    with R.serving() as pair:
        yield pair


@pytest.fixture
def slurm(served, tmp_path):
    token = tmp_path / "token"
    token.write_text(R.TOKEN + "\n")
    yield Slurm(rest_url=served[1], rest_user="jo", rest_token_file=str(token))
    assert served[0].nodes["n8"]["reason"] == "NHC: ecc"


@pytest.mark.parametrize("verb", ["note", "avoid", "drain", "exclude"])
def test_an_act_is_done_once_and_taken_back_to_the_exact_former_state(served, slurm, verb):
    state = served[0]
    before = copy.deepcopy((state.nodes, state.jobs))
    command = slurm.command(F.request(verb, job="7" if verb == "exclude" else ""), slurm.look())
    assert [step.kind for step in command.steps] == ["http"]
    assert slurm.apply(command).result == "done" and (state.nodes, state.jobs) == before
    assert [slurm.apply(command, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    assert (state.nodes, state.jobs) != before
    record = F.record(command)
    assert slurm.holds(record, slurm.look())
    back = slurm.undo(record, slurm.look())
    assert [slurm.apply(back, dry_run=False).result for _ in range(2)] == ["done", "nothing"]
    assert (state.nodes, state.jobs) == before


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (F.request("quarantine"), "no way to quarantine"),
        (F.request("requeue", job="7"), "no way to requeue"),
        (F.request("exclude", job="7", params={"requeue": True}), "no way to exclude"),
        (F.request("drain", "n8"), "NHC: ecc"),
        (F.request("drain", "../n3"), "lists no node"),
    ],
)
def test_what_rest_cannot_do_is_refused(served, slurm, request_, refused):
    if request_.verb in ("requeue", "exclude"):
        served[0].jobs[7]["job_state"] = ["RUNNING"]
    command = slurm.command(request_, slurm.look())
    assert refused in command.refused and not command.steps


def test_reservations_are_seen(slurm):
    node = slurm.look().nodes["n8"]
    assert (node.reservation, node.owner) == ("upgrade", "NHC: ecc")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"rest_user": "eve"}, "status 401"), ({"rest_version": "v0.0.44"}, "does not serve v0.0.44"),
     ({"rest_url": "http://127.0.0.1:9"}, "refused")],
)  # fmt: skip
def test_a_server_that_does_not_answer_is_told(slurm, settings, complaint):
    with pytest.raises(SkewscopeError, match=complaint):
        replace(slurm, **settings).look()


def test_a_server_that_is_busy_is_waited_for(served, slurm):
    command = slurm.command(F.request("drain"), slurm.look())
    for status, result in ((503, "waiting"), (429, "waiting"), (400, "failed")):
        served[0].broken = status
        assert slurm.apply(command, dry_run=False).result == result
    served[0].broken = 0
    served[0].jobs[7]["job_state"] = ["RUNNING"]


def test_a_redirect_is_not_followed(served, slurm):
    served[0].broken = 302
    with pytest.raises(SkewscopeError, match="302"):
        slurm.look()


def test_what_the_server_says_is_told(served, slurm):
    command = slurm.command(F.request("exclude", job="7"), slurm.look())
    served[0]._update_job = lambda *_: 'no "right" to do it'
    outcome = slurm.apply(command, dry_run=False)
    assert (outcome.result, "no _right_ to do it" in outcome.detail) == ("failed", True)


def test_a_token_file_that_is_gone_is_told(slurm):
    with pytest.raises(UsageError, match="secret"):
        replace(slurm, rest_token_file="/none").look()
    with pytest.raises(SkewscopeError, match="srun only"):
        slurm.test({}, ("true",), 1.0)


@pytest.fixture
def real(tmp_path):
    """Yield the address of the real slurmrestd, and a file with a token for it."""
    program = shutil.which("slurmrestd", path=C.PATH)
    if not program or (os.getuid() == 0 and not shutil.which("setpriv")):
        pytest.skip("no slurmrestd here, or no setpriv to start it as somebody else than root")
    (port,) = C.free_ports(1)
    for cluster in C.running():
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.getuid() == 0 else ()
        place = os.environ | {"SLURM_JWT": "daemon", "SLURMRESTD_SECURITY": "disable_user_check"}
        words = (*nobody, program, "-s", "v0.0.38", "-f", str(cluster.conf), f"127.0.0.1:{port}")
        with subprocess.Popen(words, env=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                C.until(lambda: _answers(f"http://127.0.0.1:{port}/openapi/v3"))
                token = tmp_path / "token"
                token.write_text(cluster.scontrol("token", f"username={cluster.user}").partition("=")[2])
                yield f"http://127.0.0.1:{port}", str(token), cluster.user
            finally:
                server.terminate()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_a_real_server_that_is_too_old_says_what_to_do(real):
    url, token, user = real
    with pytest.raises(SkewscopeError, match=r"does not serve v0\.0\.39; node updates came with v0\.0\.39 .*23\.02"):
        Slurm(rest_url=url, rest_user=user, rest_token_file=token).look()
    with pytest.raises(UsageError, match="can read nodes but not update them"):
        Slurm(rest_url=url, rest_version="v0.0.38")
