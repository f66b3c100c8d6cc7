"""What a cycle of `watch` costs for 1,000 agents and four times as many, and how much memory the horizon takes.

Each fleet is watched in a process of its own. Its windows come from a store, as the scraper hands them on: only metrics
that some room reads, without counters that never grew.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

WINDOWS, GPUS = 40, 3  # with three GPUs a host tells some 300 series that are read, of 400
WATCH = """
import resource, sys, time
from pathlib import Path
from skewscope.feeds.contract import Told
from skewscope.store import Reader
from skewscope.watch.plan import Plan
from skewscope.watch.service import Service

class Nothing:
    def start(self): pass
    def stop(self): pass
    def history(self, begin_ns, end_ns): return iter(())

store = Reader(Path(sys.argv[1]))
first, last = store.span()
now = [0]
service = Service(Plan(Nothing(), lambda snapshot: None, clock_ns=lambda: now[0]))
cpu = []
for end in range(first, last + 1, 30 * 10**9):
    told = store.read(end, end)
    nodes = told["windows"]["node"].nunique()
    now[0] = end + 2 * 10**9
    begun = time.process_time()
    service.turn(Told(end, told, nodes, nodes, (), (), 2 * len(told["windows"])))
    cpu.append(time.process_time() - begun)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
resident = int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e9
found = sorted({(one.root.condition, one.root.subject.id) for one in service.board.live})
print(len(told["windows"]), sum(cpu[-8:]) / 8, max(cpu), resident, peak, found, sep="|")
"""


@pytest.mark.parametrize("agents", [1000, 4000])
def test_a_cycle_of_a_large_fleet(agents, tmp_path):
    culprit = _kept(agents, tmp_path / "store")
    said = subprocess.run(
        [sys.executable, "-c", WATCH, str(tmp_path / "store")], capture_output=True, text=True, check=True
    ).stdout
    rows, mean_s, most_s, resident, peak, found = said.strip().split("|")
    print(
        f"\n{agents} agents, {rows} series a window, {WINDOWS} windows: a cycle {float(mean_s):.1f} CPU s (most "
        f"{float(most_s):.1f}) of 30 s, resident {float(resident):.2f} GB, peak {float(peak):.2f} GB; found {found}"
    )
    assert culprit in found


def _kept(agents: int, folder: Path) -> str:
    """Simulate a fleet with one hot GPU, keep its windows in a store and return the GPU."""
    from skewscope.feeds.wanted import wanted
    from skewscope.simulate import scenario, simulate
    from skewscope.store import Store
    from skewscope.watch.rehearsal import told_of

    plan = scenario("gpu-hw-slowdown")
    job = replace(plan.jobs[0], ranks=agents * GPUS, tp=1, pp=2, steps=620)
    made = simulate(replace(plan, fleet=replace(plan.fleet, gpus_per_node=GPUS), jobs=(job,)), 3, detail=False)
    with Store(folder) as store:
        for told in told_of(made, 1_790_000_040 * 10**9 // (30 * 10**9) * (30 * 10**9), 0, WINDOWS):
            rows = told.tables["windows"]
            read = rows["metric"].astype(str).isin(wanted()).to_numpy()
            store.append(rows[read].reset_index(drop=True), told.tables["events"], end_ns=told.end_ns)
    return str(made.truth["faults"][0]["subject"])
