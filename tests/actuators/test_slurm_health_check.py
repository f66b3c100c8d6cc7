"""The HealthCheckProgram: nodes of a real Slurm drain themselves while a verdict keeps them out, and only then."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

import skewscope.actuators
from skewscope.actuators.file import File

HERE = Path(__file__).parent / "slurm"
C = SimpleNamespace(**run_path(str(HERE / "_cluster.py")))
F = SimpleNamespace(**run_path(str(HERE / "_fleets.py")))
SCRIPT = Path(skewscope.actuators.__path__[0]) / "slurm_health_check.sh"
HEALTH = "HealthCheckProgram={folder}/check.sh\nHealthCheckInterval=1\nHealthCheckNodeState=ANY"


@pytest.fixture(scope="module")
def cluster():
    yield from C.running(HEALTH)


@pytest.fixture(scope="module")
def verdicts(cluster):
    """Return the folder of verdicts; from now on n3 looks there by itself every second."""
    folder = cluster.folder / "verdicts"
    folder.mkdir()
    path = cluster.folder / "check.sh"
    path.write_text(f"""#!/bin/sh
export SLURM_CONF={cluster.conf} SKEWSCOPE_VERDICTS={folder}
[ "$SLURMD_NODENAME" != n3 ] || exec sh {SCRIPT}
""")
    path.chmod(0o755)
    return folder


@pytest.fixture
def check(cluster, tmp_path):
    """Return a function that runs the script as a node's daemon does, on verdicts of its own."""

    def run(node: str) -> dict:
        place = os.environ | {"PATH": C.PATH, "SLURM_CONF": str(cluster.conf), "SLURMD_NODENAME": node,
                              "SKEWSCOPE_VERDICTS": str(tmp_path)}  # fmt: skip
        done = subprocess.run(["sh", str(SCRIPT)], env=place, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return cluster.node(node) if node in C.NODES else {}

    return run


def verdict(reason: str, *, keep_out: bool = True) -> str:
    inner = {"act": "a0", "reason": "skewscope:inner", "keep_out": True}
    told = {"schema": "skewscope.verdict/1", "keep_out": keep_out, "verb": "drain", "reason": reason, "acts": [inner]}
    return json.dumps(told, indent=1)


def test_a_node_drains_itself_by_a_verdict_and_comes_back_without(cluster, verdicts):
    files = File(folder=str(verdicts), nodes=C.NODES)
    command = files.command(F.request("drain"), files.look())
    assert files.apply(command, dry_run=False).result == "done"
    C.until(lambda: cluster.node("n3")["state_flags"] == ["DRAIN"])
    assert cluster.node("n3")["reason"] == f"{command.request.reason} (by its health check)"
    assert [one["name"] for one in cluster.nodes() if one["reason"]] == ["n3"]
    assert files.apply(files.undo(F.record(command), files.look()), dry_run=False).result == "done"
    C.until(lambda: not cluster.node("n3")["reason"])


@pytest.mark.parametrize("reason", ["NHC: ecc", "skewscope:c0ffee drained through scontrol"])
def test_a_drain_that_is_not_its_own_stays(cluster, check, tmp_path, reason):
    cluster.scontrol("update", "NodeName=n5", "State=DRAIN", f"Reason={reason}")
    try:
        assert check("n5")["reason"] == reason
        (tmp_path / "n5.json").write_text(verdict("skewscope:i1 slow"))
        assert check("n5")["reason"] == reason
    finally:
        cluster.scontrol("update", "NodeName=n5", "State=UNDRAIN")


@pytest.mark.parametrize(
    "text",
    [verdict("skewscope:i1 slow", keep_out=False), verdict("NHC: not ours"), verdict(""), "", "no JSON", "[]",
     json.dumps({"keep_out": True, "reason": "skewscope:i1 on one line"})],
)  # fmt: skip
def test_no_verdict_is_no_drain(check, tmp_path, text):
    (tmp_path / "n4.json").write_text(text)
    assert not check("n4")["reason"]


@pytest.mark.parametrize("node", ["", "-n4", "n4; touch owned", "$(touch owned)", "../n4", "n4\nn5"])
def test_a_name_that_is_none_does_nothing(cluster, check, tmp_path, node):
    check(node)
    assert not list(tmp_path.rglob("owned")) and not Path("owned").exists()
    assert not any(one["reason"] for one in cluster.nodes())


def test_a_reason_reaches_no_shell_and_is_made_plain(cluster, check, tmp_path):
    hostile = 'skewscope:i1 $(touch owned) `touch owned` \\" ; State=DOWN ünï'
    (tmp_path / "n6.json").write_text(verdict(hostile))
    assert check("n6")["reason"].startswith("skewscope:i1 (touch owned) touch owned  ; State=DOWN")
    assert cluster.node("n6")["state"] == "idle" and not Path("owned").exists()
    (tmp_path / "n6.json").unlink()
    assert not check("n6")["reason"]


def test_a_folder_that_is_away_is_no_leave_to_come_back(cluster, check, tmp_path):
    (tmp_path / "n7.json").write_text(verdict("skewscope:i1 slow"))
    assert check("n7")["reason"]
    tmp_path.rename(tmp_path.with_name("away"))
    assert check("n7")["reason"]
    cluster.scontrol("update", "NodeName=n7", "State=UNDRAIN")
