"""The agent beside Debian's node_exporter and a plain prometheus-client exporter of the same size, in one run.

8 GPUs of the stub library and 9 NICs of a fake root at 1 s. CPU is read from /proc over the window while each is
scraped once a second; what the agent spends inside the stub library, by its own clock, stands for the driver and is
told apart. Then a thousand scrapes in a row give the latencies.
"""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

TESTS = Path(__file__).parents[1]
WINDOW_S = float(os.environ.get("SKEWSCOPE_BENCH_WINDOW_S", "60"))
SCRAPES = 1000
AGENT = "skewscope agent"
MOST_CPU_SHARE = 0.006  # without the driver
MOST_BYTES = 40 << 20
TICKS = os.sysconf("SC_CLK_TCK")

PLAIN = """
import sys, threading, time
from prometheus_client import Counter, Gauge, CollectorRegistry, start_http_server
port, families, each = map(int, sys.argv[1:])
registry = CollectorRegistry()
made = [Gauge(f"plain_metric_{n}", "a gauge", ["gpu", "uuid", "kind"], registry=registry) for n in range(families)]
uuids = [f"GPU-{k:08x}-0000-4000-8000-000000000000" for k in range(8)]
children = [m.labels(str(k % 8), uuids[k % 8], str(k)) for m in made for k in range(each)]
start_http_server(port, "127.0.0.1", registry)
while True:
    now = time.time()
    for child in children:
        child.set(now)
    time.sleep(1.0)
"""


@dataclass
class Seen:
    """What was measured of one exporter."""

    name: str
    series: int
    page_bytes: int
    cpu_share: float
    driver_share: float
    resident_bytes: int
    p50_ms: float
    p99_ms: float
    first_ms: float


def loaded(path: Path):
    spec = importlib.util.spec_from_file_location(f"bench_{path.parent.name}_{path.stem}", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def cpu_s(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident(pids: list[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for pid in pids)


def fetch(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "Accept": "text/plain"})
    return connection.getresponse().read()


def driver_s(page: bytes) -> float:
    """Return the seconds inside NVML that the agent has counted, as its page says."""
    lines = [line for line in gzip.decompress(page).splitlines() if line.startswith(b"skewscope_nvml_call_seconds_sum")]
    return sum(float(line.rpartition(b" ")[2]) for line in lines)


@contextmanager
def running(words: list[str], environ: dict[str, str], port: int):
    start = time.perf_counter()
    process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/metrics")
                if connection.getresponse().read().count(b"\n") > 100:
                    break
            except OSError:
                pass
            connection.close()
            assert process.poll() is None and time.perf_counter() - start < 20, f"{words[0]} does not serve"
            time.sleep(0.005)
        yield process, (time.perf_counter() - start) * 1e3
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def watched(name: str, words: list[str], environ: dict[str, str], port: int) -> Seen:
    with running(words, environ, port) as (process, first_ms):
        time.sleep(20)  # past the first slow samples
        pids = family(process.pid)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        before_s, start, first = cpu_s(pids), time.perf_counter(), fetch(connection)
        while (passed := time.perf_counter() - start) < WINDOW_S:
            last = fetch(connection)
            time.sleep(max(0.0, 1.0 - (time.perf_counter() - start - passed)))
        share = (cpu_s(pids) - before_s) / (time.perf_counter() - start)
        driver_share = (driver_s(last) - driver_s(first)) / WINDOW_S if name == AGENT else 0.0
        times = []
        for _ in range(SCRAPES):
            begun = time.perf_counter()
            fetch(connection)
            times.append((time.perf_counter() - begun) * 1e3)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read()
        series = sum(not line.startswith(b"#") for line in page.splitlines())
        cuts = statistics.quantiles(times, n=100)
        return Seen(name, series, len(page), share, driver_share, resident(pids), cuts[49], cuts[98], first_ms)


def report(rows: list[Seen]) -> None:
    heads = f"{'series':>6} {'page KiB':>8} {'CPU %':>6} {'driver %':>8} {'RSS MiB':>8}"
    print(f"\n{'exporter':28} {heads} {'p50 ms':>7} {'p99 ms':>7} {'first ms':>8}")
    for one in rows:
        print(
            f"{one.name:28} {one.series:6} {one.page_bytes / 1024:8.0f} {one.cpu_share * 100:6.2f}"
            f" {one.driver_share * 100:8.2f}"
            f" {one.resident_bytes / 2**20:8.1f} {one.p50_ms:7.2f} {one.p99_ms:7.2f} {one.first_ms:8.0f}"
        )


@pytest.fixture
def machine(tmp_path: Path):
    stub = loaded(TESTS / "nvml_stub" / "__init__.py")
    fake = loaded(TESTS / "agents" / "fake_root.py")
    library = stub.build(tmp_path)
    with fake.memory() as root, stub.Machine(tmp_path / "machine") as made:
        fake.build(root, hcas=8)
        yield SimpleNamespace(root=root, environ=made.environ(library), spool=tmp_path)


@pytest.mark.benchmark
def test_the_agent_beside_its_peers(machine):
    port = free_port()
    words = [
        sys.executable, "-m", "skewscope", "agent", "--listen", f"127.0.0.1:{port}", "--quiet",
        "--path-sys", f"{machine.root}/sys", "--spool", str(machine.spool),
    ]  # fmt: skip
    rows = [watched(AGENT, words, machine.environ, port)]
    port = free_port()
    families, each = max(1, rows[0].series // 40), 40
    plain = [sys.executable, "-c", PLAIN, str(port), str(families), str(each)]
    rows.append(watched("prometheus-client, same size", plain, dict(os.environ), port))
    exporter = shutil.which("prometheus-node-exporter")
    if exporter:
        port = free_port()
        words = [exporter, f"--web.listen-address=127.0.0.1:{port}", f"--path.sysfs={machine.root}/sys"]
        rows.append(watched("node_exporter (Debian)", words, dict(os.environ), port))
    report(rows)
    agent, peer = rows[0], rows[1]
    assert agent.series >= 8 * 60 + 9 * 30
    assert agent.resident_bytes <= MOST_BYTES
    assert agent.cpu_share < peer.cpu_share
    assert agent.cpu_share - agent.driver_share <= MOST_CPU_SHARE
