"""Real programs of a test: started, killed and started again; and a receiver that notes what it is sent."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ALERTMANAGER = """
route: {{receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 5s, repeat_interval: 12h}}
receivers:
- name: hook
  webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url: str):
    """Return what an address answers: JSON where it is, else text; None where nothing answers."""
    with contextlib.suppress(OSError):
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        return json.loads(text) if text[:1] in "{[" else text
    return None


def until(what, most_s: float, pause_s: float = 0.5):
    """Return the first true value of a function, or its last one after so long."""
    end = time.monotonic() + most_s
    while not (found := what()) and time.monotonic() < end:
        time.sleep(pause_s)
    return found


class Program:
    """One process that can be killed and started again; what it says goes to a file."""

    def __init__(self, words, url: str, log: Path) -> None:
        self.words, self.url, self.log = [str(word) for word in words], url, log
        self.process = None

    def start(self, within_s: float = 60.0) -> None:
        """Start, and wait until it answers."""
        with open(self.log, "ab") as file:
            self.process = subprocess.Popen(self.words, stdout=file, stderr=file)
        assert until(lambda: get(self.url) is not None, within_s), self.log.read_text()[-3000:]

    def kill(self, how: int = signal.SIGKILL) -> int:
        """End it and return its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def again(self) -> None:
        """Kill without warning, and start again."""
        self.kill()
        self.start()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def rss_bytes(self) -> int:
        """Return its resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        return 0


def prometheus(folder: Path, config: str, past: Path | None = None) -> Program:
    """Return a Prometheus with a past."""
    folder.mkdir()
    port = free_port()
    (folder / "prometheus.yml").write_text(config)
    if past is not None:
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", past, folder / "data"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    return Program(words, f"http://127.0.0.1:{port}/-/ready", folder / "log")


def alertmanager(folder: Path, hook: str) -> Program:
    """Return an Alertmanager that tells `hook` at once, and writes down what it told each few seconds."""
    folder.mkdir()
    port = free_port()
    (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(url=hook))
    words = ["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
             "--data.maintenance-interval=5s"]  # fmt: skip
    return Program(words, f"http://127.0.0.1:{port}/-/ready", folder / "log")


def watch(folder: Path, *words: object) -> Program:
    """Return a watching service with a state of its own."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "skewscope", "watch", "--listen", f"127.0.0.1:{port}", "--state", folder / "state",
               *words]  # fmt: skip
    return Program(command, f"http://127.0.0.1:{port}/healthz", folder / "log")


def base(program: Program) -> str:
    """Return the address of a program without a path."""
    return program.url.split("/", 3)[0] + "//" + program.url.split("/", 3)[2]


def incidents(program: Program) -> list[dict]:
    """Return the incidents that a watching service tells."""
    told = get(base(program) + "/api/v1/incidents") or {}
    return told["incidents"] if isinstance(told, dict) and told else []


class Receiver:
    """Notes what is posted to it: (time in ns, path, document)."""

    def __init__(self) -> None:
        noted = self.noted = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                noted.append((time.time_ns(), self.path, json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def last_ns(self) -> int:
        """Return when it was told anything last, 0 for never."""
        return self.noted[-1][0] if self.noted else 0

    def told(self, path: str) -> list[tuple[int, str, str, str, str, str]]:
        """Return (time in ns, what, incident, condition, place, severity) of each notification to a path."""
        found = []
        for t_ns, where, document in list(self.noted):
            if where.strip("/") != path:
                continue
            if "alerts" in document:  # an Alertmanager's
                for one in document["alerts"]:
                    labels = one["labels"]
                    what = "opened" if one["status"] == "firing" else "closed"
                    who = labels["incident"], labels["condition"], labels["subject"], labels["severity"]
                    found.append((t_ns, what, *who))
            else:
                one = document["incident"]
                who = one["id"], one["condition"], one["subject"]["id"], one["severity"]
                found.append((t_ns, document["event"], *who))
        return found
