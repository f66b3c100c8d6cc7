"""The whole agent as a process, on a driver library of C and a fake root: faults in time, hangs, crashes, promtool."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from skewscope.catalogue import load

_spec = importlib.util.spec_from_file_location("agent_process", Path(__file__).with_name("_process.py"))
process = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(process)

INTERVAL_S = 1.0
SLACK_S = 0.5  # for the test's own polling on a busy machine
GPU = 3


@pytest.fixture
def machine(nvml_stub, tmp_path):
    with nvml_stub.Machine(tmp_path / "machine") as made:
        yield made


@pytest.fixture
def tree(fake_root):
    with fake_root.memory() as folder:
        yield fake_root.build(folder, hcas=8)


@pytest.fixture
def agent(machine, tree, nvml_library, tmp_path):
    flags = ["--interval", INTERVAL_S, "--deadline", 2, "--spool", tmp_path, "--path-sys", tree.sys]
    with process.running(*flags, environ=machine.environ(nvml_library)) as running:
        running.until(lambda: running.samples("skewscope_gpu_power_watts"))
        yield running


def throttle(machine):
    machine.gpu[GPU].reasons |= 0x40


def xid(machine):
    machine.push(GPU, 8, 79)


def ecc(machine):
    machine.gpu[GPU].fields[4] = machine.gpu[GPU].ecc[1][0][0] = 3


def link_down(machine):
    machine.gpu[GPU].link[5].state = 0


def width(machine):
    machine.gpu[GPU].pcie_width = 8


def lost(machine):
    machine.gpu[GPU].lost = 1


def hang(machine):
    machine.gpu[GPU].hang = 1


FAULTS = {
    throttle: ("skewscope_gpu_clock_event_active", {"reason": "hw_thermal"}, 1),
    xid: ("skewscope_gpu_xid_errors_total", {"xid": "79", "source": "nvml"}, 1),
    ecc: ("skewscope_gpu_ecc_errors_total", {"severity": "uncorrected", "lifetime": "volatile", "location": "dram"}, 3),
    link_down: ("skewscope_gpu_nvlink_links", {"state": "inactive"}, 1),
    width: ("skewscope_gpu_pcie_link_width_lanes", {"kind": "current"}, 8),
    lost: ("skewscope_gpu_access_state", {"state": "lost"}, 1),
    hang: ("skewscope_gpu_access_state", {"state": "hung"}, 1),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_shows_within_two_intervals(agent, machine, fault):
    name, labels, value = FAULTS[fault]
    before = agent.value(name, gpu=str(GPU), **labels)
    assert before != value
    fault(machine)
    _, took_s = agent.until(lambda: agent.value(name, gpu=str(GPU), **labels) == value)
    machine.gpu[GPU].hang = 0
    assert took_s <= 2 * INTERVAL_S + SLACK_S


def test_a_link_of_a_nic_that_goes_down_and_one_that_narrows_show_too(agent, tree):
    tree.set("mlx5_2", "link_downed", 7)
    _, took_s = agent.until(
        lambda: agent.value("skewscope_rdma_link_events_total", device="mlx5_2", event="downed") == 7
    )
    assert took_s <= 2 * INTERVAL_S + SLACK_S


def test_a_hung_call_is_named_killed_and_outlived(agent, machine):
    page_before = agent.get()
    machine.gpu[GPU].hang = 1
    agent.until(lambda: agent.value("skewscope_nvml_hung") == 1)
    start = time.monotonic()
    assert "skewscope_host_pressure" in agent.get() or "skewscope_tcp" in agent.get()
    assert time.monotonic() - start < 1.0  # the page does not wait for the driver
    agent.until(lambda: agent.value("skewscope_nvml_worker_restarts_total") == 1)
    # The other GPUs are seen again though the driver still hangs on this one.
    agent.until(lambda: len(agent.samples("skewscope_gpu_power_watts", kind="average")) == 7)
    agent.until(lambda: agent.value("skewscope_nvml_hung") == 0)
    assert agent.value("skewscope_gpu_access_state", gpu=str(GPU), state="hung") == 1
    assert agent.get("/healthz") == "alive\n" and "skewscope_gpu_power_watts" in page_before
    machine.gpu[GPU].hang = 0


def test_a_crash_of_the_driver_library_costs_a_restart(agent, machine):
    machine.gpu[GPU].crash = 1
    agent.until(lambda: agent.value("skewscope_collector_success", collector="nvml-device") == 0)
    machine.gpu[GPU].crash = 0
    agent.until(lambda: agent.value("skewscope_collector_success", collector="nvml-device") == 1)
    assert agent.value("skewscope_nvml_worker_restarts_total") >= 1


def test_a_killed_driver_process_comes_back(agent):
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    agent.until(lambda: agent.value("skewscope_nvml_worker_restarts_total") == 1)
    agent.until(lambda: agent.value("skewscope_collector_success", collector="nvml-device") == 1)


def test_errors_that_were_told_outlive_the_drivers_process(agent, machine):
    machine.push(GPU, 8, 79)
    agent.until(lambda: agent.value("skewscope_gpu_xid_errors_total", gpu=str(GPU), xid="79", source="nvml") == 1)
    machine.gpu[GPU].hang = 1
    agent.until(lambda: agent.value("skewscope_nvml_worker_restarts_total") == 1)
    agent.until(lambda: agent.value("skewscope_collector_success", collector="nvml-events") == 1)
    agent.until(lambda: len(agent.samples("skewscope_gpu_power_watts", kind="average")) == 7)
    assert agent.value("skewscope_gpu_xid_errors_total", gpu=str(GPU), xid="79", source="nvml") == 1
    machine.push(GPU - 1, 8, 31)
    agent.until(lambda: agent.value("skewscope_gpu_xid_errors_total", gpu=str(GPU - 1), xid="31", source="nvml") == 1)
    machine.gpu[GPU].hang = 0


def test_the_pages_are_what_prometheus_lints_and_the_reference_parses(agent, tmp_path):
    page = agent.get()
    families = list(parse_text(page))
    assert len({family.name for family in families}) == len(families) > 80
    openmetrics = agent.get(Accept="application/openmetrics-text;version=1.0.0")
    again = {family.name for family in parse_openmetrics(openmetrics)}
    assert {family.name for family in families} == again
    if shutil.which("promtool") is None:
        pytest.skip("no promtool")
    said = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_once_and_list_work_without_a_driver(tmp_path, tree):
    environ = {**os.environ, "LD_LIBRARY_PATH": ""}
    words = [sys.executable, "-m", "skewscope", "agent", "--spool", str(tmp_path), "--path-sys", str(tree.sys)]
    once = subprocess.run([*words, "--once"], text=True, capture_output=True, env=environ)
    assert once.returncode == 0 and 'skewscope_rdma_port_up{device="mlx5_0"' in once.stdout
    assert "skewscope_gpu_utilization_ratio" not in once.stdout
    listed = subprocess.run([*words, "--list"], text=True, capture_output=True, env=environ).stdout
    rows = {line.split()[0]: line for line in listed.splitlines()[1:]}
    assert " ok " in rows["rdma"] and " failed " in rows["nvml-device"] and "NVIDIA driver" in rows["nvml-device"]


def test_the_collector_for_other_registries_gives_the_same_families(tree, fake_root):
    from prometheus_client import CollectorRegistry, generate_latest

    chosen = ["rdma", "rdma-info", "pcie"]
    registry = CollectorRegistry()
    load("agents.registry").NodeCollector(tree.place(), chosen).register(registry)
    theirs = generate_latest(registry).decode()
    node = load("agents.node").Node(
        load("agents.settings").Settings(sys=tree.sys, proc=tree.proc, collectors=tuple(chosen))
    )
    node.tick(render_within_s=10)
    ours = node.pages.text().decode()
    node.close()

    def shape(page):
        return {
            (family.name, family.type, family.documentation, one.name, tuple(sorted(one.labels.items())), one.value)
            for family in parse_text(page)
            for one in family.samples
        }

    own = {row for row in shape(ours) if not row[0].startswith(("skewscope_collector", "skewscope_agent"))}
    own = {row for row in own if row[0] not in ("skewscope_build_info", "skewscope_series_dropped")}
    assert shape(theirs) == own and len(own) > 300


GOLDEN = Path(__file__).parents[1] / "golden" / "agent-nics.prom"


def test_the_page_of_eight_adapters_is_the_golden_one(tree):
    exposition = load("agents.exposition")
    blocks = []
    for name in ("rdma", "rdma-info", "pcie"):
        collector = load("agents.crew").collectors([name])[name].kind()(tree.place())
        blocks.append(exposition.Renderer().block(collector.collect())[0])
    page = exposition.page(blocks).decode()
    assert page == GOLDEN.read_text(), f"{GOLDEN} is no longer what the agent says; see the difference"
    if shutil.which("promtool"):
        said = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
        assert (said.returncode, said.stdout + said.stderr) == (0, "")


PROMETHEUS = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: skewscope
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus here")
def test_a_real_prometheus_scrapes_it(agent, tmp_path):
    import json
    import urllib.parse
    import urllib.request

    config = tmp_path / "prometheus.yml"
    config.write_text(PROMETHEUS.format(target=agent.url.removeprefix("http://")))
    port = free_port()
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    server = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)

    def query(expression):
        url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return json.load(reply)["data"]["result"]
        except OSError:
            return []

    try:
        agent.until(lambda: [one for one in query("up") if one["value"][1] == "1"])
        agent.until(lambda: len(query('skewscope_gpu_power_watts{kind="average"}')) == 8)
        agent.until(lambda: query("rate(skewscope_gpu_energy_joules_total[10s]) > 100"))
        assert query("scrape_samples_scraped")[0]["value"][1] > "1000"
    finally:
        server.terminate()
        server.wait(20)


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_stays_small_and_its_files_few(agent):
    """Descriptors must not grow with time: ten looks later there are as many."""

    def descriptors():
        return len(os.listdir(f"/proc/{agent.process.pid}/fd"))

    before = descriptors()
    seen = SimpleNamespace(last=agent.value("skewscope_collector_last_success_timestamp_seconds", collector="rdma"))
    agent.until(
        lambda: agent.value("skewscope_collector_last_success_timestamp_seconds", collector="rdma") > seen.last + 6
    )
    assert descriptors() <= before + 3


def test_a_job_that_starts_later_is_seen_at_once(agent, tmp_path):
    from skewscope.spool import RingWriter

    writer = RingWriter(tmp_path, job="later", rank=0, world_size=1, capacity=1024)
    group = writer.group(1, [0], 0, "dp")
    _, took_s = agent.until(
        lambda: agent.value("skewscope_rank_heartbeat_age_seconds", job_id="later", rank="0") is not None
    )
    now_ns = time.monotonic_ns()
    writer.write(1, 1, group, 1, 0, 1, now_ns, now_ns + 1000, size=64)
    agent.until(lambda: agent.value("skewscope_collectives_total", job_id="later", op="all_reduce") == 1)
    assert took_s <= 2 * INTERVAL_S + SLACK_S
