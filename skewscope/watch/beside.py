"""Programs that `up` runs beside the service: the agent, and Prometheus and Alertmanager where they are installed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from ..alerting import alertmanager as routes
from ..alerting import suite, writing
from ..errors import SkewscopeError, UsageError

LOOPBACK = "127.0.0.1"
END_S = 10.0
START_S = 20.0  # a crowded machine starts slowly
SERVING = re.compile(r"serving (\S+):(\d+) after")
NOT_FOR_AGENTS = ("SKEWSCOPE_WEB_CONFIG", "SKEWSCOPE_QUIET", "SKEWSCOPE_LOG_FORMAT")  # they are meant for the service
log = logging.getLogger("skewscope.watch")


def agent(listen: str, folder: Path, stack: ExitStack, *, allow_plain: bool = False) -> str:
    """Start the node agent of this machine with a spool of its own and return where it serves, as HOST:PORT.

    Raises SkewscopeError with the agent's own words where it ends instead, UsageError where it was told wrongly.
    """
    spool, said = folder / "spool", folder / "agent.log"
    spool.mkdir()
    words = [sys.executable, "-m", "skewscope", "agent", "--listen", listen, "--spool", str(spool)]
    process = _run([*words, *(["--web-allow-plain"] if allow_plain else [])], said, stack,
                   {name: value for name, value in os.environ.items() if name not in NOT_FOR_AGENTS})  # fmt: skip
    return _served(process, said) or listen


def _served(process: subprocess.Popen[bytes], output: Path) -> str:
    """Return where the agent says that it serves, "" where it has not said so in time; raises SkewscopeError."""
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        code = process.poll()  # first: of one that has ended, all that it said is in the file
        told = output.read_text("utf-8", "replace")
        if code is not None:
            last = (told.splitlines() or [""])[-1].removeprefix("skewscope: ")
            raise (UsageError if code == UsageError.exit_code else SkewscopeError)(f"--agent: it ended: {last}")
        if found := SERVING.search(told):
            return f"[{found[1]}]:{found[2]}" if ":" in found[1] else f"{found[1]}:{found[2]}"
        time.sleep(0.05)
    return ""


def prometheus_and_alertmanager(
    folder: Path, targets: Sequence[str], watch: str, stack: ExitStack, reading: Mapping[str, object]
) -> Iterator[str]:
    """Start both with skewscope's rules and yield where they are; raises UsageError where one is not installed.

    `reading` says how the service at `watch` is read where it is guarded: what a scrape_config says of that.
    """
    alertmanager, prometheus = _found("prometheus-alertmanager", "alertmanager"), _found("prometheus")
    ports = [free_port(), free_port()]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(_quiet(routes.configuration())), "utf-8")
    _run([alertmanager, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alertmanager'}",
          f"--web.listen-address={LOOPBACK}:{ports[0]}", "--cluster.listen-address="], folder / "alertmanager.log",
         stack)  # fmt: skip
    for name, text in writing.files(suite.suite((), host="node"), ("prometheus",)).items():
        path = folder / "rules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    service = {"job_name": "skewscope-watch", "static_configs": [{"targets": [urlsplit(watch).netloc]}], **reading}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_prometheus(targets, ports[0], service)), "utf-8")
    _run([prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
          f"--web.listen-address={LOOPBACK}:{ports[1]}"], folder / "prometheus.log", stack)  # fmt: skip
    yield f"prometheus    http://{LOOPBACK}:{ports[1]}/alerts"
    yield f"alertmanager  http://{LOOPBACK}:{ports[0]}"


def _prometheus(targets: Sequence[str], alertmanager_port: int, service: Mapping[str, object]) -> dict[str, object]:
    jobs = [_scraped(target) for target in targets]
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules/*.rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:{alertmanager_port}"]}]}]},
        "scrape_configs": [{"job_name": "skewscope-agent", "static_configs": jobs}, dict(service)],
    }


def _scraped(target: str) -> dict[str, object]:
    node, equals, url = target.partition("=")
    if not equals:
        return {"targets": [target], "labels": {"node": target.rpartition(":")[0]}}
    parts = urlsplit(url)
    return {"targets": [parts.netloc], "labels": {"node": node, "instance": node, "__metrics_path__": parts.path}}


def _quiet(configuration: dict[str, object]) -> dict[str, object]:
    """Return the routes with receivers that send nothing: on a trial nobody is called."""
    receivers = configuration.get("receivers")
    names = [str(one["name"]) for one in receivers] if isinstance(receivers, list) else []
    return {**configuration, "receivers": [{"name": name} for name in names]}


def _found(*names: str) -> str:
    for name in names:
        if place := shutil.which(name):
            return place
    raise UsageError(f"{names[0]} is not installed; on Debian: apt-get install prometheus prometheus-alertmanager")


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])


def _run(
    words: Sequence[str], output: Path, stack: ExitStack, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that ends with `stack`; what it says goes to a file."""
    with open(output, "wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environ)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
