"""Programs that `up` runs beside the service: the agent, and Prometheus and Alertmanager where they are installed."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from ..alerting import alertmanager as routes
from ..alerting import suite, writing
from ..errors import UsageError

LOOPBACK = "127.0.0.1"
END_S = 10.0
log = logging.getLogger("skewscope.watch")


def agent(listen: str, folder: Path, stack: ExitStack) -> None:
    """Start the node agent of this machine with a spool of its own."""
    spool = folder / "spool"
    spool.mkdir()
    _run([sys.executable, "-m", "skewscope", "agent", "--listen", listen, "--spool", str(spool)], folder / "agent.log",
         stack)  # fmt: skip


def prometheus_and_alertmanager(folder: Path, targets: Sequence[str], watch: str, stack: ExitStack) -> Iterator[str]:
    """Start both with skewscope's rules and yield where they are; raises UsageError where one is not installed."""
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
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_prometheus(targets, watch, ports[0])), "utf-8")
    _run([prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
          f"--web.listen-address={LOOPBACK}:{ports[1]}"], folder / "prometheus.log", stack)  # fmt: skip
    yield f"prometheus    http://{LOOPBACK}:{ports[1]}/alerts"
    yield f"alertmanager  http://{LOOPBACK}:{ports[0]}"


def _prometheus(targets: Sequence[str], watch: str, alertmanager_port: int) -> dict[str, object]:
    jobs = [_scraped(target) for target in targets]
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules/*.rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:{alertmanager_port}"]}]}]},
        "scrape_configs": [
            {"job_name": "skewscope-agent", "static_configs": jobs},
            {"job_name": "skewscope-watch", "static_configs": [{"targets": [urlsplit(watch).netloc]}]},
        ],
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


def _run(words: Sequence[str], output: Path, stack: ExitStack) -> None:
    """Start a program that ends with `stack`; what it says goes to a file."""
    with open(output, "wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
