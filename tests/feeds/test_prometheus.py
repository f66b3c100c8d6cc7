"""The feed of a Prometheus API: real servers with a past that is written into them."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pandas as pd
import pytest

from skewscope import frames
from skewscope.feeds.prometheus import Prometheus
from skewscope.feeds.scrape import Scrape

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_fleet.py"))))
NAME = "rdma-retransmit"
END = F.START_NS + F.WINDOW_NS
HALF = F.WINDOW_NS // 2
PAGES = 8
LAST = END + (PAGES // 2 - 1) * F.WINDOW_NS
KEY = ["metric", "labels", "node", "device", "job", "rank", "t_ns"]
TEXTS = KEY[:5]
SILENT = ("n002", 5)  # this node's page of this number is missing, and those after it


def told_at(at: int) -> dict[str, bytes]:
    """Return the pages that come at time number `at`."""
    pages = F.told_pages(NAME, 18 + at)
    return {node: page for node, page in pages.items() if node != SILENT[0] or at < SILENT[1]}


def times() -> list[int]:
    return [END - F.WINDOW_NS + (at + 1) * HALF for at in range(PAGES)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(command, url, log):
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=5).read()
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def past(scale: int) -> str:
    """Return all samples as lines with times (in s times `scale`), with the labels that a scrape adds."""
    lines = []
    nodes = sorted(F.told_pages(NAME, 18))
    for at, t_ns in enumerate(times()):
        pages = told_at(at)
        stamp = f"{t_ns // 10**6 / 1000:.3f}" if scale == 1 else str(t_ns // 10**6)
        for node in nodes:
            scraped = f'instance="{node}:9400",job="agents"'
            lines.append(f"up{{{scraped}}} {int(node in pages)} {stamp}")
            for line in pages.get(node, b"").decode().splitlines():
                if line and line[0] != "#":
                    series, _, value = line.rpartition(" ")
                    name, brace, rest = series.partition("{")
                    lines.append(f"{name}{{{scraped}{',' + rest if brace else '}'} {value} {stamp}")
    lines.append(f'up{{instance="other:1",job="other"}} 0 {stamp}')
    return "\n".join(lines) + "\n"


def with_prometheus(folder: Path):
    port = free_port()
    (folder / "past").write_text(past(1) + "# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", folder / "past", folder / "data"]
    subprocess.run(command, check=True)
    (folder / "prometheus.yml").write_text("global: {scrape_interval: 15s}\n")
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=50y"]  # fmt: skip
    return command, f"http://127.0.0.1:{port}", None


def with_victoria_metrics(folder: Path):
    port = free_port()
    command = ["victoria-metrics", f"-storageDataPath={folder}/data", f"-httpListenAddr=127.0.0.1:{port}",
               "-retentionPeriod=50y"]  # fmt: skip

    def fill():
        url = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(f"{url}/api/v1/import/prometheus", data=past(1000).encode(), timeout=30).read()
        urllib.request.urlopen(f"{url}/internal/force_flush", timeout=30).read()

    return command, f"http://127.0.0.1:{port}", fill


SERVERS = {"prometheus": with_prometheus, "victoria-metrics": with_victoria_metrics}


@pytest.fixture(scope="module", params=SERVERS)
def url(request, tmp_path_factory):
    """Yield the address of a real server that holds the past."""
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param}")
    folder = tmp_path_factory.mktemp(request.param)
    command, address, fill = SERVERS[request.param](folder)
    with running(command, f"{address}/api/v1/query?query=up", folder / "log"):
        if fill:
            fill()
        yield address


@pytest.fixture(scope="module")
def scraped():
    """Return the windows that the scraper makes of the same pages."""
    told = []
    with F.fleet() as server:
        feed = Scrape([F.target(server, node) for node in sorted(F.told_pages(NAME, 18))], interval_s=0,
                      clock_ns=lambda: LAST + 10**15)  # fmt: skip
        feed.start()
        for at, t_ns in enumerate(times()):
            F.serve(server, told_at(at))
            feed.ask(t_ns)
            if at % 2:
                told.append(feed.window(t_ns))
        feed.stop()
    return told


def table(told):
    """Return the rows of windows as text and numbers, but for those of counters that did not grow yet."""
    rows = pd.concat([one.tables["windows"] for one in told]).astype(dict.fromkeys(TEXTS, str))
    return rows.sort_values(KEY).reset_index(drop=True)


def test_windows_are_those_of_the_scraper(url, scraped):
    feed = Prometheus(url)
    feed.start()
    told = list(feed.history(END - F.WINDOW_NS, LAST))
    assert [one.end_ns for one in told] == [one.end_ns for one in scraped]
    pd.testing.assert_frame_equal(table(told), table(scraped))
    assert len(table(told)) > 15_000
    for one, other in zip(told, scraped, strict=True):
        assert (one.samples, one.errors) == (other.samples, ())
        assert (one.targets, one.stale) == (9, other.stale)
        assert len(frames.check("windows", one.tables["windows"]))
        pd.testing.assert_frame_equal(one.tables["ranks"].astype(str), other.tables["ranks"].astype(str))
    assert [one.stale for one in told] == [(), (), (), ("n002",)]


def test_nothing_is_invented_for_a_target_that_is_gone(url):
    (told,) = Prometheus(url).history(LAST - F.WINDOW_NS, LAST)
    assert SILENT[0] not in set(told.tables["windows"]["node"])
    assert list(Prometheus(url).history(LAST + F.WINDOW_NS, LAST + 2 * F.WINDOW_NS)) == []


def test_small_pages_and_a_selector_give_the_same(url, scraped):
    feed = Prometheus(url, selector='{job="agents"}', query_series=150)
    told = list(feed.history(END, LAST))
    assert len(feed._pages) > 30 and max(len(page.instances) for page in feed._pages) > 0
    have, want = table(told), table(scraped[1:])
    gauges = want[want["increase_value"].isna()]
    pd.testing.assert_frame_equal(
        have[have["increase_value"].isna()].reset_index(drop=True), gauges.reset_index(drop=True)
    )
    # The history begins later, yet counters know where they stood.
    assert (have["increase_value"] > 0).sum() == (want["increase_value"] > 0).sum()


def test_a_server_that_never_heard_of_the_fleet_tells_nothing(url):
    assert list(Prometheus(url, selector='job="nobody"').history(END, LAST)) == []


@pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus")
def test_a_prometheus_that_scrapes_now_is_read_now(tmp_path):
    port = free_port()
    with F.fleet() as server:
        F.serve(server, {"n1": b'skewscope_gpu_power_watts{gpu="0",kind="instant"} 300\nskewscope_build_info 1\n'})
        labels = [{"instance": f"{node}:9400", "__metrics_path__": f"/{node}/metrics"} for node in ("n1", "n2")]
        jobs = [{"targets": [F.address(server)], "labels": one} for one in labels]
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                  "scrape_configs": [{"job_name": "agents", "static_configs": jobs}]}  # fmt: skip
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                   f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        feed = Prometheus(f"http://127.0.0.1:{port}", settle_s=0.5, tries=1)
        feed.start()
        with running(command, f"http://127.0.0.1:{port}/-/ready", tmp_path / "log"):
            deadline = time.monotonic() + 30
            while (told := feed.window(time.time_ns())).targets < 2 or told.samples < 2:
                assert time.monotonic() < deadline, told
        assert told.stale == ("n2",) and told.answered == 1 and told.errors == ()
        assert told.tables["windows"]["mean_value"].tolist() == [300.0]
        gone = feed.window(time.time_ns())
    assert gone.stale == ("n1", "n2") and gone.targets == 2 and "refused" in gone.errors[0]
