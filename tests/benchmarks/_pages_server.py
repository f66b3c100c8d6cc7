"""Serves the pages of a large simulated fleet: a process of its own that takes little of the machine.

Called with a folder, agents, GPUs of each, and perhaps the windows in all; writes `targets` there and fills `store`
with the past. The fault begins some windows after the pages do. A page is gzipped where it is asked for, as an
agent's is.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from skewscope.metrics import METRICS
from skewscope.simulate import exposition, scenario, simulate
from skewscope.simulate.live_pages import LivePages

WINDOW_S = 30
PAST, QUIET, LENGTH = 26, 6, 80  # windows: in the store, before the fault, in all
GAUGE, COUNTER = 0, 1


class Pages:
    """Pages of `LivePages`, with the values of a node in one array."""

    def __init__(self, simulation) -> None:
        live = LivePages(simulation)
        self.windows, self.nodes = simulation.windows, {}
        for at, node in enumerate(live.nodes):
            texts, begin, end, there, kind = [], [], [], [], []
            for metric in METRICS:
                head = f"# HELP {metric.name} {exposition.escaped(metric.help)}\n# TYPE {metric.name} {metric.kind}\n"
                for lines in live._lines[at].pop(metric.name, ()):
                    texts += [head + lines.texts[0], *lines.texts[1:]] if head else lines.texts
                    head = ""
                    begin.append(lines.begin), end.append(lines.end), there.append(lines.there)
                    kind += [GAUGE if metric.kind == "gauge" else COUNTER] * len(lines.texts)
            self.nodes[node] = ([f"{text} %s" for text in texts], np.hstack(begin), np.hstack(end), np.hstack(there),
                                np.array(kind) == COUNTER)  # fmt: skip

    def page(self, node: str, second: float) -> bytes:
        """Return a page; all of a node's series stand on it, but those that a window does not have."""
        texts, begin, end, there, counter = self.nodes[node]
        window = int(min(max(second // WINDOW_S, 0), self.windows - 1))
        part = min(max(second / WINDOW_S - window, 0.0), 1.0)
        begin, end, there = begin[window], end[window], there[window]
        values = np.where(end >= begin, begin + (end - begin) * part, end * part)
        whole = np.mod(end, 1.0) == 0
        values = np.where(counter, np.where(whole, np.floor(values), values), begin if part <= 0.5 else end)
        told = zip(texts, values.tolist(), there.tolist(), strict=True)
        return ("\n".join([text % value for text, value, is_there in told if is_there]) + "\n").encode()


class Connection(asyncio.Protocol):
    """Answers one request after another."""

    pages: Pages
    start_s = 0.0

    def connection_made(self, transport) -> None:
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            node = head.split(b" ", 2)[1].strip(b"/").partition(b"/")[0].decode()
            body = self.pages.page(node, time.time() - self.start_s)
            packed = b""
            if b"gzip" in head:
                packer = zlib.compressobj(1, zlib.DEFLATED, 31)
                body, packed = packer.compress(body) + packer.flush(), b"Content-Encoding: gzip\r\n"
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n%bContent-Length: %d\r\n\r\n%b"
                % (packed, len(body), body)
            )


def fleet(agents: int, gpus: int, windows: int):
    """Return a simulation of one job with a hot GPU."""
    plan = scenario("gpu-hw-slowdown")
    steps = int(windows * WINDOW_S / 2.2)
    job = replace(plan.jobs[0], ranks=agents * gpus, tp=1, pp=2, steps=steps)
    fault = replace(plan.faults[0], onset=(PAST + QUIET) / windows)
    return simulate(
        replace(plan, fleet=replace(plan.fleet, gpus_per_node=gpus), jobs=(job,), faults=(fault,)), 3, detail=False
    )


def fill(folder: Path, simulation, start_s: int) -> None:
    """Keep the windows of the past as a service would have."""
    from skewscope.feeds.wanted import wanted
    from skewscope.store import Store
    from skewscope.watch.rehearsal import told_of

    with Store(folder) as store:
        for told in told_of(simulation, start_s * 10**9, 0, PAST):
            rows = told.tables["windows"]
            read = rows["metric"].astype(str).isin(wanted()).to_numpy()
            store.append(rows[read].reset_index(drop=True), told.tables["events"], end_ns=told.end_ns)


async def serve(folder: Path, pages: Pages) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    (folder / "targets").write_text("".join(f"{node}=http://127.0.0.1:{port}/{node}/metrics\n" for node in pages.nodes))
    page = pages.page(next(iter(pages.nodes)), 1000.0)
    print(f"ready|{page.count(b'skewscope_') - 2 * page.count(b'# HELP')}|{len(page)}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    folder, agents, gpus = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    simulation = fleet(agents, gpus, int(sys.argv[4]) if len(sys.argv) > 4 else LENGTH)
    Connection.pages = Pages(simulation)
    fill_s = agents // 25 + WINDOW_S  # so long it may take
    Connection.start_s = start_s = (int(time.time() + fill_s) // WINDOW_S - PAST) * WINDOW_S
    fill(folder / "store", simulation, start_s)
    time.sleep(max(0.0, start_s + PAST * WINDOW_S - time.time()))
    print(f"truth|{simulation.truth['faults'][0]['subject']}", flush=True)
    asyncio.run(serve(folder, Connection.pages))


if __name__ == "__main__":
    main()
