"""One Prometheus from Debian scrapes 50 simulated agents once a second: does it hold?

The agents are 50 servers of this package in one process, each on a port of its own, with a page of the size that eight
GPUs and nine NICs give; every value changes each second.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

AGENTS = int(os.environ.get("SKEWSCOPE_BENCH_AGENTS", "50"))
WINDOW_S = float(os.environ.get("SKEWSCOPE_BENCH_WINDOW_S", "60"))
TICKS = os.sysconf("SC_CLK_TCK")

SIMULATED = """
import random, sys, time
from skewscope.catalogue import load
from skewscope.web import server
exposition, pages = load("agents.exposition"), load("agents.pages")
GPU = [(str(slot), f"GPU-{slot:08x}") for slot in range(8)]
PIPES = ("hmma", "imma", "dfma", "fp16", "fp32", "fp64", "int")
ERRORS = [f"error{n}" for n in range(30)]
def samples():
    now = time.time()
    for gpu in GPU:
        for n in range(60):
            yield "skewscope_gpu_clock_event_seconds_total", (*gpu, f"reason{n}"), now + n
    for nic in range(9):
        for error in ERRORS:
            yield "skewscope_rdma_errors_total", (f"mlx5_{nic}", "1", error), int(now) + nic
made = pages.Pages(lambda: (), lambda: True)
servers = [server.Server("127.0.0.1:0", made.reply, max_connections=4) for _ in range(int(sys.argv[1]))]
for one in servers:
    one.start()
renderer = exposition.Renderer()
made.update({"fast": [renderer.block(samples())[0]], "slow": []})
print(*(one.address[1] for one in servers), flush=True)
while True:
    time.sleep(1.0)
    made.update({"fast": [renderer.block(samples())[0]], "slow": []})
"""

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: skewscope
    static_configs: [{{targets: [{targets}]}}]
"""


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.mark.benchmark
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus here")
def test_one_prometheus_holds_fifty_agents(tmp_path: Path):
    agents = subprocess.Popen([sys.executable, "-c", SIMULATED, str(AGENTS)], stdout=subprocess.PIPE, text=True)
    ports = agents.stdout.readline().split()
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(targets=", ".join(f'"127.0.0.1:{port}"' for port in ports)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    server = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)

    def query(expression: str) -> list[float]:
        url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return [float(one["value"][1]) for one in json.load(reply)["data"]["result"]]

    try:
        time.sleep(10)
        before_s, before_agents_s, start = cpu_s(server.pid), cpu_s(agents.pid), time.perf_counter()
        time.sleep(WINDOW_S)
        passed = time.perf_counter() - start
        cores, agent_cores = (cpu_s(server.pid) - before_s) / passed, (cpu_s(agents.pid) - before_agents_s) / passed
        window = f"[{int(WINDOW_S)}s]"
        up = query("up")
        scrapes = query(f"count_over_time(up{window})")
        failed = sum(query(f"sum(count_over_time((up == 0)[{int(WINDOW_S)}s:1s]))") or [0])
        longest = query(f"max(max_over_time(scrape_duration_seconds{window}))")[0]
        samples = sum(query("scrape_samples_scraped"))
        resident = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        print(
            f"\n{AGENTS} agents at 1 s: {samples:.0f} samples/s, {min(scrapes):.0f} to {max(scrapes):.0f} scrapes"
            f" each in {WINDOW_S:.0f} s, {failed:.0f} failed, longest {longest * 1e3:.0f} ms; Prometheus"
            f" {cores:.2f} cores, {resident / 2**20:.0f} MiB; all agents {agent_cores:.2f} cores"
        )
        assert len(up) == AGENTS and all(up) and not failed
        assert min(scrapes) >= WINDOW_S * 0.97
    finally:
        server.terminate()
        agents.terminate()
        server.wait(30)
        agents.wait(30)
