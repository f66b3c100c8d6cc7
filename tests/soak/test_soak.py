"""Agent, watching service and dashboard for hours: neither memory nor descriptors grow, and no window is missed.

Run by `make soak`; SKEWSCOPE_SOAK_S tells how long (7200). The first third is warm-up: the horizon, the store's first
hour and the caches of the pages fill. Someone looks at the pages and at the API all the time, in the warm-up often.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import theilslopes

pytestmark = pytest.mark.soak

HERE = Path(__file__).parent
P = SimpleNamespace(**run_path(str(HERE.parent / "watch" / "end_to_end" / "_programs.py")))
LENGTH_S = float(os.environ.get("SKEWSCOPE_SOAK_S", "7200"))
AGENTS = int(os.environ.get("SKEWSCOPE_SOAK_AGENTS", "8"))
WINDOW_S, PAUSE_S, BLOCK_S = 30.0, 10.0, 300.0
HURRY_S = 2.0  # between two looks at first: glibc keeps some freed blocks of every size for each thread, once they came
WINDOWS = int(LENGTH_S // WINDOW_S) + 40  # of the simulated fleet, with its past
WARM_SHARE = 1 / 3
SURE = 0.99
PAGES = ("/", "/ranks", "/incidents", "/why", "/node", "/links", "/conditions")
CALLS = ("/api/v1/report", "/api/v1/incidents", "/metrics")


@contextlib.contextmanager
def simulated(folder: Path):
    """Yield once the pages of some simulated agents are served; `folder/targets` names them."""
    words = [sys.executable, HERE.parent / "benchmarks/_pages_server.py", folder, AGENTS, 8, WINDOWS]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            for _ in range(2):
                server.stdout.readline()
            yield
        finally:
            server.kill()


def children(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            found += [int(word) for word in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
    return found


def held(pid: int) -> tuple[int, int]:
    """Return resident bytes and open descriptors of a process and those below it."""
    memory = descriptors = 0
    for one in children(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            memory += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
            descriptors += len(os.listdir(f"/proc/{one}/fd"))
    return memory, descriptors


def programs(folder: Path) -> dict[str, object]:
    """Return the three programs, started."""
    agent_port, page_port = P.free_port(), P.free_port()
    start = [sys.executable, "-m", "skewscope"]
    agent = P.Program([*start, "agent", "--listen", f"127.0.0.1:{agent_port}", "--quiet"],
                      f"http://127.0.0.1:{agent_port}/healthz", folder / "agent.log")  # fmt: skip
    watch = P.watch(folder / "watch", "--scrape", f"@{folder}/targets", "--store", folder / "store", "--quiet")
    page = P.Program(
        [*start, "dashboard", "--watch", P.base(watch), "--listen", f"127.0.0.1:{page_port}", "--quiet"],
        f"http://127.0.0.1:{page_port}/", folder / "dashboard.log",
    )  # fmt: skip
    agent.start()
    with open(folder / "targets", "a") as file:
        file.write(f"127.0.0.1:{agent_port}\n")
    watch.start()
    page.start()
    return {"agent": agent, "watch": watch, "dashboard": page}


def told(watch) -> dict[str, float]:
    """Return what the service tells of itself."""
    page = str(P.get(f"{P.base(watch)}/metrics") or "")
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith("skewscope_watch"))
    return {name: float(value) for name, _, value in lines}


def looked_at(running: dict[str, object], turn: int) -> None:
    """Ask for one page and one call, as people and scripts do."""
    P.get(P.base(running["dashboard"]) + PAGES[turn % len(PAGES)])
    P.get(P.base(running["dashboard"]) + "/_dash-layout")
    P.get(P.base(running["watch"]) + CALLS[turn % len(CALLS)])
    P.get(P.base(running["agent"]) + "/metrics")


def slope(t_s: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Return the slope per hour of means of five minutes, and its bounds (Theil and Sen)."""
    block = (t_s // BLOCK_S).astype(int)
    kept = [(t_s[block == one].mean(), values[block == one].mean()) for one in np.unique(block)]
    middle, _, low, high = theilslopes([value for _, value in kept], [t_s / 3600 for t_s, _ in kept], SURE)
    return middle, low, high


def test_nothing_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows: dict[str, list[tuple[float, int, int]]] = {}
    with simulated(tmp_path):
        running = programs(tmp_path)
        try:
            start, turn, before = time.monotonic(), 0, told(running["watch"])
            while (t_s := time.monotonic() - start) < LENGTH_S:
                looked_at(running, turn)
                for name, program in running.items():
                    assert program.alive, program.log.read_text()[-3000:]
                    rows.setdefault(name, []).append((t_s, *held(program.process.pid)))
                turn += 1
                time.sleep(PAUSE_S if t_s >= WARM_SHARE * LENGTH_S else HURRY_S)
            after = told(running["watch"])
        finally:
            codes = {name: program.kill(15) for name, program in running.items()}
    judge(rows, before, after, t_s, capsys)
    assert codes == dict.fromkeys(rows, 0)


def judge(rows, before, after, length_s: float, capsys) -> None:
    """Print the table and hold it against what is promised."""
    done = after['skewscope_watch_cycles_total{result="done"}'] - before.get(
        'skewscope_watch_cycles_total{result="done"}', 0.0
    )
    lines, grown = [], []
    for name, told_rows in rows.items():
        t_s, memory, descriptors = np.array(told_rows, dtype=float).T
        warm = t_s >= WARM_SHARE * length_s
        middle, low, high = slope(t_s[warm], memory[warm])
        # What is never closed raises the fewest; the most counts connections that are just being answered.
        first, last = descriptors[warm][: len(descriptors) // 6], descriptors[-len(descriptors) // 6 :]
        lines.append(f"{name:10} {memory[warm].mean() / 2**20:8.1f} {middle / 2**20:+9.2f} {low / 2**20:+9.2f} "
                     f"{high / 2**20:+9.2f} {first.min():6.0f}-{first.max():<3.0f} "
                     f"{last.min():6.0f}-{last.max():<3.0f}")  # fmt: skip
        if low > 0 or last.min() > first.min():
            grown.append(name)
    with capsys.disabled():
        print(
            f"\n{length_s:.0f} s, {done:.0f} windows of {length_s // WINDOW_S:.0f}; "
            f"{AGENTS} simulated agents and one real"
        )
        print(f"{'':10} {'RSS MiB':>8} {'MiB/h':>9} {'from':>9} {'to':>9} {'fds':>10} {'later':>10}")
        print("\n".join(lines))
        print({name: value for name, value in after.items() if "cycles_total" in name or "stale" in name})
    assert not grown, f"grows: {', '.join(grown)}"
    assert done >= length_s // WINDOW_S - 1, "a window was missed"
