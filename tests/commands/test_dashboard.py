from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from runpy import run_path

import pytest

from skewscope import commands
from skewscope.catalogue import load
from skewscope.commands import _parser, _settings, dashboard
from skewscope.watch.api import Api
from skewscope.web.server import Server

pytest.importorskip("dash")
L = run_path(str(Path(__file__).parents[1] / "_listening.py"))
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
        (("--watch", "http://x", "--user", "ann", "--password-file", "nowhere"), "nowhere: the secret cannot be read"),
        (("--watch", "https://x", "--ca-file", "nowhere"), "nowhere: no certificate that can be used"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_code_2(words, says, capsys):
    assert commands.main(["dashboard", "--listen", "127.0.0.1:0", *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Return the address of a watching service with TLS and a password, and the folder with both."""
    folder = tmp_path_factory.mktemp("guarded")
    server = Server("127.0.0.1:0", Api().pages, web_config=L["guarded"](folder))
    server.start()
    (folder / "password").write_text(f"{L['PASSWORD']}\n")
    (folder / "wrong").write_text("wrong")
    yield f"https://127.0.0.1:{server.address[1]}", folder
    server.stop()


def answer(url: str, words: tuple[str, ...], environ: dict[str, str]) -> str:
    """Return what a dashboard with these words says of a service that has not looked yet: it answers 503."""
    parser = _parser.build("dashboard")
    words = ("dashboard", "--watch", url, *words)
    _settings.apply(parser, _parser.commands(parser), words, environ)
    source = dashboard.source(parser.parse_args(words))
    source.refresh()
    return source.view().errors[0]


TRUST, LOGIN = ("--ca-file", "ca.pem"), ("--user", L["USER"], "--password-file", "password")
VARIABLES = {"CA_FILE": "ca.pem", "USER": L["USER"], "PASSWORD_FILE": "password"}


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        ((*TRUST, *LOGIN), {}, "answers 503: "),
        ((), VARIABLES, "answers 503: "),
        (("--password-file", "wrong"), VARIABLES, "answers 401: "),
        (TRUST, {}, "answers 401: "),
        (LOGIN, {}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_guarded_service_is_asked_with_login_and_trust(guarded, monkeypatch, words, variables, says):
    url, folder = guarded
    monkeypatch.chdir(folder)
    assert says in answer(url, words, {f"SKEWSCOPE_{name}": value for name, value in variables.items()})


def test_settings_of_a_file_say_who_asks(guarded, monkeypatch):
    url, folder = guarded
    monkeypatch.chdir(folder)
    keys = "".join(f'{name.lower()} = "{value}"\n' for name, value in VARIABLES.items())
    (folder / "skewscope.toml").write_text(f"[dashboard]\n{keys}")
    assert "answers 503: " in answer(url, ("--config", "skewscope.toml"), {})


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_its_address_can_end_it_at_once(number):
    class Served:
        address, ended = "http://127.0.0.1:1", False

        def start(self):
            pass

        def run(self):
            time.sleep(60)

        def stop(self):
            self.ended = True

    before = [(one, signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM)]
    served = Served()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs behind them ignore it
        assert dashboard.serve(served, lambda _: signal.raise_signal(number)) == 0
    finally:
        for one, handler in before:
            signal.signal(one, handler)
    assert served.ended
