"""The Ranks page at 10,000 ranks x 1,000 steps in a browser, beside a heatmap of lists: time to see it, and to zoom.

A first look is a load by a browser that has nothing cached, up to the picture of the map. The dashboard reads a report
with all tables and columns of such a job (1.3 GB of Parquet). It is asked as soon as it listens ("at once": what it
makes for its first visitor is in the time) and, by another server, when it has made that ("ready"). A zoom is from
letting the mouse go to the next picture: there the dashboard asks the server for the cells of the range, and the
heatmap of lists draws what it has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import rooms

pytestmark = pytest.mark.benchmark
PATIENCE_MS, LOOKS = 240_000, 2
MOST_BYTES, MOST_MB = 1_000_000, 700
QUERIES = {
    "ranks": ("", "?show=less", "?show=wait", "?show=late", "?show=forward", "?show=idle", "?order=score"),
    "why": ("", "?begin=500", "?rank=77"),
}
PICTURE = """() => {
  const image = document.querySelector(".heatmaplayer image, .heatmaplayer canvas");
  return image ? image.outerHTML.length + image.outerHTML.slice(-4000) : "";
}"""

FINER = f"""([picture, rows]) => {{
  const now = document.querySelector(".js-plotly-plot")._fullData[0].dy;
  return ({PICTURE})() !== picture && (now < rows || rows === 1);
}}"""


@dataclass(frozen=True)
class Seen:
    first_s: float
    again_s: float
    zoom_s: float
    first_bytes: int
    packed_bytes: int
    zoom_bytes: int
    server_mb: float
    server_cpu_s: float


@contextmanager
def server(kind, *words):
    script = str(Path(__file__).with_name("_ranks_server.py"))
    with subprocess.Popen([sys.executable, script, kind, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def peak_mb(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def cpu_s(pid):
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def answers(page):
    kept = []
    page.on("response", lambda reply: kept.append(reply) if "_dash-update" in reply.url else None)
    return kept


def size(reply):
    """Return how many bytes an answer has, and how many of them travelled; the browser forgets the largest bodies."""
    packed = reply.request.sizes()["responseBodySize"]
    return len(reply.body()) if "content-encoding" in reply.headers else packed, packed


def look(page, address):
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(f"() => ({PICTURE})() !== ''", timeout=PATIENCE_MS)
    return time.perf_counter() - began


def zoom(page):
    rows = page.evaluate("document.querySelector('.js-plotly-plot')._fullData[0].dy")
    before = [page.evaluate(PICTURE), rows or 1]
    box = page.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=3)
    began = time.perf_counter()
    page.mouse.up()
    page.wait_for_function(FINER, arg=before, timeout=PATIENCE_MS)
    return time.perf_counter() - began


def seen(chromium, address, pid, path):
    browser = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    kept, before_s = answers(page), cpu_s(pid)
    first_s = look(page, address + path)
    server_s = cpu_s(pid) - before_s
    sizes = [size(reply) for reply in kept if reply.status == 200]
    again_s = look(page, address + path)
    page.wait_for_load_state("networkidle")
    kept.clear()
    zoom_s = zoom(page)
    page.wait_for_load_state("networkidle")
    zoom_bytes = sum(size(reply)[0] for reply in kept if reply.status == 200)
    browser.close()
    most = max(sizes, default=(0, 0))
    return Seen(first_s, again_s, zoom_s, most[0], most[1], zoom_bytes, peak_mb(pid), server_s)


def told(name, found):
    load = os.getloadavg()[0]
    print(f"{name:>9}: first look {found.first_s:.2f} s (of it the server worked {found.server_cpu_s:.2f} s), "
          f"again {found.again_s:.2f} s, zoom {found.zoom_s:.2f} s; load {load:.1f}")  # fmt: skip
    print(f"{'':>9}  {found.first_bytes / 1e6:.2f} MB sent ({found.packed_bytes / 1e6:.2f} MB packed), "
          f"zoom {found.zoom_bytes / 1e6:.2f} MB; server peak {found.server_mb:.0f} MB")  # fmt: skip


def every_page(address):
    """Ask for all pages as an export of the whole page, which makes all of its blocks."""
    for room in rooms("dashboards.pages"):
        for query in QUERIES.get(room.id, ("",)):
            with urllib.request.urlopen(f"{address}/export/{room.id}.html{query}", timeout=120) as reply:
                assert b"could not be made" not in reply.read()


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("dash")
    if shutil.which("chromium") is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as made:
        yield made.chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = run_path(str(Path(__file__).with_name("_rank_tables.py")))
    return str(made["write"](tmp_path_factory.mktemp("big")))


def test_ranks_page_in_a_browser(chromium, folder):
    print()
    found = {}
    for _ in range(LOOKS):
        for name in ("at once", "ready"):
            with server("dashboard", folder) as (address, pid):
                if name == "ready":
                    urllib.request.urlopen(f"{address}/export/ranks/ranks.csv", timeout=60).read()
                found[name] = seen(chromium, address, pid, "/ranks")
            told(name, found[name])
            assert 0 < found[name].first_bytes < MOST_BYTES and 0 < found[name].zoom_bytes < MOST_BYTES
    with server("lists") as (address, pid):
        naive = seen(chromium, address, pid, "/")
    told("lists", naive)
    ratios = [getattr(naive, name) / getattr(found["ready"], name) for name in ("first_s", "zoom_s", "server_mb")]
    print("lists against ready: first look {:.1f}x, zoom {:.1f}x, memory {:.1f}x".format(*ratios))


def test_memory_over_all_pages(folder):
    pytest.importorskip("dash")
    with server("dashboard", folder) as (address, pid):
        every_page(address)
        print(f"\nall pages: server peak {peak_mb(pid):.0f} MB, {cpu_s(pid):.1f} CPU s")
        assert peak_mb(pid) < MOST_MB
