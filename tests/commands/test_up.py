from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path

import psutil
import pytest

from skewscope import commands
from skewscope.commands import up

HOT = "gpu-hw-slowdown"
LISTENING = run_path(str(Path(__file__).parents[1] / "_listening.py"))
UP = [sys.executable, "-m", "skewscope", "up", "--listen", "127.0.0.1:0"]
SIMULATED = ("--simulate", HOT, "--ranks", "16", "--only", HOT)
installed = all(map(shutil.which, ("prometheus", "prometheus-alertmanager")))


class Running:
    """A process of `up` and the lines it prints."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen([*UP, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in iter(self.process.stdout.readline, ""):
            self.lines.append(line.rstrip())

    def said(self, name: str) -> str:
        """Return what is printed behind a name, as soon as it is there; on a crowded machine that takes a while."""
        end_s = time.monotonic() + 180
        while time.monotonic() < end_s:
            for line in list(self.lines):
                found = re.match(rf"{re.escape(name)}\s+(\S.*)", line)
                if found:
                    return found[1]
            assert self.process.poll() is None, self.lines
            time.sleep(0.05)
        raise AssertionError(f"{name} was not printed: {self.lines}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def running(*words: str):
    """Run `up` and see that nothing of it is left when it has ended."""
    one = Running(*words)
    children: list[psutil.Process] = []
    try:
        one.said("Ctrl-C")
        children = psutil.Process(one.process.pid).children(recursive=True)
        yield one
        assert one.process.poll() is not None
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    finally:
        for child in children:
            if child.is_running():
                child.kill()
        one.process.kill()
        one.process.wait()


def asked(url: str, tls: ssl.SSLContext | None = None) -> bytes:
    """Return a page, nothing while the first window is looked at."""
    try:
        with urllib.request.urlopen(url, timeout=10, context=tls) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return b""


def until(true, within_s: float = 60.0) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it did not come in time"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--simulate", "gpu-hw-slowdwn"), "did you mean gpu-hw-slowdown"),
        (("--simulate", HOT, "--ranks", "16", "--horizon", "3"), "wants 12 windows or more"),
        (("--simulate", HOT, "--ranks", "16", "--only", "nothing"), "nothing"),
        (("--with-prometheus", "--listen", "unix:/tmp/up"), "reads no unix:/tmp/up; give --listen"),
        (("--simulate", HOT, "--ranks", "16", "--webhook", "x", "--listen", "127.0.0.1:0"), "wants an address"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_and_code_2(words, says, capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert commands.main(["up", *words]) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("agent", "says"),
    [("unix:/no/such/folder", "make its folder first"), ("taken", "in use")],
)
def test_an_agent_that_ends_ends_it_with_its_words(agent, says, capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = agent.replace("taken", f"127.0.0.1:{taken.getsockname()[1]}")
        try:
            assert commands.main(["up", "--agent", place, "--only", HOT, "--listen", "127.0.0.1:0"]) == 2
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    told = capsys.readouterr()
    assert "agent" not in told.out
    assert "--agent: it ended: " in told.err and says in told.err and "Traceback" not in told.err


@pytest.mark.parametrize(
    ("agent", "says"), [("0.0.0.0:0", "give --web-allow-plain"), ("127.0.0.1:none", "with a port from 0 to 65535")]
)
def test_an_agent_that_must_not_listen_there_is_not_started(agent, says, capsys, monkeypatch):
    monkeypatch.setattr("skewscope.watch.beside.agent", lambda *_, **__: pytest.fail("it was started"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert commands.main(["up", "--agent", agent, "--only", HOT, "--listen", "127.0.0.1:0"]) == 2
    told = capsys.readouterr().err
    assert agent in told and says in told and "--web-config with" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_how_to_end_it_can_do_so_at_once(number, monkeypatch):
    monkeypatch.setattr(up, "_say", lambda line: line.startswith("Ctrl-C") and signal.raise_signal(number))
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    place = ("--agent", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--dashboard", "none")
    try:
        assert commands.main(["up", *place, "--only", HOT]) == 0
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_without_prometheus_it_says_where_to_get_it(capsys, monkeypatch, tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        assert commands.main(["up", *SIMULATED, "--prometheus", "--listen", "127.0.0.1:0"]) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "apt-get install prometheus" in capsys.readouterr().err


def test_a_simulated_fault_is_named_within_a_minute():
    with running(*SIMULATED) as up:
        condition, _, subject = up.said("truth").partition(" on ")

        def culprits() -> list[tuple[str, str]]:
            report = json.loads(asked(up.said("report")) or b'{"findings": []}')
            return [(one["condition"], one["subject"]["id"]) for one in report["findings"] if one["role"] == "culprit"]

        until(lambda: culprits() == [(condition, subject)])
        (incident,) = json.loads(asked(up.said("incidents")))["incidents"]
        assert incident["subject"]["id"] == subject
        until(lambda: b"skewscope_finding_active{" in asked(up.said("metrics")))
        assert up.end() == 0
    with pytest.raises(OSError):
        asked(up.said("report"))


def test_its_pages_show_what_a_service_with_tls_found(tmp_path):
    web = LISTENING["guarded"](tmp_path)
    web.write_text(web.read_text().partition("\n")[0])  # whom a password keeps out is told in tests/test_listeners.py
    tls = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    with running(*SIMULATED, "--web-config", str(web), "--dashboard", "127.0.0.1:0") as up:
        subject = up.said("truth").partition(" on ")[2]
        pages = up.said("dashboard")
        assert pages.startswith("https://")
        until(lambda: subject.encode() in asked(f"{pages}export/incidents.html", tls))
        assert up.end() == 0


@pytest.mark.skipif(not installed, reason="Prometheus and Alertmanager are not installed")
def test_prometheus_and_alertmanager_run_beside_it_and_end_with_it():
    with running(*SIMULATED, "--prometheus") as up:
        alertmanager = up.said("alertmanager")
        prometheus = up.said("prometheus").removesuffix("/alerts")

        def answers(url: str) -> bool:
            try:
                return bool(asked(url))
            except OSError:
                return False

        until(lambda: answers(f"{prometheus}/-/ready") and answers(f"{alertmanager}/-/ready"))
        rules = json.loads(asked(f"{prometheus}/api/v1/rules"))["data"]["groups"]
        assert sum(len(group["rules"]) for group in rules) > 20

        def jobs() -> set[str]:
            targets = json.loads(asked(f"{prometheus}/api/v1/targets"))["data"]["activeTargets"]
            return {one["labels"]["job"] for one in targets}

        until(lambda: jobs() == {"skewscope-agent", "skewscope-watch"})
        assert up.end(signal.SIGTERM) == 0
    for url in (prometheus, alertmanager):
        with pytest.raises(OSError):
            asked(f"{url}/-/ready")


def test_without_the_password_that_prometheus_needs_nothing_starts(tmp_path, capfd):
    web = LISTENING["guarded"](tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert commands.main(["up", *SIMULATED, "--web-config", str(web), "--with-prometheus"]) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    told = capfd.readouterr()
    assert "give --password-file FILE with the password of prom" in told.err
    assert not told.out  # it would say what it simulates


@pytest.mark.skipif(not installed, reason="Prometheus and Alertmanager are not installed")
def test_prometheus_reads_what_tls_and_a_password_guard(tmp_path):
    web, secret = LISTENING["guarded"](tmp_path), LISTENING["PASSWORD"]
    (tmp_path / "password").write_text(secret)
    words = ("--web-config", str(web), "--password-file", str(tmp_path / "password"), "--dashboard", "none")
    with running(*SIMULATED, "--with-prometheus", *words) as up:
        prometheus = up.said("prometheus").removesuffix("/alerts")

        def health() -> str:
            try:
                targets = json.loads(asked(f"{prometheus}/api/v1/targets"))["data"]["activeTargets"]
            except (OSError, ValueError):  # it is starting
                return ""
            return next((one["health"] for one in targets if one["labels"]["job"] == "skewscope-watch"), "")

        until(lambda: health() not in ("", "unknown"))
        assert health() == "up"
        started = psutil.Process(up.process.pid).children()
        assert len(started) == 2
        for child in started:
            assert {one.laddr.ip for one in child.net_connections() if one.status == "LISTEN"} == {"127.0.0.1"}
        (settings,) = {
            word.partition("=")[2] for child in started for word in child.cmdline() if "prometheus.yml" in word
        }
        folder = Path(settings).parent
        assert folder.stat().st_mode & 0o077 == 0
        written = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".yml", ".log", ".pem")]
        assert len(written) > 3 and not [path for path in written if secret in path.read_text()]
        assert not [child for child in started if secret in " ".join(child.cmdline())]
        assert up.end() == 0


def test_the_agent_of_this_machine_runs_beside_it_and_ends_with_it():
    with running("--agent", "127.0.0.1:0", "--only", HOT) as up:
        agent = up.said("agent")

        def answers() -> bool:
            try:
                return b"skewscope_agent" in asked(agent)
            except OSError:
                return False

        until(answers)
        assert up.end() == 0
    with pytest.raises(OSError):
        asked(agent)
