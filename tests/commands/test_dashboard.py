from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from skewscope import commands
from skewscope.catalogue import load

pytest.importorskip("dash")
SAMPLE = f"{load('sample_data').__path__[0]}/compute-slow"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--report", "nowhere"), "make one with `analyze --out DIR`"),
        (("--report", "a", "--store", "b"), "give one source"),
        ((SAMPLE, "--watch", "http://x"), "give one source"),
        (("--operators", "ann", "--audit", "x"), "nobody signs in"),
        (("--operators", "local"), "go together"),
        (("--auth-header", "X-Remote-User"), "go together"),
        (("--auth-header", "X", "--trusted-proxy", "nothing"), "--trusted-proxy"),
        (("--external-url", "ops.example"), "give one as https"),
        (("--listen", "0.0.0.0:0"), "can be reached from other machines"),
        (("--watch", "http://x", "--hours", "0"), "--hours"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_code_2(words, says, capsys):
    assert commands.main(["dashboard", "--listen", "127.0.0.1:0", *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [(), (SAMPLE,)], ids=["nothing", "recordings"])
def test_it_serves_until_it_is_told_to_end(words):
    process = subprocess.Popen(
        [sys.executable, "-m", "skewscope", "dashboard", *words, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        address = re.fullmatch(r"dashboard +(http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())[1]
        begun_s = time.monotonic()
        with urllib.request.urlopen(address, timeout=10) as reply:
            assert b"skewscope" in reply.read()
        assert time.monotonic() - begun_s < 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        timer.cancel()
        process.kill()
        process.wait()
