"""A fleet of many jobs, each with a fault of its own that begins at one moment: its agents' pages, and its past."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from skewscope.feeds.wanted import wanted
from skewscope.simulate import simulate
from skewscope.simulate.live_pages import LivePages
from skewscope.simulate.scenario import FaultPlan, JobPlan, NoisePlan, Scenario, checked
from skewscope.store import Store
from skewscope.watch.rehearsal import told_of
from skewscope.web.server import Reply, Server

WINDOW_NS = 30 * 10**9
SCRAPE_NS = 15 * 10**9
START_S, BEFORE_S, AFTER_S, STEP_S, RANKS = 60.0, 600.0, 300.0, 2.0, 16
TEXT = "text/plain; version=0.0.4"
SOFT = {  # condition -> severity that costs 15 % of the step or more; these end when their cause does
    "gpu-clock-pinned-low": 0.3, "gpu-hw-slowdown": 0.35, "gpu-power-cap": 0.3, "gpu-slow-silent": 0.3,
    "gpu-squatter": 0.35, "host-cpu-contention": 0.35, "pcie-link-degraded": 0.75, "pcie-nic-backpressure": 0.0,
    "rdma-retransmit": 0.6,
}  # fmt: skip
HARD = {"gpu-ecc-uncorrectable": 0.0, "gpu-off-bus": 0.0, "nic-link-down": 0.0, "nvlink-down": 0.0}  # the job stops


def plan(faults: dict[str, float], lasts_s: float) -> Scenario:
    """Return a job of 16 ranks on two hosts for each fault; all begin 660 s after the start and last so long."""
    steps = int((BEFORE_S + lasts_s + AFTER_S) / STEP_S)
    onset = BEFORE_S / (steps * STEP_S)
    end = (BEFORE_S + lasts_s) / (steps * STEP_S)
    jobs = tuple(JobPlan(name=f"job{at:02d}", ranks=RANKS, steps=steps, start_s=START_S) for at in range(len(faults)))
    struck = tuple(
        FaultPlan(condition, f"job{at:02d}/rank5", severity, onset, end, "steady")
        for at, (condition, severity) in enumerate(faults.items())
    )
    return checked(Scenario("many", jobs=jobs, faults=struck, noise=NoisePlan(confounders=False)), "many")


class Fleet:
    """Agents of a simulated fleet at http://127.0.0.1:PORT/NODE/metrics; the faults begin at `onset_ns`.

    `tricks` (node -> function of its page) are what some agents do instead.
    """

    def __init__(self, faults: dict[str, float], lasts_s: float, seed: int = 1) -> None:
        self.simulation = simulate(plan(faults, lasts_s), seed)
        self.pages = LivePages(self.simulation)
        self.onset_s = self.simulation.faults[0].onset_s
        self.truth = {(one["condition"], one["subject"]) for one in self.simulation.truth["faults"]}
        self.onset_ns = 0
        self.tricks = {}
        self.server = Server("127.0.0.1:0", self._reply, max_connections=256)
        self._lock = threading.Lock()

    @property
    def start_ns(self) -> int:
        return self.onset_ns - int(self.onset_s * 1e9)

    def page(self, node: str, t_ns: int) -> bytes:
        return self.pages.page(node, (t_ns - self.start_ns) / 1e9)

    def targets(self) -> list[str]:
        host, port = self.server.address
        return [f"{node}=http://{host}:{port}/{node}/metrics" for node in self.pages.nodes]

    def _reply(self, path: str, headers: object) -> Reply:
        node = path.strip("/").partition("/")[0]
        body = self.page(node, time.time_ns())
        trick = self.tricks.get(node)
        body = trick(body) if trick else body
        return Reply(200, TEXT, body) if body else Reply(503, TEXT, b"silent\n")

    def write_past(self, path: Path, end_ns: int, windows: int) -> None:
        """Write what a Prometheus would have scraped before `end_ns`, as OpenMetrics with times."""
        known = wanted()
        with open(path, "w") as file:
            for t_ns in range(end_ns - windows * WINDOW_NS, end_ns, SCRAPE_NS):
                stamp = f"{t_ns / 1e9:.3f}"
                for node in self.pages.nodes:
                    added = f'instance="{node}",job="agents",node="{node}"'
                    file.write(f"up{{{added}}} 1 {stamp}\n")
                    for line in self.page(node, t_ns).decode().splitlines():
                        series, _, value = line.rpartition(" ")
                        name, brace, rest = series.partition("{")
                        if name in known:
                            file.write(f"{name}{{{added}{',' + rest if brace else '}'} {value} {stamp}\n")
            file.write("# EOF\n")

    def fill_store(self, folder: Path, end_ns: int, windows: int) -> None:
        """Write the windows before `end_ns` as a service would have kept them."""
        start_ns = self.start_ns // WINDOW_NS * WINDOW_NS  # up to a window off, where nothing happens
        last = (end_ns - start_ns) // WINDOW_NS
        store = Store(folder)
        for told in told_of(self.simulation, start_ns, last - windows, last):
            store.append(told.tables["windows"], told.tables["events"])
        store.close()


def prometheus_config(fleet: Fleet) -> str:
    """Return the configuration of a server that scrapes the fleet each 15 s."""
    host, port = fleet.server.address
    lines = ["global: {scrape_interval: 15s, scrape_timeout: 10s}", "scrape_configs:",
             "- job_name: agents", "  static_configs:"]  # fmt: skip
    for node in fleet.pages.nodes:
        labels = f'{{node: "{node}", instance: "{node}", __metrics_path__: "/{node}/metrics"}}'
        lines += [f'  - targets: ["{host}:{port}"]', f"    labels: {labels}"]
    return "\n".join(lines) + "\n"
