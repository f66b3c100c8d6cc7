import csv
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest

from skewscope.commands import _work, analyze, demo, main


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "samples"
    for name in ("zeta", "alpha", "__pycache__"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setattr(demo, "files", lambda package: folder)
    return folder


def test_the_favourite_else_the_first(shipped):
    assert demo._sample().name == "alpha"
    (shipped / demo.FAVOURITE).mkdir()
    assert demo._sample().name == demo.FAVOURITE


def test_demo_prints_and_writes(shipped, tmp_path, monkeypatch, make_world, capsys):
    pytest.importorskip("plotly")
    world = make_world()
    monkeypatch.setattr(_work, "read", lambda *args: world.recording)
    monkeypatch.setattr(analyze, "analysed", lambda *args: world)
    monkeypatch.setattr(demo.webbrowser, "open", lambda address: pytest.fail("opened a browser"))
    assert main(["demo", "--out", str(tmp_path / "report")]) == 0
    assert "Rank 5 on n1" in capsys.readouterr().out
    assert json.loads((tmp_path / "report" / "report.json").read_text())["schema"] == "skewscope.report/1"
    assert (tmp_path / "report" / "report.html").stat().st_size < 8_000_000


def test_no_samples_is_said(shipped, tmp_path, capsys):
    for place in shipped.iterdir():
        place.rmdir()
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    assert "no sample recordings" in capsys.readouterr().err


def test_the_shipped_sample_names_its_slow_rank(tmp_path, capsys):
    pytest.importorskip("plotly")
    assert main(["demo", "--no-open", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "rank 5" in out.strip().splitlines()[0] and "Inputs with problems" not in out
    assert (tmp_path / "report.html").exists()


def test_serve_keeps_the_dashboard_up_on_the_result(tmp_path):
    pytest.importorskip("dash")
    process = subprocess.Popen(
        [sys.executable, "-m", "skewscope", "demo", "--no-open", "--serve", "--port", "0", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        found = (re.fullmatch(r"dashboard +(http://127\.0\.0\.1:\d+)/\n", line) for line in process.stdout)
        address = next(one[1] for one in found if one)
        with urllib.request.urlopen(f"{address}/export/ranks/ranks.csv", timeout=30) as reply:
            worst = max(csv.DictReader(reply.read().decode().splitlines()), key=lambda row: float(row["median_s"]))
        assert worst["rank"] == "5"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    assert (tmp_path / "report.html").exists()
