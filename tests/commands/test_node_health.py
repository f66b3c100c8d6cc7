"""The command that serves a node's verdicts: one look, and a service until it is told to end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skewscope import commands
from skewscope.acts import Request
from skewscope.actuators._nvhcd import METHOD, Response
from skewscope.actuators.nvrx import Nvrx


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    place = tmp_path / "v"
    place.mkdir()
    return place


def exclude(place: Path):
    acting = Nvrx(folder=str(place), nodes=("n1",))
    command = acting.command(Request("a1", "exclude", "n1", "c0ffee", "rank 7 is slow"), acting.look())
    assert acting.apply(command, dry_run=False).result == "done"


def test_once_prints_the_verdict(verdicts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    words = ["node-health", "--verdicts", str(verdicts), "--once"]
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert commands.main(words) == 0
    assert json.loads(capsys.readouterr().out)["fail_count"] == 0
    exclude(verdicts)
    assert commands.main(words) == 1
    assert json.loads(capsys.readouterr().out)["failed_checks"]
    assert commands.main([*words, "--node", "n2"]) == 0
    assert commands.main(words[:-1]) == 2
    assert "nothing to serve" in capsys.readouterr().err


def asked(path: Path) -> Response:
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(f"unix://{path}") as channel:
        return Response.of(channel.unary_unary(METHOD)(b"", timeout=5))


def test_the_command_serves_until_it_is_told_to_end(verdicts: Path, tmp_path: Path):
    pytest.importorskip("grpc")
    path, web_path = tmp_path / "health.sock", tmp_path / "web.sock"
    words = [sys.executable, "-m", "skewscope", "node-health", "--verdicts", str(verdicts), "--node", "n1",
             "--socket", str(path), "--listen", f"unix:{web_path}"]  # fmt: skip
    exclude(verdicts)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            until_s = time.monotonic() + 20
            while not web_path.exists() and process.poll() is None and time.monotonic() < until_s:
                time.sleep(0.05)
            assert not asked(path).healthy
        finally:
            process.terminate()
        assert process.wait(10) == 0
    assert not path.exists() and not web_path.exists()
